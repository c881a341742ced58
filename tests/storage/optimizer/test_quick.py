"""Advice where there is little time: few rows, bytes of one file, times by rates; and how near that comes to more time."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from lazypipe.storage.optimizer.advise import advise
from lazypipe.storage.optimizer.candidates import forms_for
from lazypipe.storage.optimizer.choice import Limits, Option, choose
from lazypipe.storage.optimizer.cost import Cost, Size
from lazypipe.storage.optimizer.deciding import order
from lazypipe.storage.optimizer.estimates import column_cost, form_cost, layout_cost
from lazypipe.storage.optimizer.form_numbers import Paged, Scaled, Whole
from lazypipe.storage.optimizer.form_texts import Hexed, Template
from lazypipe.storage.optimizer.forms import physical, restore
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.profile import profile
from lazypipe.storage.optimizer.quick import estimated_options, shrinking
from lazypipe.storage.optimizer.trial import Bench, chunk_sizes, write_bytes
from lazypipe.storage.optimizer.workload import Query, Workload
from lazypipe.testing.synthetic import make_orders


def still() -> float:
    return 0.0


def written(frame: pl.DataFrame, layout: Layout) -> bytes:
    inside = physical(frame.lazy(), frame.schema, layout.forms).collect()
    return write_bytes(inside, replace(layout, sort_by=(), curve="linear", bounds={}))


def bytes_of(data: bytes) -> int:
    meta = pq.read_metadata(io.BytesIO(data))
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    return sum(g.column(i).total_compressed_size for g in groups for i in range(g.num_columns))


def mixed(rows: int) -> pl.DataFrame:
    return make_orders(rows, seed=7).with_columns(
        pl.lit("EUR").alias("currency"),
        pl.when(pl.col("country") == "DE").then(pl.lit("Germany")).otherwise(pl.lit("abroad")).alias("where"),
        pl.when(pl.int_range(pl.len()) % 3 == 0).then("amount").alias("rebate"),
        pl.concat_list("quantity", "order_id").alias("list"),
        pl.lit(None).alias("nothing"),
        (pl.int_range(pl.len()) % 5 == 0).alias("fifth"),
        pl.col("order_id").hash(3).cast(pl.String).cast(pl.Binary).alias("raw"),
    )


@pytest.mark.parametrize("goal", ["storage", "balanced", "read", "write"])
@pytest.mark.parametrize("writers", [["polars"], ["pyarrow"], None])
def test_what_is_advised_in_little_time_comes_back(goal: Any, writers: Any) -> None:
    frame = mixed(3_000)
    workload = Workload((Query("a", {"country": "equal"}), Query("b", {"event_time": "range", "amount": "other"})))
    advice = advise(frame, workload, goal, 0.08, writers=writers, clock=still)
    assert advice.rows == 2_000
    assert advice.after == advice.measured[-1].cost
    back = pl.scan_parquet(io.BytesIO(written(frame, advice.layout)))
    assert_frame_equal(restore(back, frame.schema, advice.layout.forms).collect(), frame)


def test_little_time_finds_nearly_as_much_as_all_the_time_there_is() -> None:
    frame = make_orders(30_000, seed=3)
    quick = advise(frame, goal="storage", budget=0.08, clock=still)
    slow = advise(frame, goal="storage", clock=still)
    default = bytes_of(write_bytes(frame, Layout()))
    quickly, slowly = (bytes_of(written(frame, a.layout)) for a in (quick, slow))
    assert len(quick.measured) < len(slow.measured)
    assert quick.rows < 10_000 < slow.rows
    assert quickly < 0.8 * default
    # advice without an end has no limits on a clock that stands still; the other estimates them
    assert quickly < 1.25 * slowly


def test_of_many_columns_the_largest_are_looked_at() -> None:
    rows = 2_000
    small = {f"s{i}": [i] * rows for i in range(20)}
    frame = pl.DataFrame({**small, "large": [n * 7_919 % 1_000_003 / 100 for n in range(rows)], "id": range(rows)})
    advice = advise(frame, goal="storage", budget=0.018, clock=still)
    assert set(advice.layout.forms) | set(advice.layout.encodings) <= {"large", "id", "s0", "s1"}
    assert advice.layout.forms["large"] == Scaled(2, pl.Int32())
    (told,) = [r for r in advice.reasons if r.decision == "4 of 22 columns looked at"]
    assert told.why == "there was time for those that take the most bytes"


@pytest.mark.parametrize("nulls", [False, True])
def test_what_both_writers_give_up_takes_what_it_does_if_it_is_written(nulls: bool) -> None:
    """Columns of which a dictionary is hardly shorter than the values are not written by pyarrow as well: what Polars made tells it."""
    n = pl.int_range(2_000, eager=True).alias("n").to_frame()
    number = pl.col("n").hash(1)
    frame = n.select(
        number=number.reinterpret(signed=True) // 1_000,
        text=pl.format("{}-{}", number % 77_777, number % 1_000),
        float=number.cast(pl.Float64) / 7,
    )
    if nulls:
        frame = frame.with_columns(pl.when(pl.int_range(pl.len()) % 7 > 0).then(pl.all()))
    known = chunk_sizes(write_bytes(frame, Layout(statistics=False)))
    profiles = {c.name: c for c in profile(frame).columns}
    bench = Bench(still, 1.0, quick=True)
    found = estimated_options(frame, {}, profiles, ["pyarrow"], bench, known=known)["pyarrow"]
    seen = set()
    for name, options in found.items():
        for option in options:
            encodings, codecs = dict(option.encodings), dict(option.codecs)
            layout = Layout(writer="pyarrow", level=3, statistics=False, encodings=encodings, codecs=codecs)
            exact = chunk_sizes(write_bytes(frame.select(name), layout))[name].bytes
            assert abs(option.cost.bytes - exact) < 0.03 * exact, (name, encodings, codecs)
            seen.add(encodings.get(name))
    assert {None, "plain"} <= seen


def test_what_readers_filter_is_looked_at_if_folders_may_be_made_of_it_or_bytes_gained() -> None:
    rows = pl.int_range(20_000, eager=True).alias("n").to_frame()
    large = {f"x{i}": pl.col("n").hash(i).cast(pl.Float64) for i in range(7)}
    frame = rows.select(
        **large, shop=pl.format("{}", pl.col("n").hash(9) % 3), at=(pl.col("n").hash(8) % 10**6).cast(pl.Int64)
    )
    asked = Workload((Query("q", {"shop": "equal", "at": "range"}),))
    for partition_by, left in ((None, set()), ((), {"shop"})):
        advice = advise(frame, asked, "balanced", 0.0235, partition_by=partition_by, clock=still)
        assert {"shop", "at"} & {*advice.left} == left
        assert len(advice.left) == 1


def test_differences_are_preferred_where_values_rise_and_few_rows_would_not_show_it() -> None:
    rising = pl.DataFrame({"t": [n // 8 for n in range(400)]})
    falling = pl.DataFrame({"t": [(400 - n) // 8 for n in range(400)]})

    def options(frame: pl.DataFrame) -> dict[tuple[str, ...], int]:
        found = {c.name: c for c in profile(frame).columns}
        made = estimated_options(frame, {}, found, ["pyarrow"], Bench(still, 1.0, quick=True))["pyarrow"]["t"]
        return {tuple(e for _, e in o.encodings): o.cost.bytes for o in made}

    up, down = options(rising), options(falling)
    exact = chunk_sizes(write_bytes(rising, Layout(writer="pyarrow", level=3, encodings={"t": "delta"})))["t"]
    assert min(up, key=lambda e: up[e]) == ("delta",)
    assert up["delta",] <= exact.bytes
    assert all(bytes_of(write_bytes(falling, Layout(writer="pyarrow", level=3))) >= n for n in down.values())


def test_a_dictionary_that_more_rows_would_fill_is_left_where_little_is_gained() -> None:
    codes = [f"N{(n * 7_919) % 1_009 * 31 % 997:03}{(n * 31) % 7}" for n in range(60_000)]
    frame = pl.DataFrame({"code": codes})
    advice = advise(frame, goal="storage", budget=0.03, clock=still)
    assert bytes_of(written(frame, advice.layout)) <= 1.05 * bytes_of(write_bytes(frame, Layout()))


ONE = 1.5e-3
"""What the smallest piece of work takes: to take some rows, and to write them once."""


def test_an_order_that_there_is_no_time_to_try_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.deciding.little.LITTLE", 0.0)
    frame = make_orders(3_000, seed=7)
    workload = Workload((Query("a", {"country": "equal", "status": "equal"}),))
    for budget, by in ((0.001, ()), (0.012, ("country",))):
        advice = advise(frame, workload, "read", budget, clock=still)
        assert advice.layout.sort_by == by
        assert advice.spent <= max(budget, ONE)
        assert advice.left


@pytest.mark.parametrize("goal", ["storage", "balanced", "read", "write"])
def test_the_same_rows_get_the_same_layout_whatever_the_clock_says(goal: Any) -> None:
    ticks = iter(range(1_000_000))
    frame = make_orders(3_000, seed=7)
    workload = Workload((Query("a", {"country": "equal", "status": "equal"}),)) if goal != "storage" else None
    busy, idle = (advise(frame, workload, goal, 0.06, clock=c) for c in (lambda: float(next(ticks)), still))
    assert busy.layout == idle.layout
    assert [t.how for t in busy.measured] == [t.how for t in idle.measured]


def test_trials_are_charged_by_what_stands_in_them() -> None:
    few, many = (pl.DataFrame({f"c{i}": pl.int_range(rows, eager=True) for i in range(10)}) for rows in (100, 10_000))
    bench = Bench(still, 0.02, quick=True)
    prices = {(f.height, w): bench.price(f, w) for f in (few, many) for w in ("polars", "pyarrow")}
    assert prices[100, "polars"] < prices[100, "pyarrow"] < prices[10_000, "polars"] < prices[10_000, "pyarrow"]
    assert bench.fits(many)
    bench.whole(many, DEFAULT, "once")
    spent = bench.spend.spent
    assert spent == prices[10_000, "polars"]
    bench.whole(many, DEFAULT, "the same again")
    assert bench.spend.spent == spent  # is not written twice
    # what it took by rates tells what the next one will
    assert bench.price(many) != prices[10_000, "polars"]
    times = int((0.02 - spent) / bench.price(many))
    assert bench.fits(many, times=times)
    assert not bench.stopped
    assert not bench.fits(many, times=times + 1)
    assert bench.stopped
    endless = Bench(still, None, quick=True)
    assert endless.fits(many, times=10**9)


# estimates


def test_rates_tell_what_is_slow() -> None:
    size, rows = Size(4_000, 8_000), 1_000
    usual = column_cost(pl.Int64(), size, rows, "pyarrow")
    assert column_cost(pl.Int64(), size, rows, "polars").write < usual.write  # gives up dictionaries that do not pay
    assert column_cost(pl.Int64(), size, rows, "pyarrow", "plain", "zstd", 9).write > usual.write
    assert column_cost(pl.Int64(), size, rows, "pyarrow", "plain", "zstd", 22).write > 1e-3 / 2
    assert column_cost(pl.Int64(), size, rows, "pyarrow", "plain", "zstd", None) == column_cost(
        pl.Int64(), size, rows, "pyarrow", "plain", "zstd", 3
    )
    packed = column_cost(pl.String(), Size(7_900, 8_000), rows, "pyarrow", "plain")
    assert packed.write < column_cost(pl.String(), Size(1_000, 8_000), rows, "pyarrow", "plain").write  # zstd gives up
    raw = column_cost(pl.Boolean(), Size(100, 100), rows, "pyarrow", "", "uncompressed", None)
    assert (raw.bytes, raw.write) == (100, pytest.approx(14e-6))
    assert form_cost(Hexed((32,)), 1_000) == Cost(0, pytest.approx(2e-4), pytest.approx(1e-4))  # type: ignore[arg-type]
    one, two = (form_cost(Template(("a", *["b"] * n), ("number",) * n), 1_000) for n in (1, 2))
    assert one.write < two.write
    assert one.read < two.read
    assert form_cost(Template(("", ""), ("long",)), 1_000).write < one.write  # needs no pattern
    plain, made = (form_cost(Whole(pl.Int32()), 1_000, t) for t in (pl.Int64(), pl.Decimal(9, 2)))
    assert plain.read < made.read


def test_a_dictionary_takes_less_time_where_it_is_hardly_longer_for_more_rows() -> None:
    usual, many = (column_cost(pl.Int64(), Size(4_000, 8_000), 1_000, "pyarrow", part=p) for p in (1.0, 0.2))
    assert many.bytes == usual.bytes
    assert many.write < usual.write
    assert many.read < usual.read
    frame = pl.DataFrame({"x": [n % 300 for n in range(1_000)]})
    sizes = chunk_sizes(write_bytes(frame, Layout()))
    assert layout_cost(frame, sizes, Layout(), {"x": 0.2}).read < layout_cost(frame, sizes, Layout()).read
    plain = Layout(writer="pyarrow", encodings={"x": "plain"})
    assert layout_cost(frame, sizes, plain, {"x": 0.2}) == layout_cost(frame, sizes, plain)


@pytest.mark.parametrize(
    ("values", "scale", "part"),
    [
        ([n * 7 % 300 for n in range(1_000)], 1.0, 1.0),
        # 9 bits for each of 1,000 values, and 300 values of 8 bytes
        ([n * 7 % 300 for n in range(1_000)], 100.0, (1_125 + 24) / (1_125 + 2_400)),
        ([n // 4 for n in range(1_000)], 100.0, 1.0),  # these do not come again
        (list(range(1_000)), 100.0, 1.0),
        ([[1]] * 1_000, 100.0, 1.0),
    ],
)
def test_what_is_left_of_a_dictionary_on_more_rows(values: list[Any], scale: float, part: float) -> None:
    known = profile(pl.DataFrame({"x": values}))["x"]
    assert shrinking(known, scale) == pytest.approx(part)


def test_what_is_in_order_costs_to_sort_and_what_is_empty_costs_nothing_to_read() -> None:
    frame = pl.DataFrame({"x": [1.5, 2.5, None], "_lazypipe:x:plain": pl.Series([None] * 3, dtype=pl.Float64)})
    sizes = chunk_sizes(write_bytes(frame, Layout()))
    plain = layout_cost(frame, sizes, Layout())
    assert plain.bytes == sum(s.bytes for s in sizes.values())
    assert plain.read == column_cost(pl.Float64(), sizes["x"], 2, "polars").read
    assert layout_cost(frame, sizes, Layout(sort_by=("x",))).write > plain.write


def test_sizes_before_compression_are_those_of_the_footer() -> None:
    frame = pl.DataFrame({"x": range(10_000), "l": [[1, 2]] * 10_000})
    data = write_bytes(frame, Layout(row_group_rows=3_000))
    meta = pq.read_metadata(io.BytesIO(data))
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    found = chunk_sizes(data)
    assert len(groups) > 1
    for i, name in enumerate(frame.columns):
        chunks = [g.column(i) for g in groups]
        assert found[name] == Size(
            sum(c.total_compressed_size for c in chunks), sum(c.total_uncompressed_size for c in chunks)
        )


def test_what_was_given_up_for_nothing_is_taken_back() -> None:
    # the cheapest step back is a's, but it is not enough; after b's it was not needed
    a = [Option(None, Cost(10, 1.0, 3.0)), Option(None, Cost(11, 1.0, 2.0))]
    b = [Option(None, Cost(10, 1.0, 9.0)), Option(None, Cost(90, 1.0, 1.0))]
    chosen = choose({"a": a, "b": b}, Cost(200, 2.0, 4.0), Limits("bytes", read=1.0))
    assert chosen == {"a": a[0], "b": b[1]}


def sparse(rows: int) -> pl.DataFrame:
    n = pl.int_range(rows, eager=True).alias("id").to_frame()
    number = [pl.col("id").hash(i) for i in range(90)]
    return n.with_columns(
        pl.when(h % 50 == 0).then(h % 1_000).cast(pl.Int64).alias(f"f{i}") for i, h in enumerate(number)
    )


def test_what_is_mostly_null_is_written_by_polars_which_packs_nulls_best() -> None:
    frame = sparse(30_000)
    advice = advise(frame, None, "storage", 0.06, partition_by=(), clock=still)
    assert (advice.layout.writer, advice.layout.level, advice.layout.forms) == ("polars", 9, {"id": Paged()})
    data = written(frame, advice.layout)
    assert bytes_of(data) < 0.85 * bytes_of(write_bytes(frame, Layout()))
    assert bytes_of(data) < 0.95 * bytes_of(write_bytes(frame, Layout(writer="pyarrow", encodings={"id": "delta"})))
    back = restore(pl.scan_parquet(io.BytesIO(data)), frame.schema, advice.layout.forms).collect()
    assert_frame_equal(back, frame)


def test_where_harder_compression_would_take_too_long_it_is_left() -> None:
    digits = pl.concat_str(pl.int_range(3_000).hash(i).cast(pl.String) for i in range(5))
    frame = pl.select(raw=digits.cast(pl.Binary))
    advice = advise(frame, None, "balanced", 0.06, partition_by=(), writers=["polars"], clock=still)
    assert advice.layout.level is None
    assert advise(sparse(3_000), None, "balanced", 0.06, partition_by=(), clock=still).layout.level == 6


def test_dates_near_each_other_are_written_as_differences() -> None:
    n = pl.int_range(20_000, eager=True).alias("n").to_frame()
    day = pl.date(1995, 1, 1) + pl.duration(days=pl.col("n").hash(1) % 2_500)
    frame = n.select(shipped=day, received=day + pl.duration(days=1 + pl.col("n").hash(2) % 30))
    found = profile(frame)
    (relation,) = (r for r in found.relations if r.kind == "difference" and r.column == "received")
    assert (relation.by, round(relation.strength)) == ("shipped", 5)
    assert Whole(pl.Int32(), 1, "shipped") in forms_for(found["received"], found, frame)


def series(rows: int, sensors: int = 20) -> pl.DataFrame:
    n = pl.int_range(rows, eager=True).alias("n").to_frame()
    return n.select(
        time=pl.lit(datetime(2026, 1, 1)) + pl.duration(seconds=pl.col("n") // sensors * 10),
        sensor=pl.format("sensor-{}", pl.col("n") % sensors),
        value=(20 + pl.col("n").hash(1) % 100 / 100).round(2),
    )


def test_balanced_never_grows_for_the_sake_of_readers() -> None:
    frame = series(120_000)
    lookup = Workload((Query("one", {"sensor": "equal"}),))
    advice = advise(frame, lookup, "balanced", 0.06, partition_by=(), clock=still)
    layout = advice.layout
    made = frame.sort(*layout.sort_by, maintain_order=True) if layout.sort_by else frame
    assert bytes_of(written(made, layout)) < bytes_of(write_bytes(frame, Layout()))


def tens(rows: int) -> pl.DataFrame:
    """Return rows of which ten in a row have names and numbers alike; sorted by shop these come in no order any more."""
    n = pl.int_range(rows, eager=True).alias("id").to_frame()
    ten = pl.col("id") // 10
    name = ten.hash(1).cast(pl.String) + "-of-the-days-since-the-beginning-of-all-that-there-is-and-was"
    return n.with_columns(name=name, share=ten.hash(3).cast(pl.Float64) / 7, shop=pl.col("id").hash(5) % 2_000)


def days(rows: int) -> pl.DataFrame:
    n = pl.int_range(rows, eager=True).alias("id").to_frame()
    day = (pl.col("id") // 40).cast(pl.String) + "-of-the-days-since-the-beginning-of-all-that-there-is-and-was"
    return n.with_columns(day=day, shop=pl.col("id").hash(5) % 2_000)


@pytest.mark.parametrize(("make", "sort_by"), [(tens, ()), (days, ("shop",))])
def test_balanced_gives_up_what_makes_more_bytes(
    make: Callable[[int], pl.DataFrame], sort_by: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # orders are let through that their trial would not
    monkeypatch.setattr(order, "ORDER_BYTES", {**order.ORDER_BYTES, "balanced": 2.0})
    frame = make(20_000)
    lookup = Workload((Query("one", {"shop": "equal"}),))
    advice = advise(frame, lookup, "balanced", 0.2, partition_by=(), clock=still)
    assert "default, in order" in {t.how for t in advice.measured}
    # the order where all columns together are not worth it, small row groups where dictionaries would be repeated
    assert (advice.layout.sort_by, advice.layout.row_group_rows) == (sort_by, None)
    made = frame.sort(*sort_by, maintain_order=True) if sort_by else frame
    assert bytes_of(written(made, advice.layout)) <= bytes_of(write_bytes(frame, Layout()))


def test_balanced_falls_back_on_the_default_where_little_is_won() -> None:
    noise = pl.DataFrame({"a": pl.int_range(30_000, eager=True).hash(1), "b": pl.int_range(30_000, eager=True).hash(2)})
    lookup = Workload((Query("one", {"a": "equal"}),))
    advice = advise(noise, lookup, "balanced", 0.06, partition_by=(), writers=["polars"], clock=still)
    assert advice.layout == Layout()
