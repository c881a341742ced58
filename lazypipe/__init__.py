"""lazypipe: data pipelines as Polars lazy plans, with quality gates, audit and whole commits.

>>> import lazypipe as lp
>>> pipe = lp.Pipeline.from_yaml('''
... version: 1
... name: demo
... sources:
...   a: {uri: a.csv, contract: {columns: {x: Int64}}}
... stages:
...   b: {from: a, do: [{filter: x > 1}]}
... outputs:
...   b: {to: out/b}
... ''')
>>> dict(pipe.compile().schema("b"))
{'x': Int64}
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from lazypipe.version import VERSION

if TYPE_CHECKING:
    from lazypipe import contracts, optimize
    from lazypipe.api.builder import Builder, pipeline
    from lazypipe.api.datasets import history, publish_delta, rollback, vacuum
    from lazypipe.api.frames import apply, check, split
    from lazypipe.api.pipeline import Pipeline, catalog, load, replay, trace, window_history
    from lazypipe.api.plan import Plan
    from lazypipe.api.records import audit_report, ledger
    from lazypipe.api.stream import stream
    from lazypipe.api.together import run_all
    from lazypipe.errors import (
        AwayError,
        CommitConflict,
        DefinitionError,
        GateError,
        Interrupted,
        LazypipeError,
        Location,
        Problem,
        RunError,
        SourceError,
        StorageError,
    )
    from lazypipe.gates.alone import Split
    from lazypipe.gates.custom import rule
    from lazypipe.gates.report import CheckResult, GateReport
    from lazypipe.gates.suggest import suggest_rules
    from lazypipe.incremental.diff import RowDiff, diff
    from lazypipe.plan.fingerprint import Changes, Fingerprint
    from lazypipe.plan.graph import Lineage
    from lazypipe.plan.places import Impact, Reach
    from lazypipe.records.audit import AuditReport
    from lazypipe.records.endpoint import HttpTransport
    from lazypipe.records.entry import Entry
    from lazypipe.records.history import History, Holding
    from lazypipe.records.ledger import Ledger
    from lazypipe.records.transport import FileTransport
    from lazypipe.records.verify import Verification
    from lazypipe.run.panes import Pane, WindowHistory
    from lazypipe.run.pull import Pulled, Reader
    from lazypipe.run.replay import ReplayResult
    from lazypipe.run.result import RunResult, RunResults, SegmentResult
    from lazypipe.run.retry import Backoff
    from lazypipe.run.stream import Stream
    from lazypipe.run.trace import Trace, Traced
    from lazypipe.run.trigger import Trigger
    from lazypipe.spec.schema import json_schema
    from lazypipe.storage.datasets.dataset import scan

__version__ = VERSION

__all__ = [
    "AuditReport",
    "AwayError",
    "Backoff",
    "Builder",
    "Changes",
    "CheckResult",
    "CommitConflict",
    "DefinitionError",
    "Entry",
    "FileTransport",
    "Fingerprint",
    "GateError",
    "GateReport",
    "History",
    "Holding",
    "HttpTransport",
    "Impact",
    "Interrupted",
    "LazypipeError",
    "Ledger",
    "Lineage",
    "Location",
    "Pane",
    "Pipeline",
    "Plan",
    "Problem",
    "Pulled",
    "Reach",
    "Reader",
    "ReplayResult",
    "RowDiff",
    "RunError",
    "RunResult",
    "RunResults",
    "SegmentResult",
    "SourceError",
    "Split",
    "StorageError",
    "Stream",
    "Trace",
    "Traced",
    "Trigger",
    "Verification",
    "WindowHistory",
    "apply",
    "audit_report",
    "catalog",
    "check",
    "contracts",
    "diff",
    "history",
    "json_schema",
    "ledger",
    "load",
    "optimize",
    "pipeline",
    "publish_delta",
    "replay",
    "rollback",
    "rule",
    "run_all",
    "scan",
    "split",
    "stream",
    "suggest_rules",
    "trace",
    "vacuum",
    "window_history",
]

# where each name is; it is imported when it is first asked for, because few programs need many of them
_HOME = {
    "contracts": "lazypipe",
    "optimize": "lazypipe",
    "Builder": "lazypipe.api.builder",
    "pipeline": "lazypipe.api.builder",
    "history": "lazypipe.api.datasets",
    "publish_delta": "lazypipe.api.datasets",
    "rollback": "lazypipe.api.datasets",
    "vacuum": "lazypipe.api.datasets",
    "apply": "lazypipe.api.frames",
    "check": "lazypipe.api.frames",
    "split": "lazypipe.api.frames",
    "Pipeline": "lazypipe.api.pipeline",
    "Plan": "lazypipe.api.plan",
    "catalog": "lazypipe.api.pipeline",
    "load": "lazypipe.api.pipeline",
    "replay": "lazypipe.api.pipeline",
    "trace": "lazypipe.api.pipeline",
    "window_history": "lazypipe.api.pipeline",
    "audit_report": "lazypipe.api.records",
    "ledger": "lazypipe.api.records",
    "stream": "lazypipe.api.stream",
    "run_all": "lazypipe.api.together",
    "AwayError": "lazypipe.errors",
    "CommitConflict": "lazypipe.errors",
    "DefinitionError": "lazypipe.errors",
    "GateError": "lazypipe.errors",
    "Interrupted": "lazypipe.errors",
    "LazypipeError": "lazypipe.errors",
    "Location": "lazypipe.errors",
    "Problem": "lazypipe.errors",
    "RunError": "lazypipe.errors",
    "SourceError": "lazypipe.errors",
    "StorageError": "lazypipe.errors",
    "Split": "lazypipe.gates.alone",
    "rule": "lazypipe.gates.custom",
    "CheckResult": "lazypipe.gates.report",
    "GateReport": "lazypipe.gates.report",
    "suggest_rules": "lazypipe.gates.suggest",
    "RowDiff": "lazypipe.incremental.diff",
    "diff": "lazypipe.incremental.diff",
    "Changes": "lazypipe.plan.fingerprint",
    "Fingerprint": "lazypipe.plan.fingerprint",
    "Lineage": "lazypipe.plan.graph",
    "Impact": "lazypipe.plan.places",
    "Reach": "lazypipe.plan.places",
    "AuditReport": "lazypipe.records.audit",
    "HttpTransport": "lazypipe.records.endpoint",
    "Entry": "lazypipe.records.entry",
    "History": "lazypipe.records.history",
    "Holding": "lazypipe.records.history",
    "Ledger": "lazypipe.records.ledger",
    "FileTransport": "lazypipe.records.transport",
    "Verification": "lazypipe.records.verify",
    "Pane": "lazypipe.run.panes",
    "WindowHistory": "lazypipe.run.panes",
    "Pulled": "lazypipe.run.pull",
    "Reader": "lazypipe.run.pull",
    "ReplayResult": "lazypipe.run.replay",
    "RunResult": "lazypipe.run.result",
    "RunResults": "lazypipe.run.result",
    "SegmentResult": "lazypipe.run.result",
    "Backoff": "lazypipe.run.retry",
    "Stream": "lazypipe.run.stream",
    "Trace": "lazypipe.run.trace",
    "Traced": "lazypipe.run.trace",
    "Trigger": "lazypipe.run.trigger",
    "json_schema": "lazypipe.spec.schema",
    "scan": "lazypipe.storage.datasets.dataset",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        # with both, Python says which name is near
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    home = _HOME[name]
    found: object = import_module(f"{home}.{name}") if home == __name__ else getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
