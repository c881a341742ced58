"""Definitions that feed each other, compiled together: where nothing is written yet, what another one will write tells the columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lazypipe.api.pipeline import Pipeline
from lazypipe.api.plan import Plan
from lazypipe.compile.binding import expand_source
from lazypipe.compile.modes import written_schema
from lazypipe.errors import LazypipeError, SourceError
from lazypipe.spec.model import Fault, freeze
from lazypipe.spec.types import dtype_name
from lazypipe.storage import uri as uris
from lazypipe.storage.dataset import Dataset

__all__ = ["compile_together"]

_Columns = Mapping[str, Mapping[str, str]]
"""URI of a dataset → its columns with their types, as a contract writes them."""


def compile_together(
    pipelines: Sequence[Pipeline | Plan], compile_one: Callable[[Pipeline], Plan]
) -> list[Plan | LazypipeError]:
    """Return the plan of each definition, or why there is none.

    A source without data or contract has the columns of the output that another definition writes there: so definitions can be
    checked, and their lineage shown, before any of them has run.

    Examples
    --------
    >>> from lazypipe.api.builder import pipeline
    >>> raw = pipeline("raw").source("a", "/lake/a.csv", contract={"columns": {"x": "Int64"}}).output("a", "/lake/a").build()
    >>> report = pipeline("report").source("b", "/lake/a").output("b", "/lake/b").build()
    >>> compile_together([report, raw], Pipeline.compile)[0].schema("b")
    Schema([('x', Int64)])
    """
    found: list[Plan | LazypipeError] = [LazypipeError("")] * len(pipelines)
    written: dict[str, Mapping[str, str]] = {}
    waiting = list(range(len(pipelines)))
    while waiting:
        known = len(written)
        for index in waiting:
            given = pipelines[index]
            try:
                plan = given if isinstance(given, Plan) else compile_one(_with(given, written))
            except LazypipeError as error:
                found[index] = error
            else:
                found[index] = plan
                written |= _written(plan)
        # what came to be known may be what others wait for
        waiting = [i for i in waiting if isinstance(found[i], SourceError)] if len(written) > known else []
    return [_named(given, one) for given, one in zip(pipelines, found, strict=True)]


def _written(plan: Plan) -> _Columns:
    """Return the columns of the datasets that a plan writes; keys that it removes from those of others are none."""
    return {
        uris.place(output.to): {
            name: dtype_name(dtype) for name, dtype in written_schema(output, plan.schema(output.stage)).items()
        }
        for output in plan.outputs.values()
        if output.format == "dataset" and output.mode != "delete"
    }


def _with(pipeline: Pipeline, written: _Columns) -> Pipeline:
    """Return a definition whose sources have the columns of what is written there, where nothing is yet."""
    sources = dict(pipeline.sources)
    for name, source in pipeline.sources.items():
        if len(source.uri) > 1 or source.contract:
            continue
        try:
            (uri,), options, _, _ = expand_source(source, pipeline.base, os.environ, ("sources", name))
        except Fault:
            continue  # told by whoever compiles it
        columns = written.get(uris.place(uri))
        if columns is not None and not Dataset(uri, options).log.last():
            contract = freeze({"columns": columns})
            sources[name] = replace(source, format=source.format or "dataset", contract=contract)
    return replace(pipeline, sources=sources)


def _named(given: Pipeline | Plan, found: Plan | LazypipeError) -> Plan | LazypipeError:
    """Return an error of a source with the definition that it is of, for there are several."""
    if isinstance(found, SourceError) and isinstance(given, Pipeline):
        return SourceError(f"{given.origin.file}: {found.what}", uri=found.uri, fix=found.fix)
    return found
