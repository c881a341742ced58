"""What a run read and wrote, as OpenLineage's input and output datasets, each with what is known of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.node import Node
from lazypipe.compile.outputs.modes import adds_to, written_schema
from lazypipe.errors import LazypipeError
from lazypipe.gates.export import data_quality_assertions, data_quality_metrics
from lazypipe.gates.report import GateReport
from lazypipe.gates.tap import quarantine_schema
from lazypipe.plan.facet import column_lineage_facet, dataset_name
from lazypipe.plan.graph import Lineage
from lazypipe.records.body import sources_of
from lazypipe.records.facets import PRODUCER, data_source, facet, public, schema_facet, storage_facet, tags_facet
from lazypipe.spec.model import Output

__all__ = ["Datasets"]

_QUARANTINE = "__quarantine"


@dataclass(frozen=True)
class Datasets:
    """The datasets of one run: of a compiled pipeline, the record's body, and the reports of its gates by source or stage.

    A source with several URI patterns is a dataset per pattern; figures of all of them together are then left out, because they
    are those of none.
    """

    plan: CompiledPipeline
    body: Mapping[str, Any]
    gates: Mapping[str, GateReport]

    def inputs(self) -> list[dict[str, Any]]:
        """Return a dataset for each URI pattern that the run's segments read."""
        if self._replayed is not None:
            return [*self._read_again()]
        used = {n for s in self.plan.segments for n in (*s.nodes, *s.lookups)}
        return _merged(d for n, node in self.plan.nodes.items() if n in used for d in self._source(n, node))

    def outputs(self) -> list[dict[str, Any]]:
        """Return a dataset for each output and its feeds, and for each quarantine that the gates of the run may fill."""
        # those that only take rows out of what another holds say the least of it
        named = sorted(self.plan.outputs.items(), key=lambda one: one[1].mode == "delete")
        if self._replayed is not None:
            of = self.plan.outputs[self._replayed]
            return _merged([self._output(self._replayed, of), *self._quarantines(of.stage)])
        return _merged([*(self._output(n, o) for n, o in named), *self._feeds(), *self._quarantines()])

    @property
    def _replayed(self) -> str | None:
        """The output of which this is a replay: that reads its quarantine, and writes no other output."""
        read = [n.removesuffix(_QUARANTINE) for n in self.body["inputs"]] if self.body.get("kind") == "replay" else []
        return read[0] if read else None

    def _read_again(self) -> Iterable[dict[str, Any]]:
        """Return the quarantine that a replay reads."""
        (read,) = self.body["inputs"].values()
        figures = {"size": sum(f["size"] for f in read["files"]), "fileCount": len(read["files"])}
        version = facet("DatasetVersionDatasetFacet", datasetVersion=str(read["version"]))
        node = self.plan.outputs[str(self._replayed)].stage
        for made in self._quarantines(node):
            facets = {n: f for n, f in made["facets"].items() if n != "columnLineage"}
            statistics = facet("InputStatisticsInputDatasetFacet", **figures)
            yield {
                "namespace": made["namespace"],
                "name": made["name"],
                "facets": {**facets, "version": version},
                "inputFacets": {"inputStatistics": statistics},
            }

    def _source(self, name: str, node: Node) -> list[dict[str, Any]]:
        if node.source is None:
            return []
        given = self.plan.pipeline.sources.get(name)
        read = self.body["inputs"].get(name) or {}
        about = {c: str(d["description"]) for c, d in (given.columns if given else {}).items() if d.get("description")}
        form = node.source.reader.format
        facets = {
            "schema": schema_facet(node.schema, about),
            **self._known(name, given.description if given else None, read.get("version")),
        }
        more: dict[str, Any] = {}
        report = self.gates.get(name)
        if report is not None:
            facets["dataQualityAssertions"] = data_quality_assertions(report, producer=PRODUCER)
        patterns = self._uris[name]
        if len(patterns) == 1 and read:
            more = {"inputFacets": self._figures(node, read, report)}
        return [{**_named(uri, form, facets), **more} for uri in patterns]

    def _figures(self, node: Node, read: Mapping[str, Any], report: GateReport | None) -> dict[str, Any]:
        sizes = [f["size"] for f in read["files"]]
        whole = {"size": None if None in sizes else sum(sizes), "fileCount": len(sizes)}
        rows = None if report is None else report.rows
        some = read.get("read", {})
        # what is kept of files that were not read counts in the gate's report
        added = all(adds_to(self.plan.outputs[o]) for o in self._made_of(node.name))
        figures = {"rowCount": rows if "uris" not in some or added else None, **whole}
        if some:
            figures |= {"size": some["bytes"], "fileCount": some["files"]}
        if not figures["fileCount"]:
            figures["rowCount"] = 0
        found = {"inputStatistics": facet("InputStatisticsInputDatasetFacet", **figures)}
        if report is not None:
            judged = figures if added else whole
            restricted = [c.id for c in node.checks if c.measure is not None and c.where is not None]
            found["dataQualityMetrics"] = data_quality_metrics(
                report, bytes=judged["size"], files=judged["fileCount"], restricted=restricted, producer=PRODUCER
            )
        return found

    def _made_of(self, source: str) -> list[str]:
        """Return the outputs whose runs read a source."""
        return [
            s.output for s in self.plan.segments if s.output is not None and source in sources_of(self.plan, s.node)
        ]

    def _output(self, name: str, output: Output) -> dict[str, Any]:
        pipeline = self.plan.pipeline
        written = pipeline.outputs[name].stage  # the plan may have made the output a stage of its own
        stage = pipeline.stages.get(written)
        segment = self._segments.get(name, {})
        done = segment.get("status") == "done"
        version = segment.get("version") if done else None
        facets = {
            **self._columns(output, output.description or (stage.description if stage else None), version),
            **self._lineage_facet(_place(name, output, self.plan)),
        }
        report = self.gates.get(written)
        if report is not None and stage is not None:
            facets["dataQualityAssertions"] = data_quality_assertions(report, producer=PRODUCER)
        if done and output.mode == "replace" and self._replayed is None:
            change = "CREATE" if version == 1 else "OVERWRITE"
            facets["lifecycleStateChange"] = facet("LifecycleStateChangeDatasetFacet", lifecycleStateChange=change)
        made = _named(public(self.plan.redact(output.to)), output.format, facets)
        if done:
            made["outputFacets"] = {"outputStatistics": _statistics(segment["data"])}
        return made

    def _feeds(self) -> Iterable[dict[str, Any]]:
        for place in self._lineage.places if self._lineage else ():
            if place.kind == "feed":
                about = facet("DocumentationDatasetFacet", description=f"Feed of {place.lineage.inputs[0]}.")
                facets = {"documentation": about, **self._lineage_facet(place.name)}
                yield _named(public(place.uris[0]), "dataset", facets)

    def _quarantines(self, only: str | None = None) -> Iterable[dict[str, Any]]:
        done = {s["name"] for s in self.body["segments"] if s["status"] in ("done", "unchanged")}
        published = {n for s in self.plan.segments if s.name in done for n in s.nodes}
        used = {n for s in self.plan.segments for n in s.nodes}
        for place in self._lineage.places if self._lineage else ():
            name = place.name.removesuffix(_QUARANTINE)
            if place.kind != "quarantine" or name not in used or only not in (None, name):
                continue
            node = self.plan.nodes[name]
            facets = {
                "schema": schema_facet(quarantine_schema(node.schema, raw=bool(node.raw)), {}),
                **self._known(name, f"Rows that the gate of {name} quarantined.", None),
                **self._lineage_facet(place.name),
            }
            made = _named(self._uris[place.name][0], "dataset", facets)
            if name in published and name in self.gates:
                parts = [p for s in self.body["segments"] for p in s["quarantine"] if p["node"] == name]
                made["outputFacets"] = {"outputStatistics": _statistics([f for p in parts for f in p["data"]])}
            yield made

    def _columns(self, output: Output, description: str | None, version: int | None) -> dict[str, Any]:
        """Return what is known of the columns of an output; of one that only takes rows out by a key, that is for others to say."""
        if output.mode == "delete":
            return {}
        schema = written_schema(output, self.plan.schema(output.stage))
        return {"schema": schema_facet(schema, {}), **self._known(output.stage, description, version)}

    def _known(self, node: str, description: str | None, version: int | None) -> dict[str, Any]:
        """Return the facets that any dataset has if something is known for them."""
        tags = self.plan.tags(node)
        found = {}
        if description:
            found["documentation"] = facet("DocumentationDatasetFacet", description=description)
        if tags:
            found["tags"] = tags_facet(tags)
        if version is not None:
            found["version"] = facet("DatasetVersionDatasetFacet", datasetVersion=str(version))
        return found

    def _lineage_facet(self, place: str) -> dict[str, Any]:
        if self._lineage is None:
            return {}
        return {"columnLineage": column_lineage_facet(self._lineage.composed(place), self._uris, producer=PRODUCER)}

    @cached_property
    def _lineage(self) -> Lineage | None:
        try:
            return self.plan.lineage()
        except LazypipeError:
            return None  # a plan that cannot be read costs the facet, not the event

    @cached_property
    def _uris(self) -> dict[str, tuple[str, ...]]:
        """Where sources and quarantines are, by name, as it may be shown."""
        redact = self.plan.redact
        found = {n: x.source.patterns for n, x in self.plan.nodes.items() if x.source is not None}
        aside = {p.name: p.uris for p in (self._lineage.places if self._lineage else ()) if p.kind == "quarantine"}
        return {n: tuple(public(redact(u)) for u in each) for n, each in {**found, **aside}.items()}

    @cached_property
    def _segments(self) -> dict[str, Mapping[str, Any]]:
        return {s["output"]: s for s in self.body["segments"] if s.get("output")}


