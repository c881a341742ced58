"""Text files that grow: only what was appended is read, and the result is that of a full run."""

from __future__ import annotations

import json
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.scenarios import growing
from tests.scenarios.growing import NOW, OLD, Growing

EXAMPLES = settings().max_examples
COLUMNS = {"id": "Int64", "k": "String", "v": "Int64"}
KINDS = growing.KINDS | {"kinds": {"do": [{"select": ["k"]}, {"distinct": {}}]}}
LOOKUP = {"join": {"with": "s", "on": "k", "how": "left", "columns": {"v": "there"}}}
LOOKED: dict[str, Any] = {
    "sources": {"m": {"uri": "more/*.csv", "contract": {"columns": {"k": "String"}}}},
    "stages": {"t": {"from": "m", "do": [LOOKUP]}},
    "outputs": {"t": {}},
}


class Logs(Growing):
    """Text files that others append to."""

    kinds = KINDS

    def __init__(self, base: Path, kind: str = "rows", form: str = "csv", uri: str | None = None) -> None:
        super().__init__(base, kind, uri or f"in/**/*.{form}")
        self.form = form

    def data(self, out: str = "out") -> dict[str, Any]:
        made = super().data(out)
        made["sources"]["s"] = {"contract": {"columns": COLUMNS}, **made["sources"]["s"]}
        return made

    def add(self, name: str, text: str, *, to: str = "in", form: str | None = None) -> None:
        path = self.base / to / f"{name}.{form or self.form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", newline="") as file:
            file.write(text)
        self.stamp(path)


def line(form: str, row: tuple[int | None, str | None, int | None], end: str = "\n") -> str:
    if form == "ndjson":
        return json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n"
    quoted = "" if row[1] is None else '"' + row[1].replace('"', '""') + '"'
    return ",".join(["" if row[0] is None else str(row[0]), quoted, "" if row[2] is None else str(row[2])]) + end


ROWS = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from(["a", "b\nc", 'd"', "e,\n\nf", "g\r\nh", "\u00e9\ufeff", "", None]),
        st.one_of(st.none(), st.integers(0, 60)),
    ),
    max_size=4,
)


@st.composite
def histories(draw: st.DrawFn) -> dict[str, Any]:
    """Draw how files grow: whole rows at once, or cut anywhere; and what else becomes of them."""
    events = st.tuples(
        st.sampled_from(["grow", "grow", "grow", "half", "shrink", "remove", "move", "carry"]), st.integers(0, 1), ROWS
    )
    return {
        "kind": draw(st.sampled_from(sorted(KINDS))),
        "form": draw(st.sampled_from(["csv", "csv", "ndjson"])),
        "end": draw(st.sampled_from(["\n", "\n", "\r\n"])),
        "mark": draw(st.sampled_from(["", "", "\ufeff"])),
        "twin": draw(st.sampled_from([None, *sorted(KINDS), "side"])),
        "runs": draw(
            st.lists(st.tuples(st.lists(events, min_size=1, max_size=3), st.booleans()), min_size=2, max_size=4)
        ),
        "bound": draw(st.sampled_from([{}, {}, {"max_files": 1}])),
    }


