"""The audit report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

__all__ = ["to_markdown"]


def to_markdown(said: Mapping[str, Any]) -> str:
    """Return an audit report as a text to read."""
    lines = [*_head(said), *_sources(said), *_transformations(said), *_runs(said), *_exceptions(said), *_persons(said)]
    return "\n".join([*lines, *_ledger(said["ledger"])]) + "\n"


def _head(said: Mapping[str, Any]) -> Iterator[str]:
    output = said["output"]
    version = "" if output["version"] is None else f" version {output['version']}"
    yield f"# Audit report: {output['name']}{version}"
    yield ""
    yield f"- Pipeline: {output['pipeline']}"
    yield f"- Location: `{output['uri']}`"
    yield f"- Made by run `{output['run']}` (record {output['record']} of the ledger, {output['recorded']})"
    yield f"- Current version: {'yes' if output['in_force'] else 'no, a later version has replaced it'}"
    if output["rows"] is not None:
        yield f"- Rows in it: {output['rows']:,}"
    if output["brings_back"] is not None:
        yield f"- Rows restored: {output['rows_written']:,}, those of version {output['brings_back']}"
    else:
        kept = _KEPT.get(output["mode"], _TOGETHER).format(output["mode"]) if output["keeps_earlier_rows"] else ""
        yield f"- Rows written: {output['rows_written']:,}{kept}"
    checked = "all records are intact" if said["ledger"]["ok"] else "**NOT INTACT**, see the end"
    yield f"- Ledger: {checked}"
    yield ""
    yield from _table(
        ["file", "rows", "bytes", "BLAKE3"], ([f["path"], f["rows"], f["bytes"], f["blake3"]] for f in output["files"])
    )


_KEPT = {
    "append": ", added to those of the previous version",
    "snapshot": ", added to those of the previous version",
    "rewrite": ", in other files: the previous version has the same rows",
}
"""Mode → how the rows that were written relate to those of the previous version."""
_TOGETHER = ", combined with those of the previous version (mode: {})"


def _sources(said: Mapping[str, Any]) -> Iterator[str]:
    yield "## Raw sources"
    yield ""
    rows = (
        [f["source"], f["uri"], f["size"], _stamp(f["stamp"]), f["blake3"], _numbers(f["records"])]
        for f in said["sources"]
    )
    yield from _table(["source", "file", "bytes", "written, or stamp", "BLAKE3", "records"], rows)


def _transformations(said: Mapping[str, Any]) -> Iterator[str]:
    yield "## Transformations"
    yield ""
    for one in said["transformations"]:
        yield f"### Pipeline {one['pipeline']}"
        yield ""
        yield f"Definition `{one['file']}` (BLAKE3 {one['blake3']}), records {_numbers(one['records'])}."
        if one["params"]:
            yield f"Parameters: {', '.join(f'{k} = {v}' for k, v in one['params'].items())}."
        if one["problem"]:
            yield f"**It cannot be shown: {one['problem']}**"
        yield ""
        for kind in ("sources", "stages", "outputs"):
            for node in one[kind]:
                yield from _node(kind[:-1], node)


def _node(kind: str, node: Mapping[str, Any]) -> Iterator[str]:
    yield f"#### {kind.capitalize()} {node['name']}"
    yield ""
    if node["description"]:
        yield f"{node['description']}"
        yield ""
    yield f"From {', '.join(f'`{n}`' for n in node['from'])}."
    yield ""
    for title, key in _LISTS.items():
        if node.get(key):
            yield f"{title}:"
            yield ""
            yield from (f"{number}. `{text}`" for number, text in enumerate(node[key], start=1))
            yield ""
    if "columns" in node:
        rows = (
            [c["name"], c["type"], c["expression"], ", ".join(c["from"]), ", ".join(c["tags"])] for c in node["columns"]
        )
        yield from _table(["column", "type", "expression", "made from", "tags"], rows)


_LISTS = {"Terms": "terms", "Operations": "operations", "Rows are decided by": "rows_decided_by", "Rules": "rules"}


def _runs(said: Mapping[str, Any]) -> Iterator[str]:
    yield "## Runs and rules"
    yield ""
    for run in said["runs"]:
        code = ", ".join(f"{k} {v}" for k, v in run["code"].items() if v)
        yield f"### Record {run['record']}: {run['kind']} `{run['run']}` of {run['pipeline']}"
        yield ""
        yield f"By {run['actor']}, {run['started']} to {run['ended']} ({run['seconds']} s), {run['status']}; {code}."
        yield f"It made {', '.join(run['outputs'])}."
        yield ""
        for gate in run["gates"]:
            counts = ", ".join(f"{gate[k]:,} {k}" for k in ("good", "quarantined", "dropped"))
            yield f"Gate of {gate['node']}: {gate['rows']:,} rows, {counts}; {gate['status']}."
            yield ""
            columns = ["rule", "action", "status", "evaluated", "failed", "repaired", "allowed", "measured", "expected"]
            yield from _table(columns, (_check(c) for c in gate["checks"]))


def _check(check: Mapping[str, Any]) -> list[Any]:
    counts = [check["evaluated"], check["failed"], check.get("repaired", 0)]
    measured = [check.get("threshold"), check.get("value"), check.get("expected")]
    return [check["id"], check["action"], check["status"], *counts, *measured]


def _exceptions(said: Mapping[str, Any]) -> Iterator[str]:
    found = said["exceptions"]
    yield "## Exceptions"
    yield ""
    if not any(found.values()):
        yield "None."
        yield ""
    if found["rows"]:
        yield "Rows that violated rules:"
        yield ""
        columns = ("record", "node", "rule", "action", "failed", "repaired", "evaluated")
        yield from _table(columns, ([r[c] for c in columns] for r in found["rows"]))
    if found["files"]:
        yield "Files that were left out:"
        yield ""
        yield from _table(["record", "file", "why"], ([f["record"], f["uri"], f["why"]] for f in found["files"]))
    if found["failed_runs"]:
        yield "Runs since the previous version that did not succeed:"
        yield ""
        rows = (
            [r["record"], r["run"], r["status"], r["actor"], "; ".join(r["rules"]), "; ".join(r["errors"])]
            for r in found["failed_runs"]
        )
        yield from _table(["record", "run", "status", "by", "rules that failed", "errors"], rows)
    if found["unknown_versions"]:
        yield "Versions that were read, but whose run is not in the ledger:"
        yield ""
        yield from _table(["dataset", "version"], ([v["uri"], v["version"]] for v in found["unknown_versions"]))


def _persons(said: Mapping[str, Any]) -> Iterator[str]:
    yield "## People and code"
    yield ""
    rows = (
        [
            p["actor"],
            _numbers(p["records"]),
            "; ".join(", ".join(f"{k} {v}" for k, v in c.items() if v) for c in p["code"]),
        ]
        for p in said["persons"]
    )
    yield from _table(["by", "records", "code"], rows)


def _ledger(said: Mapping[str, Any]) -> Iterator[str]:
    yield "## The ledger"
    yield ""
    result = "all intact" if said["ok"] else "**not all intact**"
    signed = f" {said['signed']:,} are signed" + (
        ", and their signatures are valid." if said["checked_signatures"] and said["ok"] else "."
    )
    yield f"`{said['ledger']}`: {said['records']:,} records, {result}.{signed if said['signed'] else ''}"
    yield f"Its last record is {said['head']['number']}, BLAKE3 {said['head']['blake3']}."
    yield ""
    for title, key in (("Problems", "problems"), ("Notes", "warnings")):
        if said[key]:
            yield f"{title}:"
            yield ""
            yield from (f"- record {f['record']} ({f['file']}): {f['what']}" for f in said[key])
            yield ""


def _stamp(stamp: str | None) -> str | None:
    """Return when a local file was written, for people; stamps of stores, such as etags, as they are.

    Examples
    --------
    >>> _stamp("1711871999000000000"), _stamp("0x8DC1"), _stamp(None)
    ('2024-03-31T07:59:59+00:00', '0x8DC1', None)
    """
    if stamp is None or not (stamp.isdecimal() and len(stamp) == _NANOSECONDS):
        return stamp
    return datetime.fromtimestamp(int(stamp) // 10**9, UTC).isoformat()


_NANOSECONDS = 19
"""How many digits nanoseconds since 1970 have, from 2001 on."""


def _numbers(records: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(records)))


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(_cell(value) for value in row)} |"
    yield ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return shown.replace("|", "\\|").replace("\n", " ")
