"""Facts beside a dimension as it was at their time: a history that is corrected, under other names, kept up to date by what changes."""

from __future__ import annotations

import random
from pathlib import Path

import lazypipe as lp

DIMENSION = """
version: 1
name: dimension
sources:
  feed: {uri: feed/*.csv, contract: {columns: {id: Int64, at: Datetime(us), tier: Int64, gone: Boolean}}}
stages:
  customers: {from: feed}
outputs:
  customers: {to: out/customers, mode: scd2, key: id, event_time: at, deleted_when: gone}
"""
FACTS = """
version: 1
name: facts
sources:
  customers: {uri: out/customers}
  orders: {uri: orders/*.csv, contract: {columns: {customer: Int64, time: Datetime(us)}}}
stages:
  joined:
    from: orders
    do:
      - asof_join: {with: customers, left_on: time, right_on: valid_from, left_by: customer, right_by: id, columns: [tier, valid_to]}
      - derive: {tier: "CASE WHEN valid_to IS NULL OR time < valid_to THEN tier END"}
      - drop: valid_to
outputs:
  joined: {to: out/joined}
"""


def test_facts_follow_a_history_that_is_corrected(tmp_path: Path) -> None:
    draw = random.Random(3)
    for folder in ("feed", "orders"):
        (tmp_path / folder).mkdir()
    events = [(draw.randrange(6), day, day, draw.random() < 0.3) for day in range(1, 25)]
    come = draw.sample(events, len(events))
    orders = [(draw.randrange(6), draw.randrange(1, 28)) for _ in range(40)]
    for number in range(4):
        some = "".join(f"{k},2024-01-{d:02},{v},{str(g).lower()}\n" for k, d, v, g in come[number * 6 : number * 6 + 6])
        (tmp_path / f"feed/{number}.csv").write_text(f"id,at,tier,gone\n{some}")
        facts = "".join(f"{c},2024-01-{d:02}T12:00:00\n" for c, d in orders[number * 10 : number * 10 + 10])
        (tmp_path / f"orders/{number}.csv").write_text(f"customer,time\n{facts}")
        lp.Pipeline.from_yaml(DIMENSION, base=str(tmp_path)).compile().run().raise_for_status()
        plan = lp.Pipeline.from_yaml(FACTS, base=str(tmp_path)).compile()
        plan.run().raise_for_status()
        known = come[: number * 6 + 6]

        def tier(customer: int, day: int, known: list[tuple[int, int, int, bool]] = known) -> int | None:
            before = [e for e in known if e[0] == customer and e[1] <= day]
            last = max(before, key=lambda e: e[1], default=None)
            return None if last is None or last[3] else last[2]

        found = lp.scan(tmp_path / "out/joined").collect()
        expected = [(c, d, tier(c, d)) for c, d in orders[: number * 10 + 10]]
        rows = found.select("customer", found["time"].dt.day(), "tier").rows()
        assert sorted(rows, key=str) == sorted(expected, key=str)
    assert plan.explain_incremental().startswith("joined: reads new and changed files of orders")
    upstream = str(plan.lineage().upstream("joined.tier"))
    assert "customers.tier → joined.tier" in upstream
    assert "orders.customer = customers.id" in upstream
