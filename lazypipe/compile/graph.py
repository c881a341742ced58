"""The graph of a pipeline: what reads what, in which order, and every mistake in its names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lazypipe import ops
from lazypipe.errors import nearest
from lazypipe.ops import Operation
from lazypipe.spec.model import Fault, Path, Pipeline
from lazypipe.storage import uri as uris

__all__ = ["Graph", "build"]


@dataclass(frozen=True)
class Graph:
    """Sources and stages in dependency order, and the inputs of each.

    ``inputs[name]`` keeps repeats: a stage that joins an input with itself reads it twice. ``operations`` holds each
    stage's operations as values; a stage whose text was wrong is not in it.
    """

    order: tuple[str, ...]
    inputs: Mapping[str, tuple[str, ...]]
    operations: Mapping[str, tuple[Operation, ...]]

    def ancestors(self, names: Iterator[str] | tuple[str, ...]) -> frozenset[str]:
        """Return the names and everything that they read, directly or not."""
        found: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending += self.inputs.get(name, ())
        return frozenset(found)


def build(pipeline: Pipeline, faults: list[Fault]) -> Graph:
    """Build the graph; mistakes are added to ``faults`` and what depends on them is left out."""
    known = [*pipeline.sources, *pipeline.stages]
    inputs: dict[str, tuple[str, ...]] = dict.fromkeys(pipeline.sources, ())
    places: dict[tuple[str, str], Path] = {}
    operations: dict[str, tuple[Operation, ...]] = {}
    for name, stage in pipeline.stages.items():
        at: Path = ("stages", name)
        if name in pipeline.sources:
            faults.append(Fault(f"{name!r} is a source and a stage", "give one of them another name", at))
            continue
        refs: list[tuple[str, Path]] = [(ref, (*at, "from", index)) for index, ref in enumerate(stage.inputs)]
        built: list[Operation] = []
        sound = True
        for step in stage.do:
            try:
                operation = ops.operation(step)
            except Fault as fault:
                faults.append(fault)
                sound = False
                continue
            refs += [(ref, operation.at(step, "with", index)) for index, ref in enumerate(operation.inputs())]
            built.append(operation)
        for ref, path in refs:
            if ref not in known:
                faults.append(Fault(f"unknown input {ref!r}", nearest(ref, known, "sources and stages"), path))
                sound = False
            places.setdefault((name, ref), path)
        inputs[name] = tuple(ref for ref, _ in refs if ref in known)
        if sound:
            operations[name] = tuple(built)
    _check_outputs(pipeline, faults)
    order = _order(inputs, places, faults)
    return Graph(order, inputs, operations)


def _check_outputs(pipeline: Pipeline, faults: list[Fault]) -> None:
    known = [*pipeline.stages, *pipeline.sources]
    targets: dict[str, str] = {}
    for name, output in pipeline.outputs.items():
        at: Path = ("outputs", name)
        if output.stage not in known:
            path = (*at, "from") if output.stage != name else at
            faults.append(Fault(f"unknown stage {output.stage!r}", nearest(output.stage, known, "stages"), path))
        target = uris.resolve(output.to, pipeline.base).rstrip("/")
        if target in targets:
            what = f"outputs {targets[target]!r} and {name!r} write to the same place"
            faults.append(Fault(what, "change one of them", (*at, "to")))
        targets[target] = name
        if output.format != "dataset":
            for key, given in (
                ("partition_by", output.partition_by),
                ("mode", output.mode != "replace"),
                ("optimize", output.optimize),
            ):
                if given:
                    faults.append(
                        Fault(
                            f"{key} is for datasets, and this is one {output.format} file",
                            f"remove {key}, or format",
                            (*at, key),
                        )
                    )


def _order(
    inputs: Mapping[str, tuple[str, ...]], places: Mapping[tuple[str, str], Path], faults: list[Fault]
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
                faults.append(_cycle([*names[names.index(ref) :], ref], places))
            elif ref not in done:
                stack[ref] = iter(inputs[ref])
    return tuple(done)


def _cycle(names: list[str], places: Mapping[tuple[str, str], Path]) -> Fault:
    path = places[names[0], names[1]]
    if len(names) == 2:
        return Fault(f"stage {names[0]!r} reads itself", "name another source or stage", path)
    return Fault(f"stages read each other in a circle: {' → '.join(names)}", "break it at one of them", path)