def _place(name: str, output: Output, plan: CompiledPipeline) -> str:
    """Return the name that an output has in the lineage."""
    if name == output.stage and plan.nodes[name].source is None and output.mode != "delete":
        return name
    return f"{name}@output" if name in plan.nodes else name


def _statistics(data: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the statistics of what a run wrote, which are not those of the whole dataset if rows were added to it."""
    rows, size = (sum(f[k] for f in data) for k in ("rows", "bytes"))
    return facet("OutputStatisticsOutputDatasetFacet", rowCount=rows, size=size, fileCount=len(data))


def _named(uri: str, form: str, facets: Mapping[str, Any]) -> dict[str, Any]:
    namespace, name = dataset_name(uri)
    kind = facet("DatasetTypeDatasetFacet", datasetType="TABLE" if form in ("dataset", "delta") else "FILE")
    own = {"dataSource": data_source(uri), "storage": storage_facet(uri, form), "datasetType": kind}
    return {"namespace": namespace, "name": name, "facets": {**own, **facets}}


def _merged(datasets: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each dataset once: where several stand for one, what the first says, and the assertions of all."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for dataset in datasets:
        first = found.setdefault((dataset["namespace"], dataset["name"]), dataset)
        if first is not dataset and "dataQualityAssertions" in dataset["facets"]:
            more = dataset["facets"]["dataQualityAssertions"]
            known = first["facets"].get("dataQualityAssertions", {"assertions": []})
            first["facets"]["dataQualityAssertions"] = {
                **more,
                "assertions": [*known["assertions"], *more["assertions"]],
            }
    return [*found.values()]
