"""Many pipelines as one lineage: a source of one is an output of another if their URIs say so."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lazypipe.errors import LazypipeError
from lazypipe.plan.graph import Lineage
from lazypipe.plan.lineage import Column, ColumnLineage, Flow, Flows
from lazypipe.plan.places import Place, RuleUse
from lazypipe.spec.endings import format_of
from lazypipe.storage import uri as uris
from lazypipe.storage.local_files import covers, is_glob

__all__ = ["join"]


def join(lineages: Iterable[Lineage], name: str = "catalog") -> Lineage:
    """Return one lineage of many, their places named ``pipeline/place``.

    A source reads an output where one of its URIs is the output's, lies below it, or finds its files.

    Raises
    ------
    LazypipeError
        If two pipelines have the same name: their places could not be told apart.
    """
    places: list[Place] = []
    names: set[str] = set()
    optimized = False
    for lineage in lineages:
        if lineage.name in names:
            raise LazypipeError(f"two pipelines are called {lineage.name!r}; give one of them another name")
        names.add(lineage.name)
        optimized = optimized or lineage.optimized
        places += [_prefixed(place, f"{lineage.name}/") for place in lineage.places]
    written: dict[str, list[Place]] = {}
    for place in places:
        for uri in place.uris if place.kind != "source" else ():
            written.setdefault(uris.place(uri), []).append(place)
    known = sorted(written)
    return Lineage(name, tuple(_fed(p, written, known) if p.kind == "source" else p for p in places), optimized)


def _prefixed(place: Place, prefix: str) -> Place:
    def column(found: Column) -> Column:
        return Column(prefix + found.dataset, found.name)

    def flows(found: Flows) -> dict[Flow, str]:
        return {f._replace(source=column(f.source)): text for f, text in found.items()}

    old = place.lineage
    lineage = ColumnLineage(
        prefix + place.name,
        {c: flows(f) for c, f in old.columns.items()},
        flows(old.dataset),
        old.texts,
        tuple(prefix + i for i in old.inputs),
    )
    rules = tuple(
        RuleUse(prefix + r.place, r.id, r.action, tuple(map(column, r.reads)), r.repairs) for r in place.rules
    )
    return replace(place, name=lineage.name, lineage=lineage, rules=rules)


def _fed(source: Place, written: Mapping[str, Sequence[Place]], names: Sequence[str]) -> Place:
    """Return a source with what another pipeline wrote below it, as far as the columns have the same names."""
    writers: dict[str, Place] = {}
    for uri in source.uris:
        key = uris.place(uri)
        while key and key not in written:
            key = key.rpartition("/")[0]
        found = [key] if key else _found(uris.place(uri), names)
        writers |= {p.name: p for name in found for p in written[name] if p.name != source.name}
    if not writers:
        return source
    columns: dict[str, Flows] = {}
    for name in source.columns:
        own = source.lineage.columns.get(name, {})
        from_writers = {Flow(Column(w.name, name), "IDENTITY"): "" for w in writers.values() if name in w.columns}
        columns[name] = {**from_writers, **own}
    inputs = tuple(dict.fromkeys([*writers, *source.lineage.inputs]))
    return replace(source, lineage=replace(source.lineage, columns=columns, inputs=inputs))


def _found(pattern: str, names: Sequence[str]) -> list[str]:
    """Return which places, in order, a pattern or a folder finds files of: exported ones, or those in a dataset's folder."""
    start = f"{pattern}/"
    if is_glob(pattern):
        start = re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]
        start = f"{start}/" if start else ""
    found = []
    for name in names[bisect_left(names, start) :]:
        if not name.startswith(start):
            break
        is_file = format_of(name) is not None
        if covers(pattern, name if is_file else f"{name}/{_FILE}") if is_glob(pattern) else is_file:
            found.append(name)
    return found


_FILE = "run-001-00000.parquet"
"""The name of a file of a dataset, as far as it matters for whether a pattern matches."""
