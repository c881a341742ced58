"""From a file, a text or plain data to a ``Pipeline``, and back to YAML, JSON or plain data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path as FilePath
from typing import Any

import polars as pl
import yaml
from blake3 import blake3

from lazypipe.errors import DefinitionError, Problem, closest
from lazypipe.spec import document
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.endings import format_of
from lazypipe.spec.model import (
    NOTHING,
    Audit,
    Fault,
    Origin,
    Output,
    Param,
    Path,
    Pipeline,
    Source,
    Stage,
    Step,
    freeze,
    thaw,
)
from lazypipe.spec.queries import with_queries, without_queries
from lazypipe.spec.schema import faults
from lazypipe.spec.types import with_names

__all__ = [
    "described",
    "dump",
    "from_dict",
    "from_json",
    "from_yaml",
    "gate_faults",
    "load",
    "problems",
    "sketch",
    "to_dict",
    "to_json",
    "to_yaml",
]


def load(path: str | FilePath) -> Pipeline:
    """Read a definition from a YAML or JSON file; relative URIs in it start from the file's folder.

    Raises
    ------
    DefinitionError
        With every mistake of form, each with file, line and column.
    """
    file = FilePath(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DefinitionError([Problem(f"there is no file {path}", fix=_another(file))]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(
            [Problem(f"cannot read {path}: {error}", fix="a definition is a UTF-8 text file")]
        ) from None
    return _read(text, str(path), base=str(file.parent), is_json=file.suffix == ".json")


def _another(file: FilePath) -> str:
    """Return the hint for a definition that does not exist: the file beside it with the nearest name, if there is one."""
    beside = file.parent.iterdir() if file.parent.is_dir() else ()
    meant = closest(file.name, (p.name for p in beside if p.suffix in (".yaml", ".yml", ".json")))
    return "check the path of the definition" if meant is None else f"did you mean {meant!r}?"


def sketch(path: str | FilePath) -> Pipeline | None:
    """Return what is known about a definition with syntax mistakes: its name, what it reads and writes, and where its runs are recorded.

    None if it is not even YAML or JSON, or has no name.
    """
    file = FilePath(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
        data, positions = document.parse(text, str(path), is_json=file.suffix == ".json")
    except (OSError, UnicodeDecodeError, DefinitionError):
        return None
    written = data if isinstance(data, Mapping) else {}
    told: dict[str, Any] = {"version": 1, "name": written.get("name"), "sources": {}, "outputs": {}, "audit": "off"}
    if any(faults(told)):
        return None
    for part in ("state", "audit"):
        found = {**told, part: written.get(part, "recorded" if part == "audit" else ".lazypipe")}
        told = told if any(faults(found)) else found
    for part, keys in (("sources", ("uri", "format")), ("outputs", ("to", "format"))):
        named = written.get(part)
        for name, one in named.items() if isinstance(named, Mapping) else ():
            kept = {k: v for k, v in one.items() if k in keys} if isinstance(one, Mapping) else one
            found = {**told, part: {**told[part], name: kept}}
            told = told if any(faults(found)) else found
    return _build(told, Origin(str(path), positions, _hash(text)), str(file.parent))


def from_yaml(text: str, *, base: str = ".") -> Pipeline:
    r"""Read a definition from YAML text.

    Examples
    --------
    >>> p = from_yaml("version: 1\nname: p\nsources: {a: {uri: a.csv}}\noutputs: {a: {to: out}}\n")
    >>> p.sources["a"].uri, p.outputs["a"].stage
    (('a.csv',), 'a')
    """
    return _read(text, "<yaml>", base=base)


def from_json(text: str, *, base: str = ".") -> Pipeline:
    """Read a definition from JSON text."""
    return _read(text, "<json>", base=base, is_json=True)


def from_dict(data: Mapping[str, Any], *, base: str = ".") -> Pipeline:
    """Read a definition from plain data, which may hold operations and rules as values, ``pl.Expr`` and functions.

    Problems have no position then, but the path of their part.
    """
    return _build(_plain(with_names(data)), Origin(), base)


def _plain(value: Any) -> Any:
    """Return plain data: operations and rules as the mappings that a definition writes, dates as texts."""
    if isinstance(value, Arguments):
        return _plain(value.to_step().to_dict())
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}  # keys are text, as in YAML
    if isinstance(value, list | tuple | range):
        return [_plain(v) for v in value]
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"{Decimal(value // timedelta(microseconds=1)) / 1_000_000:f}s"
    if isinstance(value, Decimal):
        # where a number says the same, it also fits what is no decimal
        number = int(value) if value.is_finite() and value == int(value) else float(value)
        return number if Decimal(str(number)) == value else str(value)
    return value


def gate_faults(steps: Sequence[Step]) -> list[Fault]:
    """Return the departures from the JSON Schema of rules that stand in no definition, at their own paths.

    Values that exist in Python only (dates, numbers of other libraries) are left to the rules themselves.
    """
    found = []
    for step in steps:
        written = _as_text(step.to_dict())
        if not _is_json(written):
            continue
        document = {"version": 1, "name": "rules", "sources": {"a": {"uri": "a", "gate": [written]}}, "outputs": {}}
        above = ("sources", "a", "gate", 0)
        found += [Fault(f.what, f.fix, (*step.path, *f.path[len(above) :])) for f in faults(document)]
    return found


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_json(v) for k, v in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or type(value) in (str, int, float, bool)


def _as_text(value: Any) -> Any:
    """Return what the JSON Schema can judge: things that exist in Python only stand for the text they replace."""
    if isinstance(value, dict):
        return {k: _as_text(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_as_text(v) for v in value]
    return "expression" if isinstance(value, pl.Expr) or callable(value) else value


def _read(text: str, file: str, *, base: str, is_json: bool = False) -> Pipeline:
    data, positions = document.parse(text, file, is_json=is_json)
    return _build(data, Origin(file, positions, _hash(text)), base)


def _hash(text: str) -> str:
    return blake3(text.encode("utf-8", "surrogatepass")).hexdigest()


def problems(found: list[Fault], origin: Origin) -> DefinitionError:
    """Turn faults at paths into an error with places in the file."""
    return DefinitionError(_problem(f, origin) for f in found)


def _problem(fault: Fault, origin: Origin) -> Problem:
    where = origin.locate(fault.path, fault.place)
    what = fault.what if where or not fault.path else f"{_dotted(fault.path)}: {fault.what}"
    if where is not None and where.file != origin.file:
        what = re.sub(r" at Line: \d+, Column: \d+", "", what)  # which is where it stands
    return Problem(what, where, fault.fix)


def _dotted(path: Path) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")


def _build(data: Any, origin: Origin, base: str) -> Pipeline:
    found = list(faults(_as_text(data) if origin.file == "<python>" else data))
    if found:
        raise problems(found, origin)
    params, bad = {}, []
    for name, written in data.get("params", {}).items():
        param = Param(**written)
        try:
            default = None if param.default is None else param.parse(param.default)
        except ValueError as error:
            bad.append(Fault(f"the default of parameter {name!r}: {error}", None, ("params", name, "default")))
            continue
        params[name] = Param(param.type, default, param.description)
    if bad:
        raise problems(bad, origin)
    pipeline = Pipeline(
        name=data["name"],
        version=data["version"],
        description=data.get("description"),
        **_state(data.get("state", {})),
        audit=_audit(data.get("audit", "recorded")),
        openlineage=freeze(data.get("openlineage", {})),
        params=freeze(params),
        sources=freeze({n: _source(n, s) for n, s in data["sources"].items()}),
        stages=freeze({n: _stage(n, s) for n, s in data.get("stages", {}).items()}),
        outputs=freeze({n: _output(n, s) for n, s in data["outputs"].items()}),
        base=base,
        origin=origin,
    )
    pipeline = with_queries(pipeline, bad)
    if bad:
        raise problems(bad, origin)
    return pipeline


def _state(written: str | Mapping[str, Any]) -> dict[str, Any]:
    found = {"uri": written} if isinstance(written, str) else written
    options = freeze(found.get("storage_options", {}))
    return {"state": found.get("uri", Pipeline.state), "state_options": options}


def _audit(written: str | Mapping[str, Any]) -> Audit:
    return Audit(written) if isinstance(written, str) else Audit(**freeze(written))


def _source(name: str, written: Mapping[str, Any]) -> Source:
    given = freeze(written)
    return Source(
        **{k: v for k, v in given.items() if k not in ("uri", "key", "gate")},
        uri=_names(written["uri"]),
        key=_names(written.get("key", ())),
        **_gate(written.get("gate", ()), ("sources", name, "gate")),
    )


def _stage(name: str, written: Mapping[str, Any]) -> Stage:
    return Stage(
        inputs=_names(written["from"]),
        do=_steps(written.get("do", ()), ("stages", name, "do")),
        **_gate(written.get("gate", ()), ("stages", name, "gate")),
        description=written.get("description"),
    )


def _output(name: str, written: Mapping[str, Any]) -> Output:
    given = freeze(written)
    return Output(
        **{k: v for k, v in given.items() if k not in ("from", "format", "key", "order_by", "partition_by", "panes")},
        format=written.get("format") or _usual(written["to"]),
        stage=written.get("from", name),
        key=_names(written.get("key", ())),
        order_by=_names(written.get("order_by", ())),
        partition_by=_names(written.get("partition_by", ())),
        panes=_panes(given.get("panes")),
    )


def _usual(to: str) -> str:
    """Return the format of an output that names none."""
    return format_of(to) or "dataset"


def _panes(written: Any) -> Mapping[str, Any]:
    return freeze({"mode": written}) if isinstance(written, str) else written or NOTHING


def _names(written: Any) -> tuple[str, ...]:
    return (written,) if isinstance(written, str) else tuple(written)


def _gate(written: Any, path: Path) -> dict[str, Any]:
    if isinstance(written, Mapping):
        return {"gate": _steps(written["rules"], (*path, "rules")), "action": written.get("action")}
    return {"gate": _steps(written, path)}


def _gate_dict(gate: tuple[Step, ...], action: str | None) -> dict[str, Any]:
    rules = [s.to_dict() for s in gate]
    if action:
        return {"gate": {"action": action, "rules": rules}}
    return {"gate": rules} if rules else {}


def _steps(written: Any, path: Path) -> tuple[Step, ...]:
    return tuple(
        Step(name, freeze(arguments), (*path, index))
        for index, step in enumerate(written)
        for name, arguments in step.items()
    )


def to_dict(pipeline: Pipeline) -> dict[str, Any]:
    """Return the definition as plain data, without what is at its default.

    Raises
    ------
    DefinitionError
        If something in it exists in Python only: a ``pl.Expr`` or a function.
    """
    plain = _written(pipeline)
    without_queries(plain.get("stages", {}))
    found = list(_inexpressible(plain, ()))
    if found:
        raise problems(found, Origin())
    return plain


def described(pipeline: Pipeline) -> dict[str, Any]:
    """Return the definition as plain data to read: what exists in Python only as a text that says what it is.

    Examples
    --------
    >>> source = Source(("a.csv",))
    >>> stage = Stage(("a",), (Step("filter", pl.col("x") > 1),))
    >>> described(Pipeline("p", {"a": source}, {"b": stage}))["stages"]["b"]["do"]
    [{'filter': '[(col("x")) > (dyn int: 1)]'}]
    """
    found: dict[str, Any] = _as_described(_written(pipeline))
    return found


def _as_described(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _as_described(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_as_described(v) for v in value]
    if not isinstance(value, pl.Expr) and callable(value):
        return f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', type(value).__qualname__)}"
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _written(pipeline: Pipeline) -> dict[str, Any]:
    plain: dict[str, Any] = {"version": pipeline.version, "name": pipeline.name}
    if pipeline.description:
        plain["description"] = pipeline.description
    if pipeline.state_options:
        plain["state"] = {"uri": pipeline.state, "storage_options": thaw(pipeline.state_options)}
    elif pipeline.state != Pipeline.state:
        plain["state"] = pipeline.state
    if pipeline.audit != Audit():
        plain["audit"] = _audit_dict(pipeline.audit)
    if pipeline.openlineage:
        plain["openlineage"] = thaw(pipeline.openlineage)
    sections = {
        "params": {n: _param_dict(p) for n, p in pipeline.params.items()},
        "sources": {n: _source_dict(s) for n, s in pipeline.sources.items()},
        "stages": {n: _stage_dict(s) for n, s in pipeline.stages.items()},
        "outputs": {n: _output_dict(n, o) for n, o in pipeline.outputs.items()},
    }
    return plain | {name: section for name, section in sections.items() if section or name in ("sources", "outputs")}


def to_yaml(pipeline: Pipeline) -> str:
    """Return the definition as YAML that ``from_yaml`` reads back to an equal pipeline."""
    return dump(to_dict(pipeline))


def to_json(pipeline: Pipeline) -> str:
    """Return the definition as JSON that ``from_json`` reads back to an equal pipeline."""
    return json.dumps(to_dict(pipeline), indent=2, ensure_ascii=False) + "\n"


def dump(data: Any, *, flow: bool | None = False, width: float = 120) -> str:
    """Return plain data as YAML that the loader reads back; with ``flow`` in one line, as far as its ``width`` allows."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=width, default_flow_style=flow)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that the loader would not read as text."""

    yaml_implicit_resolvers = dict(yaml.SafeDumper.yaml_implicit_resolvers)  # noqa: RUF012  # as PyYAML declares it

    def ignore_aliases(self, data: object) -> bool:
        """Write equal parts twice rather than as an anchor and an alias."""
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # these are line ends to YAML 1.1; PyYAML escapes them between double quotes only
    style = '"' if any(c in "\x85\u2028\u2029\ufeff" for c in text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)

