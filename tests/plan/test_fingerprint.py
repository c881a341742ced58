"""Fingerprints of whole pipelines: what changes them, what does not, and what is then to be built anew."""

from __future__ import annotations

import cProfile
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pytest

import lazypipe as lp
from lazypipe.plan.fingerprint import Changes, Fingerprint

OTHER_SEED = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
"""Of hashes, in another process than this one."""
SHOP = """
version: 1
name: shop
params:
  since: {type: date, default: 2024-01-01}
sources:
  orders:
    uri: orders-*.parquet
    contract: {columns: {id: Int64, customer: String, mail: String, amount: Float64, day: Date, note: String}}
    gate:
      - not_null: {columns: id, action: quarantine}
      - between: {column: amount, min: 0, action: repair, repair: {clip: true}}
  customers:
    uri: customers.csv
    contract: {columns: {name: String, segment: String, phone: String}}
stages:
  enriched:
    from: orders
    do:
      - filter: day > :since AND note IS NOT NULL
      - derive: {net: amount / 1.19, who: "upper(customer)"}
      - join: {with: customers, left_on: customer, right_on: name, how: left, columns: [segment]}
    gate:
      - between: {column: net, max: 1000, action: drop, id: not_too_much}
      - expression: {condition: "length(mail) > 3", id: mail_is_long, action: warn}
  daily:
    from: enriched
    do:
      - aggregate: {by: [day, segment], aggregate: {orders: count(*), revenue: sum(net), mails: count(mail)}}
      - sort: [day, segment]
    gate: [{row_count: {min: 1, id: some_days}}]
  mails:
    from: enriched
    do: [{aggregate: {by: [day], aggregate: {mails: count(mail)}}}]
outputs:
  enriched: {to: out/enriched}
  per_day: {from: daily, to: out/daily}
  mails: {to: out/mails}
"""


def plan(text: str = SHOP, base: str = "/base", **given: Any) -> lp.Plan:
    return lp.Pipeline.from_yaml(text, base=base).compile(**given)


def edited(*edits: tuple[str, str]) -> lp.Plan:
    text = SHOP
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return plan(text)


@cache
def before() -> Mapping[str, Fingerprint]:
    return plan().fingerprints()


def test_every_source_stage_and_output_has_one() -> None:
    assert list(before()) == ["orders", "customers", "enriched", "daily", "mails", "per_day"]
    assert before()["per_day"] == before()["daily"]
    assert {n: list(before()[n].columns) for n in COLUMNS} == COLUMNS
    assert before()["daily"].order is not None
    assert before()["enriched"].order is None
    hashes = [h for f in before().values() for h in (f.rows, f.whole, f.gate, *f.columns.values())]
    assert {len(h) for h in hashes} == {64}
    assert plan().changed_since(before()).same
    assert plan().changed_since(plan()).same


@pytest.mark.parametrize(
    "edits",
    [
        [("stages:", "# a comment\nstages:")],
        [("note IS NOT NULL", "(note is  not null) -- always")],
        [("day > :since AND note IS NOT NULL", "note IS NOT NULL AND day > :since")],
        [("- filter: day > :since AND note IS NOT NULL", "- filter: day > :since\n      - filter: note IS NOT NULL")],
        [('{net: amount / 1.19, who: "upper(customer)"}', '{who: "upper(customer)", net: amount / 1.19}')],
        [('- derive: {net: amount / 1.19, who: "upper(customer)"}', '- derive: {net: amount / 1.19}\n      - derive: {who: "upper(customer)"}')],
        [("customers:", "clients:"), ("with: customers", "with: clients")],
        [("from: enriched", "from: rich"), ("enriched:\n    from: orders", "rich:\n    from: orders"), ("enriched: {to", "enriched: {from: rich, to")],
        [("{by: [day, segment], aggregate", "{by: [segment, day], aggregate")],
        [("version: 1", "version: 1\ndescription: about shops")],
        [("to: out/daily", "to: out/daily, partition_by: [day]")],
        [("id: not_too_much", "id: not_too_much, description: dear ones, owner: me")],
        [("action: drop", "action: quarantine")],
        [("phone: String", "phone: String, fax: String")],
        [("enriched:\n    from: orders", "first: {from: orders, do: []}\n  enriched:\n    from: first")],
    ],
)  # fmt: skip
def test_what_means_the_same_is_the_same(edits: list[tuple[str, str]]) -> None:
    after = edited(*edits).fingerprints()
    for name in ("enriched", "per_day", "mails"):
        assert after[name].whole == before()[name].whole


