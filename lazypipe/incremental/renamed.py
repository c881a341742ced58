"""Sources of outputs that add rows, which were renamed, split, put together, or are new: what is known of their files by another name.

Rows that were added must not come again because a source is called otherwise, and those of a source that is new are just to be added.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from lazypipe.incremental.before import Before
from lazypipe.incremental.parts import Listed
from lazypipe.incremental.state import Consumed

__all__ = ["as_named", "forgotten"]


def as_named(
    before: Before, driving: Iterable[str], read: Collection[str], there: Callable[[str], Collection[str] | str]
) -> Before:
    """Return what was consumed by the names that sources have now: each has consumed what others had of its files, if they read them no more.

    Parameters
    ----------
    driving
        The sources and outputs whose rows are added.
    read
        All that the output reads.
    there
        Gives the files of a source by the names that they are consumed by; of a dataset, its URI.
    """
    for name in driving:
        here = there(name)
        if not isinstance(here, str):
            before = _files(before, name, read, there)
        elif name not in before.state.sources:
            before = _table(before, name, read, here)
    return before


def forgotten(before: Before, read: Collection[str]) -> dict[str, Consumed]:
    """Return what was consumed of sources that are not read any more: should one be again, its rows are there."""
    return {n: c for n, c in before.state.sources.items() if n not in read and n in before.units and c.files}


def _table(before: Before, name: str, read: Collection[str], uri: str) -> Before:
    for old, consumed in before.state.sources.items():
        if old not in read and old in before.units and consumed.uri == uri:
            return _with(before, {old: None, name: (consumed, before.units[old])}, {old: name})
    return _with(before, {name: (Consumed("dataset", uri=uri), ())})


def _files(before: Before, name: str, read: Collection[str], there: Callable[[str], Collection[str] | str]) -> Before:
    here, own = there(name), before.state.sources.get(name)
    found = own
    files, units = ([], []) if own is None else ([*own.files], [*before.units[name]])
    known = {f.uri for f in files}
    changed: dict[str, tuple[Consumed, Iterable[Listed]] | None] = {}
    for old, consumed in before.state.sources.items():
        if old == name or consumed.kind != "files" or old not in before.units:
            continue
        stay = there(old) if old in read else ()
        pairs = [*zip(consumed.files, before.units[old], strict=True)]
        taken = [f.uri in here and f.uri not in stay and f.uri not in known for f, _ in pairs]
        if not any(taken):
            continue
        rest = [pair for pair, goes in zip(pairs, taken, strict=True) if not goes]
        changed[old] = (replace(consumed, files=tuple(f for f, _ in rest)), [u for _, u in rest]) if rest else None
        files += [f for (f, _), goes in zip(pairs, taken, strict=True) if goes]
        units += [u for (_, u), goes in zip(pairs, taken, strict=True) if goes]
        known |= {f.uri for f in files}
        # of two lists the older one proves less
        listed = [c.listed for c in (found, consumed) if c is not None]
        first = None if None in listed else min(n for n in listed if n is not None)
        borders = {**consumed.borders, **({} if found is None else found.borders)}
        found = replace(consumed, listed=first, borders=borders)
    if own is not None and not changed:
        return before
    return _with(before, {**changed, name: (replace(found or Consumed("files"), files=tuple(files)), units)})


def _with(
    before: Before, changed: dict[str, tuple[Consumed, Iterable[Listed]] | None], names: dict[str, str] | None = None
) -> Before:
    """Return it with other sources, None for those that are left out; ``names`` are those under which their units go on."""
    sources, units = dict(before.state.sources), dict(before.units)
    for name, of in changed.items():
        sources.pop(name, None)
        units.pop(name, None)
        if of is not None:
            sources[name], units[name] = of[0], [*of[1]]
    called = names or {}
    return replace(
        before,
        state=replace(before.state, sources=sources),
        units=units,
        renamed={called.get(n, n): of for n, of in before.renamed.items()},
        gone={called.get(n, n): of for n, of in before.gone.items()},
        # which are listed file by file
        arrivals={n: of for n, of in before.arrivals.items() if n not in changed},
    )
