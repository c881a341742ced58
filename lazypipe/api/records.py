"""Records of runs: the ledger, and audit reports."""

from __future__ import annotations

import os

from lazypipe.api.plan import Plan
from lazypipe.compile.audit import BoundAudit, bind_audit
from lazypipe.errors import LazypipeError
from lazypipe.records import audit as audits
from lazypipe.records.audit import AuditReport
from lazypipe.records.ledger import Ledger
from lazypipe.spec import loader, model
from lazypipe.spec.model import Fault

__all__ = ["audit_report", "ledger", "own_ledger"]


def ledger(target: str | os.PathLike[str] | model.Pipeline | Plan, *, key: str | None = None) -> Ledger:
    """Open a ledger, the append-only record of runs, to query and verify it.

    Parameters
    ----------
    target
        The ledger's URI, or a pipeline whose runs it records.
    key
        The key with which records are signed, so that ``verify`` checks the signatures. Default: the pipeline's key.

    Raises
    ------
    LazypipeError
        If the pipeline's runs are not recorded.
    DefinitionError
        If a variable that the definition uses is not set.

    Examples
    --------
    >>> ledger("memory://a-new-ledger").verify().ok
    True
    """
    if isinstance(target, str | os.PathLike):
        return Ledger(os.fspath(target), key=key)
    bound = _bound_audit(target)
    if not bound.is_on:
        name = target.pipeline.name if isinstance(target, Plan) else target.name
        raise LazypipeError(f"runs of pipeline {name!r} are not recorded; remove audit: off from its definition")
    return Ledger(bound.uri, key=key if key is not None else bound.key)


def own_ledger(target: model.Pipeline | Plan) -> Ledger | None:
    """Return the ledger of a pipeline, None if its runs are not recorded."""
    bound = _bound_audit(target)
    return Ledger(bound.uri, key=bound.key) if bound.is_on else None


def _bound_audit(target: model.Pipeline | Plan) -> BoundAudit:
    if isinstance(target, Plan):
        return target.audit
    faults: list[Fault] = []
    bound, _ = bind_audit(target, os.environ, faults)
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