def same(after: lp.Plan) -> set[str]:
    """Return the outputs, and their columns, that hold the same as before."""
    found = set()
    for name in ("enriched", "per_day", "mails"):
        changes = after.fingerprints()[name].changes(before()[name])
        if not (changes.rows or changes.order):
            found |= {f"{name}.{c}" for c in before()[name].columns if c not in (*changes.columns, *changes.removed)}
    return found


COLUMNS = {
    "enriched": ["id", "customer", "mail", "amount", "day", "note", "net", "who", "segment"],
    "per_day": ["day", "segment", "orders", "revenue", "mails"],
    "mails": ["day", "mails"],
}
ALL = {f"{n}.{c}" for n, columns in COLUMNS.items() for c in columns}


@pytest.mark.parametrize(
    ("edits", "changed"),
    [
        ([("amount / 1.19", "amount / 1.2")], ALL),  # the gate takes rows out by it
        ([("upper(customer)", "lower(customer)")], {"enriched.who"}),
        ([("sum(net)", "avg(net)")], {"per_day.revenue"}),
        ([("mails: count(mail)}}\n      - sort", "mails: count(id)}}\n      - sort")], {"per_day.mails"}),
        ([("- sort: [day, segment]", "- sort: [day, segment DESC]")], {c for c in ALL if c.startswith("per_day")}),
        ([("day > :since", "day >= :since")], ALL),
        ([("default: 2024-01-01", "default: 2024-01-02")], ALL),
        ([("how: left", "how: inner")], ALL),
        ([("orders-*.parquet", "orders2-*.parquet")], ALL),
        ([("customers.csv", "people.csv")], ALL),
        ([("max: 1000", "max: 1001")], ALL),
        ([("min: 0,", "min: 1,")], ALL),
        ([("segment: String", "segment: Categorical")], {"enriched.segment", *(c for c in ALL if c.startswith("per_day"))}),
        ([("by: [day], aggregate", "by: [day, id], aggregate")], {c for c in ALL if c.startswith("mails")}),
    ],
)  # fmt: skip
def test_what_means_something_else_changes_just_what_reads_it(edits: list[tuple[str, str]], changed: set[str]) -> None:
    assert same(edited(*edits)) == ALL - changed


def test_a_new_column_leaves_the_others_as_they_are() -> None:
    after = edited(("{net: amount / 1.19,", "{net: amount / 1.19, gross: amount,"))
    changes = after.fingerprints()["enriched"].changes(before()["enriched"])
    assert changes == Changes(added=("gross",))
    assert same(after) == ALL
    assert str(after.changed_since(before())) == "enriched.gross: new"


def test_rules_that_only_judge_change_the_gate_and_nothing_else() -> None:
    for edit in (("length(mail) > 3", "length(mail) > 4"), ("action: warn", "action: fail"), ("action: warn", "action: warn, max_failures: 3"),
                 ("id: mail_is_long", "id: other")):  # fmt: skip
        after = edited(edit)
        assert after.fingerprints()["enriched"].changes(before()["enriched"]) == Changes(gate=True)
        assert str(after.changed_since(before())) == "enriched: its rules changed"
        assert same(after) == ALL
    more = edited(("{min: 1, id: some_days}", "{min: 2, id: some_days}")).changed_since(before())
    assert [a.name for a in more.affected] == ["daily", "per_day"]
    assert more.of("daily").gate
    assert not more.of("daily").data
    assert more.of("mails").same


def test_a_join_that_must_be_unique_is_a_rule_too() -> None:
    after = edited(("how: left,", "how: left, validate: m:1,"))
    assert after.fingerprints()["enriched"].changes(before()["enriched"]) == Changes(gate=True)


