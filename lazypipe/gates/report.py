"""What a gate found: for each check the rows evaluated and failed, and how many rows were good, quarantined or dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from math import isfinite
from typing import Any, Literal

import polars as pl

from lazypipe.errors import GateError
from lazypipe.gates import export
from lazypipe.gates.rule import VALUE, Action, Check

__all__ = ["CheckResult", "GateReport"]

Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    ``evaluated`` are the rows that were checked (those selected by ``where``, before or after repair). ``failed`` are those that violate the rule
    after all repairs; ``repaired`` are those that were repaired and do not. ``samples`` are the keys of the first failed rows, with personal data masked. A check of the whole
    frame has the measured ``value`` and the ``expected`` one; it counts as one, or with ``by`` as one per group, and ``groups`` are the first
    groups that failed, with their values.

    Examples
    --------
    >>> CheckResult("unique:id", "unique", "quarantine", "warn", evaluated=1200, failed=2)
    <CheckResult warn: unique:id: 2 of 1,200 rows (quarantine)>
    >>> CheckResult("between:amount", "between", "fail", "pass", evaluated=1200, failed=0, repaired=3)
    <CheckResult pass: between:amount: 3 of 1,200 rows repaired>
    """

    id: str
    rule: str
    action: Action
    status: Status
    evaluated: int
    failed: int
    threshold: str | None = None
    repaired: int = 0
    value: Any = None
    expected: str | None = None
    groups: tuple[Mapping[str, Any], ...] = ()
    samples: tuple[Mapping[str, Any], ...] = ()
    column: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    owner: str | None = None

    @property
    def fraction(self) -> float:
        """Failed rows as a fraction of the evaluated rows; 0 if there were none."""
        return self.failed / self.evaluated if self.evaluated else 0.0

    @property
    def failed_before(self) -> int:
        """Rows that violated the rule before its repair, or because of a later one."""
        return self.failed + self.repaired

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON data, without empty parts."""
        return self._shown | {"fraction": self.fraction}

    @cached_property
    def _shown(self) -> dict[str, Any]:
        """What it says, made once: samples are many cells, and several records hold them."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        told = {f.name for f in fields(self) if f.default is MISSING or given[f.name] != f.default}
        shown: dict[str, Any] = _plain({k: v for k, v in given.items() if k in {*told, "threshold"}})
        return shown

    def __repr__(self) -> str:
        return f"<CheckResult {self.status}: {self}>"

    def __str__(self) -> str:
        limit = f", allowed {self.threshold}" if self.threshold else ""
        if self.expected is not None:
            shown = [f"{_key(g)}: {g.get(VALUE)}" for g in self.groups] or [str(self.value)]
            groups = f" in {self.failed:,} of {self.evaluated:,} groups{limit}" if self.groups else ""
            return f"{self.id}: {'; '.join(shown)}, expected {self.expected}{groups} ({self.action})"
        if self.repaired:
            left = f", {self.failed:,} could not be{limit} ({self.action})" if self.failed else ""
            return f"{self.id}: {self.repaired:,} of {self.evaluated:,} rows repaired{left}"
        return f"{self.id}: {self.failed:,} of {self.evaluated:,} rows{limit} ({self.action})"


@dataclass(frozen=True)
class GateReport:
    """The result of a gate. Of ``rows`` rows, each is either good, quarantined or dropped."""

    node: str
    checks: tuple[CheckResult, ...]
    rows: int
    good: int
    quarantined: int = 0
    dropped: int = 0

    def __post_init__(self) -> None:
        """Hold the books: no row may be lost or counted twice."""
        assert self.rows == self.good + self.quarantined + self.dropped, f"rows lost in the gate of {self.node}: {self}"

    def __repr__(self) -> str:
        """Say what became of the rows, and by which checks.

        Examples
        --------
        >>> failed = CheckResult("unique:id", "unique", "quarantine", "warn", evaluated=3, failed=2)
        >>> GateReport("orders", (failed,), rows=3, good=1, quarantined=2)
        <GateReport orders: warn; 3 rows: 1 good, 2 quarantined, 0 dropped; warn: unique:id: 2 of 3 rows (quarantine)>
        """
        rows = f"{self.rows:,} rows: {self.good:,} good, {self.quarantined:,} quarantined, {self.dropped:,} dropped"
        told = [f"{c.status}: {c}" for c in self.checks if c.status != "pass"]
        return f"<GateReport {'; '.join([f'{self.node}: {self.status}', rows, *told])}>"

    @property
    def status(self) -> Status:
        """The worst status of the checks."""
        order: tuple[Status, ...] = ("fail", "warn", "pass")
        return next((s for s in order if any(c.status == s for c in self.checks)), "pass")

    @property
    def failed(self) -> Mapping[str, int]:
        """Failed rows per check; checks without failures are left out."""
        return {c.id: c.failed for c in self.checks if c.failed}

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        checks = [c.to_dict() for c in self.checks]
        counts = {"rows": self.rows, "good": self.good, "quarantined": self.quarantined, "dropped": self.dropped}
        return {"node": self.node, "status": self.status, **counts, "checks": checks}

    def to_frame(self) -> pl.DataFrame:
        """Return one row per check. All reports have the same columns."""
        return export.to_frame(self)

    def to_markdown(self) -> str:
        """Return the report as a Markdown table."""
        return export.to_markdown(self)

    def to_openlineage(self, **about: Any) -> dict[str, Any]:
        """Return the OpenLineage facets ``dataQualityAssertions`` and ``dataQualityMetrics``."""
        producer = {"producer": about["producer"]} if "producer" in about else {}
        assertions = export.data_quality_assertions(self, **producer)
        return {"dataQualityAssertions": assertions, "dataQualityMetrics": export.data_quality_metrics(self, **about)}

    def raise_for_status(self) -> None:
        """Raise GateError if a check failed."""
        broken = [str(c) for c in self.checks if c.status == "fail"]
        if broken:
            raise GateError(f"gate of {self.node!r} failed: " + "; ".join(broken))


def judge(check: Check, evaluated: int, failed: int, **found: Any) -> CheckResult:
    """Hold a count against the check's thresholds; ``found`` are further fields of the result."""
    return CheckResult(
        id=check.id,
        rule=check.rule,
        action=check.action,
        status=check.status(failed, evaluated),
        evaluated=evaluated,
        failed=failed,
        threshold=None if check.fail_above is None else str(check.fail_above),
        column=check.column,
        description=check.description,
        tags=check.tags,
        owner=check.owner,
        **found,
    )


def _key(group: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {v}" for k, v in group.items() if k != VALUE)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int):  # most are, and to ask whether something is a mapping takes long
        return value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)  # JSON has no NaN
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value)
