"""The generic tests and constraints of dbt's property files (``schema.yml``) as rules.

A test fails in dbt when its query returns rows, which ``warn_if`` and ``error_if`` count. ``unique`` and
``accepted_values`` return a row per *value*, not per row of the table: with a limit over 0 (and no ``fail_calc``) the rule,
which counts rows, is stricter, and that is noted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from lazypipe.contracts import dbt_expectations, dbt_utils, sqltext, types
from lazypipe.contracts.contract import Column, Contract, Written, foreign_key, joined, made
from lazypipe.contracts.dbt_given import (
    NAME,
    PERIODS,
    Given,
    Reader,
    Readers,
    column_of,
    condition_of,
    referred,
    unquoted,
)
from lazypipe.contracts.document import Node, Source, read
from lazypipe.sql.text import SqlError

__all__ = ["from_dbt"]

_SECTIONS = ("models", "seeds", "snapshots", "sources")
_OTHERS = {
    "version",
    "macros",
    "exposures",
    "metrics",
    "groups",
    "semantic_models",
    "saved_queries",
    "anchors",
    *_SECTIONS,
}


def from_dbt(source: Source) -> Contract:
    """Import a dbt property file: tests of models, sources, seeds and snapshots, and the constraints of contracts.

    ``unique``, ``not_null``, ``accepted_values`` and ``relationships`` keep dbt's semantics: all but ``not_null`` ignore nulls. ``where``, ``severity``,
    ``warn_if`` and ``error_if`` become ``where``, ``action``, ``warn_above`` and ``max_failures``. The tests of ``dbt_utils`` and ``dbt_expectations`` that
    look at rows are supported too. The ``freshness`` of a source becomes a rule if it is given by a column.

    Other tests, unit tests and snapshot strategies are in ``unmapped``, as are tests that are disabled, that can never fail because of their
    ``limit``, or whose result depends on templates.

    Raises
    ------
    DefinitionError
        If the document is not a property file, or a test lacks an argument: with every mistake.

    Examples
    --------
    >>> contract = from_dbt('''
    ... models:
    ...   - name: orders
    ...     columns:
    ...       - name: status
    ...         data_tests: [not_null, accepted_values: {values: [new, done], config: {severity: warn}}]
    ... ''')
    >>> contract.rules["orders"]
    ({'not_null': 'status'}, {'in_set': {'column': 'status', 'values': ['new', 'done'], 'action': 'warn'}})
    """
    document = read(source)
    root = document.root("property file of dbt")
    if not any(section in root for section in _SECTIONS):
        root.fault("there are no models, sources, seeds or snapshots", "add models: a list of {name, columns}")
    version = root.value.get("version")
    if version is not None and version not in (2, "2"):
        root.fault(f"version {version!r} cannot be read", "write version: 2", "version")
    for key in root.value:
        if key == "unit_tests":
            root.unmapped(key, "they give rows and expect rows; run the pipeline over such files in a test", key)
        elif key not in _OTHERS:
            root.unmapped(key, "it holds no tests of tables", key)
    rules: dict[str, list[Written]] = {}
    columns: dict[str, dict[str, Column]] = {}
    for node, source_of in list(_tables(root)):
        name = str(node.table)
        if name in rules:
            node.fault(f"two tables are called {name!r}", "rename one of them", "name")
        rules[name], columns[name] = [], {}
        if _disabled(node, source_of):
            node.unmapped("the table", "it is disabled (enabled: false), so dbt runs none of its tests")
            continue
        _table(node, rules[name], columns[name])
        rules[name].extend(_freshness(node, source_of))
        _snapshot(node)
    document.finish()
    return Contract(
        "dbt",
        {name: tuple(found) for name, found in rules.items()},
        {name: found for name, found in columns.items() if found},
        tuple(document.unmapped),
        tuple(document.notes),
    )


def _tables(root: Node) -> Iterable[tuple[Node, Node | None]]:
    """Yield the tables with their sources, each under its name here: two with one name get that of the source, too."""
    plain = [n for section in ("models", "seeds", "snapshots") for n in root.children(section)]
    of_sources = [(s, t) for s in root.children("sources") for t in s.children("tables")]
    names = Counter(str(n.value.get("name")) for n in (*plain, *(t for _, t in of_sources)))
    for node in plain:
        yield node.about(node.need("name", "text") or ""), None
    for source, node in of_sources:
        group, name = source.need("name", "text") or "", node.need("name", "text") or ""
        yield node.about(f"{group}_{name}" if names[name] > 1 else name), source


def _disabled(node: Node, source: Node | None) -> bool:
    """Whether dbt leaves a table out; what it does not say holds as its source says it."""
    enabled: Any = True
    for place in (*((source, source.child("config")) if source is not None else ()), node, node.child("config")):
        if _template(place.value.get("enabled")):
            place.note("enabled", f"it {_TEMPLATE}: the tests are taken over", "enabled")
        else:
            enabled = place.value.get("enabled", enabled)
    return enabled is False


_TEMPLATE = "holds a template, which only dbt can fill in"


def _template(value: Any) -> bool:
    """Whether there is a template in a value, or in a list of them."""
    return any(map(_template, value)) if isinstance(value, list) else isinstance(value, str) and "{{" in value


def _table(node: Node, rules: list[Written], columns: dict[str, Column]) -> None:
    if "versions" in node:
        node.unmapped("versions", "write the tests of each version at a model of its own", "versions")
    for test, written in _tests(node):
        rules.extend(_test(test, written))
    rules.extend(_constraints(node))
    for each in node.children("columns"):
        name = each.need("name", "text") or ""
        column = each.about(node.table, name)
        written_type = column.text("data_type")
        dtype = types.from_physical(written_type) if written_type is not None else None
        if written_type is not None and dtype is None:
            column.unmapped(
                f"the type {written_type!r}",
                "no type is known by that, so no type of the table is declared",
                "data_type",
            )
        columns[name] = Column(dtype, _tags(column), column.text("description"))
        for test, written in _tests(column):
            rules.extend(_test(test, written))
        rules.extend(_constraints(column))


def _freshness(node: Node, source: Node | None) -> Iterable[Written]:
    """Yield the rules on how old a table of a source may be; what it does not say holds as its source says it."""
    limits: dict[str, Node] = {}  # freshness setting → where it is written
    field = None
    for place in () if source is None else (source, source.child("config"), node, node.child("config")):
        field = place.text("loaded_at_field") or field
        if "freshness" in place.value:
            given = place.child("freshness")
            limits = {**limits, **dict.fromkeys(given.value, given)} if "freshness" in place else {}
    condition = limits["filter"].text("filter") if "filter" in limits else None
    what = "the freshness"
    for key, action in (("error_after", None), ("warn_after", "warn")):
        limit = limits[key].about(node.table).child(key) if key in limits else node.child("")
        if "count" not in limit:
            continue  # dbt takes an empty limit for none
        count, period = limit.get("count", "integer"), str(limit.value.get("period"))
        if count is None or period not in PERIODS:
            limit.fault(
                "a limit of freshness is a count and a period", "write {count: 12, period: hour}, minute or day"
            )
        elif field is None:
            limit.unmapped(what, "no column says when rows were loaded (loaded_at_field)")
        elif not re.fullmatch(NAME, field):
            limit.unmapped(what, f"{field!r} is not a column; derive it in a stage")
        elif condition is not None and (why := sqltext.problem(condition)):
            limit.unmapped(what, f"its filter cannot be taken over: {why}")
        else:
            limit.note(what, "a table without rows passes; dbt takes it for infinitely old")
            arguments = {"column": field.strip('"'), "within": f"{count}{PERIODS[period]}"}
            yield made("freshness", arguments, {"where": condition, "action": action})


def _snapshot(node: Node) -> None:
    """Say what the table of a snapshot is written as: that is a matter of outputs."""
    config = {**node.value, **node.child("config").value} if node.path[:1] == ("snapshots",) else {}
    if "strategy" not in config:
        return
    key = config.get("unique_key", "…")
    words = ["mode: scd2", f"key: [{', '.join(map(str, key))}]" if isinstance(key, list) else f"key: {key}"]
    if config["strategy"] == "timestamp":
        words.append(f"event_time: {config.get('updated_at', '…')}")
    if config.get("invalidate_hard_deletes") or config.get("hard_deletes") in ("invalidate", "new_record"):
        words.append("deletes: close")
    node.unmapped("the snapshot", f"an output keeps the versions of its rows: {', '.join(words)}")


def _tags(column: Node) -> tuple[str, ...]:
    config = column.child("config")
    meta = {**column.child("meta").value, **config.child("meta").value}
    marked = [key for key, value in meta.items() if value is True]
    classes = [str(meta[key]) for key in ("classification", "sensitivity") if isinstance(meta.get(key), str)]
    words = (*column.texts("tags"), *config.texts("tags"), *column.texts("policy_tags"), *marked, *classes)
    return tuple(dict.fromkeys("pii" if word.lower() in ("contains_pii", "is_pii") else word for word in words))


# tests


def _tests(node: Node) -> Iterable[tuple[Node, Any]]:
    """Yield the tests of a table or a column, each at its place; ``tests`` is the older word for ``data_tests``."""
    for key in ("data_tests", "tests"):
        for index, written in enumerate(node.get(key, "list") or ()):
            yield Node({}, (*node.path, key, index), node.document, node.table, node.column), written


_CONFIGS = {
    "where",
    "severity",
    "warn_if",
    "error_if",
    "fail_calc",
    "enabled",
    "tags",
    "meta",
    # how failures are kept, not what is one
    "store_failures",
    "store_failures_as",
    "schema",
    "database",
    "alias",
    "group",
    "limit",
    "sql_header",
    "docs",
}
_DECISIVE = ("enabled", "severity", "warn_if", "error_if", "fail_calc", "limit")
"""Configs on which it depends whether a test fails; ``where`` says itself why it cannot be taken over."""
_NAMED = ("to", "compare_model", "expression", "from_condition", "to_condition")
"""Arguments that name a table, or are SQL, and say themselves why they cannot be taken over."""
_AROUND = ("config", "arguments", "name", "description", "test_name", "tags", "meta", "column_name")


def _test(node: Node, written: Any) -> Iterable[Written]:
    """Return the rules of one test; what has none is noted."""
    given: Any
    match written:
        case str(name):
            given = {}
        case {"test_name": str(name), **rest}:
            given = rest
        case dict() if len(written) == 1:
            ((name, given),) = written.items()
        case _:
            node.fault(
                "a test is its name, or one name with its arguments", "write e.g. unique, or unique: {config: …}"
            )
            return []
    if not isinstance(given, dict | None):
        node.fault(f"the arguments of {name} must be a mapping", "write argument: value")
        return []
    inside = node.path if isinstance(written, str) or "test_name" in written else (*node.path, name)
    whole = Node(given or {}, inside, node.document, node.table, node.column)
    flat = {k: v for k, v in whole.value.items() if k not in _CONFIGS or k in ("tags", "meta")}
    config = {**{k: v for k, v in whole.value.items() if k in _CONFIGS}, **whole.child("config").value}
    arguments = {**flat, **whole.child("arguments").value}
    column = arguments.get("column_name", node.column)
    place = Node(arguments, inside, node.document, node.table, column)
    reader = _READERS.get(name.removeprefix("dbt."))
    if reader is None:
        why = _WITHOUT_RULE.get(name, "it is no generic test of dbt; write an expression")
        place.unmapped(f"the test {name}", why)
        return []
    read_it, known, per_value = reader
    decisive = {k: arguments.get(k) for k in known if k not in _NAMED} | {k: config.get(k) for k in _DECISIVE}
    if templates := [k for k, v in decisive.items() if _template(v)]:
        place.unmapped(f"the test {name}", f"its {templates[0]} {_TEMPLATE}")
        return []
    configs = Node(config, inside, node.document, node.table, column)
    if not configs.flag("enabled", default=True):
        place.unmapped(f"the test {name}", "it is disabled (enabled: false)")
        return []
    if strange := [key for key in arguments if key not in (*known, *_AROUND)]:
        place.unmapped(f"the test {name}", f"its argument {strange[0]!r} is not known, and may change what it means")
        return []
    common = _common(configs, name, per_value=per_value)
    if common is None:
        return []
    common["id"] = whole.text("name")
    common["description"] = place.text("description")
    try:
        return list(read_it(Given(name, place, common)))
    except SqlError as error:
        place.unmapped(f"the test {name}", str(error))
        return []


def _common(config: Node, name: str, *, per_value: bool) -> dict[str, Any] | None:
    for key in config.value:
        if key not in _CONFIGS:
            config.note(f"{key} of {name}", "it is not known, and changes nothing here", key)
    condition = config.text("where")
    if condition is not None and (why := sqltext.problem(condition)):
        config.unmapped(f"the test {name}", f"its where cannot be taken over: {why}")
        return None
    severity = (config.text("severity") or "error").lower()
    if severity not in ("error", "warn"):
        config.fault(f"unknown severity {severity!r}", "write error or warn")
        return None
    limits: dict[str, int | None] = {"warn_above": None, "max_failures": None}
    # dbt does not look at error_if where it is to warn only
    for key, argument in (("warn_if", "warn_above"), ("error_if", "max_failures"))[: 1 if severity == "warn" else 2]:
        try:
            limits[argument] = _limit(config.text(key))
        except ValueError:
            config.unmapped(f"{key} of {name}: {config.value[key]!r}", "a limit is > or >= a number of rows, or != 0")
            return None
    if severity != "warn" and (limits["warn_above"] or 0) > (limits["max_failures"] or 0):
        limits["warn_above"] = None  # dbt asks for an error first: there is nothing left to warn of
    most = config.get("limit", "integer")
    if most is not None and max(limits["warn_above"] or 0, limits["max_failures"] or 0) >= most:
        config.unmapped(f"the test {name}", f"with limit: {most}, dbt never counts as many failures as it allows")
        return None
    if most is not None:
        config.note(f"limit of {name}", f"dbt counts {most} failures at most, the rule counts all")
    if config.value.get("store_failures") is True or config.value.get("store_failures_as") in ("table", "view"):
        config.note(f"store_failures of {name}", "a rule keeps the rows that fail with action: quarantine")
    calculated = (config.text("fail_calc") or "count(*)").lower().replace(" ", "")
    rows = "sum(n_records)" if per_value else "count(*)"
    if calculated not in ("count(*)", rows):
        config.unmapped(f"the test {name}", f"its failures are counted by {calculated}")
        return None
    if any(limits.values()) and calculated != rows:
        config.note(f"the test {name}", "dbt counts the wrong values, the rule counts their rows")
    return {
        "where": condition,
        "action": "warn" if severity == "warn" else None,
        **limits,
        "tags": list(config.texts("tags")) or None,
    }


def _limit(written: str | None) -> int | None:
    """Return how many failures a threshold allows; None for none, which is the default. Raises ValueError."""
    match = re.fullmatch(r"\s*(>=|>|!=|<>)\s*(\d+)\s*", written or "!= 0")
    if match is None or (match[1] in ("!=", "<>") and match[2] != "0") or (match[1] == ">=" and match[2] == "0"):
        raise ValueError(written)
    allowed = int(match[2]) - (match[1] == ">=")
    return allowed or None


def _on_column(name: str) -> Reader:
    def read_it(test: Given) -> Iterable[Written]:
        if column := column_of(test):
            yield made(name, {"columns": [column]}, test.common)

    return read_it


def _of_values(rule: str) -> Reader:
    def read_it(test: Given) -> Iterable[Written]:
        return _values(rule, test)

    return read_it


def _values(rule: str, test: Given) -> Iterable[Written]:
    column, values = column_of(test), test.need("values", "list")
    if column is None or values is None:
        return
    values = [v for v in values if v is not None]
    if test.arguments.value.get("quote") is False:
        values = [unquoted(v) for v in values]
    elif any(not isinstance(v, str) for v in values):
        note = "what is no text is compared as it is, dbt puts it in quotes: do that where the column is text"
        test.arguments.note(f"the test {test.name}", note)
    if not values or any(isinstance(v, dict | list) for v in values):
        test.arguments.fault("values must be texts, numbers, true or false", "list at least one", "values")
        return
    yield made(rule, {"column": column, "values": values}, test.common)


def _relationships(test: Given) -> Iterable[Written]:
    column, to, field = column_of(test), test.need("to", "text"), test.need("field", "text")
    if column is None or to is None or field is None:
        return
    name = referred(to)
    if name is None and not re.fullmatch(r"\w+", to):
        test.arguments.unmapped(f"the test {test.name}", f"{to!r} is no ref() or source()", "to")
        return
    common = dict(test.common)
    if extra := test.arguments.text("from_condition"):
        common["where"] = joined([common["where"], condition_of(extra)])
    if "to_condition" in test.arguments:
        test.arguments.unmapped(f"the test {test.name}", "to_condition needs a stage that filters", "to_condition")
        return
    yield foreign_key([column], name or to, [field.strip('"')], common)


_READERS: Readers = {
    "unique": (_on_column("unique"), (), True),
    "not_null": (_on_column("not_null"), (), False),
    "accepted_values": (_of_values("in_set"), ("values", "quote"), True),
    "relationships": (_relationships, ("to", "field"), False),
    # what dbt_utils had before where was for all tests, and tests of the same form
    "dbt_utils.unique_where": (_on_column("unique"), (), True),
    "dbt_utils.not_null_where": (_on_column("not_null"), (), False),
    "dbt_utils.not_accepted_values": (_of_values("not_in_set"), ("values", "quote"), True),
    "dbt_utils.relationships_where": (_relationships, ("to", "field", "from_condition", "to_condition"), False),
    **dbt_utils.READERS,
    **dbt_expectations.READERS,
}
_WITHOUT_RULE = {**dbt_utils.WITHOUT_RULE, **dbt_expectations.WITHOUT_RULE}


# constraints of model contracts


def _constraints(node: Node) -> Iterable[Written]:
    for each in node.children("constraints"):
        kind = each.need("type", "text")
        common = {"id": each.text("name")}
        columns = list(each.texts("columns")) or ([] if node.column is None else [node.column])
        if kind in ("not_null", "unique", "primary_key", "foreign_key") and not columns:
            each.fault(f"the constraint {kind} of a table needs columns", "add columns: [a, b]")
        elif kind in ("not_null", "unique", "primary_key"):
            yield made(kind, {"columns": columns}, common)
        elif kind == "foreign_key":
            yield from _foreign_key(each, columns, common)
        elif kind == "check":
            yield from _check(each, common)
        elif kind is not None:
            each.unmapped(f"the constraint {kind}", "only the database knows it")


def _check(each: Node, common: Mapping[str, Any]) -> Iterable[Written]:
    expression = each.need("expression", "text")
    if expression is None:
        return
    if why := sqltext.problem(expression):
        each.unmapped("the constraint check", why)
    else:
        yield made("expression", {"condition": expression}, common)


def _foreign_key(each: Node, columns: list[str], common: Mapping[str, Any]) -> Iterable[Written]:
    to, others = referred(each.text("to")), list(each.texts("to_columns"))
    if written := re.fullmatch(r'([\w."]+)\s*\(([^()]+)\)', each.text("expression") or ""):
        to = written[1].rpartition(".")[2].strip('"')
        others = [c.strip(' "') for c in written[2].split(",")]
    if to is None or len(others) != len(columns):
        each.unmapped("the constraint foreign_key", "it does not say which columns of which table")
        return
    yield foreign_key(columns, to, others, common)
