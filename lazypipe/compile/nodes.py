"""Compiles the sources and stages of a definition, in the order of its graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from lazypipe.compile.graph import Graph
from lazypipe.compile.names import check_names
from lazypipe.compile.node import Node, check_rules, check_steps, compile_gate, compile_steps
from lazypipe.compile.outputs.promise import promised
from lazypipe.compile.sources.binding import unseen
from lazypipe.compile.sources.contract import cell_checks, is_broken
from lazypipe.compile.sources.source import BoundSource
from lazypipe.errors import Problem, SourceError
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.model import Fault, Path, Pipeline, Source, Step
from lazypipe.spec.scope import Scope, Table
from lazypipe.sql.exprs import empty
from lazypipe.storage.formats import FORMATS
from lazypipe.storage.shape import Shape
from lazypipe.storage.text.by_row import TEXT

__all__ = ["compile_nodes"]


def compile_nodes(
    pipeline: Pipeline,
    graph: Graph,
    needed: Collection[str],
    binding: Callable[[str, Source], BoundSource],
    held: Mapping[str, pl.Schema | None],
    make_scope: Callable[[Step, type[Arguments]], Scope],
    faults: list[Fault],
) -> tuple[dict[str, Node], dict[str, SourceError]]:
    """Return the ``needed`` sources and stages, and why sources cannot be read; mistakes are added to ``faults``.

    Of all others only what the definition says by itself is looked at. ``held`` are the columns of the latest commit of each output.
    """
    nodes = _Nodes(pipeline, graph, binding, held, make_scope, faults)
    unread: dict[str, SourceError] = {}
    for name in graph.order:
        if name not in needed:
            if name in pipeline.sources:
                faults += unseen(name, pipeline.sources[name])
            nodes.check_unknown(name)
            continue
        try:
            nodes.add(name)
        except SourceError as error:
            unread[name] = (
                error  # mistakes in the definition are reported first: they can be corrected without the data
            )
    return nodes.made, unread


@dataclass(frozen=True)
class _Nodes:
    pipeline: Pipeline
    graph: Graph
    binding: Callable[[str, Source], BoundSource]
    held: Mapping[str, pl.Schema | None]
    make_scope: Callable[[Step, type[Arguments]], Scope]
    faults: list[Fault]
    made: dict[str, Node] = field(default_factory=dict)

    def add(self, name: str) -> None:
        """Compile one source or stage, where neither it nor what it reads is wrong."""
        lookups = self.graph.lookups.get(name, ())
        others = {ref: self.made[ref].schema for ref in lookups if ref in self.made}
        if len(others) < len(lookups):
            self.check_unknown(name)
            return  # a reference of its gate is wrong, and has been reported
        is_source = name in self.pipeline.sources or name in self.graph.outside
        node = self._source(name, others) if is_source else self._stage(name, others)
        if node is not None:
            self.made[name] = node

    def check_unknown(self, name: str) -> None:
        """Add what is wrong with a source or stage whose columns are not known, as far as none are needed to tell."""
        if name in self.pipeline.stages:
            check_steps(self.pipeline.stages[name].do, self.make_scope, self.faults)
        written = self.pipeline.stages.get(name) or self.pipeline.sources.get(name)
        check_rules(() if written is None else written.gate, self.make_scope, self.faults)

    def _source(self, name: str, others: Mapping[str, pl.Schema]) -> Node | None:
        source = self.pipeline.sources.get(name) or Source((name,))
        try:
            bound = self.binding(name, source)
            at: Path = ("sources", name) if name in self.pipeline.sources else ()
            form = bound.reader.format
            check_names(bound.schema, at, files=form != "dataset", text=form == "csv")
        except Fault as fault:
            check_rules(source.gate, self.make_scope, self.faults)
            self.faults.append(fault)
            return None
        except SourceError as error:
            check_rules(source.gate, self.make_scope, self.faults)
            if name not in self.graph.outside:
                raise
            where = self.pipeline.origin.locate(self.graph.outside[name])
            what = error.what.removeprefix(f"source {name!r}: ")
            said = Problem(f"a rule looks rows up in it: {what}", where)
            raise SourceError(str(said), uri=error.uri, fix=error.fix) from error
        self._promise(name, bound.seen, source=True)
        checks, timeless = compile_gate(
            source.gate, bound.seen, self.make_scope, self.faults, others, source.action, kept=self._is_kept(name)
        )
        if TEXT in bound.raw:
            checks = tuple(
                replace(c, violated=c.violated & ~is_broken()) if c.violated is not None else c for c in checks
            )
        closes = name in self.graph.closing
        checks = (*bound.checks, *checks)
        return Node(name, (), bound.seen, checks, source=bound, to_close=closes, timeless=timeless)

    def _stage(self, name: str, others: Mapping[str, pl.Schema]) -> Node | None:
        stage = self.pipeline.stages[name]
        inputs = tuple(dict.fromkeys(self.graph.inputs[name]))
        if name not in self.graph.operations or any(ref not in self.made for ref in inputs):
            self.check_unknown(name)
            return None
        tables = {ref: Table(empty(self.made[ref].schema).lazy(), self.made[ref].schema) for ref in inputs}
        built = self.graph.operations[name]  # up to the first that is none
        made = compile_steps(stage.do[: len(built)], built, inputs, tables, self.make_scope, self.faults)
        if made is None or len(built) < len(stage.do):
            check_steps(stage.do[len(built) :], self.make_scope, self.faults)
            check_rules(stage.gate, self.make_scope, self.faults)
            return None
        steps, schemas, stubs, timed = made
        schema = schemas[-1] if schemas else self.made[inputs[0]].schema
        shape = self._promise(name, schema)
        first = () if shape is None else cell_checks(shape, "dataset")
        schema = schema if shape is None else shape.schema
        checks, timeless = compile_gate(
            stage.gate, schema, self.make_scope, self.faults, others, stage.action, kept=self._is_kept(name)
        )
        return Node(
            name,
            inputs,
            schema,
            (*first, *checks),
            steps=steps,
            schemas=schemas,
            stubs=stubs,
            shape=shape,
            to_close=name in self.graph.closing,
            timeless=timeless,
            timed=timed,
        )

    def _is_kept(self, name: str) -> bool:
        """Whether a stage is published as a dataset, so that a rule may compare its rows with those of earlier versions."""
        return any(o.stage == name and o.format not in FORMATS for o in self.pipeline.outputs.values())

    def _promise(self, stage: str, schema: pl.Schema, *, source: bool = False) -> Shape | None:
        """Return the shape that the contract of an output gives the rows of a stage, which all who read it see."""
        promises = {n: o for n, o in self.pipeline.outputs.items() if o.stage == stage and o.contract}
        shapes = {n: promised(n, o, self.held.get(n), schema, self.faults) for n, o in promises.items()}
        for name, shape in shapes.items():
            if shape is None:
                continue
            at: Path = ("outputs", name, "contract")
            if source:
                what = f"the contract changes the rows, and {stage!r} is a source"
                self.faults.append(Fault(what, "put a stage between, or change the source's contract", at))
            elif len(promises) > 1:
                other = next(n for n in promises if n != name)
                what = f"the contract changes the rows of {stage!r}, for which output {other!r} has a contract too"
                self.faults.append(Fault(what, "give each of them a stage of its own", at))
            return shape
        return None
