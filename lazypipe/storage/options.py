"""Storage options: Polars and fsspec read the same places, but name the settings differently.

Definitions may use either's names, or both; each gets its own, and none of the other's. Settings of which only one knows go to that one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from lazypipe.errors import StorageError

__all__ = ["for_fsspec", "for_polars"]

_S3 = {
    "key": ("aws_access_key_id", "access_key_id"),
    "secret": ("aws_secret_access_key", "secret_access_key"),
    "token": ("aws_session_token", "aws_token", "session_token"),
    "endpoint_url": ("aws_endpoint_url", "aws_endpoint", "endpoint"),
    "client_kwargs.region_name": ("aws_region", "aws_default_region", "region", "default_region"),
    "anon": ("aws_skip_signature", "skip_signature"),
}
_GCS = {
    "token": (
        "google_service_account",
        "google_service_account_path",
        "google_application_credentials",
        "service_account",
        "service_account_path",
        "application_credentials",
    ),
}
_AZURE = {
    "account_name": ("azure_storage_account_name",),
    "account_key": ("azure_storage_account_key", "azure_storage_access_key", "azure_storage_master_key", "access_key"),
    "sas_token": ("azure_storage_sas_token", "azure_storage_sas_key", "sas_key"),
    "client_id": ("azure_storage_client_id", "azure_client_id"),
    "client_secret": ("azure_storage_client_secret", "azure_client_secret"),
    "tenant_id": ("azure_storage_tenant_id", "azure_tenant_id", "azure_storage_authority_id", "authority_id"),
}
_PAIRS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("s3", "s3a"), _S3),
    **dict.fromkeys(("gs", "gcs"), _GCS),
    **dict.fromkeys(("az", "azure", "adl", "abfs", "abfss"), _AZURE),
}
"""Protocol → fsspec's name of a setting → Polars' names of it, the one that is written first."""

_NUMBERS: Mapping[str, Callable[[str], float]] = {
    **dict.fromkeys(
        (
            "file_cache_ttl",
            "max_retries",
            "retry_timeout_ms",
            "retry_init_backoff_ms",
            "retry_max_backoff_ms",
            *(f"rate_{way}_{what}" for way in ("read", "write") for what in ("init", "floor", "ceiling")),
        ),
        int,
    ),
    "retry_base_multiplier": float,
}
"""Settings of Polars' own client that it takes as numbers only; all others are texts."""

_CLIENT = frozenset(
    {
        *_NUMBERS,
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "http1_only",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "timeout",
        "user_agent",
        "virtual_hosted_style_request",
    }
)
"""Settings of Polars' own client, which fsspec's file systems would take for something else."""
_POLARS_ONLY = ("aws_", "azure_", "google_", "file_cache_")


def for_fsspec(protocol: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as the protocol's file system of fsspec takes them.

    Examples
    --------
    >>> for_fsspec("s3", {"aws_access_key_id": "k", "aws_region": "eu-1", "aws_allow_http": "true", "profile": "p"})
    {'key': 'k', 'client_kwargs': {'region_name': 'eu-1'}, 'profile': 'p'}
    """
    names = {polars: own for own, all_ in _PAIRS.get(protocol, {}).items() for polars in all_}
    found: dict[str, Any] = {}
    for name, value in options.items():
        own = names.get(name.lower())
        if own is not None:
            outer, _, inner = own.rpartition(".")
            given = str(value).lower() in ("true", "1", "yes") if own == "anon" else value
            if outer:
                found[outer] = {inner: given, **found.get(outer, {}), **options.get(outer, {})}
            else:
                found.setdefault(own, given)
        elif protocol in _PAIRS and name.lower() in ("google_service_account_key", "service_account_key"):
            found.setdefault("token", json.loads(value))
        elif protocol not in _PAIRS or not (name.lower() in _CLIENT or name.lower().startswith(_POLARS_ONLY)):
            found[name] = {**found.get(name, {}), **value} if isinstance(value, Mapping) else value
    if isinstance(found.get("auth"), list):  # user and password, for which clients of the web take nothing but a tuple
        found["auth"] = tuple(found["auth"])
    return found


def for_polars(protocol: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return options as Polars takes them, texts but for a few that are numbers; None if there are none.

    Raises
    ------
    StorageError
        If something else stands where Polars takes a number.

    Examples
    --------
    >>> for_polars("s3", {"key": "k", "client_kwargs": {"region_name": "eu-1"}, "anon": True, "max_retries": "3"})
    {'max_retries': 3, 'aws_access_key_id': 'k', 'aws_region': 'eu-1', 'aws_skip_signature': 'true'}
    """
    found = {n: _value(n, v) for n, v in options.items() if isinstance(v, str | bool | int | float)}
    for own, (first, *others) in _PAIRS.get(protocol, {}).items():
        outer, _, inner = own.rpartition(".")
        value = options.get(outer, {}).get(inner) if outer else options.get(own)
        if isinstance(value, str | bool) and not ({first, *others} & {n.lower() for n in found}):
            found = {n: v for n, v in found.items() if n != own} | {first: _text(value)}
        elif value is not None and own != first:
            found.pop(own, None)
    return found or None


def _value(name: str, value: object) -> str | float:
    """Return the value of a setting: a definition, or a command line, may give a number as text."""
    number = _NUMBERS.get(name)
    if number is None:
        return _text(value)
    try:
        return number(_text(value))
    except ValueError:
        what = f"storage_options: {name} is {value!r}"
        raise StorageError(what, fix=f"give a {'whole ' * (number is int)}number") from None


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
