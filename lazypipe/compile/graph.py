"""The graph of a pipeline: what reads what, in which order, and every mistake in its names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from lazypipe import gates, ops
from lazypipe.compile.late import as_written
from lazypipe.errors import nearest
from lazypipe.ops import Operation
from lazypipe.spec.model import NOTHING, Fault, Output, Path, Pipeline, Stage, Step
from lazypipe.storage import uri as uris

__all__ = ["Graph", "build", "needed", "outside", "place"]


@dataclass(frozen=True)
class Graph:
    """Sources and stages in dependency order, and the inputs of each.

    ``inputs[name]`` keeps repeats: a stage that joins an input with itself reads it twice. ``operations`` holds each
    stage's operations as values; a stage whose text was wrong is not in it. ``lookups[name]`` are the frames that its gate
    looks rows up in; those that are no source or stage are ``outside``, URIs with the place where they are written.
    """

    order: tuple[str, ...]
    inputs: Mapping[str, tuple[str, ...]]
    operations: Mapping[str, tuple[Operation, ...]]
    lookups: Mapping[str, tuple[str, ...]]
    outside: Mapping[str, Path] = NOTHING

    def ancestors(self, names: Iterable[str], *, lookups: bool = False) -> frozenset[str]:
        """Return the names and everything that they read, directly or not; with ``lookups``, also what gates on the way look rows up in."""
        found: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending += [*self.inputs.get(name, ()), *(self.lookups.get(name, ()) if lookups else ())]
        return frozenset(found)

    @cached_property
    def closing(self) -> frozenset[str]:
        """Sources and stages whose rows come to windows that are closed, in a stage that is made of them or there."""
        closers = (n for n, made in self.operations.items() if any(o.name == "closed" for o in made))
        return self.ancestors(closers)


def build(pipeline: Pipeline, faults: list[Fault]) -> Graph:
    """Build the graph; mistakes are added to ``faults`` and what depends on them is left out."""
    known = [*pipeline.sources, *pipeline.stages]
    named = [n for n in known if as_written(n, pipeline) == n]  # by who wrote the definition
    inputs: dict[str, tuple[str, ...]] = dict.fromkeys(pipeline.sources, ())
    places: dict[tuple[str, str], Path] = {}
    operations: dict[str, tuple[Operation, ...]] = {}
    for name, stage in pipeline.stages.items():
        at: Path = ("stages", as_written(name, pipeline))
        if name in pipeline.sources:
            faults.append(Fault(f"{name!r} is a source and a stage", "give one of them another name", at))
            continue
        built, others = _operations(stage, known, faults)
        refs = [*((ref, (*at, "from", index)) for index, ref in enumerate(stage.inputs)), *others]
        for ref, path in refs:
            if ref not in known:
                fault = Fault(f"unknown input {ref!r}", nearest(ref, named, "sources and stages"), path)
                if all((fault.what, fault.path) != (f.what, f.path) for f in faults):  # of the other part of a stage
                    faults.append(fault)
            places.setdefault((name, ref), path)
        inputs[name] = tuple(ref for ref, _ in refs if ref in known)
        if all(ref in known for ref in stage.inputs):
            operations[name] = built
    _check_outputs(pipeline, faults)
    gates_of = {**{n: s.gate for n, s in pipeline.sources.items()}, **{n: s.gate for n, s in pipeline.stages.items()}}
    lookups: dict[str, tuple[str, ...]] = {}
    beyond: dict[str, Path] = {}
    for name, steps in gates_of.items():
        found = _named(steps)
        lookups[name] = tuple(dict.fromkeys(ref for ref, _ in found))
        for ref in outside(steps, known):
            beyond.setdefault(ref, next(path for named, path in found if named == ref))
        for ref, path in found:
            places.setdefault((name, ref), path)
            if ref not in known and ref not in beyond:
                faults.append(Fault(f"unknown frame {ref!r}", nearest(ref, named, "sources and stages"), path))
    known += beyond
    lookups_known = {name: tuple(ref for ref in refs if ref in known) for name, refs in lookups.items()}
    edges = {name: (*refs, *lookups_known.get(name, ())) for name, refs in inputs.items()}
    order = _order(dict.fromkeys(beyond, ()) | edges, pipeline, places, faults)
    return Graph(order, inputs | dict.fromkeys(beyond, ()), operations, lookups, beyond)


def _operations(
    stage: Stage, known: Collection[str], faults: list[Fault]
) -> tuple[tuple[Operation, ...], list[tuple[str, Path]]]:
    """Return a stage's operations up to the first that is wrong, and the further inputs that its operations name, each with its place."""
    built: list[Operation] = []
    refs: list[tuple[str, Path]] = []
    sound = True  # so far
    for step in stage.do:
        try:
            operation = ops.operation(step)
        except Fault as fault:
            faults.append(fault)
            sound = False
            continue
        refs += [(ref, operation.at(step, "with", index)) for index, ref in enumerate(operation.inputs())]
        sound = sound and all(ref in known for ref in operation.inputs())
        if sound:
            built.append(operation)
    return tuple(built), refs


