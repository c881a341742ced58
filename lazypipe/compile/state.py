"""The folder where a pipeline keeps what is not one of its outputs: run records, and the quarantine of its sources and inner stages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lazypipe.compile.sources.binding import expand_env
from lazypipe.spec.loader import problems
from lazypipe.spec.model import NOTHING, Fault, Pipeline
from lazypipe.storage import uri as uris

if TYPE_CHECKING:
    from lazypipe.storage.datasets.dataset import Dataset

__all__ = ["StateFolder", "bind_state", "state_of"]


@dataclass(frozen=True)
class StateFolder:
    """The definition's ``state``, with a whole URI and variables replaced; other pipelines may have the same."""

    pipeline: str
    uri: str = field(repr=False)
    storage_options: Mapping[str, Any] = field(default=NOTHING, repr=False)

    def join(self, *parts: str) -> str:
        """Return the URI of something in the folder."""
        return uris.join(self.uri, *parts)

    def place(self, kind: str, name: str) -> str:
        """Return where this pipeline keeps something of a source or stage; another one with the same state may have nodes of the same names.

        Examples
        --------
        >>> StateFolder("shop", "/p/.lazypipe").place("quarantine", "orders")
        '/p/.lazypipe/quarantine/shop/orders'
        >>> StateFolder("../a b", "/p/.lazypipe").place("shared", "orders")
        '/p/.lazypipe/shared/%2E%2E%2Fa%20b/orders'
        """
        folder = quote(self.pipeline, safe="")
        return self.join(kind, folder.replace(".", "%2E") if folder.startswith(".") else folder, name)

    def dataset(self, kind: str, name: str) -> Dataset:
        """Return the dataset there."""
        from lazypipe.storage.datasets.dataset import Dataset

        return Dataset(self.place(kind, name), self.storage_options)


def bind_state(
    pipeline: Pipeline, env: Mapping[str, str], faults: list[Fault]
) -> tuple[StateFolder, list[uris.Secret]]:
    """Return the state folder of a pipeline, and the values from the environment in it."""
    try:
        uri, used = expand_env(pipeline.state, env, ("state",))
        options, more = expand_env(pipeline.state_options, env, ("state", "storage_options"))
    except Fault as fault:
        faults.append(fault)
        return StateFolder(pipeline.name, ""), []
    return StateFolder(pipeline.name, uris.resolve(uri, pipeline.base), options), [*used, *more]


def state_of(pipeline: Pipeline) -> StateFolder:
    """Return the state folder of a pipeline in the environment of this process; raises DefinitionError if a variable is not set."""
    faults: list[Fault] = []
    found, _ = bind_state(pipeline, os.environ, faults)
    if faults:
        raise problems(faults, pipeline.origin)
    return found
