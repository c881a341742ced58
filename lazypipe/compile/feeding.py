"""Which definition reads what another one writes, and in which order they run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lazypipe.compile import graph as graphs
from lazypipe.compile.outputs.feedback import would_find
from lazypipe.compile.sources.binding import expand_env, expand_source
from lazypipe.errors import LazypipeError, nearest
from lazypipe.spec.endings import format_of
from lazypipe.spec.loader import problems
from lazypipe.spec.model import Fault, Output, Path, Pipeline, Source
from lazypipe.storage import uri as uris
from lazypipe.storage.formats import FORMATS

__all__ = ["Feed", "Order", "feeds", "reads"]

_BESIDE = ("", "__changes", "__panes", "__quarantine")
"""What the datasets are called that an output writes, behind its own name."""


@dataclass(frozen=True)
class Feed:
    """An output of the definition ``by`` that the source of the definition ``to`` reads, which stands at ``path`` there."""

    by: int
    output: str
    to: int
    source: str
    path: Path


@dataclass(frozen=True)
class Order:
    """The order in which definitions run, by their numbers, what feeds what, and which outputs of each are needed (none: all)."""

    numbers: tuple[int, ...]
    feeds: tuple[Feed, ...]
    asked: Mapping[int, frozenset[str]]

    @classmethod
    def of(cls, pipelines: Sequence[Pipeline], env: Mapping[str, str], outputs: Sequence[str] = ()) -> Order:
        """Return the order of definitions, or of those that some outputs need.

        Raises
        ------
        DefinitionError
            If some feed each other in a circle, with the place of a source by which they do.
        LazypipeError
            If two have the same name, or none has an output that is asked for.
        """
        names: dict[str, str] = {}
        for pipeline in pipelines:
            if pipeline.name in names:  # their state would get mixed up
                files = f"in {names[pipeline.name]} and {pipeline.origin.file}"
                raise LazypipeError(
                    f"two pipelines are called {pipeline.name!r}, {files}; give one of them another name"
                )
            names[pipeline.name] = pipeline.origin.file
        found = feeds(pipelines, env)
        numbers = _in_order(pipelines, found)
        asked = _asked(pipelines, found, outputs) if outputs else dict.fromkeys(numbers, frozenset[str]())
        return cls(tuple(n for n in numbers if n in asked), tuple(found), asked)

    def is_fed(self, number: int) -> bool:
        """Whether a definition reads what another one makes."""
        return any(f.to == number for f in self.feeds)

    def of_outputs(self, number: int, outputs: Collection[tuple[int, str]]) -> list[Feed]:
        """Return the feeds of a definition from some outputs, given as (number of the definition, name of the output)."""
        return [f for f in self.feeds if f.to == number and (f.by, f.output) in outputs]


def feeds(pipelines: Sequence[Pipeline], env: Mapping[str, str]) -> list[Feed]:
    """Return which outputs of definitions are read by sources, and gates, of others; nothing is looked at for it.

    A URI with a variable that is not set is skipped: compiling reports it.
    """
    written = [[*_written(p, env)] for p in pipelines]
    return [
        Feed(by, name, to, source, path)
        for to, pipeline in enumerate(pipelines)
        for source, read, path in _read(pipeline, env)
        for by, outputs in enumerate(written)
        if by != to
        for name, output in outputs
        if reads(output, read)
    ]


def _in_order(pipelines: Sequence[Pipeline], found: Sequence[Feed]) -> list[int]:
    """Return the numbers of definitions in an order in which each comes after those that feed it, and else in the order given."""
    left, ordered = [*range(len(pipelines))], list[int]()
    while left:
        waits = {i: [f for f in found if f.to == i and f.by in left] for i in left}
        turn = next((i for i in left if not waits[i]), None)
        if turn is None:
            raise _circle(pipelines, waits)
        left.remove(turn)
        ordered.append(turn)
    return ordered


def _circle(pipelines: Sequence[Pipeline], waits: Mapping[int, Sequence[Feed]]) -> LazypipeError:
    walk = [next(iter(waits))]
    while (ahead := waits[walk[-1]][0].by) not in walk:
        walk.append(ahead)
    circle = walk[walk.index(ahead) :]
    names = " → ".join(pipelines[i].name for i in (circle[0], *reversed(circle)))
    first = waits[circle[0]][0]
    what = f"these definitions feed each other in a circle: {names}"
    fix = (
        f"let source {first.source!r} read something other than output {first.output!r} of {pipelines[first.by].name!r}"
    )
    return problems([Fault(what, fix, first.path)], pipelines[circle[0]].origin)


def _asked(pipelines: Sequence[Pipeline], found: Sequence[Feed], outputs: Sequence[str]) -> dict[int, frozenset[str]]:
    """Return which outputs of each definition are to be made: those that are named, and those of other definitions that they are made of."""
    for name in outputs:
        if not any(name in p.outputs for p in pipelines):
            known = [o for p in pipelines for o in p.outputs]
            raise LazypipeError(f"unknown output {name!r}; {nearest(name, known, 'outputs')}")
    asked = {i: frozenset(p.outputs).intersection(outputs) for i, p in enumerate(pipelines)}
    pending = [i for i, names in asked.items() if names]
    while pending:
        number = pending.pop()
        needed = graphs.needed(pipelines[number], graphs.build(pipelines[number], []), asked[number])
        for feed in found:
            if feed.to == number and feed.source in needed and feed.output not in asked[feed.by]:
                asked[feed.by] |= {feed.output}
                pending.append(feed.by)
    return {i: names for i, names in asked.items() if names}


def _written(pipeline: Pipeline, env: Mapping[str, str]) -> Iterator[tuple[str, Output]]:
    for name, output in pipeline.outputs.items():
        try:
            to, _ = expand_env(output.to, env, ())
        except Fault:
            continue
        yield name, replace(output, to=uris.resolve(to, pipeline.base))


def _read(pipeline: Pipeline, env: Mapping[str, str]) -> Iterator[tuple[str, Source, Path]]:
    """Yield what is read, with the place where it is written."""
    graph = graphs.build(pipeline, [])
    gates: dict[str, Source] = {uri: Source((uri,)) for uri in graph.outside}
    for name, source in {**pipeline.sources, **gates}.items():
        path: Path = ("sources", name, "uri")
        if name in gates:
            node = next(n for n, refs in graph.lookups.items() if name in refs)
            path = ("stages" if node in pipeline.stages else "sources", node, "gate")
        try:
            patterns, *_ = expand_source(source, pipeline.base, env, path)
        except Fault:
            continue
        yield name, replace(source, uri=patterns), path


def reads(output: Output, source: Source) -> bool:
    """Whether a source, its URIs whole, reads what an output writes."""
    own = {f"{uris.place(output.to)}{name}" for name in _BESIDE}
    if any(uris.place(pattern) in own for pattern in source.uri):
        return True
    form = source.format or next(filter(None, map(format_of, source.uri)), "parquet")
    return form in FORMATS and would_find(output, source.uri, FORMATS[form].endings)