def outside(steps: Sequence[Step], known: Collection[str]) -> list[str]:
    """Return the frames that a gate names which are not known and look like URIs."""
    return [ref for ref, _ in _named(steps) if ref not in known and ("/" in ref or "." in ref)]


def _named(steps: Sequence[Step]) -> list[tuple[str, Path]]:
    found = []
    for step in steps:
        try:
            rule = gates.rule(step)
        except Fault:
            continue  # reported where the gate is compiled
        found += [(ref, rule.at(step, argument)) for argument, ref in rule.frames().items()]
    return found


def needed(pipeline: Pipeline, graph: Graph, asked: Collection[str]) -> frozenset[str]:
    """Return the sources and stages that outputs are made of, and what other outputs of the same datasets are; without any asked, all.

    Who removes keys from a dataset must know what the output keeps beside it that writes there.
    """
    if not asked:
        return frozenset(graph.order)
    places = {place(pipeline, o) for n, o in pipeline.outputs.items() if n in asked}
    stages = (o.stage for o in pipeline.outputs.values() if place(pipeline, o) in places)
    return graph.ancestors(stages, lookups=True)


def made_with(pipeline: Pipeline, graph: Graph, sources: Collection[str]) -> frozenset[str]:
    """Return the outputs for which one of some sources is needed."""
    return frozenset(n for n in pipeline.outputs if not needed(pipeline, graph, {n}).isdisjoint(sources))


def place(pipeline: Pipeline, output: Output) -> str:
    """Return where an output is written, by which those of one dataset are known."""
    return uris.resolve(output.to, pipeline.base).rstrip("/")


def _check_outputs(pipeline: Pipeline, faults: list[Fault]) -> None:
    known = [*pipeline.stages, *pipeline.sources]
    named = [n for n in known if as_written(n, pipeline) == n]
    targets: dict[str, str] = {}
    for name, output in pipeline.outputs.items():
        at: Path = ("outputs", name)
        if output.stage not in known:
            path = (*at, "from") if output.stage != name else at
            faults.append(Fault(f"unknown stage {output.stage!r}", nearest(output.stage, named, "stages"), path))
        target = place(pipeline, output)
        if target in targets and not _shares(pipeline.outputs[targets[target]], output):
            what = f"outputs {targets[target]!r} and {name!r} write to the same place"
            faults.append(Fault(what, "change one of them", (*at, "to")))
        if target not in targets or output.mode != "delete":
            targets[target] = name
        if output.format != "dataset":
            faults += [
                Fault(
                    f"{key} is for datasets, and this is one {output.format} file",
                    f"remove {key}, or write format: dataset",
                    (*at, key),
                )
                for key in _FOR_DATASETS
                if output.says(key)
            ]


_FOR_DATASETS = (
    "partition_by",
    "mode",
    "order_by",
    "event_time",
    "deleted_when",
    "deletes",
    "keep",
    "changes",
    "optimize",
    "workload",
    "maintain",
)


def _shares(one: Output, other: Output) -> bool:
    """Whether two outputs may write to one place: where one removes keys from what the other adds to."""
    modes = {one.mode, other.mode}
    return one.format == other.format == "dataset" and "delete" in modes and modes <= {"delete", "append", "upsert"}


def _order(
    inputs: Mapping[str, tuple[str, ...]],
    pipeline: Pipeline,
    places: Mapping[tuple[str, str], Path],
    faults: list[Fault],
) -> tuple[str, ...]:
    """Sort by dependency, keeping the order of the definition where it is free; cycles are faults.

    What is in a cycle stands somewhere in the order all the same, before one of its inputs.
    """
    done: dict[str, None] = {}
    for start in inputs:
        # an explicit stack: a chain of stages may be longer than Python's recursion limit
        stack: dict[str, Iterator[str]] = {start: iter(inputs[start])} if start not in done else {}
        while stack:
            name, rest = next(reversed(stack.items()))
            ref = next(rest, None)
            if ref is None:
                stack.popitem()
                done[name] = None
            elif ref in stack:
                names = [*stack]
                faults.append(_cycle([*names[names.index(ref) :], ref], pipeline, places))
            elif ref not in done:
                stack[ref] = iter(inputs[ref])
    return tuple(done)


def _cycle(names: list[str], pipeline: Pipeline, places: Mapping[tuple[str, str], Path]) -> Fault:
    path = places[names[0], names[1]]
    written = [as_written(name, pipeline) for name in names]
    names = [written[0], *(name for before, name in pairwise(written) if name != before)]
    if len(names) <= 2:
        return Fault(f"stage {names[0]!r} reads itself", "name another source or stage", path)
    return Fault(f"stages read each other in a circle: {' → '.join(names)}", "break it at one of them", path)
