"""Where a pipeline's runs are recorded: the definition's ``audit`` with absolute URIs and variables replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lazypipe.compile.sources.binding import expand_env
from lazypipe.compile.state import StateFolder
from lazypipe.spec.model import NOTHING, Fault, Pipeline
from lazypipe.storage import uri as uris

__all__ = ["BoundAudit", "bind_audit"]


@dataclass(frozen=True)
class BoundAudit:
    """Settings of the ledger. ``uri`` may hold values from the environment; ``key`` is one.

    ``hash_all`` says whether the content of files is hashed that are not on this machine.
    """

    mode: str
    uri: str = field(repr=False)
    storage_options: Mapping[str, Any] = field(default=NOTHING, repr=False)
    key: str | None = field(default=None, repr=False)
    actor: str | None = None
    hash_all: bool = False

    @property
    def is_on(self) -> bool:
        """Whether runs are recorded at all."""
        return self.mode != "off"


def bind_audit(
    pipeline: Pipeline, env: Mapping[str, str], state: StateFolder, faults: list[Fault]
) -> tuple[BoundAudit, list[uris.Secret]]:
    """Return the settings of a pipeline, and the values from the environment in them."""
    audit = pipeline.audit
    if audit.mode == "off":
        return BoundAudit("off", ""), []
    bound: dict[str, Any] = {}
    secrets: list[uris.Secret] = []
    for name in ("ledger", "key", "actor", "storage_options"):
        written = getattr(audit, name)
        try:
            bound[name], used = expand_env(written, env, ("audit", name))
        except Fault as fault:
            faults.append(fault)
            return BoundAudit("off", ""), []
        # an actor is there to be read; what signs is not
        secrets += used if name != "actor" else ()
        if name == "key" and written is not None and not used:
            # the value of an empty variable is not noted as a secret
            what = "the key is empty" if not bound["key"] else "the key that signs records is written in the definition"
            faults.append(Fault(what, "write key: ${LEDGER_KEY}, and set that variable", ("audit", "key")))
    where = uris.resolve(bound["ledger"], pipeline.base) if bound["ledger"] else state.join("ledger")
    options = bound["storage_options"] or ({} if bound["ledger"] else state.storage_options)
    return BoundAudit(audit.mode, where, options, bound["key"], bound["actor"], audit.hash == "all"), secrets
