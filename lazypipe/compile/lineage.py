"""The lineage of a pipeline, read from plans over placeholders: each source, stage, gate and output alone, then joined.

Nothing is read and nothing is run: each node is lowered over empty frames that carry the names of its inputs, and its plan is
read. So the lineage is that of the operations as they are, whatever the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl

from lazypipe.compile.node import Node, ancestors
from lazypipe.compile.outputs.kept import feeds, kept, removing
from lazypipe.compile.parts import Parts
from lazypipe.gates import Check
from lazypipe.gates.marks import mark
from lazypipe.gates.measure import measured
from lazypipe.gates.rule import PREVIOUS
from lazypipe.gates.tap import FILE_COLUMN, RAW_COLUMN, RULES_COLUMN, RUN_COLUMN
from lazypipe.plan.graph import Lineage
from lazypipe.plan.lineage import ALL, MASKS, Column, ColumnLineage, Flow, Flows, compose
from lazypipe.plan.places import Place, RuleUse
from lazypipe.plan.reader import read_plan
from lazypipe.plan.steps import plan_lineage
from lazypipe.spec.scope import Table
from lazypipe.spec.taps import label
from lazypipe.sql.exprs import empty

__all__ = ["pipeline_lineage", "pipeline_tags"]


def pipeline_lineage(parts: Parts, *, optimized: bool = False, masks: frozenset[str] = MASKS) -> Lineage:
    """Return the lineage as written, or with only those columns that something needs.

    Parameters
    ----------
    optimized
        Whether each plan is read as Polars optimizes it, over just the columns that are needed below: what an output holds, and
        what a rule reads. Columns that only quarantined rows would show are not needed.
    masks
        Functions after which a value can no longer be read.
    """
    needed: dict[str, set[str]] = {name: set() if optimized else set(node.schema) for name, node in parts.nodes.items()}
    wanted = {o.stage for o in parts.outputs.values()}
    for name in wanted:
        needed[name] |= set(parts.nodes[name].schema)
    places: dict[str, Place] = {}
    works = {name: _Work(parts, node, masks, optimized=optimized) for name, node in parts.nodes.items()}
    for name, work in reversed(works.items()):
        node = work.node
        if name in wanted:
            needed[name] |= {c.name for r in work.rules for c in r.reads if c.dataset == name and c.name != ALL}
        place = work.place(tuple(c for c in node.schema if c in needed[name]))
        places[name] = place
        if name in wanted:
            reads = place.lineage.reads.union(*(r.reads for r in place.rules))
            wanted |= {*place.lineage.inputs, *(c.dataset for c in reads)}
            for column in reads:
                # what is not there is a file or a frame that a function brought along
                needed.setdefault(column.dataset, set()).add(column.name)
            if optimized and place.kind == "source":
                # what its own rules read is needed too
                places[name] = work.place(tuple(c for c in node.schema if c in needed[name]))
    more = _outputs(parts, places)
    found = [places[name] for name in parts.nodes]
    aside = [(replace(w, optimized=False) if optimized else w).aside() for w in works.values() if _sets_aside(w.node)]
    return Lineage(parts.state.pipeline, (*found, *more, *aside), optimized)


def _sets_aside(node: Node) -> bool:
    return any(c.action == "quarantine" for c in node.checks)


def _outputs(parts: Parts, places: dict[str, Place]) -> list[Place]:
    """Return the places of outputs and of their feeds; those of stages that are outputs, or whose readers see what one keeps, are replaced."""
    found: dict[str, Place] = {}
    beside: list[Place] = []
    held: dict[str, str] = {}
    for name, output in parts.outputs.items():
        uri = parts.redact(output.to)
        if output.mode == "delete":
            continue
        stage = places[output.stage]
        own = name if name == stage.name and stage.kind == "stage" else _beside(parts, name)
        seen = stage.kind == "stage" and (own == stage.name or output.mode in _SEEN_AS_KEPT)
        schema = {c: parts.nodes[stage.name].schema[c] for c in stage.columns}
        made = kept(own, output, stage.name, schema, parts.params)
        if seen and output.mode not in _AS_THEY_ARE:
            lineage = replace(compose(made, {stage.name: stage.lineage}), name=stage.name)
            places[stage.name] = stage = replace(stage, lineage=lineage, columns=tuple(lineage.columns))
        if own == stage.name:
            places[own] = place = replace(stage, uris=(uri,), published=True)
        else:
            made = kept(own, replace(output, mode="replace"), stage.name, schema, {}) if seen else made
            found[own] = place = Place(own, "output", tuple(made.columns), made, (uri,), published=True)
        held[uri] = stage.name if seen else own
        beside += feeds(name, output, own, place.columns, parts.nodes, uri)
    for name, output in parts.outputs.items():
        if output.mode == "delete":
            uri = parts.redact(output.to)
            place = removing(_beside(parts, name), output, output.stage, uri)
            found[place.name] = place
            holder = held.get(uri)
            if holder is not None and holder not in ancestors(parts.nodes, output.stage):
                of = places if holder in places else found
                lineage = of[holder].lineage
                of[holder] = replace(of[holder], lineage=replace(lineage, inputs=(*lineage.inputs, place.name)))
    return [*found.values(), *beside]


_AS_THEY_ARE = ("replace", "append")
_SEEN_AS_KEPT = ("upsert", "replace_partitions")
"""Modes of outputs whose stage is read, in the pipeline, as the output holds it."""


def _beside(parts: Parts, name: str) -> str:
    """Return the name of the place of an output that is not just its stage."""
    return f"{name}@output" if name in parts.nodes else name


@dataclass(frozen=True)
class _Work:
    """The lineage of one node."""

    parts: Parts
    node: Node
    masks: frozenset[str]
    optimized: bool

    def read(self, frame: pl.LazyFrame, name: str) -> ColumnLineage:
        return plan_lineage(read_plan(frame, optimized=self.optimized), name, masks=self.masks)

    @cached_property
    def rules(self) -> tuple[RuleUse, ...]:
        """What the rules of its gate read."""
        return tuple(self.rule(c) for c in self.node.checks)

    def place(self, columns: tuple[str, ...]) -> Place:
        """Return the node as a place, with the columns that are needed."""
        node, name = self.node, self.node.name
        rules = self.rules
        gate = self.gate(columns)
        if node.source is not None:
            own = {
                c: {f: t for f, t in gate.columns[c].items() if f != Flow(Column(name, c), "IDENTITY")} for c in columns
            }
            lineage = replace(gate, columns=own, texts={}, inputs=tuple(i for i in gate.inputs if i != name))
            where = tuple(self.parts.redact(p) for p in node.source.patterns)
            return Place(name, "source", columns, lineage, where, rules)
        kept = {c.name for c in gate.reads if c.dataset == name}
        kept |= {c.name for r in rules for c in r.reads if c.dataset == name}
        below = self.before_gate(tuple(c for c in node.ahead if c in kept))
        lineage = compose(gate, {name: below})
        return Place(
            name, "stage", columns, replace(lineage, inputs=tuple(i for i in lineage.inputs if i != name)), (), rules
        )

    def before_gate(self, columns: tuple[str, ...]) -> ColumnLineage:
        """Return what columns ahead of the gate come from: of a source, cells that did not fit are those of its columns."""
        name, raw = self.node.name, self.node.raw
        if self.node.source is not None:
            cells = {Flow(Column(name, c), "TRANSFORMATION"): "" for c in raw if c in self.node.schema}
            own: dict[str, Flows] = {c: {Flow(Column(name, c), "IDENTITY"): ""} for c in columns}
            return ColumnLineage(name, own | {RAW_COLUMN: cells}, {}, {c: c for c in columns}, (name,))
        if not self.optimized:
            return self.parts.made(name, self.masks)
        tables = {n: Table(self.parts.leaf(n), self.parts.nodes[n].schema) for n in self.node.inputs}
        return self.read(_only(self.node.lower(tables), columns, self.node.ahead), name)

    def gate(self, columns: tuple[str, ...]) -> ColumnLineage:
        """Return the gate's lineage over its own rows: identities, unless it removes or repairs."""
        name = self.node.name
        if not any(c.repair is not None or c.removes_rows for c in self.node.checks):
            same = {c: {Flow(Column(name, c), "IDENTITY"): ""} for c in columns}
            return ColumnLineage(name, same, {}, {c: c for c in columns}, (name,))
        gated = self.parts.gated(self.node)
        if self.optimized:
            found = self.read(_only(gated.frame, columns, self.node.schema), name)
        else:
            found = plan_lineage(gated.plan(exact=False), name, masks=self.masks)
        if self.node.source is None or not self.node.raw:
            return found
        return compose(found, {name: self.before_gate(columns)})

    def aside(self) -> Place:
        """Return the place of the rows that the gate quarantines: all columns as they were, and why."""
        node = self.node
        name = f"{node.name}__quarantine"
        checks = [c for c in node.checks if c.repair is not None or c.removes_rows]
        marked = mark(self.parts.ahead(node.name), checks, self.parts.lookup)
        masks = {c.id: pl.col(marked.masks[c.id]) if c.id in marked.masks else c.mask() for c in checks}
        put = [masks[c.id] for c in checks if c.action == "quarantine"]
        why = pl.concat_list(pl.when(m).then(pl.lit(i)) for i, m in masks.items())
        own = marked.originals
        frame = marked.frame.filter(pl.any_horizontal(put)).select(
            *(pl.col(was).alias(c) for c, was in own.items()), why.alias(RULES_COLUMN)
        )
        found = self.read(frame, name)
        # the others are as they were; for rows quarantined before, reason and run are written again
        flows: dict[str, Flows] = {
            c: found.columns[c] if c in own else {Flow(Column(node.name, c), "IDENTITY"): ""} for c in node.ahead
        }
        flows |= {RULES_COLUMN: found.columns[RULES_COLUMN], RUN_COLUMN: {}, FILE_COLUMN: {}}
        texts = {**{c: c for c in node.ahead}, **found.texts, RUN_COLUMN: "NULL", FILE_COLUMN: "NULL"}
        marks = replace(found, columns=flows, texts=texts)
        lineage = compose(marks, {node.name: self.before_gate(tuple(node.ahead))})
        uri = self.parts.redact(self.parts.quarantine_uri(node.name))
        return Place(name, "quarantine", tuple(lineage.columns), lineage, (uri,))

    def rule(self, check: Check) -> RuleUse:
        """Return what a rule reads: of its own rows, and of the frames that it compares with."""
        name = self.node.name
        read = {*check.columns, *([check.column] if check.column and RAW_COLUMN in check.columns else [])}
        reads = {Column(name, c) for c in read if c in self.node.schema}
        if check.reference is not None:
            reads |= {Column(check.reference.to, c) for c in check.reference.others}
        if check.measure is not None and check.measure.frames:
            frames = {n: self.parts.leaf(n) for n in check.measure.frames if n != PREVIOUS}
            if PREVIOUS in check.measure.frames:
                frames[PREVIOUS] = label(empty(self.node.schema).lazy(), PREVIOUS)
            found = self.read(measured(check, self.parts.ahead(name), frames), name)
            reads |= {c for c in found.reads if c.dataset in self.parts.nodes}
            reads |= {Column(n, ALL) for n in check.measure.frames if n != PREVIOUS}
        return RuleUse(
            name, check.id, check.action, tuple(sorted(reads)), check.column if check.repair is not None else None
        )