# the dumper keeps YAML 1.1's resolvers, which quote more than the loader needs, so other readers agree too
for _first, _resolvers in document.RESOLVERS.items():
    _Dumper.yaml_implicit_resolvers[_first] = [*_Dumper.yaml_implicit_resolvers.get(_first, []), *_resolvers]


def _given(**values: Any) -> dict[str, Any]:
    return {k: thaw(v) for k, v in values.items() if v is not None and (v or v is False or v == 0)}


def _one_or_more(names: tuple[str, ...]) -> str | list[str]:
    return names[0] if len(names) == 1 else list(names)


def _audit_dict(audit: Audit) -> str | dict[str, Any]:
    if audit == Audit(audit.mode):
        return audit.mode
    given = {f.name: getattr(audit, f.name) for f in fields(audit)}
    return {name: thaw(value) for name, value in given.items() if value != getattr(Audit(), name)}


_MICROSECOND = timedelta(microseconds=1)


def _param_dict(param: Param) -> dict[str, Any]:
    written: dict[str, Any] = {"type": param.type}
    match param.default:
        case None:
            pass
        case timedelta():
            written["default"] = f"{Decimal(param.default // _MICROSECOND).scaleb(-6):f}s"
        case date():
            written["default"] = param.default.isoformat()
        case Decimal():
            written["default"] = str(param.default)
        case _:
            written["default"] = thaw(param.default)
    return written | _given(description=param.description)