def test_reasons_name_what_changed_first() -> None:
    assert str(edited(("sum(net)", "avg(net)")).changed_since(before())) == (
        "daily.revenue: its expression changed\nper_day.revenue: its expression changed"
    )
    after = edited(("note IS NOT NULL", "note IS NULL")).changed_since(before())
    said = {a.name: a.reasons for a in after.affected}
    assert said["enriched"] == ("enriched: its filter, join or grouping changed",)
    assert said["daily"] == ("daily: the rows of enriched changed",)
    assert after.of("customers").same
    away = edited(("customers.csv", "people.csv")).changed_since(before())
    assert {a.name: a.reasons[0] for a in away.affected}["customers"] == "customers: the source changed"
    types = edited(("amount: Float64", "amount: Int64")).changed_since(before())
    assert {a.name: a.reasons for a in types.affected}["orders"][0] == "orders.amount: it is read in another way"
    assert {a.name: a.reasons for a in types.affected}["enriched"][0] == "enriched: orders.amount changed"
    order = edited(("- sort: [day, segment]", "- sort: [segment, day]")).changed_since(before())
    assert str(order) == "daily: its order changed\nper_day: its order changed"


def test_what_is_new_gone_or_renamed() -> None:
    text = SHOP.replace("  mails:\n    from: enriched", "  letters:\n    from: enriched").replace(
        "mails: {to", "letters: {to"
    )
    after = plan(text).changed_since(before())
    assert after.renamed == (("letters", "mails"),)
    assert after.same
    assert str(after) == "letters: was called mails"
    other = plan(text.replace("mails: count(mail)}}}]", "mails: count(id)}}}]")).changed_since(before())
    assert (other.added, other.removed, other.same) == (("letters",), ("mails",), False)
    assert str(other) == "letters: new\nmails: gone"
    fewer = edited(('net: amount / 1.19, who: "upper(customer)"', "net: amount / 1.19")).changed_since(before())
    assert str(fewer) == "enriched.who: gone"


def test_they_are_the_same_in_every_process_and_folder() -> None:
    code = (
        "import json, sys, lazypipe as lp\n"
        "plan = lp.Pipeline.from_yaml(sys.stdin.read(), base='/base').compile()\n"
        "print(json.dumps({n: f.to_dict() for n, f in plan.fingerprints().items()}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=SHOP, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": OTHER_SEED}
    )  # fmt: skip
    read = {n: Fingerprint.from_dict(f) for n, f in json.loads(done.stdout).items()}
    assert read == dict(before())
    absolute = SHOP.replace("uri: ", "uri: /base/")
    assert plan(absolute, base="/somewhere/else").fingerprints() == before()
    assert plan(base="/elsewhere").fingerprints()["mails"].rows != before()["mails"].rows


def test_secrets_are_no_part_of_them() -> None:
    text = SHOP.replace("customers.csv", "${PLACE}/customers.csv")
    one, other = (plan(text, env={"PLACE": p}).fingerprints() for p in ("/one", "/two"))
    assert one == other


def test_how_a_source_is_read_is_part_of_them() -> None:
    read = edited(("customers.csv\n", "customers.csv\n    read: {separator: ;}\n"))
    assert read.changed_since(before()).of("customers").rows
    loose = edited(("phone: String}", "phone: String}, on_type_change: discard_row"))
    assert loose.changed_since(before()).of("customers").data
    skip = edited(("customers.csv\n", "customers.csv\n    on_corrupt: skip\n"))
    assert skip.changed_since(before()).of("customers").rows


def test_now_is_a_value_like_others() -> None:
    text = SHOP.replace("day > :since", "day < :now")
    one, other, again = (plan(text, now=datetime(2024, 1, d, tzinfo=UTC)).fingerprints()["mails"] for d in (1, 2, 1))
    assert one == again
    assert one.rows != other.rows


