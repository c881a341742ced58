"""The definition's ``openlineage``: where events about runs are sent, with absolute URIs and variables replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from lazypipe.compile.sources.binding import expand_env
from lazypipe.compile.state import StateFolder
from lazypipe.spec.model import NOTHING, Fault, Pipeline, freeze
from lazypipe.storage import uri as uris

__all__ = ["bind_openlineage", "endpoint_fault"]

_ENDPOINT = re.compile(r"https?://[^\s/?#\\]+[^\s\\]*", re.IGNORECASE)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FOR_ENDPOINTS = ("api_key", "headers", "spool", "timeout", "attempts")


def endpoint_fault(url: str, headers: Mapping[str, str]) -> Fault | None:
    """Return what is wrong with an endpoint or its headers; no value shows in it, for it may be a secret.

    Examples
    --------
    >>> print(endpoint_fault("ftp://host", {}))
    this is not the address of an endpoint
    >>> endpoint_fault("https://host:5000", {"X-Team": "data"})
    """
    if not _ENDPOINT.fullmatch(url) or not _has_host(url):
        return Fault("this is not the address of an endpoint", "write http:// or https://, and the host", ("url",))
    for name, value in headers.items():
        if not _HEADER.fullmatch(name):
            return Fault(f"{name!r} is not a header name", "use letters, digits and dashes", ("headers", name))
        if not (value.isprintable() and value.isascii()):
            what = f"the value of header {name!r} has characters that are not allowed in a header"
            return Fault(what, "use printable ASCII only", ("headers", name))
    return None


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is not a number
        return False


def bind_openlineage(
    pipeline: Pipeline, env: Mapping[str, str], state: StateFolder, faults: list[Fault]
) -> tuple[Mapping[str, Any], list[uris.Secret]]:
    """Return the settings for events, ready to be used, and the values of the variables in them."""
    given, at = pipeline.openlineage, ("openlineage",)
    bound: dict[str, Any] = {}
    secrets: list[uris.Secret] = []
    for key, value in given.items():
        try:
            bound[key], used = expand_env(value, env, (*at, key))
        except Fault as fault:
            faults.append(fault)
            return NOTHING, []
        secrets += used
    found: Fault | None = None
    if "url" in bound:
        found = endpoint_fault(bound["url"], bound.get("headers", NOTHING))
        if found is None and endpoint_fault(bound["url"], {"Authorization": bound.get("api_key", "")}) is not None:
            what = "the value of 'api_key' has characters that are not allowed in a header"
            found = Fault(what, "use printable ASCII only", ("api_key",))
        bound["spool"] = uris.resolve(bound["spool"], pipeline.base) if "spool" in bound else state.join("openlineage")
        if not uris.is_local(bound["spool"]):
            what = "events that cannot be sent are kept in a folder on this machine, and this is not one"
            found = found or Fault(what, "write spool: a local folder", ("spool",) if "spool" in given else ())
    else:
        lone = next((k for k in _FOR_ENDPOINTS if k in bound), None)
        if lone is not None:
            found = Fault(f"{lone!r} needs an endpoint, and there is none", "add url", (lone,))
    if found is not None:
        faults.append(Fault(found.what, found.fix, (*at, *found.path)))
        return NOTHING, secrets
    if "file" in bound:
        bound["file"] = uris.resolve(bound["file"], pipeline.base)
    frozen: Mapping[str, Any] = freeze(bound)
    return frozen, secrets
