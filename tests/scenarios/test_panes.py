"""What becomes of windows, told pane by pane: what is told adds up to what there is, however files came, changed and went."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset

T0 = datetime(2024, 5, 1)
DEFINITION = """
version: 1
name: p
sources:
  a: {uri: in/*.csv, event_time: at, watermark: {delay: 0s}, contract: {columns: {at: Datetime(us), k: String, v: Int64}}}
stages:
  hourly:
    from: a
    do:
      - window: {time: at, every: 1h, by: [k], aggregate: {n: count(*), total: sum(v)}}
outputs:
  hourly: {to: out/hourly, key: [k, window_start], panes: {mode: retract, weight: w, index: pane, timing: said}}
"""
PANES = "{mode: retract, weight: w, index: pane, timing: said}"
Row = tuple[float, str, int | None]


class Feed:
    def __init__(self, root: Path, definition: str = DEFINITION, panes: str = PANES) -> None:
        self.root, self.number = root, 0
        self.definition = definition.replace(PANES, panes)
        (root / "in").mkdir()

    def deliver(self, name: str, *rows: Row) -> None:
        self.number += 1
        path = self.root / "in" / f"{name}.csv"
        lines = [f"{T0 + timedelta(hours=h)},{k},{'' if v is None else v}\n" for h, k, v in rows]
        path.write_text("at,k,v\n" + "".join(lines))
        os.utime(path, (1_750_000_000 + self.number,) * 2)

    def remove(self, name: str) -> None:
        (self.root / "in" / f"{name}.csv").unlink()

    @property
    def plan(self) -> lp.Plan:
        return lp.Pipeline.from_yaml(self.definition, base=str(self.root)).compile()

    def run(self, **more: Any) -> lp.RunResult:
        self.number += 1
        now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self.number)
        result = self.plan.run(run=f"r{self.number}", now=now, **more)
        result.raise_for_status()
        return result

    def refusal(self) -> str:
        with pytest.raises(lp.LazypipeError) as found:
            self.run()
        return str(found.value)

    @property
    def uri(self) -> str:
        return str(self.root / "out/hourly")

    def panes(self, *columns: str) -> list[Any]:
        rows = lp.scan(f"{self.uri}__panes").collect()
        order = [c for c in ("_version", "k", "window_start", "w") if c in rows.columns]
        return rows.sort(order, maintain_order=True).select(columns).rows()

    def windows(self) -> list[Any]:
        return sorted(lp.scan(self.uri).drop("window_end", strict=False).collect().rows(), key=repr)

    def added_up(self, mode: str) -> list[Any]:
        """Return what the panes say that there is, made of them alone."""
        rows = lp.scan(f"{self.uri}__panes").sort("_version", maintain_order=True).collect()
        key = ["k", "window_start"]
        if mode == "accumulate":
            last = rows.unique(key, keep="last", maintain_order=True).filter(pl.col("n").is_not_null())
        elif mode == "discard":
            last = rows.group_by(key).agg(pl.col("n", "total").sum()).filter(pl.col("n") != 0)
        else:
            whole = rows.group_by(*key, "n", "total").agg(pl.col("w").cast(pl.Int64).sum())
            assert whole["w"].is_in([0, 1]).all()
            last = whole.filter(pl.col("w") == 1)
        return sorted(last.select(*key, "n", "total").rows(), key=repr)


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(tmp_path)


def hour(number: int) -> datetime:
    return T0 + timedelta(hours=number)


def test_a_window_is_early_then_on_time_then_late(feed: Feed) -> None:
    feed.deliver("1", (0.5, "a", 1), (0.7, "b", 9))
    feed.run()
    feed.deliver("2", (0.6, "a", 2), (1, "a", 5))
    feed.run()
    feed.deliver("3", (0.1, "a", 40))
    feed.run()
    feed.remove("3")
    feed.deliver("4", (0.1, "b", 0))
    feed.run()
    told = feed.panes("_version", "pane", "said", "w", "k", "window_start", "n", "total")
    assert told == [
        (1, 0, "early", 1, "a", hour(0), 1, 1),
        (1, 0, "early", 1, "b", hour(0), 1, 9),
        (2, 1, "on_time", -1, "a", hour(0), 1, 1),
        (2, 1, "on_time", 1, "a", hour(0), 2, 3),
        (2, 0, "early", 1, "a", hour(1), 1, 5),
        # nothing came for it, but now it is over
        (2, 1, "on_time", -1, "b", hour(0), 1, 9),
        (2, 1, "on_time", 1, "b", hour(0), 1, 9),
        (3, 2, "late", -1, "a", hour(0), 2, 3),
        (3, 2, "late", 1, "a", hour(0), 3, 43),
        (4, 3, "late", -1, "a", hour(0), 3, 43),
        (4, 3, "late", 1, "a", hour(0), 2, 3),
        (4, 2, "late", -1, "b", hour(0), 1, 9),
        (4, 2, "late", 1, "b", hour(0), 2, 9),
    ]
    assert feed.run().segments[0].status == "unchanged"
    assert len(feed.panes("_run")) == len(told)
    assert lp.scan(f"{feed.uri}__panes").collect_schema().names() == [
        "_version", "_time", "_run", "w", "pane", "said", "k", "window_start", "window_end", "n", "total",
    ]  # fmt: skip


def test_nothing_is_timely_before_event_times_are_known(feed: Feed) -> None:
    feed.deliver("0")
    feed.run()
    assert feed.panes("said") == []
    feed.deliver("1", (0.5, "a", 1))
    feed.run()
    assert feed.panes("_version", "pane", "said", "w", "n") == [(2, 0, "early", 1, 1)]


def test_only_the_difference_or_only_the_total(tmp_path: Path) -> None:
    for number, (mode, second, last) in enumerate(
        [
            ("discard", [("a", 1, 40), ("b", 1, 0), ("c", -1, -7)], [("a", -1, -40)]),
            ("accumulate", [("a", 2, 41), ("b", 2, 5), ("c", None, None)], [("a", 1, 1)]),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        feed = Feed(folder, panes=mode)
        feed.deliver("1", (0.5, "a", 1), (0.7, "b", 5))
        feed.deliver("2", (0.5, "c", 7))
        feed.run()
        feed.deliver("3", (0.6, "a", 40))
        feed.deliver("4", (0.6, "b", None))
        feed.remove("2")
        feed.run()
        feed.remove("3")
        feed.run()
        told = feed.panes("_version", "k", "n", "total")
        assert [t[1:] for t in told if t[0] == 2] == second
        assert [t[1:] for t in told if t[0] == 3] == last
        # a window that is gone is still told by its ends
        assert {t[1] for t in feed.panes("_version", "window_end")} == {hour(1)}


def test_closed_windows_are_on_time_and_then_late(feed: Feed) -> None:
    feed.definition = feed.definition.replace("every: 1h,", "every: 1h, allowed_lateness: 1h, emit: on_close,")
    feed.deliver("1", (0.5, "a", 1), (1.9, "a", 1))
    feed.run()
    feed.deliver("2", (2, "a", 1))
    feed.run()
    feed.deliver("3", (0.1, "a", 1))
    feed.run()
    assert feed.panes("_version", "pane", "said", "w", "n") == [
        (2, 0, "on_time", 1, 1), (3, 1, "late", -1, 1), (3, 1, "late", 1, 2),
    ]  # fmt: skip


def test_sessions_that_become_one(feed: Feed) -> None:
    feed.definition = feed.definition.replace("window: {time: at, every: 1h", "session: {time: at, gap: 1h")
    feed.definition = feed.definition.replace("window_start", "session_start")
    feed.deliver("1", (0, "a", 1), (2, "a", 2))
    feed.run()
    feed.deliver("2", (1, "a", 4), (9, "b", 0))
    feed.run()
    rows = lp.scan(f"{feed.uri}__panes").filter(pl.col("k") == "a", pl.col("_version") == 2).collect()
    told = rows.sort("session_start", "w").select("w", "pane", "session_start", "n", "total").rows()
    assert told == [(-1, 1, hour(0), 1, 1), (1, 1, hour(0), 3, 7), (-1, 1, hour(2), 1, 2)]


def test_a_rollback_is_told_and_made_good(feed: Feed) -> None:
    feed.deliver("1", (0.5, "a", 1))
    feed.run()
    feed.deliver("2", (0.6, "a", 2))
    feed.run()
    Dataset(feed.uri).rollback(1, run="back", time=datetime(2026, 2, 1, tzinfo=UTC))
    feed.run()
    assert feed.panes("_version", "pane", "w", "n") == [
        (1, 0, 1, 1), (2, 1, -1, 1), (2, 1, 1, 2), (3, 2, -1, 2), (3, 2, 1, 1), (4, 3, -1, 1), (4, 3, 1, 2),
    ]  # fmt: skip
    assert feed.added_up("retract") == feed.windows()


def test_columns_that_come_and_go_are_told(feed: Feed) -> None:
    feed.deliver("1", (0.5, "a", 1), (0.5, "b", 2))
    feed.run()
    feed.definition = feed.definition.replace("total: sum(v)", "total: sum(v), least: min(v)")
    feed.run()
    assert feed.panes("_version", "w", "k", "total", "least")[2:] == [
        (2, -1, "a", 1, None), (2, 1, "a", 1, 1), (2, -1, "b", 2, None), (2, 1, "b", 2, 2),
    ]  # fmt: skip
    feed.definition = feed.definition.replace(", least: min(v)", "")
    feed.run()
    assert feed.panes("_version", "w", "k", "total", "least")[6:] == [
        (3, -1, "a", 1, 1), (3, 1, "a", 1, None), (3, -1, "b", 2, 2), (3, 1, "b", 2, None),
    ]  # fmt: skip
    assert feed.panes("_version", "pane")[6:] == [(3, 2)] * 4


def test_a_new_sum_in_differences_counts_from_nothing(tmp_path: Path) -> None:
    feed = Feed(tmp_path, panes="discard")
    feed.deliver("1", (0.5, "a", 3))
    feed.run()
    feed.definition = feed.definition.replace("total: sum(v)", "total: sum(v), more: sum(v)")
    feed.run()
    assert feed.panes("_version", "n", "total", "more") == [(1, 1, 3, None), (2, 0, 0, 3)]


def test_panes_and_changes_are_told_side_by_side_and_vacuum_keeps_what_they_need(feed: Feed) -> None:
    feed.definition = feed.definition.replace("panes:", "changes: true, panes:")
    feed.deliver("1", (0.5, "a", 1))
    feed.run()
    feed.deliver("2", (0.6, "a", 2))
    feed.run()
    changes = lp.scan(f"{feed.uri}__changes").sort("_version", "_change").select("_change", "n").collect()
    assert changes.rows() == [("insert", 1), ("update_after", 2), ("update_before", 1)]
    assert [w for (w,) in feed.panes("w")] == [1, -1, 1]
    Dataset(feed.uri).rollback(1, run="back", time=datetime(2026, 2, 1, tzinfo=UTC))
    lp.vacuum(lp.Pipeline.from_yaml(feed.definition, base=str(feed.root)), older_than=timedelta(0))
    feed.run()
    assert feed.added_up("retract") == feed.windows()


def test_other_panes_or_another_key_need_a_new_feed(feed: Feed) -> None:
    feed.deliver("1", (0.5, "a", 1))
    feed.run()
    feed.deliver("2", (0.5, "a", 1))
    feed.definition = feed.definition.replace("mode: retract, weight: w", "mode: accumulate")
    assert feed.refusal() == (
        f"{feed.uri}__panes: the panes of output 'hourly' cannot go on: they were told in another way, or by another key; delete it and "
        "hourly__panes.commits to begin a new one"
    )
    feed.definition = feed.definition.replace("mode: accumulate", "mode: retract, weight: w")
    feed.definition = feed.definition.replace("every: 1h", "every: 1h, offset: 10m")
    feed.run()
    assert feed.added_up("retract") == feed.windows()


def test_a_key_of_another_type_needs_a_new_feed(feed: Feed) -> None:
    feed.deliver("1", (0.5, "1", 1))
    feed.run()
    feed.definition = feed.definition.replace("k: String", "k: Int64")
    assert "the columns of its key, or the ends of windows, are others than they were" in feed.refusal()


def test_history_says_the_same(feed: Feed) -> None:
    feed.deliver("1", (0.5, "a", 1))
    feed.run()
    feed.deliver("2", (3, "b", 2))
    feed.run()
    feed.deliver("3", (0.1, "a", 2))
    feed.run()
    feed.remove("1")
    feed.remove("3")
    feed.run()
    history = feed.plan.window_history("hourly", {"k": "a"}, T0)
    assert [(p.number, p.timing, None if p.row is None else p.row["n"]) for p in history.panes] == [
        (0, "early", 1), (1, "on_time", 1), (2, "late", 2), (3, "late", None),
    ]  # fmt: skip
    rows = lp.scan(f"{feed.uri}__panes").filter(pl.col("k") == "a").sort("_version", "w").collect()
    wanted = history.changes().sort("_version", "_change")
    assert (
        rows.select("pane", "_version", "w", "n", "total").rows()
        == wanted.select("_pane", "_version", "_change", "n", "total").rows()
    )


files = st.lists(
    st.tuples(
        st.sampled_from("1234"),
        st.lists(st.tuples(st.integers(0, 4), st.sampled_from("ab"), st.integers(1, 9)), max_size=3),
        st.sampled_from(["deliver", "deliver", "remove", "back", "full", "range"]),
    ),
    min_size=1,
    max_size=5,
)


def test_differences_of_a_column_that_goes_and_comes_again_add_up(tmp_path: Path) -> None:
    feed = Feed(tmp_path, panes="{mode: discard}")
    feed.deliver("1", (8, "a", 4), (9, "a", None))
    feed.run()
    whole = feed.definition
    feed.definition = whole.replace(", total: sum(v)", "")
    feed.run()
    told = lp.scan(feed.uri + "__panes").collect().sort("_version", "window_start")
    assert told.select("_version", "n", "total").rows() == [(1, 1, 4), (1, 1, None), (2, 0, -4), (2, 0, None)]
    feed.definition = whole
    feed.run()
    told = lp.scan(feed.uri + "__panes").collect()
    sums = told.group_by("window_start").agg(pl.col("n", "total").sum()).sort("window_start")
    assert sums.select("n", "total").rows() == [(1, 4), (1, 0)]


@pytest.mark.parametrize("mode", ["accumulate", "discard", "retract"])
@given(
    steps=files,
    runs=st.lists(st.booleans(), min_size=5, max_size=5),
    every=st.sampled_from(["1h", "1h", "1h, period: 2h", "2h, offset: 30m"]),
    layout=st.sampled_from(["", "", ", optimize: storage", ", maintain: {small_files: 2}", ", partition_by: [k]"]),
    more=st.sampled_from([None, None, 1]),
)
@settings(max_examples=max(2, settings().max_examples // 10))
def test_what_is_told_adds_up_to_what_there_is(
    mode: str, steps: list[Any], runs: list[bool], every: str, layout: str, more: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        weight = "weight: w, " if mode == "retract" else ""
        definition = DEFINITION.replace("every: 1h", f"every: {every}").replace(", panes:", f"{layout}, panes:")
        feed = Feed(Path(folder), definition, f"{{mode: {mode}, {weight}index: pane, timing: said}}")
        feed.deliver("0", (0, "a", 1))
        feed.run()
        for (name, rows, what), due in zip(steps, runs, strict=False):
            if what in ("deliver", "range") or not (feed.root / "in" / f"{name}.csv").exists():
                feed.deliver(name, *rows)
            elif what == "remove":
                feed.remove(name)
            elif what == "back":
                Dataset(feed.uri).rollback(1, run=f"b{feed.number}", time=datetime(2026, 2, 1, tzinfo=UTC))
            if due:
                window = (T0, T0 + timedelta(hours=2)) if what == "range" else None
                feed.run(full=what == "full", window=window, max_files=None if what == "full" else more)
        while feed.run(max_files=more).left:
            assert feed.added_up(mode) == feed.windows()
        assert feed.added_up(mode) == feed.windows()
        anew = feed.definition.replace("out/hourly", "anew/hourly").replace("name: p", "name: q")
        lp.Pipeline.from_yaml(anew, base=folder).compile().run().raise_for_status()
        fresh = lp.scan(f"{folder}/anew/hourly").drop("window_end").collect().rows()
        assert feed.windows() == sorted(fresh, key=repr)
        for k, start, *_ in feed.windows():
            history = feed.plan.window_history("hourly", {"k": k}, start)
            told = lp.scan(f"{feed.uri}__panes").filter(pl.col("k") == k, pl.col("window_start") == start)
            one_each = told.select("_version", "pane", "said").unique().sort("_version").collect().rows()
            assert one_each == [(p.version, p.number, p.timing) for p in history.panes]


def fault(old: str, new: str) -> str:
    with pytest.raises(lp.DefinitionError) as found:
        lp.Pipeline.from_yaml(DEFINITION.replace(old, new)).compile()
    (problem,) = found.value.problems
    return str(problem)


WINDOW = "window: {time: at, every: 1h, by: [k], aggregate: {n: count(*), total: sum(v)}}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (f"panes: {PANES}", "panes: retracted", "<yaml>:13:66: 'panes' cannot be 'retracted'; did you mean 'retract'?"),
        (PANES, "{index: i}", "<yaml>:13:66: 'mode' is missing in 'panes'; add mode: what to write for a window that changes"),
        (f"panes: {PANES}", "panes: retract, format: csv", "panes are for datasets, and this is one csv file; remove panes, or write format: dataset"),
        (f"panes: {PANES}", "panes: retract, mode: snapshot", "panes have no meaning with mode: snapshot; remove one of them; panes are for mode: replace, upsert or replace_partitions"),
        ("key: [k, window_start], ", "", "panes need a key; add key: the columns of a window's group, and window_start"),
        ("key: [k, window_start]", "key: [k]", "the key has no 'window_start', so all windows of a group would share one key; add window_start to key"),
        (WINDOW, "aggregate: {by: [k], aggregate: {window_start: min(at)}}", "panes are for windows, and 'hourly' is made of none; remove panes, or say changes: true"),
        ("mode: retract,", "mode: discard,", "weight is for mode: retract, and this is mode: discard; remove weight, or change mode"),
        ("index: pane", "index: w", "panes have a column 'w' already; choose another name"),
        ("index: pane", "index: _run", "panes have a column '_run' already; choose another name"),
        ("index: pane", "index: total", "panes have a column 'total' of their own, and 'hourly' has one; choose another name"),
        ("total: sum(v)", "_time: sum(v)", "panes have a column '_time' of their own, and 'hourly' has one; rename it in the stage"),
        (", watermark: {delay: 0s}", "", "timing needs a watermark, and no source of these rows has one; give one event_time and watermark: {delay: …}"),
        (f"- {WINDOW}", f"- {WINDOW}\n      - drop: window_end", "timing needs the end of each window, and 'hourly' has no 'window_end' as it was; keep window_end in the stage, or remove timing"),
        ("outputs:\n  hourly: {", "outputs:\n  raw: {from: a, to: out/raw}\n  hourly: {from: hour, ", "unknown stage 'hour'; did you mean 'hourly'?"),
        ("outputs:\n", "  next: {from: hourly}\noutputs:\n  next: {to: out/next, key: [k, window_start], panes: {mode: accumulate, timing: said}}\n", "timing is known only to the output that makes the windows, and 'hourly' is made elsewhere; ask for it there, or make the windows for this output alone"),
    ],
)  # fmt: skip
def test_mistakes_are_told_where_they_are(old: str, new: str, message: str) -> None:
    told = fault(old, new)
    assert told.endswith(message.removeprefix("<yaml>:13:66: "))
    assert told.startswith("<yaml>:")


@pytest.mark.parametrize(
    ("total", "what"),
    [
        ("max(v)", "column 'total' is max(v)"),
        ("avg(v)", "column 'total' is avg(v)"),
        ("sum(v) / count(*)", "column 'total' is sum(v) / count(*)"),
        ("count(DISTINCT v)", "column 'total' is count(DISTINCT v)"),
    ],
)
def test_what_has_no_difference(total: str, what: str) -> None:
    text = DEFINITION.replace(PANES, "discard").replace("sum(v)", total)
    with pytest.raises(lp.DefinitionError) as found:
        lp.Pipeline.from_yaml(text).compile()
    assert str(found.value) == (
        f"<yaml>:12:52: {what}, of which there is no difference; compute it from sum and count, leave it out, or say mode: retract, which publishes the old row and the new one"
        ""
    )


def test_what_has_no_difference_behind_windows() -> None:
    text = DEFINITION.replace(PANES, "{mode: discard}").replace(
        f"- {WINDOW}", f"- {WINDOW}\n      - derive: {{mean: total / n}}\n      - drop: n"
    )
    with pytest.raises(lp.DefinitionError, match="column 'mean' is made of others behind the windows, of which there"):
        lp.Pipeline.from_yaml(text).compile()
    text = DEFINITION.replace(PANES, "discard").replace("window: {time: at, every: 1h", "session: {time: at, gap: 1h")
    text = text.replace("window_start", "session_start")
    with pytest.raises(lp.DefinitionError, match="column 'session_end' is the time of the last row, of which there"):
        lp.Pipeline.from_yaml(text).compile()
    # in the key it is the same in all panes of a session
    lp.Pipeline.from_yaml(text.replace("session_start]", "session_start, session_end]")).compile()


def test_the_definition_comes_back_as_it_was_written() -> None:
    for panes in (PANES, "discard", "{mode: accumulate, timing: said}"):
        pipeline = lp.Pipeline.from_yaml(DEFINITION.replace(PANES, panes))
        assert lp.Pipeline.from_yaml(pipeline.to_yaml()) == pipeline
        assert lp.Pipeline.from_json(pipeline.to_json()) == pipeline
    assert "panes: discard" in lp.Pipeline.from_yaml(DEFINITION.replace(PANES, "{mode: discard}")).to_yaml()


@pytest.mark.parametrize("kept", ["", ", keep: 1"])
def test_files_of_feeds_are_joined_and_still_told_in_order(feed: Feed, kept: str) -> None:
    wanted = f"changes: true, maintain: {{small_files: 2{kept}}}, panes:"
    feed.definition = feed.definition.replace("panes:", wanted)
    said: list[str] = []
    totals = []
    for number in range(7):
        feed.deliver(f"{number}", (0.5, "a", number), (number + 0.1, "b", 1))
        said += feed.run().segments[0].maintained
        assert feed.added_up("retract") == feed.windows()
        totals.append(feed.windows())
    feeds = [Dataset(f"{feed.uri}__{kind}") for kind in ("panes", "changes")]
    for one in feeds:
        assert len(one.read().files) <= 3
        assert any(line.startswith(f"{one.uri}: version") for line in said)
        assert (len(one.log.versions()) == 1) is bool(kept)
    # the window that each delivery touched, pane by pane, the old row ahead of the new one
    told = lp.scan(f"{feed.uri}__panes").filter(pl.col("k") == "a").sort("pane", "w").collect()
    assert told.select("pane", "w", "total").rows() == [
        (0, 1, 0),
        *((n, w, sum(range(n + (w > 0)))) for n in range(1, 7) for w in (-1, 1)),
    ]
    history = lp.window_history(feed.plan, "hourly", {"k": "a"}, T0)
    if kept:
        return
    assert [(p.row or {})["total"] for p in history.panes] == [sum(range(n + 1)) for n in range(7)]
    # what the feed told at each of its versions is what the output held then
    for version in feeds[0].log.versions():
        rows = lp.scan(f"{feed.uri}__panes", version=version).collect()
        there = (
            rows.group_by("k", "window_start", "n", "total")
            .agg(pl.col("w").cast(pl.Int64).sum())
            .filter(pl.col("w") != 0)
        )
        assert sorted(there.drop("w").rows(), key=repr) in totals