def test_rules_that_look_at_the_clock_are_the_same_at_any_time() -> None:
    text = SHOP.replace(
        "- expression:",
        "- in_past: {column: day, action: ACTION}\n      - freshness: {column: day, within: 1d, action: warn}\n      - expression:",
    )
    found = {
        (action, day): plan(text.replace("ACTION", action), now=datetime(2024, 1, day, tzinfo=UTC)).fingerprints()["enriched"]
        for action in ("warn", "drop") for day in (1, 2)
    }  # fmt: skip
    assert found["warn", 1] == found["warn", 2] != before()["enriched"]
    # that other rows go on at another time is no matter of the definition: runs judge them again
    assert found["drop", 1] == found["drop", 2]
    assert found["drop", 1].changes(found["warn", 1]).rows


def test_an_output_with_a_contract_gives_its_rows_another_shape() -> None:
    contract = "mails: {to: out/mails, contract: {columns: {mails: Int8, day: Date}, on_type_change: WAY}}"
    text = SHOP.replace("mails: {to: out/mails}", contract)
    ways = {
        w: plan(text.replace("WAY", w)).fingerprints()["mails"] for w in ("discard_row", "discard_column", "freeze")
    }
    # a cell that does not fit is null in all of them; what becomes of its row differs
    assert (
        {f.columns["mails"] for f in ways.values()}
        == {ways["freeze"].columns["mails"]}
        != {before()["mails"].columns["mails"]}
    )
    assert ways["discard_row"].rows != ways["discard_column"].rows == ways["freeze"].rows == before()["mails"].rows
    assert len({f.gate for f in ways.values()}) == 3


def test_cells_that_do_not_fit_are_part_of_the_rows_they_take_out() -> None:
    text = SHOP.replace("phone: String}", "phone: Int64}, on_type_change: WAY")
    row, cell = (plan(text.replace("WAY", w)).fingerprints()["customers"] for w in ("discard_row", "discard_column"))
    assert row.rows != cell.rows


def test_a_shape_that_cannot_be_seen_into_is_its_contract() -> None:
    text = """
    version: 1
    name: p
    sources: {t: {uri: t.parquet, contract: {columns: {b: TYPE, k: Int64}}}}
    stages: {s: {from: t}}
    outputs: {s: {to: o, contract: {columns: {b: String, k: Int64}, on_type_change: discard_column}}}
    """
    for dtype in ("Binary", "List(Int64)", "Struct(a: Int64)", "Int64"):
        try:
            one, other = (
                plan(text.replace("TYPE", dtype).replace("k: Int64}, on", f"k: {k}}}, on")).fingerprints()["s"]
                for k in ("Int64", "Int32")
            )
        except lp.DefinitionError:
            continue
        assert one.columns["k"] != other.columns["k"]


def test_a_rule_about_another_frame_is_what_that_frame_is() -> None:
    rule = "gate:\n      - foreign_key: {column: customer, references: {to: customers, column: name}, action: ACTION, id: known}\n      - between: {column: net"
    ways: dict[str, Any] = {}
    for action in ("fail", "quarantine"):
        text = SHOP.replace("gate:\n      - between: {column: net", rule.replace("ACTION", action))
        ways[action] = plan(text).fingerprints()["enriched"]
        renamed = (
            text.replace("customers:\n", "clients:\n")
            .replace("to: customers", "to: clients")
            .replace("with: customers", "with: clients")
        )
        assert plan(renamed).fingerprints()["enriched"] == ways[action]
        elsewhere = text.replace("customers.csv", "people.csv")
        assert plan(elsewhere).fingerprints()["enriched"].gate != ways[action].gate
    assert ways["fail"].changes(before()["enriched"]) == Changes(gate=True)
    assert ways["quarantine"].changes(before()["enriched"]).rows


def test_a_fingerprint_round_trips_and_refuses_what_is_none() -> None:
    for found in before().values():
        assert Fingerprint.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    for wrong in ({}, {"rows": "r"}, {"rows": "r", "columns": [], "order": None, "gate": ""}):
        with pytest.raises(lp.LazypipeError, match="^this is not a fingerprint: "):
            Fingerprint.from_dict(wrong)