@settings(max_examples=max(5, EXAMPLES // 8))
@given(histories())
def test_whatever_is_appended_the_result_is_that_of_a_full_run(case: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        logs = Logs(Path(folder), case["kind"], case["form"])
        if case["twin"] == "side":  # another reader, which looks rows of another source up in it
            logs.more = LOOKED
            logs.add("m", 'k\na\n"e,\n\nf"\n', to="more", form="csv")
        elif case["twin"] is not None:  # another reader, which may be behind
            logs.more = {"stages": {"t": {"from": "s", **KINDS[case["twin"]]}}, "outputs": {"t": {}}}
        head = f"{case['mark']}id,k,v{case['end']}" if case["form"] == "csv" else line("ndjson", (99, "a", 1))
        for name in ("0", "1", "always"):
            logs.add(name, head)
        # rows put aside keep the name of the file that they came in
        for events, both in case["runs"]:
            for what, number, rows in events:
                path = logs.base / "in" / f"{number}.{logs.form}"
                text = "".join(line(logs.form, row, case["end"]) for row in rows)
                if what == "remove" and path.exists():
                    path.unlink()
                elif what == "move" and path.exists() and "gated" not in (case["kind"], case["twin"]):
                    path.rename(path.with_name(f"{logs.writes}{number}.{logs.form}"))
                elif what == "carry" and path.exists() and "gated" not in (case["kind"], case["twin"]):
                    # another name, and more rows at once
                    name = f"{logs.writes}{number}"
                    ended = not path.read_bytes().endswith(b"\n")
                    path.rename(path.with_name(f"{name}.{logs.form}"))
                    logs.add(name, "\n" * ended + text)
                elif what == "shrink" or not path.exists():
                    path.unlink(missing_ok=True)
                    logs.add(str(number), head + text)
                elif what == "half" and logs.form == "csv" and text:
                    ended = not path.read_bytes().endswith(b"\n")
                    logs.add(str(number), "\n" * ended + text[:-1])
                    if not logs.base.exists() or number:  # sometimes the rest comes before anybody looks
                        logs.add(str(number), "\n")
                else:
                    ended = not path.read_bytes().endswith(b"\n")
                    logs.add(str(number), "\n" * ended + text)
            if not both:
                logs.run(outputs=["o"])
                continue
            bound = case["bound"]
            result = logs.run(**bound)
            while bound and result.left:
                result = logs.run(**bound)
            logs.same()
        logs.same()


# which bytes are read


class Spy:
    """What is read of files in memory: by position, which is how their rows are read; all else is looked at to be hashed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ranges: list[tuple[str, int, int]] = []
        read = MemoryFileSystem.cat_file

        def cat_file(fs: Any, path: str, start: Any = None, end: Any = None, **more: Any) -> bytes:
            found: bytes = read(fs, path, start, end, **more)
            if start is not None and path.endswith(".csv"):
                self.ranges.append((path.rpartition("/")[2], start, start + len(found)))
            return found

        patch.setattr(MemoryFileSystem, "cat_file", cat_file)


def test_only_the_tail_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = f"memory://{uuid.uuid4().hex}"
    fs = fsspec.filesystem("memory")
    head = "id,k,v\n" + "".join(f"{n},{'x' * 90},1\n" for n in range(2_000))  # 190 KB
    fs.pipe_file(f"{folder}/a.csv", head.encode())
    fs.pipe_file(f"{folder}/b.csv", b"id,k,v\n5,x,1\n")
    logs = Logs(tmp_path, uri=f"{folder}/*.csv")
    logs.step()
    tail = '9,"y\nz",1\n'
    fs.pipe_file(f"{folder}/a.csv", (head + tail).encode())
    plan = logs.plan()
    spy = Spy(monkeypatch)
    (step,) = [s for s in plan.preview() if s["name"] == "o"]
    assert (step["why"], step["reads"]) == ("s: 1 grown, 1 unchanged", [{"name": "s", "files": 1, "of": 2, "bytes": len(tail), "rows": None}])  # fmt: skip
    assert spy.ranges == []
    result = plan.run(now=NOW)
    (segment,) = result.segments
    assert (segment.why, segment.written, segment.rows) == ("s: 1 grown, 1 unchanged", 1, 1_002)
    assert {name for name, _, _ in spy.ranges} == {"a.csv"}
    beginning = [end - start for _, start, end in spy.ranges if start < len(head)]
    assert sum(beginning) <= 4_096 + 65_536 < len(head)  # the header, wherever it is asked for
    assert {(start, end) for _, start, end in spy.ranges if start >= len(head)} == {(len(head), len(head + tail))}
    assert (9, "y\nz", 1) in logs.rows()


def test_what_is_read_of_a_file_on_this_machine(tmp_path: Path) -> None:
    logs = Logs(tmp_path, "gated")
    logs.add("a", "id,k,v\n" + "1,a,1\n" * 500)
    logs.add("b", "id,k,v\n2,b,2\n")
    logs.step()
    logs.add("a", "3,c,\n4,d,4\n")
    logs.same()
    (listed,) = logs.commit().info["consumed"]["units"].values()
    assert [start for start, _ in listed[0]] == [0, 7 + 500 * 6]
    assert isinstance(listed[1], int)
    assert logs.step().status == "unchanged"
    # the plan of the query that ran says so
    logs.add("a", "5,e,5\n")
    result = logs.run()
    assert result.segments[0].written == 1


def test_a_file_that_grew_and_was_then_changed(tmp_path: Path) -> None:
    logs = Logs(tmp_path, "gated")
    logs.add("a", "id,k,v\n1,a,\n")
    logs.step()
    logs.add("a", "2,b,2\n")
    assert logs.same().why == "s: 1 grown"
    path = tmp_path / "in/a.csv"
    path.rename(tmp_path / "in/moved.csv")
    assert logs.step().why == "nothing changed: s: 1 moved"
    (tmp_path / "in/moved.csv").rename(path)
    text = path.read_text()
    path.write_text(text.replace("1,a,", "7,a,"))
    assert logs.same().why == "s: 1 modified"
    assert logs.rows() == [(2, "b", 2)]
    logs.add("a", "3,c,3\n")
    assert logs.same().why == "s: 1 grown"


def test_growth_is_no_change_that_is_refused_or_ignored(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    for said in ("fail", "ignore"):
        logs.source = {"on_modified": said}
        logs.add("a", f"id,k,v\n1,{said},1\n" if said == "fail" else "4,d,4\n")
        logs.step()
        logs.add("a", "2,b,2\n")
        assert logs.step().why == "s: 1 grown"
    assert logs.rows() == [(1, "fail", 1), (2, "b", 2), (2, "b", 2), (4, "d", 4)]
    logs.source = {"on_removed": "ignore"}
    (tmp_path / "in/a.csv").rename(tmp_path / "kept")
    logs.add("b", "id,k,v\n5,e,5\n")
    assert len({r[0] for r in logs.rows()}) == 3
    assert logs.step().written == 1
    assert [r[0] for r in logs.rows()] == [1, 2, 2, 4, 5]


def test_a_tail_with_a_short_row_is_named_by_its_line(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.add("a", "id,k,v\n1,a,1\n")
    logs.step()
    logs.add("a", "2,b,2\n3,c\n")
    result = logs.plan().run(now=NOW)
    assert str(result.segments[0].error) == (
        f"{tmp_path}/in/a.csv: source 's': line 4 has 2 of 3 fields; fix the row, or have the file delivered again"
    )
    logs.base.joinpath("in/a.csv").write_text("id,k,v\n1,a,1\n2,b,x\n")
    assert "line 3" in str(logs.plan().run(now=NOW).segments[0].error)
    assert logs.rows() == [(1, "a", 1)]


def test_folders_are_columns_of_tails_too(tmp_path: Path) -> None:
    logs = Logs(tmp_path, uri="in/**/*.csv")
    logs.output = {"partition_by": ["day"]}
    logs.add("day=2024-01-01/a", "id,k,v\n1,a,1\n")
    logs.step()
    logs.add("day=2024-01-01/a", "2,b,2\n")
    logs.add("day=2024-01-02/a", "id,k,v\n3,a,1\n")
    assert logs.same().written == 2


def test_a_version_that_comes_back_brings_what_it_had_read(tmp_path: Path) -> None:
    logs = Logs(tmp_path, "keys")
    logs.add("a", "id,k,v\n1,a,1\n")
    logs.step()
    logs.add("a", "1,b,2\n")
    logs.step()
    logs.add("a", "3,c,3\n")
    logs.step()
    lp.rollback(logs.plan(), "o", version=1)
    assert logs.same().why == "s: 1 grown"
    lp.rollback(logs.plan(), "o", version=2)
    assert logs.same().why == "s: 1 grown"
    assert logs.rows() == [(1, "a", 1), (1, "b", 2), (3, "c", 3)]


def test_what_reads_the_output_follows_tails(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.more = {
        "stages": {"t": {"from": "o", "do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}]}},
        "outputs": {"t": {}},
    }
    logs.add("a", "id,k,v\n1,a,1\n")
    logs.same()
    for number in range(3):
        logs.add("a", f"{number},b,2\n")
        assert logs.same(**({"max_files": 1} if number == 1 else {})).written == 1


@pytest.mark.parametrize("kind", ["rows", "gated", "keys"])
@pytest.mark.parametrize("behind", [False, True])
def test_the_tail_is_read_for_all_who_share_a_source(tmp_path: Path, kind: str, *, behind: bool) -> None:
    logs = Logs(tmp_path, kind)
    logs.more = {
        "stages": {
            "t": {"from": "s", "do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}]},
            "u": {"from": "s", "do": [{"derive": {"w": "v + 1"}}]},
        },
        "outputs": {"t": {}, "u": {}},
    }
    logs.add("a", "id,k,v\n" + "".join(f"{n},{'ab'[n % 2]},1\n" for n in range(30)))
    logs.add("b", "id,k,v\n40,a,\n")
    logs.same()
    if behind:  # two of three have read a part that the third has not
        logs.add("a", "50,b,2\n51,c,3\n")
        logs.run(outputs=["o", "t"])
    logs.add("a", "52,d,\n53,e,4\n")
    good = 1 + (kind != "gated")
    read = {s.name: s.written for s in logs.run().segments}
    # what is kept for the run has the rows that any of them needs
    assert (read["s"], read["o"], read["u"]) == (good + 2 * behind, good, good + 2 * behind)
    logs.same()
    logs.add("a", "54,f,5\n")
    assert logs.same(max_files=1).written == 1
    (listed,) = logs.commit(name="u").info["consumed"]["units"].values()
    assert len(listed[0]) == 3
    if kind != "rows":  # a gate looks at all of what a reader that is made anew needs, as it was cut
        logs.more["stages"]["u"]["do"] = [{"derive": {"w": "v + 2"}}]
        logs.add("a", "55,g,6\n")
        logs.same()
        logs.add("a", "56,g,")
        logs.same()
        logs.add("a", "7\n")
        logs.same()


def test_what_is_shared_may_be_made_of_what_is_shared(tmp_path: Path) -> None:
    logs = Logs(tmp_path, "gated")
    logs.more = {
        "stages": {
            "m": {"from": "s", "gate": [{"between": {"column": "v", "max": 50, "action": "drop"}}]},
            "t": {"from": "m", "do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}]},
            "u": {"from": "m", "do": [{"derive": {"w": "v + 1"}}]},
        },
        "outputs": {"t": {}, "u": {"mode": "append"}},
    }
    logs.add("a", "id,k,v\n" + "".join(f"{n},{'ab'[n % 2]},{n}\n" for n in range(30)))
    logs.add("b", "id,k,v\n40,a,\n")
    logs.run()
    for number, outputs in enumerate((["o"], ["u"], ["t", "o"], None, ["t"], None)):
        logs.add("a", f"{50 + number},{'acd'[number % 3]},{47 + number}\n")
        logs.run(outputs=outputs or ["o", "t", "u"])
    logs.same()


def test_a_log_that_goes_on_under_another_name_is_added_once(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.output = {"mode": "append"}
    logs.add("0", "id,k,v\n1,a,1\n")
    for number in range(1, 4):
        logs.run()
        (tmp_path / f"in/{number - 1}.csv").rename(tmp_path / f"in/{number}.csv")
        logs.add(str(number), f"{number + 1},b,2\n")
    logs.run()
    assert [r[0] for r in logs.rows()] == [1, 2, 3, 4]
    (tmp_path / "in/3.csv").rename(tmp_path / "in/4.csv")
    logs.add("4", "5,c,1")
    logs.run()
    (tmp_path / "in/4.csv").rename(tmp_path / "in/5.csv")
    logs.add("5", "6\n")
    with pytest.raises(
        lp.LazypipeError, match=r"5.csv has grown, and the rows added before would be added a second time"
    ):
        logs.run()


def test_rows_of_a_shared_log_are_added_once(tmp_path: Path) -> None:
    logs = Logs(tmp_path, "gated")
    logs.output = {"mode": "append"}
    logs.more = {"stages": {"t": {"from": "s"}}, "outputs": {"t": {"mode": "upsert", "key": "id"}}}
    logs.add("a", "id,k,v\n1,a,1\n")
    for text in ("2,b,2\n", "3,c,\n4,d,4\n", "5,e,5\n"):
        logs.run()
        logs.add("a", text)
        logs.run(outputs=["o"])
    logs.run()
    assert [r[0] for r in logs.rows()] == [r[0] for r in logs.rows(name="t")] == [1, 2, 4, 5]


def test_what_is_shared_by_groups_is_read_anew(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.more = {
        "stages": {
            "m": {"from": "s", "do": [{"over": {"by": "k", "columns": {"n": "count(*)"}}}]},
            "t": {"from": "m", "do": [{"filter": "n > 1"}]},
            "u": {"from": "m", "do": [{"filter": "n = 1"}]},
        },
        "outputs": {"t": {}, "u": {}},
    }
    logs.add("a", "id,k,v\n1,a,1\n2,b,2\n")
    logs.same()
    logs.add("a", "3,b,3\n")
    assert logs.same().written == 3


@pytest.mark.parametrize("other", [{"format": "csv"}, {"mode": "snapshot"}])
def test_a_source_is_read_anew_where_a_reader_wants_all_of_it(tmp_path: Path, other: dict[str, Any]) -> None:
    logs = Logs(tmp_path)
    steps = [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}]
    logs.more = {"stages": {"t": {"from": "s", "do": steps}}, "outputs": {"t": other}}
    if "format" in other:
        logs.more["outputs"]["t"] = {"to": str(tmp_path / "t.csv"), "format": "csv"}
    logs.add("a", "id,k,v\n1,a,1\n")
    logs.run()
    logs.add("a", "2,b,2\n")
    assert [s.written for s in logs.run().segments if s.name == "o"] == [2]
    assert [r[0] for r in logs.rows()] == [1, 2]


@pytest.mark.parametrize("behind", [False, True])
def test_a_source_is_read_anew_where_it_is_the_side_of_a_join(tmp_path: Path, *, behind: bool) -> None:
    logs = Logs(tmp_path, "sums")
    stages = {**LOOKED["stages"]}
    if behind:  # what looks rows up is kept for the run as well
        stages["u"] = {"from": "t", "do": [{"filter": "there > 1"}]}
        stages["w"] = {"from": "t", "do": [{"filter": "there IS NULL"}]}
    logs.more = LOOKED | {"stages": stages, "outputs": {n: {} for n in ([*stages][1:] or stages)}}
    logs.add("m", "k\na\nb\n", to="more")
    logs.add("a", "id,k,v\n1,a,1\n")
    logs.same()
    logs.add("a", "2,b,2\n")
    logs.same()
    assert logs.rows() == [("a", 1, 1), ("b", 1, 2)]
    assert logs.rows(name="u" if behind else "t")[-1:] == [("b", 2)]


def test_a_file_goes_on_under_another_name(tmp_path: Path) -> None:
    logs = Logs(tmp_path, "keys")
    logs.add("log", "id,k,v\n1,a,1\n2,b,\n")
    logs.add("other", "id,k,v\n9,z,9\n")
    logs.same()
    (tmp_path / "in/log.csv").rename(tmp_path / "in/log.1.csv")
    logs.add("log.1", "3,c,3\n")
    logs.add("log", "id,k,v\n4,d,4\n")
    assert logs.same().why == "s: 1 added, 1 modified (1 shorter), 1 unchanged"
    (tmp_path / "in/log.1.csv").rename(tmp_path / "in/log.2.csv")
    logs.add("log.2", "5,e,5\n")
    result = logs.same()
    assert (result.why, result.written) == ("s: 1 grown, 2 unchanged", 1)
    # within a row it is another file
    (tmp_path / "in/log.2.csv").rename(tmp_path / "in/log.3.csv")
    logs.add("log.3", "6,f,")
    logs.same()
    (tmp_path / "in/log.3.csv").rename(tmp_path / "in/log.4.csv")
    logs.add("log.4", "6\n")
    assert logs.same().why == "s: 1 added, 1 removed, 2 unchanged"


# rows that are added


def test_modes_that_add_take_the_tail(tmp_path: Path) -> None:
    for mode in ({"mode": "append"}, {"mode": "upsert", "key": "id"}, {"mode": "scd2", "key": "id"}):
        for audit in ("recorded", "off"):
            logs = Logs(tmp_path / mode["mode"] / audit)
            logs.base.mkdir(parents=True)
            logs.output = mode
            logs.add("a", "id,k,v\n1,a,1\n")
            logs.add("b", "id,k,v\n7,a,1\n")
            plan = logs.data() | {"audit": {"mode": audit}}
            for text in ("", "2,b,2\n", "3,c,3\n4,d,4\n"):
                logs.add("a", text)
                result = lp.Pipeline.from_dict(plan, base=str(logs.base)).compile().run(now=NOW)
                result.raise_for_status()
            ids = [r[0] for r in logs.rows()]
            assert ids == [1, 2, 3, 4, 7]


# files that grow while they are read


@pytest.mark.parametrize("kind", ["rows", "sums", "gated"])
@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_what_is_appended_while_a_run_reads_is_for_the_next(tmp_path: Path, kind: str, form: str) -> None:
    logs = Logs(tmp_path, kind, form)
    logs.add("a", ("id,k,v\n" if form == "csv" else "") + line(form, (1, "a", 1)))
    once: list[int] = []

    def write(*_: Any) -> None:
        if not once:  # sources are listed by now, and not read yet
            once.append(1)
            logs.add("a", line(form, (2, "b", 2)))
            logs.add("a", line(form, (3, "c", 3))[:-4])  # and half a row more

    result = logs.plan().run(now=NOW, observer=write)
    result.raise_for_status()
    assert once
    if kind != "sums":
        assert logs.rows() == [(1, "a", 1)]
    logs.add("a", line(form, (3, "c", 3))[-4:])
    found = logs.same()
    assert found.why == "s: 1 grown"
    assert len(logs.rows()) == 3


# late rows


WINDOW = {
    "window": {"time": "t", "every": "1h", "allowed_lateness": "1h", "late": "quarantine", "aggregate": {"n": "count(*)"}}
}  # fmt: skip


@settings(max_examples=max(4, EXAMPLES // 12))
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 40), max_size=3)), min_size=1, max_size=3),
        min_size=2,
        max_size=4,
    ),
    st.sampled_from(["name", "stamp"]),
    st.sampled_from(["1h", "20d"]),
)
def test_late_rows_of_files_that_grow_are_those_of_a_full_run(
    deliveries: list[list[tuple[int, list[int]]]], order: str, tolerance: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        logs = Logs(Path(folder))
        begin = datetime.fromtimestamp(OLD - 86_400, UTC).replace(tzinfo=None, minute=0, second=0)

        def plan(out: str) -> lp.Plan:
            data = logs.data(out)
            data["sources"]["s"] |= {
                "contract": {"columns": {"t": "Datetime(us)", "x": "Int64"}},
                "event_time": "t",
                "watermark": {"delay": "1h", "order": order, "tolerance": tolerance},
            }
            data["stages"]["o"] = {"from": "s", "do": [WINDOW]}
            return lp.Pipeline.from_dict(data, base=folder).compile()

        def told(out: str) -> list[Any]:
            late = plan(out).late("o").select("t", "x", "window_start", "late_by").collect()
            return [logs.rows(out), sorted(late.rows(), key=repr)]

        for name in range(3):
            logs.add(str(name), "t,x\n")
        for number, delivery in enumerate(deliveries):
            for name, hours in delivery:
                logs.add(str(name), "".join(f"{begin + timedelta(hours=h)},{h}\n" for h in hours))
            plan("out").run(now=NOW).raise_for_status()
            plan(f"full{number}").run(now=NOW).raise_for_status()
            assert told("out") == told(f"full{number}")


def test_a_tail_comes_under_the_watermark_of_its_file(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.source = {"watermark": {"delay": "0s"}, "event_time": "t"}
    data = logs.data()
    data["sources"]["s"] |= {"contract": {"columns": {"t": "Datetime(us)", "x": "Int64"}}}
    data["stages"]["o"] = {"from": "s"}

    def run() -> tuple[str | None, int | None]:
        result = lp.Pipeline.from_dict(data, base=str(tmp_path)).compile().run(now=NOW)
        result.raise_for_status()
        return result.segments[0].why, result.segments[0].written

    def under() -> list[Any]:
        return [(r[1], r[2].day) for r in logs.rows()]

    logs.add("1", "t,x\n2023-01-05,1\n")
    logs.add("2", "t,x\n2023-01-02,2\n")
    run()
    logs.add("2", "2023-01-03,3\n")
    assert run() == ("s: 1 grown, 1 unchanged", 1)
    assert sorted(under()) == [(1, 1), (2, 5), (3, 5)]
    # what others came under changes with the times in what is appended ahead of them
    logs.add("1", "2023-01-09,4\n")
    assert run() == ("s: 1 grown, 1 unchanged, 1 under a different watermark", 3)
    assert sorted(under()) == [(1, 1), (2, 9), (3, 9), (4, 1)]
    # a time that was too far ahead, and is none any more: all of the file is judged again
    logs.add("2", f"{datetime.fromtimestamp(OLD + 3 * 86_400, UTC):%Y-%m-%d},5\n")
    assert run() == ("s: 1 grown, 1 unchanged", 1)
    assert [r[2] for r in logs.rows() if r[1] == 5] == [None]
    logs.writes = 5 * 86_400
    logs.add("2", "2023-01-02,6\n")
    assert run() == ("s: 1 grown, 1 unchanged", 4)
    assert [r[2].day for r in logs.rows() if r[1] == 5] == [9]


# bounds


def test_bounds_count_what_is_read(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    for name in "ab":
        logs.add(name, "id,k,v\n" + "1,a,1\n" * 100)
    logs.step()
    for name in "ab":
        logs.add(name, "2,b,2\n3,c,3\n")
    assert (logs.step(max_rows=2).written, logs.step(max_bytes=12).written) == (2, 2)
    assert logs.same().status == "unchanged"
    for name in "ab":
        logs.add(name, "4,b,2\n")
    result = logs.run(max_rows=2)
    assert (result.segments[0].written, result.left) == (2, 0)


@pytest.mark.parametrize("kind", ["rows", "gated", "sums"])
@pytest.mark.parametrize("shared", [False, True])
def test_what_a_file_had_under_another_name_stays_while_it_waits(tmp_path: Path, kind: str, *, shared: bool) -> None:
    logs = Logs(tmp_path, kind)
    if shared:
        logs.more = {"stages": {"t": {"from": "s", "do": [{"filter": "v > 1"}]}}, "outputs": {"t": {}}}
    logs.add("m", "id,k,v\n1,a,1\n2,a,\n")
    logs.run()
    before = logs.rows()
    (tmp_path / "in/m.csv").rename(tmp_path / "in/z.csv")
    logs.add("z", "3,a,3\n4,b,\n")
    logs.run(until=datetime.fromtimestamp(OLD, UTC))
    assert logs.rows() == before
    logs.add("a", "id,k,v\n5,c,5\n")
    result = logs.run(max_files=1)
    assert len(logs.rows()) == len(before) + 1
    assert result.left > 0
    logs.run()
    logs.run("full")
    assert logs.rows() == logs.rows("full")


def test_rows_are_traced_to_their_place_in_the_file(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.add("a", "id,k,v\n1,a,1\n2,b,2\n")
    logs.step()
    logs.add("a", "3,c,3\n")
    logs.step()
    traced = logs.plan().trace("o", {"id": 3}).sources["s"]
    assert traced.rows is not None
    assert traced.rows.select("_lazypipe_row", "id").rows() == [(2, 3)]