_INTAKE = ("detect", "on_removed", "on_modified", "settle", "expect", "on_partial", "watermark", "on_bad_time")


def _source_dict(source: Source) -> dict[str, Any]:
    fields = ("format", "read", "storage_options", "event_time", "contract", "columns")
    version = {} if source.version is None else {"version": source.version}
    return {
        "uri": _one_or_more(source.uri),
        **_given(**{f: getattr(source, f) for f in fields}),
        **version,
        **({"key": list(source.key)} if source.key else {}),
        **_gate_dict(source.gate, source.action),
        **({"on_corrupt": source.on_corrupt} if source.on_corrupt != "fail" else {}),
        **_given(**{f: getattr(source, f) for f in _INTAKE}, description=source.description),
    }


def _stage_dict(stage: Stage) -> dict[str, Any]:
    return {
        "from": _one_or_more(stage.inputs),
        **({"do": [s.to_dict() for s in stage.do]} if stage.do else {}),
        **_gate_dict(stage.gate, stage.action),
        **_given(description=stage.description),
    }


def _output_dict(name: str, output: Output) -> dict[str, Any]:
    form = "delta" if output.delta_log else output.format
    return {
        **({"from": output.stage} if output.stage != name else {}),
        "to": output.to,
        **({"format": form} if form != _usual(output.to) else {}),
        **({"mode": output.mode} if output.mode != "replace" else {}),
        **_given(
            partition_by=output.partition_by,
            key=output.key,
            order_by=output.order_by,
            event_time=output.event_time,
            deleted_when=output.deleted_when,
            deletes=output.deletes,
            keep=output.keep,
            changes=output.changes or None,
            panes=output.panes["mode"] if [*output.panes] == ["mode"] else output.panes,
            optimize=output.optimize,
            workload=output.workload,
            maintain=output.maintain,
            storage_options=output.storage_options,
            contract=output.contract,
            description=output.description,
        ),
    }


def _inexpressible(value: Any, path: Path) -> list[Fault]:
    if isinstance(value, dict):
        return [f for k, v in value.items() for f in _inexpressible(v, (*path, k))]
    if isinstance(value, list):
        return [f for i, v in enumerate(value) for f in _inexpressible(v, (*path, i))]
    if isinstance(value, pl.Expr) or callable(value):
        kind = "a Polars expression" if isinstance(value, pl.Expr) else "a Python function"
        return [Fault(f"{kind} has no YAML form", "write SQL text, or module:function", path)]
    if value is not None and type(value) not in (str, int, float, bool):
        return [Fault(f"a value of type {type(value).__name__} has no YAML form", "write text or a number", path)]
    return []