def test_changes_are_said_in_one_line() -> None:
    changes = Changes(rows=True, columns=("a", "b"), added=("c",), removed=("d", "e"), order=True, gate=True)
    assert str(changes) == "rows changed, a, b changed, c is new, d, e are gone, the order changed, rules changed"
    assert str(Changes(added=("a", "b"), removed=("c",))) == "a, b are new, c is gone"
    assert not Changes(gate=True).same
    assert not Changes(gate=True).data


def chain(stages: int) -> lp.Plan:
    made = {
        f"s{i}": {"from": f"s{i - 1}" if i else "t", "do": [{"filter": f"a > {i}"}, {"derive": {"b": f"b + {i}"}}]}
        for i in range(stages)
    }
    source = {"uri": "t.parquet", "contract": {"columns": {"a": "Int64", "b": "Int64", "s": "String"}}}
    return lp.Pipeline.from_dict(
        {
            "version": 1,
            "name": "chain",
            "sources": {"t": source},
            "stages": made,
            "outputs": {f"s{stages - 1}": {"to": "o"}},
        }
    ).compile()


def test_the_cost_is_linear_in_the_number_of_stages() -> None:
    def calls(stages: int) -> int:
        made, profile = chain(stages), cProfile.Profile()
        profile.runcall(made.fingerprints)
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(80) < 6 * calls(20)
    assert chain(3).fingerprints() is not None


def test_one_is_worked_out_once() -> None:
    made = plan()
    assert made.fingerprints() is made.fingerprints()
    with pytest.raises(TypeError):
        made.fingerprints()["more"] = before()["mails"]  # type: ignore[index]


QUERIES = [
    "SELECT k, v FROM s WHERE v > (SELECT max(w) FROM t)",
    "SELECT k, (SELECT max(w) FROM t) AS most, (SELECT min(w) FROM t) AS least FROM s",
    "SELECT k, CASE WHEN k IN (SELECT k FROM t) THEN 1 END AS known FROM s",
    "SELECT k, v FROM s QUALIFY row_number() OVER (PARTITION BY k ORDER BY v DESC NULLS LAST, k) = 1",
    "WITH one AS (SELECT * FROM s WHERE v > (SELECT min(w) FROM t)) SELECT k FROM one WHERE v < (SELECT 9 * max(w) FROM t)",
]


@pytest.mark.parametrize("query", QUERIES)
def test_names_that_polars_counts_through_a_process_are_no_part_of_them(tmp_path: Path, query: str) -> None:
    """Or else a stream, and whoever compiles twice, would make all anew each time, and a query more would change those below."""
    (tmp_path / "s.csv").write_text("k,v\na,1\na,5\nb,30\n")
    (tmp_path / "t.csv").write_text("k,w\na,2\nc,4\n")
    pipe = lp.pipeline("p", base=tmp_path).source("s", "s.csv").source("t", "t.csv")
    pipe = pipe.stage("q", ["s", "t"], do=[{"sql": query}]).output("q", "out").build()
    first, again = pipe.compile(), pipe.compile()
    assert first.fingerprints() == again.fingerprints()
    assert first.run().status == "done"
    assert [r.status for r in (pipe.compile().run(), again.run())] == ["unchanged", "unchanged"]
    with duckdb.connect() as peer:
        for name in ("s", "t"):
            peer.execute(f"CREATE TABLE {name} AS FROM read_csv('{tmp_path}/{name}.csv')")
        assert Counter(lp.scan(tmp_path / "out").collect().rows()) == Counter(peer.execute(query).fetchall())


def test_queries_that_differ_in_what_they_look_up_differ() -> None:
    def rows(query: str) -> str:
        columns = {"columns": {"k": "String", "v": "Int64"}}
        pipe = lp.pipeline("p").source("s", "s.csv", contract=columns).source("t", "t.csv", contract=columns)
        plan = pipe.stage("q", ["s", "t"], do=[{"sql": query}]).output("q", "out").build().compile()
        return plan.fingerprints()["q"].whole

    most, least = "(SELECT max(v) FROM t)", "(SELECT min(v) FROM t)"
    text = "SELECT k FROM s WHERE v < {} AND v > {}"
    found = {rows(text.format(*two)) for two in [(most, least), (least, most), (most, most), (least, least)]}
    assert len(found) == 4
