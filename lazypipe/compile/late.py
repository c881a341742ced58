"""Late rows of windows and joins by time: a stage with such a step is compiled as two, with the late rows' rule as a gate between them.

The first ends ahead of the step, with a gate that has the rule ``late``; the second begins with it. So late rows are put
aside, dropped or refused, counted and remembered as all others that a gate finds (docs/decisions/0023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lazypipe import ops
from lazypipe.ops.asof_join import AsofJoin
from lazypipe.ops.base import Operation
from lazypipe.ops.interval_join import IntervalJoin
from lazypipe.ops.session import Session
from lazypipe.ops.window import Window
from lazypipe.spec.model import Fault, Path, Pipeline, Stage, Step, freeze

__all__ = ["LATE", "as_written", "with_late_gates", "without_twins"]

LATE = "__late"
"""What the name of a stage's first part ends with."""

_ABOUT_WHOLE = ("expect", "on_partial", "deadline", "partial")
_TIMELY = (Window, Session, AsofJoin, IntervalJoin)
_ABOUT_WINDOWS = ("time", "every", "period", "offset", "time_zone", "gap", "allowed_lateness", "watermark")


def with_late_gates(pipeline: Pipeline, faults: list[Fault]) -> Pipeline:
    """Return the pipeline with a stage of its own for the steps before a window or join that quarantines, drops or refuses late rows.

    Examples
    --------
    >>> step = Step("window", {"time": "t", "every": "1h", "aggregate": {"n": "count(*)"}, "late": "drop"})
    >>> pipeline = Pipeline("p", {}, {"hourly": Stage(("a",), (step,))})
    >>> [(name, stage.inputs) for name, stage in with_late_gates(pipeline, []).stages.items()]
    [('hourly__late', ('a',)), ('hourly', ('hourly__late',))]
    """
    stages: dict[str, Stage] = {}
    for name, stage in pipeline.stages.items():
        found = _split(name, stage, faults)
        for part in found:
            if part != name and (part in pipeline.stages or part in pipeline.sources):
                what = f"{part!r} is reserved for stage {name!r} before its windows"
                section = "stages" if part in pipeline.stages else "sources"
                faults.append(Fault(what, "give it another name", (section, part)))
        stages |= found
    return pipeline if stages == pipeline.stages else replace(pipeline, stages=freeze(stages))


def as_written(name: str, pipeline: Pipeline) -> str:
    """Return the name of the stage in the definition that a stage of the pipeline is, or is the first part of.

    Examples
    --------
    >>> pipeline = Pipeline("p", {}, {"h__late": Stage(("a",)), "h": Stage(("h__late",)), "x__late": Stage(("a",))})
    >>> [as_written(name, pipeline) for name in pipeline.stages]
    ['h', 'h', 'x__late']
    """
    whole = pipeline.stages.get(name.removesuffix(LATE))
    return name.removesuffix(LATE) if whole is not None and whole.inputs[:1] == (name,) else name


def without_twins(faults: Sequence[Fault]) -> list[Fault]:
    """Return mistakes without those of windows that the rule ``late`` reports a second time."""
    told = {(f.what, f.path) for f in faults}
    return [f for f in faults if (f.what, _of_windows(f.path)) not in told]


def _of_windows(path: Path) -> Path | None:
    """Return where the operation has the argument that the rule about its late rows was given."""
    match path:
        case ("stages", name, "do", place, ("window" | "session") as kind, "late", str(argument), *rest):
            return ("stages", name, "do", place, kind, argument, *rest)
        case _:
            return None


def _split(name: str, stage: Stage, faults: list[Fault]) -> dict[str, Stage]:
    """Return a stage as what it is compiled as: late rows are what a gate ahead of the step finds, closing is a step of its own."""
    for index, step in enumerate(stage.do):
        operation = _operation(step)
        if operation is None:
            return {name: stage}  # reported where the graph is built
        if not isinstance(operation, _TIMELY) or (
            (operation.late, _emit(operation)) == ("update", "each_run")
            and getattr(operation, "keep_results", None) is None
        ):
            continue
        written: Mapping[str, Any] = step.arguments
        left = {n: v for n, v in written.items() if n not in ("late", "watermark", "emit", "keep_results")}
        if isinstance(operation, Window) and operation.expect is not None:
            left["emit"] = (
                "counted"  # with what is counted to know whether windows are whole, which the next step needs
            )
        rest = (replace(step, arguments=freeze(left)), *_closing(step, operation), *stage.do[index + 1 :])
        if operation.late == "update":
            return {name: replace(stage, do=(*stage.do[:index], *rest))}
        for other in stage.do[index + 1 :]:
            if getattr(_operation(other), "late", "update") != "update":
                what = f"the late rows of {step.name} are handled in this stage already, and cannot be told from those of {other.name}"
                faults.append(Fault(what, f"give {other.name} a stage of its own", (*other.path, other.name, "late")))
        rule = Step("late", freeze({**_about(operation, written), "action": operation.late}), (*step.path, step.name))
        # a query over all inputs does not say which of them it reads
        more = stage.inputs[1:] if any(s.name in ("sql", "python") for s in rest) else ()
        ahead = Stage(stage.inputs, stage.do[:index], (rule,))
        return {f"{name}{LATE}": ahead, name: replace(stage, inputs=(f"{name}{LATE}", *more), do=rest)}
    return {name: stage}


def _operation(step: Step) -> Operation | None:
    """Return a step's operation; None if it is wrong."""
    try:
        return ops.operation(step)
    except Fault:
        return None


def _emit(operation: Operation) -> str:
    """Return when a step gives its rows: a join does whenever it has some."""
    return operation.emit if isinstance(operation, Window | Session) else "each_run"


def _about(operation: Operation, written: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the rule needs to know of a step: a row of a join is awaited until the end of its interval."""
    about = {n: written[n] for n in _ABOUT_WINDOWS if n in written}
    if isinstance(operation, AsofJoin):
        return {**about, "time": operation.on or operation.left_on, "gap": "0s"}
    if isinstance(operation, IntervalJoin):
        upper = operation.within[1]
        return {**about, "time": operation.time or operation.left_time, "gap": "0s" if upper[:1] == "-" else upper}
    return about


def _closing(step: Step, operation: Operation) -> tuple[Step, ...]:
    """Return the step that keeps closed windows, if only those are wanted, or for how long they stay."""
    if not isinstance(operation, Window | Session):
        return ()
    stays: dict[str, Any] = {} if operation.keep_results is None else {"keep": operation.keep_results}
    if operation.emit == "each_run":
        if not stays:
            return ()
        stays |= {"open": True}
    after = [operation.allowed_lateness]
    written: dict[str, Any] = {"end": "window_end", "after": after, **stays}
    if isinstance(operation, Session):
        written = {"end": "session_end", "after": [operation.gap, *after], **stays}
    elif operation.expect is not None:
        about = {n: v for n in _ABOUT_WHOLE if (v := getattr(operation, n)) is not None}
        written |= {"start": "window_start", **about}
    place = "emit" if operation.emit == "on_close" else "keep_results"
    return (Step("closed", freeze(written), (*step.path, step.name, place)),)
