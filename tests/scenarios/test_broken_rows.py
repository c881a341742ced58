"""Rows that cannot be read are set aside by row, with file, line, text and reason; the rest of the file is processed."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset

CONTRACT = {"columns": {"id": "Int64", "note": "String", "amount": "Float64"}, "on_type_change": "discard_row"}
FIRST = b"""\
id,note,amount\r
1,fine,1.5\r
2,"on two\r
lines, with a comma",2.5\r
3,too few\r
4,too,many,4.5\r
5,"never closed,5.5\r
6,fine,6.5\r
seven,no number,7.5\r
\r
8,"closed" too early,8.5\r
9,fine,9.5\r
"""
BROKEN = [
    ("5", "3,too few", "it has 2 of 3 fields"),
    ("6", "4,too,many,4.5", "it has 4 of 3 fields"),
    ("7", '5,"never closed,5.5', "a quote is not closed"),
    ("10", "", "it has 0 of 3 fields"),
    ("11", '8,"closed" too early,8.5', "there is text after the quote that closes a field"),
]


@pytest.fixture
def root(somewhere: str) -> str:
    fs, path = fsspec.core.url_to_fs(f"{somewhere}/data")
    fs.makedirs(path)
    return f"{somewhere}/data"


class Orders:
    """Files of orders, and a pipeline that copies them and adds them up."""

    def __init__(self, root: str, base: Path, ending: str, **source: Any) -> None:
        self.root, self.base, self.ending = root, base, ending
        self.source = {"contract": CONTRACT, **source}

    def put(self, name: str, content: bytes) -> None:
        packed = gzip.compress(content) if self.ending.endswith(".gz") else content
        fs, path = fsspec.core.url_to_fs(f"{self.root}/{name}.{self.ending}")
        fs.pipe_file(path, packed)

    def uri(self, name: str) -> str:
        return f"{self.root}/{name}.{self.ending}"

    def plan(self) -> lp.CompiledPipeline:
        made = lp.pipeline("p", base=str(self.base)).source("orders", f"{self.root}/*.{self.ending}", **self.source)
        return made.output("orders", "out").build().compile()

    def run(self) -> lp.RunResult:
        result = self.plan().run()
        result.raise_for_status()
        return result

    def ids(self) -> list[int]:
        return sorted(lp.scan(str(self.base / "out")).collect()["id"].to_list())

    def aside(self) -> list[tuple[str, ...]]:
        """Return the quarantined rows that could not be read: file, line, text, reason."""
        rows = lp.scan(str(self.base / "out__quarantine")).filter(pl.col("_lazypipe_rules").list.contains("broken_row"))
        found = []
        for row in rows.collect().iter_rows(named=True):
            assert row["_lazypipe_rules"] == ["broken_row"]
            assert row["id"] is row["note"] is row["amount"] is None
            told = json.loads(row["_lazypipe_raw"])
            assert list(told) == ["broken_row:line", "broken_row:text", "broken_row:why"]
            found.append((row["_lazypipe_file"], *told.values()))
        return sorted(found, key=lambda r: (r[0], int(r[1])))


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_a_file_with_rows_that_cannot_be_read(tmp_path: Path, root: str, ending: str) -> None:
    orders = Orders(root, tmp_path, ending, gate=[{"not_null": "amount"}, {"unique": "id"}])
    orders.put("1", FIRST)
    orders.put("2", b"id,note,amount\n10,fine,10.5\n")
    result = orders.run()
    (segment,) = result.segments
    (report,) = segment.gates
    assert str(report) == (
        "<GateReport orders: warn; 11 rows: 5 good, 6 quarantined, 0 dropped; warn: broken_row: 5 of 11 rows (quarantine); "
        "warn: type:id: 1 of 11 rows (quarantine)>"
    )
    assert result.corrupt == ()
    assert lp.scan(str(tmp_path / "out")).collect().sort("id").rows() == [
        (1, "fine", 1.5),
        (2, "on two\r\nlines, with a comma", 2.5),
        (6, "fine", 6.5),
        (9, "fine", 9.5),
        (10, "fine", 10.5),
    ]
    assert orders.aside() == [(orders.uri("1"), *told) for told in BROKEN]
    (cell,) = (
        lp.scan(str(tmp_path / "out__quarantine")).filter(pl.col("note") == "no number").collect()["_lazypipe_raw"]
    )
    assert json.loads(cell)["id"] == "seven"
    assert orders.run().segments[0].status == "unchanged"


@pytest.mark.parametrize("ending", ["ndjson", "ndjson.gz"])
def test_lines_of_ndjson_that_cannot_be_read(tmp_path: Path, root: str, ending: str) -> None:
    orders = Orders(root, tmp_path, ending)
    lines = [
        '{"id": 1, "note": "fine", "amount": 1}',
        '{"id": 2, "note": ',
        "",
        "[3]",
        '{"id": "four"}',
        '{"id": 5, "amount": NaN}',
        '{"id": 6}',
    ]
    orders.put("1", "\n".join(lines).encode())
    orders.run()
    assert orders.ids() == [1, 6]
    assert orders.aside() == [
        (orders.uri("1"), "2", '{"id": 2, "note": ', "it is not JSON: Expecting value at character 19"),
        (orders.uri("1"), "4", "[3]", "it is not a JSON object"),
        (
            orders.uri("1"),
            "6",
            '{"id": 5, "amount": NaN}',
            "it is not JSON: NaN is not a JSON number at character 1",
        ),
    ]


@pytest.mark.parametrize("ending", ["csv", "ndjson", "csv.gz"])
def test_files_that_grow_and_files_that_are_mended(tmp_path: Path, root: str, ending: str) -> None:
    """Of a file that has grown just the tail is read, whose lines are counted from the start; a mended file heals its rows."""
    csv = "csv" in ending
    sound = (lambda n: b"%d,fine,1\n" % n) if csv else (lambda n: b'{"id": %d, "note": "fine", "amount": 1}\n' % n)
    broken = b"8,x\n" if csv else b'{"id": 8,\n'
    head = b"id,note,amount\n" if csv else b"\n"
    orders = Orders(root, tmp_path, ending)
    orders.put("1", head + sound(1) + broken + sound(2))
    orders.run()
    orders.put("1", head + sound(1) + broken + sound(2) + sound(3) + broken)
    orders.put("2", head + broken)
    result = orders.run()
    assert result.segments[0].written == (1 if ending == "csv" or ending == "ndjson" else 3)
    assert orders.ids() == [1, 2, 3]
    assert [(file, line) for file, line, *_ in orders.aside()] == [
        (orders.uri("1"), "3"),
        (orders.uri("1"), "6"),
        (orders.uri("2"), "2"),
    ]
    # what is wrong is not mended by trying again
    assert orders.plan().replay("orders").healed == 0
    assert len(orders.aside()) == 3
    orders.put("1", head + sound(1) + sound(8) + sound(2) + sound(3))
    orders.put("2", head + sound(9))
    orders.run()
    assert orders.ids() == [1, 2, 3, 8, 9]
    assert orders.aside() == []


def test_a_row_that_goes_on_in_what_is_appended(tmp_path: Path, root: str) -> None:
    """A writer was met in the middle of a row, twice: it is broken until the rest of it is there."""
    orders = Orders(root, tmp_path, "csv")
    text = b'id,note,amount\n1,"one,1\n2,"two\n'
    orders.put("1", text)
    orders.run()
    assert orders.ids() == []
    assert [(line, what) for _, line, what, _ in orders.aside()] == [("2", '1,"one,1'), ("3", '2,"two')]
    orders.put("1", text + b'lines",2\n3,three,3\n')
    orders.run()
    assert orders.ids() == [2, 3]
    assert [(line, what) for _, line, what, _ in orders.aside()] == [("2", '1,"one,1')]


def test_traces_know_the_rows_of_the_file(tmp_path: Path, root: str) -> None:
    orders = Orders(root, tmp_path, "csv")
    orders.put("1", FIRST)
    orders.run()
    for traced in (
        orders.plan().trace("orders", {"id": 6}),
        orders.plan().trace("orders", {"note": "fine", "amount": 6.5}),
    ):
        (rows,) = (of.rows for of in traced.sources.values())
        assert rows is not None
        assert rows.select("_lazypipe_file", "_lazypipe_row", "id").rows() == [(orders.uri("1"), 5, 6)]


@pytest.mark.parametrize("on_corrupt", ["fail", "skip", "quarantine_file"])
def test_what_cannot_be_read_by_row_is_left_to_on_corrupt(tmp_path: Path, root: str, on_corrupt: str) -> None:
    orders = Orders(root, tmp_path, "csv.gz", on_corrupt=on_corrupt)
    orders.put("1", FIRST)
    orders.put("2", FIRST)
    fs, path = fsspec.core.url_to_fs(orders.uri("2"))
    fs.pipe_file(path, fs.cat_file(path)[:-20])
    if on_corrupt == "fail":
        error = orders.plan().run().segments[0].error
        assert str(error).startswith(
            f"{orders.uri('2')}: source 'orders': is not readable as csv: the packed text ends too early"
        )
        return
    assert [c.uri for c in orders.run().corrupt] == [orders.uri("2")]
    assert orders.ids() == [1, 2, 6, 9]
    assert orders.aside() == [(orders.uri("1"), *told) for told in BROKEN]


def test_a_file_of_nothing_but_broken_rows(tmp_path: Path, root: str) -> None:
    orders = Orders(root, tmp_path, "ndjson")
    orders.put("1", b"<html>\n<body>gone</body>\n")
    orders.run()
    assert orders.ids() == []
    assert [(line, text) for _, line, text, _ in orders.aside()] == [("1", "<html>"), ("2", "<body>gone</body>")]


def test_several_readers_agree_about_broken_rows(tmp_path: Path, root: str) -> None:
    """A join, a sum and a copy of the same files, some of them larger than others; also where rows are looked up."""
    orders = Orders(root, tmp_path, "csv")
    (tmp_path / "kinds.csv").write_text("kind,label\na,A\nb\nc,C,D\nd,D\n")
    orders.put("1", b"id,kind\n1,a\n2,b\n3\n4,d\n")
    contract = {"columns": {"id": "Int64", "kind": "String"}, "on_type_change": "discard_row"}
    labels = {"columns": {"kind": "String", "label": "String"}, "on_type_change": "discard_row"}

    def run(out: str) -> dict[str, list[tuple[Any, ...]]]:
        made = lp.pipeline("p", base=str(tmp_path / out)).source("orders", f"{root}/*.csv", contract=contract)
        made = made.source("kinds", f"{tmp_path}/kinds.csv", contract=labels)
        made = made.stage("named", "orders", do=[{"join": {"with": "kinds", "on": "kind", "how": "left"}}])
        made = made.stage("counted", "named", do=[{"aggregate": {"by": "label", "aggregate": {"n": "count(*)"}}}])
        for name in ("orders", "named", "counted"):
            made = made.output(name, name)
        result = made.build().compile().run()
        result.raise_for_status()
        return {
            n: sorted(lp.scan(str(tmp_path / out / n)).collect().rows(), key=repr)
            for n in ("orders", "named", "counted")
        }

    assert run("a")["named"] == [(1, "a", "A"), (2, "b", None), (4, "d", "D")]
    (tmp_path / "kinds.csv").write_text("kind,label\na,A\nb,B\nc,C,D\nd\n")
    orders.put("2", b"id,kind\n5,c\n6,d,x\n")
    found = run("a")
    assert found == run("b")
    assert found["named"] == [(1, "a", "A"), (2, "b", "B"), (4, "d", None), (5, "c", None)]
    assert found["counted"] == [("A", 1), ("B", 1), (None, 2)]


def test_what_else_is_wrong_with_a_file_is_told_with_its_line(tmp_path: Path, root: str) -> None:
    contract = {"columns": {"id": {"type": "Int64", "on_type_change": "fail"}}, "on_type_change": "discard_row"}
    orders = Orders(root, tmp_path, "csv", contract=contract)
    orders.put("1", b'id,note\n1,"a\nb"\n2\nthree,c\n')
    error = orders.plan().run().segments[0].error
    assert str(error).startswith(
        f"{orders.uri('1')}: source 'orders': is not readable as csv: 'three' in column 'id' is not a valid Int64 (line 5)"
    )
    assert not (tmp_path / "out.commits").exists()


def test_a_field_that_no_column_takes_is_found_beside_broken_lines(tmp_path: Path, root: str) -> None:
    orders = Orders(root, tmp_path, "ndjson", contract={"columns": {"id": "Int64"}, "on_type_change": "discard_row"})
    orders.put("1", b'{"id": 1}\n{\n\n' + b'{"id": 2}\n' * 10_000 + b'{"id": 3, "more": 1}\n')
    error = orders.plan().run().segments[0].error
    assert "line 10004 has a field 'more' that no column takes" in str(error)


def test_types_are_taken_from_the_lines_that_can_be_read(tmp_path: Path, root: str) -> None:
    orders = Orders(root, tmp_path, "ndjson", contract={"columns": {"id": "Int64"}, "on_type_change": "discard_row"})
    orders.put("1", b'{\n{"id": 1, "more": true}\n')
    assert dict(orders.plan().schema("orders")) == {"id": pl.Int64(), "more": pl.Boolean()}
    orders.run()
    assert lp.scan(str(tmp_path / "out")).collect().rows() == [(1, True)]
    orders.put("1", b"{\n")
    assert dict(orders.plan().schema("orders")) == {"id": pl.Int64()}


def test_very_many_files_of_which_some_have_broken_rows(tmp_path: Path, root: str) -> None:
    orders = Orders(root, tmp_path, "csv")
    for n in range(40):
        orders.put(f"{n:02}", b"id,note,amount\n%d,a,1\n" % n + (b"x\n" if n in (7, 31) else b""))
    orders.run()
    assert orders.ids() == list(range(40))
    assert [file for file, *_ in orders.aside()] == [orders.uri("07"), orders.uri("31")]


def test_half_of_many_rows_is_broken(tmp_path: Path) -> None:
    """Neither takes a query for each, nor time that grows faster than they do."""
    for kind, sound, broken in (
        ("csv", "%d,a,1\n", ["%d\n", '%d,"a\n', "%d,a,1,2\n"]),
        (
            "ndjson",
            '{"id": %d, "note": "a", "amount": 1}\n',
            ["[%d]\n", '{"id": %d\n', '{"id": %d, "amount": 1e999}\n'],
        ),
    ):
        base = tmp_path / kind
        (base / "data").mkdir(parents=True)
        orders = Orders(f"{base}/data", base, kind)
        head = "id,note,amount\n" if kind == "csv" else ""
        text = "".join((sound if n % 2 else broken[n // 2 % 3]) % n for n in range(60_000))
        orders.put("1", (head + text).encode())
        before = os.times()
        result = orders.run()
        after = os.times()
        assert (result.segments[0].rows, result.segments[0].gates[0].quarantined) == (30_000, 30_000)
        assert after.user + after.system - before.user - before.system < 9  # about 0.6; a query for each would take 30


LATE = """
version: 1
name: late
sources:
  s:
    uri: "{root}/*.csv"
    event_time: t
    watermark: {{delay: 0s, order: name, tolerance: 100000d}}
    contract: {{columns: {{id: Int64, t: "Datetime(us)", note: String}}, on_type_change: discard_row}}