def _only(frame: pl.LazyFrame, columns: tuple[str, ...], schema: pl.Schema) -> pl.LazyFrame:
    if len(columns) == len(schema):
        return frame
    return frame.select(columns) if columns else frame.select(pl.len())


Tags = dict[str, dict[str, tuple[str, ...]]]
"""Per source and stage, the tags of those columns that have any."""


def pipeline_tags(parts: Parts, given: Mapping[str, Mapping[str, tuple[str, ...]]]) -> Tags:
    """Return the tags of columns: those given to sources, carried along by values (not by what only decides).

    A mask takes no tag away: whether what is left may be shown is for a policy to say.
    """
    tags: Tags = {name: dict(columns) for name, columns in given.items()}
    for name, node in parts.nodes.items():
        if node.source is None and any(tags.get(i) for i in node.inputs):
            tags[name] = _carried(parts.made(name), tags)
        if any(c.repair is not None for c in node.checks):
            gate = _Work(parts, node, MASKS, optimized=False).gate(tuple(node.schema))
            tags[name] = _carried(gate, {name: tags.get(name, {})})
    return tags


def _carried(lineage: ColumnLineage, tags: Tags) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for column, flows in lineage.columns.items():
        carried = [t for f in flows if f.direct for t in tags.get(f.source.dataset, {}).get(f.source.name, ())]
        if carried:
            found[column] = tuple(dict.fromkeys(carried))
    return found
