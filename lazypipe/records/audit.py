"""The audit report: all that is known of one version of an output, from raw sources to it, for people to read.

Only what the ledger says is in it. Values of columns that are tagged ``pii`` are not: neither where rules measured them, nor
where somebody wrote one into an expression or a rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lazypipe.errors import StorageError
from lazypipe.gates.shown import MASKED
from lazypipe.records.entry import Entry
from lazypipe.records.history import History, Published, published, runs
from lazypipe.records.ledger import Ledger
from lazypipe.records.text import to_markdown
from lazypipe.spec.loader import dump
from lazypipe.sql.text import SqlError, tokenize

__all__ = ["AuditReport", "audit_report"]

_LITERAL = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|(?<![\w.])-?\d[\d.]*(?![\w.])")
_VALUES = frozenset(
    {
        "value",
        "values",
        "min",
        "max",
        "equals",
        "not_equals",
        "pattern",
        "repair",
        "default",
        "set",
        "expected",
        "distribution",
    }
)
"""Arguments that are values, whatever they contain."""
_NAMES = frozenset(
    {"column", "columns", "by", "action", "id", "max_failures", "warn_above", "fail_above", "owner", "tags"}
)
"""Arguments that are none."""
_SHOWN_ELSEWHERE = frozenset({"uri", "from", "to", "do", "gate", "columns", "description", "storage_options"})
"""What of a source, stage or output is no term on which rows are read or written, or has its own place in the report."""
_CHECK = (
    "id",
    "rule",
    "action",
    "status",
    "evaluated",
    "failed",
    "repaired",
    "threshold",
    "column",
    "description",
    "owner",
)


@dataclass(frozen=True)
class AuditReport:
    """A report on one version of an output; ``content`` is plain data.

    Examples
    --------
    >>> AuditReport({"output": {"name": "a"}}).to_dict()["output"]["name"]
    'a'
    """

    content: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether the ledger was verified without problems."""
        return bool(self.content["ledger"]["ok"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return dict(self.content)

    def to_json(self) -> str:
        """Return JSON."""
        return json.dumps(self.content, indent=1, ensure_ascii=False)

    def to_markdown(self) -> str:
        """Return the report as Markdown."""
        return to_markdown(self.content)


def audit_report(ledger: Ledger, output: str, version: int | None = None) -> AuditReport:
    """Put together what the ledger says; see ``lp.audit_report``."""
    entries = ledger.records()
    found = ledger.history(output, version)
    target = _published(found)
    before = _before(entries, target)
    makers = [_Maker(ledger, found, entry) for entry in found.entries]
    content = {
        "output": _output(entries, target),
        "sources": _sources(found),
        "transformations": _transformations(makers),
        "runs": [m.to_dict() for m in makers],
        "exceptions": {
            "rows": [row for m in makers for row in m.exceptions()],
            "files": [file for m in makers for file in m.corrupt()],
            "failed_runs": [_failed(ledger, e) for e in _failures(entries, target, before)],
            "unknown_versions": [{"uri": s.uri, "version": s.version} for s in found.steps if s.entry is None],
        },
        "persons": _persons(makers),
        "ledger": ledger.verify().to_dict(),
    }
    return AuditReport(content)


def _published(found: History) -> Published:
    first = found.steps[0]
    assert first.entry is not None, "a version without a record is not found by its name"
    return next(p for p in published(first.entry) if (p.uri, p.version) == (first.uri, first.version))


def _before(entries: Sequence[Entry], target: Published) -> int:
    """Return the number of the record that made the previous version."""
    earlier = [
        e.number for e in entries if e.number < target.entry.number and any(p.uri == target.uri for p in published(e))
    ]
    return max(earlier, default=0)


def _output(entries: Sequence[Entry], target: Published) -> dict[str, Any]:
    same = [p for e in entries for p in published(e) if p.uri == target.uri]
    entry = target.entry
    return {
        "name": target.name,
        "pipeline": entry.pipeline,
        "uri": target.uri,
        "version": target.version,
        "in_force": (same[-1].entry.number, same[-1].version) == (entry.number, target.version),
        "run": entry.run,
        "record": entry.number,
        "recorded": entry.time.isoformat(),
        "rows": target.rows if entry.kind == "run" else None,
        "rows_written": sum(f["rows"] for f in target.data),
        "mode": target.mode,
        "keeps_earlier_rows": target.before is not None,
        "brings_back": target.before if entry.kind == "rollback" else None,
        "files": [dict(f) for f in target.data],
    }


def _sources(found: History) -> list[dict[str, Any]]:
    told: dict[tuple[Any, ...], dict[str, Any]] = {}
    for step in found.steps:
        for source, files in step.files.items():
            assert step.entry is not None, "only a record says which files were read"
            name = f"{step.entry.pipeline}/{source}"
            for file in files:
                key = (name, file["uri"], file["blake3"], file["stamp"])
                one = told.setdefault(key, {"source": name, **file, "records": []})
                one["records"] = sorted({*one["records"], step.entry.number})
    return sorted(told.values(), key=lambda f: (f["source"], f["uri"], f["records"]))


class _Maker:
    """A run that had a part in the version: its record, and the definition that it ran."""

    def __init__(self, ledger: Ledger, found: History, entry: Entry) -> None:
        self.entry = entry
        self.problem: str | None = None
        try:
            self.object = ledger.object(entry)
        except StorageError as error:
            self.problem = str(error)
            self.object = {"definition": {}, "tags": {}, "places": [], "schemas": {}, "params": {}}
        self.outputs = [s.output for s in found.steps if s.entry is entry and s.output is not None]
        self.places = {p["name"]: p for p in self.object["places"] if "name" in p}
        self.nodes = self._nodes()
        self.personal = {
            node: {c for c, tags in columns.items() if "pii" in tags} for node, columns in self.object["tags"].items()
        }

    def _nodes(self) -> set[str]:
        """Return the sources and stages that the outputs are made from, as the definition says it."""
        definition = self.object["definition"]
        outputs, stages = definition.get("outputs", {}), definition.get("stages", {})
        todo = [outputs.get(o, {}).get("from", o.removesuffix("__quarantine")) for o in self.outputs]
        found: set[str] = set()
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self.places.get(name, {}).get("inputs", []) + _listed(stages.get(name, {}).get("from", []))
        return found

    def hidden(self, node: str) -> set[str]:
        """Return the columns of a node, and of what it reads, that hold personal data."""
        inputs = self.places.get(node, {}).get("inputs", [])
        return set().union(*(self.personal.get(n, set()) for n in (node, *inputs)))

    def to_dict(self) -> dict[str, Any]:
        body = self.entry.body
        return {
            "record": self.entry.number,
            "kind": self.entry.kind,
            "run": self.entry.run,
            "pipeline": self.entry.pipeline,
            "status": self.entry.status,
            "actor": self.entry.actor,
            "started": body["started"],
            "ended": body["ended"],
            "seconds": body["seconds"],
            "code": body["code"],
            "definition": {"file": body["definition"]["file"], "blake3": body["definition"]["blake3"]},
            "params": body["params"],
            "outputs": self.outputs,
            "gates": [self.gate(g) for g in self.gates()],
            "problem": self.problem,
        }

    def gates(self) -> list[Mapping[str, Any]]:
        found = {g["node"]: g for s in self.entry.body["segments"] for g in s["gates"]}
        return [g for node, g in found.items() if node in self.nodes or self.problem]

    def gate(self, gate: Mapping[str, Any]) -> dict[str, Any]:
        counts = {name: gate[name] for name in ("node", "rows", "good", "quarantined", "dropped", "status")}
        return {**counts, "checks": [self.check(gate["node"], c) for c in gate["checks"]]}

    def check(self, node: str, check: Mapping[str, Any]) -> dict[str, Any]:
        said = {name: check[name] for name in _CHECK if name in check}
        hidden = self.problem is not None or _mentions(f"{check['id']} {check.get('column')}", self.hidden(node))
        said["id"] = _shown(check["id"], self.hidden(node))
        return said | {name: MASKED if hidden else check[name] for name in ("value", "expected") if name in check}

    def exceptions(self) -> list[dict[str, Any]]:
        """Return the rules that rows violated, with what became of the rows."""
        return [
            {
                "record": self.entry.number,
                "node": f"{self.entry.pipeline}/{gate['node']}",
                "rule": _shown(check["id"], self.hidden(gate["node"])),
                "action": check["action"],
                "failed": check["failed"],
                "repaired": check.get("repaired", 0),
                "evaluated": check["evaluated"],
            }
            for gate in self.gates()
            for check in gate["checks"]
            if check["failed"] or check.get("repaired", 0)
        ]

    def corrupt(self) -> list[dict[str, Any]]:
        found = {c["uri"]: c for s in self.entry.body["segments"] for c in s["corrupt"]}
        return [{"record": self.entry.number, **c} for c in found.values()]

    def definition(self) -> dict[str, Any]:
        stages = self.object["definition"].get("stages", {})
        sources = self.object["definition"].get("sources", {})
        outputs = self.object["definition"].get("outputs", {})
        return {
            "pipeline": self.entry.pipeline,
            "file": self.entry.body["definition"]["file"],
            "blake3": self.entry.body["definition"]["blake3"],
            "params": self.object["params"],
            "sources": [self.node(n, s) for n, s in sources.items() if n in self.nodes],
            "stages": [
                self.node(*one)
                for n, s in stages.items()
                if n in self.nodes
                for one in (*self.ahead(n, {*sources, *stages}), (n, s))
            ],
            "outputs": [self.output(n, o) for n, o in outputs.items() if n in self.outputs],
            "problem": self.problem,
        }

    def ahead(self, stage: str, named: set[str]) -> list[tuple[str, dict[str, Any]]]:
        """Return what stands ahead of a stage and in no definition: what its operations do with late rows."""
        inputs = self.places.get(stage, {}).get("inputs", [])
        about = f"What {stage} does with rows that come late."
        return [
            (n, {"description": about, "from": self.places[n]["inputs"]})
            for n in inputs
            if n not in named and self.places[n]["kind"] == "stage"
        ]

    def output(self, name: str, written: Mapping[str, Any]) -> dict[str, Any]:
        stage = written.get("from", name)
        return {
            "name": name,
            "description": written.get("description"),
            "from": [stage],
            "terms": self.terms(written, self.hidden(stage)),
        }

    def terms(self, written: Mapping[str, Any], hidden: set[str]) -> list[str]:
        """Return the settings for reading or writing rows, as YAML; a contract, which contains no values, as it is."""
        return [
            _yaml({key: value}) if key == "contract" else _text({key: value}, hidden)
            for key, value in written.items()
            if key not in _SHOWN_ELSEWHERE
        ]

    def node(self, name: str, written: Mapping[str, Any]) -> dict[str, Any]:
        hidden = self.hidden(name)
        gate = written.get("gate", [])
        rules = gate["rules"] if isinstance(gate, Mapping) else gate
        place = self.places.get(name, {})
        return {
            "name": name,
            "description": written.get("description"),
            "from": _listed(written.get("from", [])) or _listed(written.get("uri", [])),
            "terms": self.terms(written, hidden),
            "operations": [_text(step, hidden) for step in written.get("do", [])],
            "columns": [self.column(name, c, t, hidden) for c, t in self.object["schemas"].get(name, {}).items()],
            "rows_decided_by": sorted(
                {_shown(e["text"], hidden) for e in place.get("edges", []) if e["target"][1] == "*"}
            ),
            "rules": [_text(step, hidden) for step in rules],
        }

    def column(self, node: str, name: str, dtype: str, hidden: set[str]) -> dict[str, Any]:
        place = self.places.get(node, {})
        edges = [e for e in place.get("edges", []) if e["target"] == [node, name]]
        return {
            "name": name,
            "type": dtype,
            "expression": _shown(place.get("texts", {}).get(name, ""), hidden),
            "from": sorted({".".join(e["source"]) for e in edges if e["type"] == "DIRECT"}),
            "tags": self.object["tags"].get(node, {}).get(name, []),
        }


def _transformations(makers: Iterable[_Maker]) -> list[dict[str, Any]]:
    """Return each definition that had a part, once, with the records of its runs."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for maker in makers:
        key = (maker.entry.body["definition"]["object"]["key"], tuple(sorted(maker.nodes)))
        one = found.setdefault(key, {**maker.definition(), "records": []})
        one["records"].append(maker.entry.number)
    return list(found.values())


def _persons(makers: Iterable[_Maker]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for maker in makers:
        one = found.setdefault(maker.entry.actor, {"actor": maker.entry.actor, "records": [], "code": []})
        one["records"].append(maker.entry.number)
        if maker.entry.body["code"] not in one["code"]:
            one["code"].append(maker.entry.body["code"])
    return list(found.values())


def _failures(entries: Sequence[Entry], target: Published, before: int) -> list[Entry]:
    """Return the pipeline's runs between the previous version and this one that did not succeed."""
    ended = runs(entries, None, target.entry.pipeline, None, None, None)
    return [
        e for e in ended if before < e.number < target.entry.number and e.status not in ("done", "unchanged", "waiting")
    ]


def _failed(ledger: Ledger, entry: Entry) -> dict[str, Any]:
    segments = entry.body["segments"]
    rules = [
        f"{g['node']}: {c['id']}" for s in segments for g in s["gates"] for c in g["checks"] if c["status"] == "fail"
    ]
    try:
        personal = any("pii" in t for columns in ledger.object(entry)["tags"].values() for t in columns.values())
    except StorageError:
        personal = True
    errors = [entry.body["error"], *(s["error"] for s in segments)]
    told = [e for e in errors if e] if not personal else ["not shown: its pipeline reads personal data"]
    return {
        "record": entry.number,
        "run": entry.run,
        "status": entry.status,
        "actor": entry.actor,
        "recorded": entry.time.isoformat(),
        "rules": list(dict.fromkeys(rules)),
        "errors": list(dict.fromkeys(told)) if any(errors) else [],
    }


def _listed(written: Any) -> list[str]:
    return [written] if isinstance(written, str) else list(written)


def _text(step: Mapping[str, Any], hidden: set[str]) -> str:
    """Return an operation or rule as YAML on one line, as it was written."""
    if _mentions(_yaml(step), hidden):
        step = {name: _masked(None, arguments, hidden) for name, arguments in step.items()}
    return _yaml(step)


def _yaml(step: Mapping[str, Any]) -> str:
    text = dump(step, flow=True, width=10_000)
    return " ".join(text.split()).removeprefix("{").removesuffix("}")


def _masked(name: str | None, value: Any, hidden: set[str]) -> Any:
    """Return arguments without the values in them: literals in SQL, numbers, and what is a value by its name."""
    if isinstance(value, Mapping):
        return {k: MASKED if k in _VALUES else _masked(k, v, hidden) for k, v in value.items()}
    if isinstance(value, list):
        return [_masked(name, v, hidden) for v in value]
    if isinstance(value, str):
        return value if name in _NAMES else _shown(value, hidden)
    return value if isinstance(value, bool) or value is None or name in _NAMES else MASKED


def _kept(literal: str, hidden: set[str]) -> str:
    """Return a literal hidden, unless it is a quoted column name."""
    return literal if literal.strip("'\"") in hidden else MASKED


def _mentions(text: str, columns: set[str]) -> bool:
    return any(re.search(rf"(?<!\w){re.escape(c)}(?!\w)", text) for c in columns)


def _shown(text: str, hidden: set[str]) -> str:
    """Return a text without the literals in those of its conditions that are about columns which hold personal data."""
    return "".join(
        _LITERAL.sub(lambda found: _kept(found[0], hidden), condition) if _mentions(condition, hidden) else condition
        for condition in _conditions(text)
    )


def _conditions(text: str) -> list[str]:
    """Return a text cut ahead of AND and OR that stand in no brackets; whole, where a name in it may be that of a column with another one."""
    try:
        tokens = [*tokenize(text)]
    except SqlError:
        return [text]
    if {t.text.lower() for t in tokens if t.kind == "word"} & {"select", "case", "between"}:
        return [text]
    found, depth = [""], 0
    for token in tokens:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0)
        if depth == 0 and token.kind == "word" and token.text.lower() in ("and", "or"):
            found.append("")
        found[-1] += token.text
    return found