stages:
  w:
    from: s
    do:
      - window: {{time: t, every: 1h, allowed_lateness: 0s, late: quarantine, aggregate: {{n: count(*)}}}}
outputs:
  w: {{to: "{out}"}}
"""


@pytest.mark.parametrize(
    "broken", ["9,2024-01-01T20:00:00\n", "9,2024-01-01T20:00:00,a,b\n", '9,2024-01-01T20:00:00,"a\n']
)
def test_the_times_of_broken_rows_move_no_watermark(tmp_path: Path, root: str, broken: str) -> None:
    """What is late is the same whether files come one by one or all at once."""
    head, sound = "id,t,note\n", "{},2024-01-01T{:02}:30:00,a\n"
    files = [
        head + sound.format(1, 3) + broken,
        head + sound.format(2, 5),
        head + sound.format(3, 2) + sound.format(4, 6),
    ]
    fs, folder = fsspec.core.url_to_fs(root)
    fs.makedirs(folder, exist_ok=True)
    found = []
    for name, at_once in (("step", False), ("once", True)):
        out = f"{tmp_path}/{name}/out"
        for number, text in enumerate(files):
            fs.pipe_file(f"{folder}/{number}.csv", text.encode())
            if not at_once or number == 2:
                plan = lp.Pipeline.from_yaml(LATE.format(root=root, out=out), base=f"{tmp_path}/{name}").compile()
                plan.run().raise_for_status()
        windows = lp.scan(out).collect().sort("window_start").select("window_start", "n").rows()
        found.append([(start.hour, n) for start, n in windows])
        for number in range(3):
            fs.rm(f"{folder}/{number}.csv")
    assert found == [[(3, 1), (5, 1), (6, 1)]] * 2


def test_no_row_is_looked_up_in_a_broken_one(tmp_path: Path, root: str) -> None:
    """Also where of the file only the key is wanted, which the broken row has."""
    orders = Orders(root, tmp_path, "csv")
    (tmp_path / "kinds.csv").write_text("kind,label\na,A\nb\nc,C,D\n")
    orders.put("1", b"id,kind\n1,a\n2,b\n3,c\n")
    contract = {"columns": {"id": "Int64", "kind": "String"}, "on_type_change": "discard_row"}
    labels = {"columns": {"kind": "String", "label": "String"}, "on_type_change": "discard_row"}
    gate = [
        {"foreign_key": {"column": "kind", "references": {"to": "kinds", "column": "kind"}, "action": "quarantine"}}
    ]
    made = lp.pipeline("p", base=str(tmp_path)).source("orders", f"{root}/*.csv", contract=contract, gate=gate)
    made = made.source("kinds", f"{tmp_path}/kinds.csv", contract=labels).output("orders", "out")
    for _ in range(2):
        made.build().compile().run().raise_for_status()
        assert orders.ids() == [1]
        orders.put("2", b"id,kind\n4,b\n")


def test_files_without_a_header(tmp_path: Path, root: str) -> None:
    orders = Orders(
        root,
        tmp_path,
        "csv",
        read={"header": False},
        contract={"columns": {"column_0": "Int64"}, "on_type_change": "discard_row"},
    )
    orders.put("1", b'1,a\n2,"b\n3\n4,d\n')
    orders.run()
    assert lp.scan(str(tmp_path / "out")).collect().sort("column_0").rows() == [(1, "a"), (4, "d")]
    aside = lp.scan(str(tmp_path / "out__quarantine")).collect()["_lazypipe_raw"]
    assert sorted(json.loads(t)["broken_row:line"] for t in aside) == ["2", "3"]


def test_a_column_that_states_the_watermark_states_none_in_broken_rows(tmp_path: Path, root: str) -> None:
    stated = LATE.replace("{{delay: 0s, order: name, tolerance: 100000d}}", "{{column: w}}").replace(
        "note: String", '"w": "Datetime(us)"'
    )
    head, sound = "id,t,w\n", "{0},2024-01-01T{1:02}:30:00,2024-01-01T{1:02}:30:00\n"
    fs, folder = fsspec.core.url_to_fs(root)
    fs.makedirs(folder, exist_ok=True)
    broken = ["9,2024-01-01T20:00:00,2024-01-01T20:00:00,a\n", '"9",2024-01-01T20:00:00,2024-01-01T20:00:00"\n']
    for number, text in enumerate([sound.format(1, 3) + broken[0], sound.format(2, 5) + broken[1], sound.format(3, 6)]):
        fs.pipe_file(f"{folder}/{number}.csv", (head + text).encode())
        plan = lp.Pipeline.from_yaml(stated.format(root=root, out=f"{tmp_path}/out"), base=str(tmp_path)).compile()
        plan.run().raise_for_status()
        commit = Dataset(f"{tmp_path}/out").latest()
        assert commit is not None
        assert commit.info["watermark"] // 3_600_000_000 % 24 == (3, 5, 6)[number]


NEAREST = """
version: 1
name: p
sources:
  trades: {{uri: "{root}/trades-*.csv", contract: {{columns: {{at: Datetime(us), k: String, v: Int64}}, on_type_change: discard_row}}}}
  quotes: {{uri: "{root}/quotes-*.csv", contract: {{columns: {{at: Datetime(us), k: String, p: Int64}}, on_type_change: discard_row}}}}
