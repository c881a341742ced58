"""Durations that are parameters: ``deadline: :patience`` is replaced by the value of ``patience`` before anything else reads it.

Only for how long something is waited for, or lasts, can be one: where windows begin (``every``, ``period``, ``offset``) is a matter of the
calendar, which a value of no text (a week, a month) does not tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from lazypipe.errors import nearest
from lazypipe.spec.model import Fault, Path, Pipeline, Source, Stage, Step, freeze

__all__ = ["with_durations"]

_STEPS: Mapping[str, tuple[str, ...]] = {
    "window": ("allowed_lateness", "keep_results", "deadline"),
    "session": ("gap", "max_length", "allowed_lateness", "keep_results"),
    "closed": ("after", "keep", "deadline"),
    "asof_join": ("tolerance", "allowed_lateness"),
    "interval_join": ("within", "allowed_lateness"),
    "late": ("gap", "allowed_lateness"),
}
_WATERMARK = ("delay", "tolerance", "idle_after")
_NAMED = re.compile(r"\s*:([A-Za-z_]\w*)\s*")
_ANY = "1d"
"""A duration that is valid everywhere, so that no other mistake is reported because of it."""
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)


def with_durations(pipeline: Pipeline, values: Mapping[str, Any] | None, faults: list[Fault]) -> Pipeline:
    """Return the pipeline with the values of parameters in the place of their names, where lengths of time are asked for.

    Without ``values`` each is some length: for who asks for nothing but what a pipeline is made of.

    Examples
    --------
    >>> from lazypipe.spec.model import Param
    >>> step = Step("closed", freeze({"end": "window_end", "deadline": ":patience"}))
    >>> pipeline = Pipeline("p", {}, {"s": Stage(("a",), (step,))}, params={"patience": Param("duration")})
    >>> with_durations(pipeline, {"patience": timedelta(hours=6)}, []).stages["s"].do[0].arguments["deadline"]
    '21600s'
    """
    made = _Bound(pipeline, values, faults)
    sources = {n: made.source(n, s) for n, s in pipeline.sources.items()}
    stages = {n: made.stage(s) for n, s in pipeline.stages.items()}
    if sources == pipeline.sources and stages == pipeline.stages:
        return pipeline
    return replace(pipeline, sources=freeze(sources), stages=freeze(stages))


class _Bound:
    def __init__(self, pipeline: Pipeline, values: Mapping[str, Any] | None, faults: list[Fault]) -> None:
        self.params = pipeline.params
        self.values = values
        self.faults = faults

    def source(self, name: str, source: Source) -> Source:
        watermark = self._mapping(source.watermark, _WATERMARK, ("sources", name, "watermark"))
        return replace(source, watermark=watermark, gate=self._steps(source.gate))

    def stage(self, stage: Stage) -> Stage:
        return replace(stage, do=self._steps(stage.do), gate=self._steps(stage.gate))

    def _steps(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(map(self._step, steps))

    def _step(self, step: Step) -> Step:
        if step.name not in _STEPS or not isinstance(step.arguments, Mapping):
            return step
        return replace(step, arguments=self._mapping(step.arguments, _STEPS[step.name], (*step.path, step.name)))

    def _mapping(self, written: Mapping[str, Any], names: tuple[str, ...], at: Path) -> Mapping[str, Any]:
        found = {n: self._value(written[n], (*at, n)) for n in names if n in written}
        return freeze({**written, **found}) if found else written

    def _value(self, written: Any, at: Path) -> Any:
        if isinstance(written, tuple):
            return tuple(self._value(one, (*at, place)) for place, one in enumerate(written))
        named = _NAMED.fullmatch(written) if isinstance(written, str) else None
        if named is None:
            return written
        return self._length(named[1], at)

    def _length(self, name: str, at: Path) -> str:
        """Return the value of a parameter as text; some length, with what is wrong among the faults, if it has none."""
        if self.values is None:
            return _ANY
        param = self.params.get(name)
        if param is None:
            self.faults.append(Fault(f"unknown parameter {name!r}", nearest(name, self.params, "parameters"), at))
            return _ANY
        if param.type != "duration":
            what = f"{at[-1] if isinstance(at[-1], str) else at[-2]} is a duration, and parameter {name!r} is of type {param.type}"
            self.faults.append(Fault(what, "declare it with type: duration", at))
            return _ANY
        value = self.values.get(name)  # a missing value is reported where parameters are read
        return _ANY if value is None else _text(value)


def _text(length: timedelta) -> str:
    """Return a length of time as definitions write it."""
    if not length % _SECOND:
        return f"{length // _SECOND}s"
    return f"{length // _MICROSECOND}us"
