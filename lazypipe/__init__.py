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

from lazypipe import contracts
from lazypipe.api import Builder, Pipeline, Plan, apply, catalog, check, load, pipeline, replay, split, trace, vacuum
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
from lazypipe.plan.graph import Lineage
from lazypipe.plan.places import Impact, Reach
from lazypipe.records.endpoint import HttpTransport
from lazypipe.records.transport import FileTransport
from lazypipe.run.replay import ReplayResult
from lazypipe.run.result import RunResult, SegmentResult
from lazypipe.run.trace import Trace, Traced
from lazypipe.spec.schema import json_schema
from lazypipe.storage.dataset import scan

__version__ = "0.1.0"

__all__ = [
    "Builder",
    "CheckResult",
    "CommitConflict",
    "DefinitionError",
    "FileTransport",
    "GateError",
    "GateReport",
    "HttpTransport",
    "Impact",
    "Interrupted",
    "LazypipeError",
    "Lineage",
    "Location",
    "Pipeline",
    "Plan",
    "Problem",
    "Reach",
    "ReplayResult",
    "RunError",
    "RunResult",
    "SegmentResult",
    "SourceError",
    "Split",
    "StorageError",
    "Trace",
    "Traced",
    "apply",
    "catalog",
    "check",
    "contracts",
    "json_schema",
    "load",
    "pipeline",
    "replay",
    "rule",
    "scan",
    "split",
    "suggest_rules",
    "trace",
    "vacuum",
]
