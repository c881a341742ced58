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

from lazypipe.api import Builder, Pipeline, Plan, apply, check, load, pipeline, vacuum
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
from lazypipe.gates.report import CheckResult, GateReport
from lazypipe.run.result import RunResult, SegmentResult
from lazypipe.spec.schema import json_schema
from lazypipe.storage.dataset import scan

__version__ = "0.1.0"

__all__ = [
    "Builder",
    "CheckResult",
    "CommitConflict",
    "DefinitionError",
    "GateError",
    "GateReport",
    "Interrupted",
    "LazypipeError",
    "Location",
    "Pipeline",
    "Plan",
    "Problem",
    "RunError",
    "RunResult",
    "SegmentResult",
    "SourceError",
    "StorageError",
    "apply",
    "check",
    "json_schema",
    "load",
    "pipeline",
    "scan",
    "vacuum",
]
