"""A run as OpenLineage's RunEvents (2-0-2): one job per pipeline, one event at the start of a run, one at its end."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from lazypipe.compile.compiled import EPOCH, CompiledPipeline
from lazypipe.errors import DefinitionError
from lazypipe.gates.report import GateReport
from lazypipe.records.datasets import Datasets
from lazypipe.records.facets import PRODUCER, SPEC, facet, public
from lazypipe.spec import loader
from lazypipe.spec.model import NOTHING, Pipeline

__all__ = ["NAMESPACE", "run_event", "run_uuid"]

NAMESPACE = "lazypipe"
"""The namespace of jobs, where none is given."""
_CORE = f"{SPEC}/2-0-2/OpenLineage.json#/$defs"
_WELL = ("done", "unchanged", "waiting")
"""How runs end in which nothing went wrong."""

_TYPES: Mapping[str, str] = {"running": "START", **dict.fromkeys(_WELL, "COMPLETE"), "interrupted": "ABORT"}


def run_uuid(run: str, job: str, namespace: str = NAMESPACE) -> str:
    """Return the UUID by which OpenLineage knows a run: the run's id if it is one, else always the same one made from it.

    Examples
    --------
    >>> run_uuid("20130101T000000-a1b2c3d4", "flights")
    'd801981f-76ac-5c65-96b6-cc2c33d37d3a'
    >>> run_uuid("01890A5D-AC96-774B-BCCE-B302099A8057", "flights")
    '01890a5d-ac96-774b-bcce-b302099a8057'
    """
    try:
        return str(UUID(run))
    except ValueError:
        return str(uuid5(NAMESPACE_URL, f"urn:lazypipe:run:{namespace}/{job}/{run}"))


def run_event(
    plan: CompiledPipeline,
    body: Mapping[str, Any],
    *,
    gates: Mapping[str, GateReport] = NOTHING,
    parent: Mapping[str, str] | None = None,
    namespace: str = NAMESPACE,
) -> dict[str, Any]:
    """Return the event about a run as plain data: START while it runs, then COMPLETE, FAIL or ABORT.

    Parameters
    ----------
    body
        The body of the run's record, as it stands.
    gates
        The reports of gates by source or stage, as far as they are known.
    parent
        What started the run: ``run`` (a UUID, or the id of a lazypipe run), ``job`` and ``namespace``.
    """
    running = body["status"] == "running"
    datasets = Datasets(plan, body, gates)
    job = {"namespace": namespace, "name": body["pipeline"], "facets": _job(plan)}
    return {
        "eventType": _TYPES.get(body["status"], "FAIL"),
        "eventTime": _time(body["started"] if running else body["ended"]),
        "producer": PRODUCER,
        "schemaURL": f"{_CORE}/RunEvent",
        "run": {
            "runId": run_uuid(body["run"], body["pipeline"], namespace),
            "facets": _run(plan, body, gates, parent, namespace),
        },
        "job": job,
        "inputs": datasets.inputs(),
        "outputs": datasets.outputs(),
    }


def _time(text: str) -> str:
    """Return a time with its zone, which OpenLineage asks for; one without is in UTC."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()


def _run(
    plan: CompiledPipeline,
    body: Mapping[str, Any],
    gates: Mapping[str, GateReport],
    parent: Mapping[str, str] | None,
    namespace: str,
) -> dict[str, Any]:
    code = body["code"]
    counted = [
        {"node": g.node, "status": g.status, "rows": g.rows}
        | {"good": g.good, "quarantined": g.quarantined, "dropped": g.dropped}
        for g in gates.values()
    ]
    found = {
        "processing_engine": facet(
            "ProcessingEngineRunFacet",
            version=code["polars"],
            name="polars",
            openlineageAdapterVersion=code["lazypipe"],
        ),
        # what no facet of the standard holds: lazypipe's own id of the run, and the gates of stages that nothing publishes
        "lazypipe_run": {
            "_producer": PRODUCER,
            "_schemaURL": f"{_CORE}/RunFacet",
            **{k: body.get(k) for k in ("run", "status", "actor", "seconds")},
            "code": dict(code),
            "gates": counted,
        },
    }
    now = plan.params.get("now", EPOCH)
    if now != EPOCH:
        found["nominalTime"] = facet("NominalTimeRunFacet", nominalStartTime=_time(now.isoformat()))
    params = [{"key": k, "value": plan.redact(str(v))} for k, v in body["params"].items() if k != "now"]
    if params:
        found["executionParameters"] = facet("ExecutionParametersRunFacet", parameters=params)
    if parent is not None:
        of = parent.get("namespace", namespace)
        found["parent"] = facet(
            "ParentRunFacet",
            run={"runId": run_uuid(parent["run"], parent["job"], of)},
            job={"namespace": of, "name": parent["job"]},
        )
    if body["status"] not in ("running", *_WELL):
        told = dict.fromkeys(str(e) for e in (body.get("error"), *(s["error"] for s in body["segments"])) if e)
        message = public(plan.redact("\n".join(told))) or f"the run is {body['status']}"
        found["errorMessage"] = facet("ErrorMessageRunFacet", message=message, programmingLanguage="python")
    return found


def _job(plan: CompiledPipeline) -> dict[str, Any]:
    pipeline = plan.pipeline
    found = {
        "jobType": facet("JobTypeJobFacet", processingType="BATCH", integration="LAZYPIPE", jobType="PIPELINE"),
    }
    if pipeline.description:
        found["documentation"] = facet("DocumentationJobFacet", description=pipeline.description)
    text = _source_code(pipeline)
    if text is not None:
        found["sourceCode"] = facet("SourceCodeJobFacet", language="json", sourceCode=plan.redact(text))
    return found


def _source_code(pipeline: Pipeline) -> str | None:
    """Return the definition without credentials, those included that were written down in full; None if it is Python's."""
    try:
        data = loader.to_dict(pipeline)
    except DefinitionError:
        return None
    for section in ("sources", "outputs"):
        for entry in data[section].values():
            if "storage_options" in entry:
                entry["storage_options"] = _masked(entry["storage_options"])
    events = data.get("openlineage", {})
    data |= (
        {"openlineage": {k: _masked(v) if k in ("api_key", "headers") else v for k, v in events.items()}}
        if events
        else {}
    )
    # as JSON, which a definition can be too: writing YAML takes longer than all the rest of an event
    return public(json.dumps(data, indent=1, ensure_ascii=False))


def _masked(value: Any) -> Any:
    """Return settings whose texts are gone, but for names of variables."""
    if isinstance(value, dict):
        return {k: _masked(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_masked(v) for v in value]
    return value if not isinstance(value, str) or re.fullmatch(r"(\$\{\w+\})+", value) else "***"
