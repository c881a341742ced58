"""Columns stored in other forms than readers see: converted when written, and converted back by a scan.

Beside the parts of a form (see ``form``) stands a column ``_lazypipe:NAME:plain``. It is null in every row that the form gives
back in every bit, and holds the value itself where it does not. So a form never fails and never loses a value, whatever comes
after the sample that it was chosen from, and everything is written in one pass; what does not fit costs bytes. Files without
such values are read without that column, see ``DataFile.odd``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import polars as pl

from lazypipe.errors import StorageError, nearest
from lazypipe.storage.datasets.units import FORMED
from lazypipe.storage.optimizer.form import Form, same
from lazypipe.storage.optimizer.form_known import Constant, Determined
from lazypipe.storage.optimizer.form_numbers import Cast, Multiple, Paged, Scaled, Whole
from lazypipe.storage.optimizer.form_texts import Coded, Flag, Hexed, Template

__all__ = [
    "KINDS",
    "WIDENS",
    "Cast",
    "Coded",
    "Constant",
    "Determined",
    "Flag",
    "Form",
    "Hexed",
    "Multiple",
    "Paged",
    "Scaled",
    "Template",
    "Whole",
    "apart",
    "by_owner",
    "check_forms",
    "from_dict",
    "odd_columns",
    "owner",
    "physical",
    "physical_schema",
    "plain_column",
    "restore",
    "scan_schema",
    "without_keys",
]

WIDENS = pl.ScanCastOptions(integer_cast="upcast", float_cast="upcast")
"""How Polars' scan is told to widen numbers, see ``scan_schema``."""


KINDS: Mapping[str, type[Form]] = {
    k.kind: k for k in (Cast, Whole, Multiple, Paged, Scaled, Flag, Coded, Template, Hexed, Constant, Determined)
}
"""Forms by the names that commits know them by."""


def from_dict(plain: Mapping[str, Any]) -> Form:
    """Read a form back.

    Raises
    ------
    StorageError
        If there is no such kind, as a newer lazypipe may have, or if what makes it is broken.

    Examples
    --------
    >>> from_dict({"kind": "flag", "true": "yes", "false": "no"})
    Flag(true='yes', false='no')
    """
    kind = plain.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = nearest(str(kind), KINDS, "kinds")
        raise StorageError(f"there is no form of kind {kind!r}; {hint}", fix="upgrade lazypipe if a newer one wrote it")
    try:
        return KINDS[kind].from_dict(plain)
    except (TypeError, KeyError, ValueError) as error:
        raise StorageError(
            f"the form {dict(plain)!r} cannot be read", fix="restore the commit file, or read an earlier version"
        ) from error


def plain_column(name: str) -> str:
    """Return the name of the column with the values of a column that do not fit its form.

    Examples
    --------
    >>> plain_column("email")
    '_lazypipe:email:plain'
    """
    return f"{FORMED}{name}:plain"


def _part(name: str, part: str) -> str:
    return f"{FORMED}{name}:{part}" if part else name


def owner(name: str) -> str:
    """Return the column that a column in a file belongs to.

    Examples
    --------
    >>> owner("_lazypipe:email:0"), owner("email")
    ('email', 'email')
    """
    return name.removeprefix(FORMED).rpartition(":")[0] if name.startswith(FORMED) else name


