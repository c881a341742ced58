"""Gates in whole pipelines: references to other sources and to datasets outside, repairs, measures, keys, default actions."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import DefinitionError, SourceError

NOW = datetime(2026, 1, 1, tzinfo=UTC)

YAML = """\
version: 1
name: shop
sources:
  customers: {uri: customers.csv, gate: [{unique: id}]}
  orders:
    uri: orders.csv
    key: [id]
    columns: {email: {tags: [pii]}}
    gate:
      action: quarantine
      rules:
        - not_null: id
        - foreign_key: {column: customer, references: {to: customers, column: id}}
        - foreign_key: {column: country, references: {to: "countries.parquet", column: code}, id: country}
        - between: {column: amount, min: 0, action: repair, repair: {clip: true}}
stages:
  totals:
    from: orders
    do:
      - aggregate: {by: customer, aggregate: {amount: sum(amount), orders: count(*)}}
    gate:
      - row_count: {min: 1, max: 10}
      - mean: {column: amount, max: 1000, action: warn}
outputs:
  orders: {to: out/orders}
  totals: {to: out/totals}
"""
ORDERS = """\
id,customer,country,email,amount
1,1,DE,a@x,5
2,1,FR,b@x,-7
3,9,DE,c@x,9
4,2,XX,d@x,9
5,,DE,e@x,9
,9,XX,f@x,9
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(YAML)
    (tmp_path / "orders.csv").write_text(ORDERS)
    (tmp_path / "customers.csv").write_text("id,name\n1,Ann\n2,Bob\n")
    pl.DataFrame({"code": ["DE", "FR"]}).write_parquet(tmp_path / "countries.parquet")
    return tmp_path / "shop.yaml"


def test_references_repairs_and_measures(shop: Path) -> None:
    result = lp.load(shop).compile(now=NOW).run(run="r1", now=NOW)
    result.raise_for_status()
    orders = lp.scan(str(shop.parent / "out/orders")).sort("id").collect()
    assert orders.select("id", "amount").rows() == [(1, 5), (2, 0), (5, 9)]
    aside = lp.scan(str(shop.parent / "out/orders__quarantine")).sort("id").collect()
    assert dict(zip(aside["id"], aside["_lazypipe_rules"].to_list(), strict=True)) == {
        None: ["not_null:id", "foreign_key:customer", "country"],
        3: ["foreign_key:customer"],
        4: ["country"],
    }
    report = {c.id: c for c in result.gates["orders"].checks}
    assert (report["between:amount"].repaired, report["between:amount"].failed_before) == (1, 1)
    assert sorted(map(str, report["country"].samples)) == ["{'id': 4}", "{'id': None}"]
    totals = {c.id: c for c in result.gates["totals"].checks}
    assert totals["row_count"].value == 2
    assert (totals["mean:amount"].value, totals["mean:amount"].status) == (7.0, "pass")


def test_a_reference_outside_the_pipeline_is_read_anew_by_each_run(shop: Path) -> None:
    plan = lp.load(shop).compile(now=NOW)
    plan.run(run="r1", now=NOW).raise_for_status()
    pl.DataFrame({"code": ["DE", "FR", "XX"]}).write_parquet(shop.parent / "countries.parquet")
    assert plan.replay("orders", run="r2", now=NOW).healed == 1
    assert sorted(lp.scan(str(shop.parent / "out/orders")).collect()["id"]) == [1, 2, 4, 5]


