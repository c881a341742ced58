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
>>> pipe.compile().schema("b")
Schema([('x', Int64)])
"""

from lazypipe import contracts, optimize
from lazypipe.api.builder import Builder, pipeline
from lazypipe.api.datasets import history, publish_delta, rollback, vacuum
from lazypipe.api.frames import apply, check, split
from lazypipe.api.pipeline import Pipeline, Plan, catalog, load, replay, trace, window_history
from lazypipe.api.records import audit_report, ledger
from lazypipe.api.stream import stream
from lazypipe.errors import (
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
from lazypipe.run.replay import ReplayResult
from lazypipe.run.result import RunResult, SegmentResult
from lazypipe.run.retry import Backoff
from lazypipe.run.stream import Stream
from lazypipe.run.trace import Trace, Traced
from lazypipe.run.trigger import Trigger
from lazypipe.spec.schema import json_schema
from lazypipe.storage.dataset import scan
from lazypipe.version import VERSION

__version__ = VERSION

__all__ = [
    "AuditReport",
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
    "Reach",
    "ReplayResult",
    "RowDiff",
    "RunError",
    "RunResult",
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
    "scan",
    "split",
    "stream",
    "suggest_rules",
    "trace",
    "vacuum",
    "window_history",
]
