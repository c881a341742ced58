"""What a gate found: per check the rows evaluated and failed, and the fate of every row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lazypipe.errors import GateError
from lazypipe.gates.rule import Action, Check

__all__ = ["CheckResult", "GateReport"]

Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class CheckResult:
    """One check's outcome. ``evaluated`` are the rows that ``where`` let through to it."""

    id: str
    rule: str
    action: Action
    status: Status
    evaluated: int
    failed: int
    threshold: str | None = None

    @property
    def fraction(self) -> float:
        """The failed part of the evaluated rows; 0 where there were none."""
        return self.failed / self.evaluated if self.evaluated else 0.0

    def __str__(self) -> str:
        limit = f", allowed {self.threshold}" if self.threshold else ""
        return f"{self.id}: {self.failed:,} of {self.evaluated:,} rows{limit} ({self.action})"


@dataclass(frozen=True)
class GateReport:
    """A gate's outcome: ``rows`` came in; each is good, quarantined or dropped, and nothing else."""

    node: str
    checks: tuple[CheckResult, ...]
    rows: int
    good: int
    quarantined: int = 0
    dropped: int = 0

    def __post_init__(self) -> None:
        """Hold the books: no row may be lost or counted twice."""
        assert self.rows == self.good + self.quarantined + self.dropped, f"rows lost in the gate of {self.node}: {self}"

    @property
    def status(self) -> Status:
        """The worst of the checks."""
        order: tuple[Status, ...] = ("fail", "warn", "pass")
        return next((s for s in order if any(c.status == s for c in self.checks)), "pass")

    @property
    def failed(self) -> Mapping[str, int]:
        """Failed rows per check, those without any left out."""
        return {c.id: c.failed for c in self.checks if c.failed}

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        checks = [asdict(c) | {"fraction": c.fraction} for c in self.checks]
        return asdict(self) | {"status": self.status, "checks": checks}

    def raise_for_status(self) -> None:
        """Raise GateError if a check failed."""
        broken = [str(c) for c in self.checks if c.status == "fail"]
        if broken:
            raise GateError(f"gate of {self.node!r} failed: " + "; ".join(broken))


def judge(check: Check, evaluated: int, failed: int) -> CheckResult:
    """Hold a count against the check's thresholds."""
    return CheckResult(
        id=check.id,
        rule=check.rule,
        action=check.action,
        status=check.status(failed, evaluated),
        evaluated=evaluated,
        failed=failed,
        threshold=None if check.fail_above is None else str(check.fail_above),
    )