@pytest.mark.parametrize("gone", ["countries.parquet", "memory://no-such-place/countries"])
def test_a_reference_to_what_is_not_there_is_told_with_its_place(shop: Path, gone: str) -> None:
    (shop.parent / "countries.parquet").unlink()
    shop.write_text(YAML.replace("countries.parquet", gone))
    with pytest.raises(SourceError) as caught:
        lp.load(shop).compile()
    uri = gone if "://" in gone else f"{shop.parent}/{gone}"
    assert str(caught.value).startswith(
        f"{uri}: {shop}:14:42: a rule looks rows up in it: there is no such file; check the "
    )
    # mistakes in the definition are told first: they can be mended without the data
    shop.write_text(shop.read_text().replace("max: 10}", "equals: 3}"))
    with pytest.raises(DefinitionError, match="equals cannot be combined with min and max"):
        lp.load(shop).compile()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("to: customers, column: id", "to: customer, column: id", "13:43: unknown frame 'customer'; did you mean 'customers'"),
        ("to: customers, column: id", "to: customers, column: idd", "unknown column 'idd' of 'customers'; did you mean 'id'"),
        ("column: customer, ref", "column: email, ref", "column 'email' is String, and 'id' of 'customers' is Int64; cast one"),
        ("to: customers, column: id", "to: totals, column: customer", "stages read each other in a circle"),
        ("action: quarantine", "action: repair", "'action' cannot be 'repair'"),
    ],
)  # fmt: skip
def test_wrong_references(shop: Path, old: str, new: str, message: str) -> None:
    assert old in YAML
    shop.write_text(YAML.replace(old, new, 1))
    with pytest.raises(DefinitionError) as caught:
        lp.load(shop).compile()
    assert message in str(caught.value)


def test_a_reference_that_is_missing_is_told(shop: Path) -> None:
    (shop.parent / "countries.parquet").unlink()
    with pytest.raises(lp.SourceError, match=r"countries\.parquet"):
        lp.load(shop).compile()


def test_gates_round_trip(shop: Path) -> None:
    pipe = lp.load(shop)
    assert lp.Pipeline.from_yaml(pipe.to_yaml()) == pipe
    assert pipe.sources["orders"].action == "quarantine"


def _pipe(folder: Path, gate: list[dict[str, Any]], *, sort: bool = False, **output: Any) -> lp.Plan:
    do = [{"sort": "k"}] if sort else []
    made = lp.pipeline("p", base=str(folder)).source("rows", "*.parquet").stage("kept", "rows", do=do, gate=gate)
    return made.output("kept", "out", **output).build().compile()


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
@pytest.mark.parametrize("sort", [False, True])
def test_repeated_keys_are_put_aside_wherever_they_stand(tmp_path: Path, order: str, sort: bool) -> None:
    keys = [n - 1 if n % 997 == 1 or n % 100_000 == 0 else n for n in range(400_000)]
    frame = pl.DataFrame({"k": keys}).with_row_index("i").with_columns(v=pl.col("i") % 5)
    if order == "shuffled":
        frame = frame.sample(fraction=1, shuffle=True, seed=3)
    for number, part in enumerate(frame.iter_slices(100_000)):
        part.write_parquet(tmp_path / f"{number}.parquet")
    gate = [{"unique": {"columns": "k", "action": "quarantine"}}, {"in_set": {"column": "v", "values": [0, 1, 2, 3], "action": "drop"}}]  # fmt: skip
    result = _pipe(tmp_path, gate, sort=sort).run(run="r", now=NOW)
    result.raise_for_status()
    times = Counter(keys)
    expected = frame.filter(pl.col("k").replace_strict(times) == 1, pl.col("v") < 4)
    found = lp.scan(str(tmp_path / "out")).collect()
    assert sorted(found["i"]) == sorted(expected["i"])
    if sort:
        assert found["k"].is_sorted()
    aside = lp.scan(str(tmp_path / "out__quarantine")).collect()
    assert sorted(aside["i"]) == sorted(frame.filter(pl.col("k").replace_strict(times) > 1)["i"])
    report = result.gates["kept"]
    assert report.checks[0].failed == aside.height == report.quarantined
    assert report.good == found.height


def test_measures_compare_with_the_commits_before(tmp_path: Path) -> None:
    gate = [
        {"psi": {"column": "v", "max": 0.2}},
        {"z_score": {"metric": "mean", "column": "v", "max": 3, "min_runs": 3}},
    ]
    statuses = []
    for run, shift in enumerate([0, 1, 0, 1, 0, 500]):
        pl.DataFrame({"v": [float(n % 50 + shift) for n in range(2_000)]}).write_parquet(tmp_path / "rows.parquet")
        result = _pipe(tmp_path, gate).run(run=f"r{run}", now=NOW)
        statuses.append([c.status for c in result.gates["kept"].checks])
    assert statuses[:5] == [["pass", "pass"]] * 5
    assert statuses[5] == ["fail", "fail"]
    assert lp.scan(str(tmp_path / "out")).select(pl.col("v").max()).collect().item() == 49.0