def by_owner(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return what columns take, of what columns in files take: of a form's parts together.

    Examples
    --------
    >>> by_owner({"_lazypipe:email:0": 70, "_lazypipe:email:plain": 2, "id": 5})
    {'email': 72, 'id': 5}
    """
    found: dict[str, int] = {}
    for name, size in sizes.items():
        found[owner(name)] = found.get(owner(name), 0) + size
    return found


def without_keys(forms: Mapping[str, Form], keys: Collection[str]) -> dict[str, Form]:
    """Return the forms of columns that stand in files, rather than in the names of folders."""
    return {name: form for name, form in forms.items() if name not in keys}


def check_forms(forms: Mapping[str, Form], schema: Mapping[str, pl.DataType]) -> None:
    """Refuse forms that these columns cannot be written in.

    Raises
    ------
    StorageError
        If a column does not exist or is of a type that the form does not fit, if forms need each other in a circle, or if
        a column is called as those are that forms make.

    Examples
    --------
    >>> check_forms({"x": Cast(pl.Int8())}, {"x": pl.String()})
    Traceback (most recent call last):
    lazypipe.errors.StorageError: column 'x' (String) cannot be written in the form cast; choose a form for String, or none
    """
    if reserved := [n for n in schema if n.startswith(FORMED)]:
        what = f"the column name {reserved[0]!r} is one of those that forms are written under"
        raise StorageError(what, fix="rename the column")
    for name, form in forms.items():
        for column in (name, *form.needs):
            if column not in schema:
                raise StorageError(f"a form needs column {column!r}; {nearest(column, schema, 'columns')}")
        if not form.fits(schema[name]):
            what = f"column {name!r} ({schema[name]}) cannot be written in the form {form.kind}"
            raise StorageError(what, fix=f"choose a form for {schema[name]}, or none")
        for column in form.needs:
            if not form.leans_on(schema[column]):
                what = f"column {name!r} in the form {form.kind} cannot lean on column {column!r} ({schema[column]})"
                raise StorageError(what, fix="choose another column, or write it plainly")
    _rounds(forms)


def _rounds(forms: Mapping[str, Form]) -> list[list[str]]:
    """Return the columns in rounds, in the order in which they can be restored: each after those that it needs."""
    left, rounds = dict(forms), []
    while left:
        ready = [name for name, form in left.items() if not any(n in left for n in form.needs)]
        if not ready:
            circle = ", ".join(map(repr, left))
            raise StorageError(f"forms need each other: {circle}", fix="write one of these columns plainly")
        rounds.append(ready)
        left = {n: f for n, f in left.items() if n not in ready}
    return rounds


def physical_schema(schema: Mapping[str, pl.DataType], forms: Mapping[str, Form]) -> pl.Schema:
    """Return the columns that stand in a file.

    Examples
    --------
    >>> dict(physical_schema({"x": pl.Int64(), "y": pl.Int64()}, {"x": Cast(pl.Int8())}))
    {'x': Int8, '_lazypipe:x:plain': Int64, 'y': Int64}
    """
    if not forms:
        return schema if isinstance(schema, pl.Schema) else pl.Schema(schema)
    return pl.Schema(_inside(schema, forms))


def _inside(schema: Mapping[str, pl.DataType], forms: Mapping[str, Form]) -> dict[str, pl.DataType]:
    """Return the columns that stand in a file; of many, a schema of Polars takes longer to make than the scan itself."""
    found: dict[str, pl.DataType] = {}
    for name, dtype in schema.items():
        if name not in forms:
            found[name] = dtype
            continue
        for part, inside in forms[name].parts(dtype).items():
            found[_part(name, part)] = inside
        found[plain_column(name)] = dtype
    return found


def physical(frame: pl.LazyFrame, schema: Mapping[str, pl.DataType], forms: Mapping[str, Form]) -> pl.LazyFrame:
    """Return a frame as it is to be written: rows one by one, in the same order, with the columns of ``physical_schema``.

    Columns of the frame that are not in ``schema`` stay at the end.

    Raises
    ------
    StorageError
        As ``check_forms``.

    Examples
    --------
    >>> frame = pl.LazyFrame({"x": [1, 1_000]})
    >>> physical(frame, frame.collect_schema(), {"x": Cast(pl.Int8())}).collect().rows()
    [(1, None), (None, 1000)]
    """
    if not forms:
        return frame
    check_forms(forms, schema)
    extra = [n for n in frame.collect_schema() if n not in schema]
    made: dict[str, pl.Expr] = {}
    chosen: list[pl.Expr] = []
    for name, dtype in schema.items():
        if name not in forms:
            chosen.append(pl.col(name))
            continue
        first, then = apart(name, dtype, forms[name])
        made |= first
        chosen += [e.alias(n) for n, e in then.items()]
    return frame.with_columns(**made).select(*chosen, *extra)


def apart(name: str, dtype: pl.DataType, form: Form, mark: str = "") -> tuple[dict[str, pl.Expr], dict[str, pl.Expr]]:
    """Return what is to be added to a frame so that a column can be written in a form, and then what is to be taken from it.

    ``mark`` tells several forms of the same column apart.

    Examples
    --------
    >>> first, then = apart("x", pl.Int64(), Cast(pl.Int8()))
    >>> pl.DataFrame({"x": [1, 1_000]}).with_columns(**first).select(**then).rows()
    [(1, None), (None, 1000)]
    """
    value = pl.col(name)
    # under names of their own first: the value is still to be compared with what they make
    split = {p: (f"{FORMED}{name}:{mark}:{p}", e) for p, e in form.split(value, dtype).items()}
    parts = {p: pl.col(temporary) for p, (temporary, _) in split.items()}
    kept = same(form.join(parts, dtype), value, dtype)
    then = {_part(name, p): e for p, e in parts.items()}
    return dict(split.values()), {**then, plain_column(name): pl.when(~kept).then(value)}


def _needed(name: str, odd: Collection[str] | None) -> bool:
    return odd is None or name in odd


def scan_schema(
    schema: Mapping[str, pl.DataType], forms: Mapping[str, Form], odd: Collection[str] | None = None
) -> dict[str, pl.DataType]:
    """Return the columns that a scan by Polars gives: as in the file, but with numbers widened that it can widen itself.

    So a filter on such a column still tells which row groups are to be read.
    """
    return _inside(schema, forms) | {n: schema[n] for n in forms if _is_widened(n, schema[n], forms[n], odd)}


def _is_widened(name: str, dtype: pl.DataType, form: Form, odd: Collection[str] | None) -> bool:
    return isinstance(form, Cast) and form.widens(dtype) and not _needed(name, odd)


def restore(
    frame: pl.LazyFrame,
    schema: Mapping[str, pl.DataType],
    forms: Mapping[str, Form],
    *,
    odd: Collection[str] | None = None,
    widened: bool = False,
) -> pl.LazyFrame:
    """Return a scan of files with the columns that were given to ``physical``, each value as it was.

    Parameters
    ----------
    odd
        Columns with values in the files that do not fit their form. None: there may be such in each.
    widened
        Whether the scan has the columns of ``scan_schema``, rather than those of ``physical_schema``.

    Examples
    --------
    >>> frame = pl.LazyFrame({"x": [1, 1_000, None]})
    >>> forms = {"x": Cast(pl.Int8())}
    >>> restore(physical(frame, frame.collect_schema(), forms), frame.collect_schema(), forms).collect()["x"].to_list()
    [1, 1000, None]
    """
    for ready in _rounds(forms):
        values = []  # not by keywords: a column may be called self
        for name in ready:
            form, dtype = forms[name], schema[name]
            if widened and _is_widened(name, dtype, form, odd):
                continue
            joined = form.join({p: pl.col(_part(name, p)) for p in form.parts(dtype)}, dtype)
            value = pl.coalesce(plain_column(name), joined) if _needed(name, odd) else joined
            values.append(value.alias(name))
        frame = frame.with_columns(values)
    if not forms:
        return frame
    inside = _inside(schema, forms)
    if all(name in inside for name in forms):
        return frame.drop(n for n in inside if n not in schema)  # the others stand in their order
    extra = [n for n in frame.collect_schema() if n not in schema and n not in inside]
    return frame.select(*schema, *extra)


def odd_columns(forms: Iterable[str]) -> list[pl.Expr]:
    """Return the aggregates over a file, as it stands, that tell of which columns it has values that do not fit their form.

    Examples
    --------
    >>> pl.DataFrame({"_lazypipe:x:plain": [None, 7]}).select(odd_columns(["x"])).row(0, named=True)
    {'x': True}
    """
    return [pl.col(plain_column(name)).is_not_null().any().alias(name) for name in forms]
