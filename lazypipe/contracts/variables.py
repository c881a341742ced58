"""Variables in the texts of a contract, ``${NAME}`` and ``${NAME:-otherwise}``, as ODCS has them from v3.2 on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lazypipe.spec.model import Fault, Path

__all__ = ["resolved"]

_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}")
_PLACEHOLDERS = ("object", "table", "schema", "model", "property", "column", "field")
"""Words that queries use for the table and the column that they stand at: no variables."""


def resolved(data: Any, variables: Mapping[str, str], path: Path, faults: list[Fault]) -> Any:
    """Return data with the values of variables in its texts; notes a mistake for each one without a value.

    One that is empty counts as not given, as the standard has it.

    Examples
    --------
    >>> faults = []
    >>> resolved({"query": "FROM ${SCHEMA:-public}.${TABLE} WHERE {property} > 0"}, {"TABLE": "orders"}, (), faults)
    {'query': 'FROM public.orders WHERE {property} > 0'}
    >>> resolved(["${DAY}"], {}, ("schema",), faults), faults[0].what
    (['${DAY}'], 'the variable DAY has no value')
    """
    if isinstance(data, str):
        return _REFERENCE.sub(lambda m: _value(m, variables, path, faults), data)
    if isinstance(data, dict):
        return {key: resolved(value, variables, (*path, key), faults) for key, value in data.items()}
    if isinstance(data, list):
        return [resolved(value, variables, (*path, index), faults) for index, value in enumerate(data)]
    return data


def _value(match: re.Match[str], variables: Mapping[str, str], path: Path, faults: list[Fault]) -> str:
    name, otherwise = match.groups()
    if name in _PLACEHOLDERS and otherwise is None:
        return match[0]
    if found := variables.get(name) or otherwise:
        return found
    fix = f"set {name} in the environment, pass variables={{{name!r}: …}}, or write ${{{name}:-otherwise}}"
    faults.append(Fault(f"the variable {name} has no value", fix, path))
    return match[0]