def test_the_past_is_that_of_runs(tmp_path: Path) -> None:
    """Files that are put in order, names that change and versions that come back are no runs; what was rolled back is no past."""
    gate = [{"z_score": {"metric": "sum", "column": "v", "runs": 3, "min_runs": 3, "action": "warn"}}]
    out, clock = str(tmp_path / "out"), NOW

    def run(value: float) -> list[Any]:
        nonlocal clock
        clock += timedelta(hours=1)
        pl.DataFrame({"v": [value]}).write_parquet(tmp_path / "rows.parquet")
        result = _pipe(tmp_path, gate).run(run=f"r{clock:%d%H}", now=clock)
        (check,) = result.gates["kept"].checks
        lp.optimize.rewrite(out, "storage", every=True)
        return [check.value, check.status]

    assert [run(v) for v in (10, 12, 14)] == [[10, "pass"], [12, "pass"], [14, "pass"]]
    # 12 give or take three times 2
    assert run(19) == [19, "warn"]
    lp.rollback(out, version=lp.history(out)["version"].to_list()[-4])
    assert lp.scan(out).collect()["v"].to_list() == [14]
    assert run(17.5) == [17.5, "pass"]
    # 12, 14, 17.5: 14.5 give or take 8.4
    assert run(23) == [23, "warn"]
    assert run(22.5) == [22.5, "pass"]


@pytest.mark.parametrize(
    ("rule", "given"),
    [("psi", {"column": "v"}), ("ks", {"column": "v", "max": 0.1}), ("z_score", {"metric": "row_count"})],
)
def test_what_has_no_past_cannot_be_compared_with_it(tmp_path: Path, rule: str, given: dict[str, Any]) -> None:
    pl.DataFrame({"v": [1]}).write_parquet(tmp_path / "rows.parquet")
    built = lp.pipeline("p", base=str(tmp_path)).source("rows", "rows.parquet", gate=[{rule: given}])
    built = built.stage("inner", "rows", gate=[{rule: given}]).stage("told", "inner", gate=[{rule: given}])
    built = built.stage("kept", "told", gate=[{rule: given}]).output("told", "told.csv", format="csv")
    built = built.output("kept", "out")
    with pytest.raises(DefinitionError) as refused:
        built.build().compile()
    what = (
        f"{rule} compares with earlier runs, but nothing is kept of them: the rows here are not written to a dataset; "
    )
    what += "put it into the gate of a stage or source that is written to a dataset"
    places = ("sources.rows.gate[0]", "stages.inner.gate[0]", "stages.told.gate[0]")
    assert [str(p) for p in refused.value.problems] == [f"{place}: {what}" for place in places]
    built.output("rows", "rows").output("inner", "inner").output("again", "again", from_="told").build().compile()


def test_measures_of_inner_stages_and_exports(tmp_path: Path) -> None:
    pl.DataFrame({"k": [1, 2, 3, 4]}).write_parquet(tmp_path / "rows.parquet")
    gate = [{"median": {"column": "k", "min": 2, "max": 3}}, {"sum": {"column": "k", "max": 9}}]
    built = lp.pipeline("p", base=str(tmp_path)).source("rows", "rows.parquet", gate=gate)
    built = built.stage("half", "rows", do=[{"filter": "k > 2"}], gate=[{"median": {"column": "k", "max": 3}}])
    result = built.output("half", "out.csv", format="csv").build().compile().run(now=NOW)
    assert result.status == "gate_failed"
    assert result.gates["rows"].failed == {"sum:k": 1}
    assert str(result.gates["half"].checks[0]) == "median:k: 3.5, expected at most 3 (fail)"
    assert not (tmp_path / "out.csv").exists()


def test_outputs_are_contracts_that_other_tools_read(shop: Path) -> None:
    plan = lp.load(shop).compile(now=NOW)
    written = lp.contracts.to_odcs(plan.contract())
    assert [table["name"] for table in written["schema"]] == ["orders", "totals"]
    back = lp.contracts.from_odcs(written)
    assert back.columns["orders"]["email"].tags == ("pii",)
    assert {next(iter(rule)) for rule in back.rules["totals"]} == {"row_count", "mean"}
    assert back.unmapped == ()
