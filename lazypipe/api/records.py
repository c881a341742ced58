"""Records of runs: the ledger, and audit reports."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lazypipe.api.pipeline import Pipeline
from lazypipe.api.plan import Plan
from lazypipe.compile.audit import BoundAudit, bind_audit
from lazypipe.compile.state import bind_state
from lazypipe.errors import LazypipeError
from lazypipe.records import audit as audits
from lazypipe.records.audit import AuditReport
from lazypipe.records.ledger import Ledger
from lazypipe.spec import loader, model
from lazypipe.spec.model import Fault

__all__ = ["audit_report", "ledger", "own_ledger"]


def ledger(
    target: str | os.PathLike[str] | model.Pipeline | Plan,
    *,
    key: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Ledger:
    """Open a ledger, the append-only record of runs, to query and verify it.

    Parameters
    ----------
    target
        The ledger's URI, or a pipeline whose runs it records.
    key
        The key with which records are signed, so that ``verify`` checks the signatures. Default: the pipeline's key.
    storage_options
        Credentials and settings for the storage of a URI; those of a pipeline are in its definition.

    Raises
    ------
    LazypipeError
        If the pipeline's runs are not recorded, or ``storage_options`` are given for a pipeline.
    DefinitionError
        If a variable that the definition uses is not set.

    Examples
    --------
    >>> ledger("memory://a-new-ledger").verify().ok
    True
    """
    if isinstance(target, str | os.PathLike):
        return Ledger(os.fspath(target), storage_options=storage_options, key=key)
    if storage_options:
        what = "storage_options are those of a ledger that is given by its URI"
        raise LazypipeError(f"{what}; that of a pipeline has its own, in its definition")
    bound = _bound_audit(target)
    if not bound.is_on:
        name = target.pipeline.name if isinstance(target, Plan) else target.name
        raise LazypipeError(f"runs of pipeline {name!r} are not recorded; remove audit: off from its definition")
    return Ledger.of(bound if key is None else replace(bound, key=key))


def own_ledger(target: model.Pipeline | Plan) -> Ledger | None:
    """Return the ledger of a pipeline, None if its runs are not recorded."""
    bound = _bound_audit(target)
    return Ledger.of(bound) if bound.is_on else None


def _bound_audit(target: model.Pipeline | Plan) -> BoundAudit:
    if isinstance(target, Plan):
        return target.audit
    target, faults = Pipeline.of(target), list[Fault]()
    state, _ = bind_state(target, os.environ, faults)
    bound, _ = bind_audit(target, os.environ, state, faults)
    if faults:
        raise loader.problems(faults, target.origin)
    return bound


def audit_report(target: str | model.Pipeline | Plan | Ledger, output: str, version: int | None = None) -> AuditReport:
    """Return a report on one version of an output, for auditors: raw sources, every transformation, rule, exception and person.

    Parameters
    ----------
    target
        A pipeline, or a ledger (or its URI) that contains the output's runs.
    output
        The output's name, ``pipeline/name``, or its URI.
    version
        Default: the latest.

    Raises
    ------
    LazypipeError
        If the ledger does not contain the output or the version.
    """
    if isinstance(target, Ledger):
        return audits.audit_report(target, output, version)
    found = ledger(target)
    if isinstance(target, model.Pipeline) and output in target.outputs:
        output = f"{target.name}/{output}"
    elif isinstance(target, Plan) and output in target.outputs:
        output = f"{target.pipeline.name}/{output}"
    return audits.audit_report(found, output, version)
