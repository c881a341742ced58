"""How much data files overlap in their sort columns: how many of them a reader of one value must open."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.optimizer.form_numbers import Cast
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.packing import folders
from lazypipe.storage.parquet.footers import footer_of, reading
from lazypipe.storage.parquet.prune import column_bounds

__all__ = ["depth", "overlaps"]


class _Box(NamedTuple):
    """The least and greatest values of some columns in a file."""

    low: tuple[Any, ...]
    high: tuple[Any, ...]


def depth(boxes: Sequence[tuple[tuple[Any, ...], tuple[Any, ...]]]) -> float:
    """Return in how many of some boxes, on average, the lowest corner of one lies: 1 if they are as far apart as an order can put them.

    In the best of orders a value may fill several files, and end one that begins with others: these do not count.

    Examples
    --------
    >>> depth([((1,), (3,)), ((4,), (6,))]), depth([((1,), (9,)), ((2,), (8,)), ((3,), (7,))])
    (1.0, 2.0)
    >>> depth([((1,), (2,)), ((2,), (2,)), ((2,), (2,)), ((2,), (3,))])
    1.0
    """

    def holds(box: tuple[tuple[Any, ...], tuple[Any, ...]], corner: tuple[Any, ...], *, fills: bool) -> bool:
        """Whether a corner lies in a box, and not only at its upper end; nor, if its own box is of nothing else, at the lower."""
        sides = [*zip(box[0], corner, box[1], strict=True)]
        within = all(low <= x <= high for low, x, high in sides)
        return within and any(x < high and not (fills and x == low) for low, x, high in sides)

    if not boxes:
        return 0.0
    found = 0
    for number, (low, high) in enumerate(boxes):
        others = (box for other, box in enumerate(boxes) if other != number)
        found += 1 + sum(holds(box, low, fills=low == high) for box in others)
    return found / len(boxes)


def overlaps(dataset: Dataset, commit: Commit, layout: Layout) -> dict[str, float]:
    """Return partition → how many of its files hold the same values of what a layout orders rows by, on average.

    Counted are files whose footers tell; along a curve, all of its columns count, else the first. Nothing without an order.

    Raises
    ------
    SourceError
        If a file cannot be read.
    """
    found: dict[str, float] = {}
    for (folder, by), files in folders(commit, commit.files).items():
        ordered = tuple(n for n in layout.sort_by if n not in by)
        columns = ordered[:1] if layout.curve == "linear" else ordered
        if not columns or len(files) < 2:
            continue
        with ThreadPoolExecutor(8) as pool:
            boxes = [*pool.map(lambda f: _box(dataset, commit, f, columns), files)]  # noqa: B023  # used at once
        found[folder] = depth([b for b in boxes if b is not None])
    return found


def _box(dataset: Dataset, commit: Commit, file: DataFile, columns: tuple[str, ...]) -> _Box | None:
    """Return the bounds of columns in a file, None if its footer does not tell all of them."""
    forms = {} if file.layout is None else file.layout.forms
    for name in columns:
        form = forms.get(name)
        # what is merely shorter has the bounds of its values
        if form is not None and not (isinstance(form, Cast) and form.widens(commit.schema[name]) and not file.odd):
            return None
    uri = uris.join(dataset.uri, file.path)
    with reading(uri):
        footer = footer_of(uri, dataset.storage_options)
    told = [column_bounds(footer, n, commit.schema[n]) for n in columns]
    known = [b for b in told if b is not None and b.low is not None]
    return _Box(tuple(b.low for b in known), tuple(b.high for b in known)) if len(known) == len(told) else None