stages:
  priced: {{from: trades, do: [asof_join: {{with: quotes, on: at, by: [k]}}]}}
outputs:
  priced: {{to: "{out}"}}
"""


def test_changes_beside_files_with_broken_rows(tmp_path: Path, root: str) -> None:
    """What a change in the other side of a join by time touches is asked of files that were read long ago."""
    fs, folder = fsspec.core.url_to_fs(root)
    fs.makedirs(folder, exist_ok=True)

    def put(name: str, *rows: str) -> None:
        value = "v" if name.startswith("trades") else "p"
        fs.pipe_file(f"{folder}/{name}.csv", f"at,k,{value}\n".encode() + "".join(f"{r}\n" for r in rows).encode())

    def run(out: str) -> list[tuple[Any, ...]]:
        text = NEAREST.format(root=root, out=f"{tmp_path}/{out}/out")
        plan = lp.Pipeline.from_yaml(text, base=f"{tmp_path}/{out}").compile()
        plan.run().raise_for_status()
        found = lp.scan(f"{tmp_path}/{out}/out").collect()
        return sorted((r["at"].hour, r["v"], r["p"]) for r in found.iter_rows(named=True))

    day = "2024-05-01T{:02}:00:00"
    for hour in range(1, 9):
        at = day.format(hour)
        put(f"trades-{hour}", f"{at},a,{hour}", *([f"{at},a,1,2", f'{at},a,"'] if hour % 3 == 0 else []))
        put(f"quotes-{hour}", f"{at},a,{hour}0", *([f"{at},a", f"{at},a,0,0"] if hour % 4 == 0 else []))
    assert run("step") == [(hour, hour, hour * 10) for hour in range(1, 9)]
    put("quotes-5", f"{day.format(5)},a,55", f"{day.format(5)},a,56,57")
    wanted = [(hour, hour, 55 if hour == 5 else hour * 10) for hour in range(1, 9)]
    assert run("step") == wanted
    put("quotes-8", f"{day.format(6)},a,1,1", f"{day.format(8)},a,88")
    wanted[7] = (8, 8, 88)
    assert run("step") == wanted == run("once")
