"""Sources that are no files: what is pulled, where it stands, how it goes on, and who is told what is wrong with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.errors import CommitConflict, DefinitionError, LazypipeError, SourceError, StorageError
from lazypipe.run.pull import Puller

BASE: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "sources": {"log": {"uri": "pulled/*.parquet", "contract": {"columns": {"x": "Int64", "k": "String"}}}},
    "stages": {
        "kept": {"from": "log", "do": [{"filter": "x >= 0"}]},
        "sums": {"from": "kept", "do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "s": "sum(x)"}}}]},
    },
    "outputs": {"kept": {"to": "out/kept"}, "sums": {"to": "out/sums"}},
}


class Log:
    """A log with offsets, of which so many rows are given at a time."""

    def __init__(self, rows: list[int], most: int = 3) -> None:
        self.rows, self.most, self.asked = rows, most, list[Any]()

    def read(self, after: Any) -> tuple[pl.DataFrame | pl.LazyFrame, Any] | None:
        self.asked.append(after)
        begin = 0 if after is None else after["0"]
        came = self.rows[begin : begin + self.most]
        frame = pl.DataFrame({"x": came, "k": [f"k{x % 2}" for x in came]}, schema={"x": pl.Int64, "k": pl.String})
        return (frame.lazy() if begin % 2 else frame, {"0": begin + len(came)}) if came else None


class Given:
    """Gives what it was told to, or raises it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def read(self, after: Any) -> Any:
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer


def piped(base: Path, data: dict[str, Any] = BASE) -> lp.Pipeline:
    return lp.Pipeline.from_dict(data, base=str(base))


def at(uri: Any, **more: Any) -> dict[str, Any]:
    return {**BASE, "sources": {"log": {**BASE["sources"]["log"], "uri": uri, **more}}}


def held(base: Path, name: str = "kept") -> list[tuple[Any, ...]]:
    return sorted(lp.scan(str(base / "out" / name)).collect().rows())


def kept(rows: list[int]) -> list[tuple[int, str]]:
    return sorted((x, f"k{x % 2}") for x in rows)


def names(base: Path) -> list[str]:
    return sorted(p.name for p in (base / "pulled").iterdir())


ROW = pl.DataFrame({"x": [1], "k": ["a"]})


def test_it_goes_on_where_it_was_and_runs_read_what_is_new(tmp_path: Path) -> None:
    log = Log([1, 2, 3, 4, 5])
    pipe = piped(tmp_path)
    found = pipe.pull({"log": log})
    files = [f"{tmp_path}/pulled/{n:020}.parquet" for n in (1, 2)]
    assert found == (lp.Pulled("log", files[0], 3, {"0": 3}), lp.Pulled("log", files[1], 2, {"0": 5}))
    pipe.compile().run().raise_for_status()
    assert held(tmp_path) == kept(log.rows)
    # another process, which knows nothing but what stands there
    log = Log([1, 2, 3, 4, 5, 6, 7])
    assert [(p.rows, p.position) for p in piped(tmp_path).pull({"log": log})] == [(2, {"0": 7})]
    assert log.asked == [{"0": 5}, {"0": 7}]
    result = pipe.compile().run()
    assert result.segments[0].why == "log: 1 added, 2 unchanged"
    assert held(tmp_path) == kept(log.rows)
    assert held(tmp_path, "sums") == [("k0", 3, 12), ("k1", 4, 16)]
    assert pipe.pull({"log": log}) == ()
    assert {s.status for s in pipe.compile().run().segments} == {"unchanged"}
    # each file tells other readers what it holds, and nothing else stands there
    assert names(tmp_path) == [f"{n:020}.parquet" for n in (1, 2, 3)]
    assert pl.read_parquet(files).rows() == [(x, f"k{x % 2}") for x in (1, 2, 3, 4, 5)]


def test_files_may_go_but_for_the_last(tmp_path: Path) -> None:
    pipe, log = piped(tmp_path, at("pulled/*.parquet", on_removed="ignore")), Log([1, 2, 3, 4, 5])
    pipe.pull({"log": log})
    pipe.compile().run().raise_for_status()
    (tmp_path / f"pulled/{1:020}.parquet").unlink()
    log.rows += [6]
    assert [p.position for p in pipe.pull({"log": log})] == [{"0": 6}]
    pipe.compile().run().raise_for_status()
    assert held(tmp_path) == kept(log.rows)


def test_positions_that_go_on_without_rows_are_kept(tmp_path: Path) -> None:
    pipe = piped(tmp_path)
    found = pipe.pull({"log": Given((ROW, "a"), (ROW.clear(), "b"), (ROW.clear(), "b"), (ROW, "c"))})
    assert [(p.rows, p.position) for p in found] == [(1, "a"), (0, "b")], (
        "where neither rows nor a position came it ends"
    )
    assert [(p.rows, p.position) for p in pipe.pull({"log": Given((ROW, [1, {"y": None}]))})] == [(1, [1, {"y": None}])]


def test_whole_states_replace_each_other(tmp_path: Path) -> None:
    data = {**at("pulled/all.parquet"), "outputs": {"kept": {"to": "out/kept"}}}
    pipe = piped(tmp_path, data)
    asked: list[Any] = []

    class Table:
        rows, version = [1, 2, 3], 7

        def read(self, after: Any) -> Any:
            asked.append(after)
            return None if after == self.version else (Log(self.rows, 99).read(None)[0], self.version)  # type: ignore[index]

    table = Table()
    assert pipe.pull({"log": table}) == (lp.Pulled("log", f"{tmp_path}/pulled/all.parquet", 3, 7),)
    pipe.compile().run().raise_for_status()
    table.rows, table.version = [2, 3, 4], 8
    pipe.pull({"log": table})
    pipe.compile().run().raise_for_status()
    assert held(tmp_path) == kept([2, 3, 4])
    assert asked == [None, 7, 7, 8]
    assert names(tmp_path) == ["all.parquet"]


def test_other_stores(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    fs.rm("/pulls", recursive=True) if fs.exists("/pulls") else None
    for uri in ("memory://pulls/some/*.parquet", "memory://pulls/one.parquet"):
        pipe = piped(tmp_path, at(uri))
        assert [p.position for p in pipe.pull({"log": Log([1, 2, 3, 4])})] == [{"0": 3}, {"0": 4}]
        assert pipe.pull({"log": Log([1, 2, 3, 4])}) == ()
    assert sorted(fs.find("/pulls")) == ["/pulls/one.parquet", *(f"/pulls/some/{n:020}.parquet" for n in (1, 2))]


# streams


class Site:
    """A log, and a clock that moves when the stream sleeps; then what was told to happen by that time happens."""

    def __init__(self, base: Path, *then: Callable[[], object]) -> None:
        self.base, self.then, self.sleeps = base, list(then), list[float]()
        self.now = datetime(2026, 3, 1, tzinfo=UTC)

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += timedelta(seconds=seconds)
        if not self.then:
            self.stream.stop()
            return
        self.then.pop(0)()

    def run(self, log: Any, **more: Any) -> list[lp.RunResult]:
        self.stream = lp.stream(piped(self.base), pull={"log": log}, clock=lambda: self.now, sleep=self.sleep, **more)
        return list(self.stream)


def test_a_stream_takes_in_what_comes(tmp_path: Path) -> None:
    log = Log([1, 2, 3, 4], most=3)
    site = Site(tmp_path, lambda: log.rows.extend([5, 6, 7, 8, 9, 10]))
    results = site.run(log, trigger=lp.Trigger("10s"))
    assert [sum(s.written for s in r.segments if s.output == "kept") for r in results] == [3, 1, 3, 3]
    assert len(site.sleeps) == 2, "it waits where nothing came, and only there"
    assert held(tmp_path) == kept(log.rows)
    # and another one goes on
    log.rows.append(11)
    assert [r.status for r in Site(tmp_path).run(log, trigger=lp.Trigger(once=True))] == ["done"]
    assert held(tmp_path) == kept(log.rows)


def test_a_stream_that_takes_in_what_is_there_ends(tmp_path: Path) -> None:
    log = Log(list(range(10)))
    results = Site(tmp_path).run(log, trigger=lp.Trigger(once=True), max_files=1)
    assert [r.status for r in results] == ["done"] * 4
    assert held(tmp_path) == kept(log.rows)
    assert Site(tmp_path).run(log, trigger=lp.Trigger(once=True)) == []


def test_a_stream_gathers_files_that_are_pulled(tmp_path: Path) -> None:
    log = Log([1, 2, 3], most=1)
    site = Site(tmp_path, lambda: log.rows.extend([4]))
    results = site.run(log, trigger=lp.Trigger("10s", files=2))
    assert [sum(s.written for s in r.segments if s.output == "kept") for r in results] == [2, 2]


def test_what_may_pass_is_tried_again(tmp_path: Path) -> None:
    away = ConnectionError("the broker is away")
    site = Site(tmp_path, *[lambda: None] * 3)
    results = site.run(Given(away, (ROW, 1), away, away, (ROW, 2)), backoff=lp.Backoff(first=1))
    assert [r.status for r in results] == ["done", "done"]
    assert held(tmp_path) == [(1, "a"), (1, "a")]
    with pytest.raises(SourceError) as caught:
        Site(tmp_path).run(Given(KeyError("x")))
    assert str(caught.value) == (
        f"{tmp_path}/pulled: cannot be pulled after 2: KeyError: 'x'; fix the cause and go on: nothing is lost or read twice"
    )
    with pytest.raises(SourceError, match=r"cannot be pulled after 2: ConnectionError: the broker is away"):
        Site(tmp_path, *[lambda: None] * 9).run(Given(*[away] * 9))


def test_of_two_who_pull_the_same_one_wins(tmp_path: Path) -> None:
    pipe, other = piped(tmp_path), piped(tmp_path)

    def meanwhile() -> Any:
        other.pull({"log": Log([7], most=1)})
        return ROW, {"0": 1}

    with pytest.raises(CommitConflict) as caught:
        pipe.pull({"log": Given(meanwhile)})
    uri = f"{tmp_path}/pulled/{1:020}.parquet"
    assert str(caught.value) == f"{uri}: another process pulled in the meantime; continue: nothing was stored twice"
    assert pl.read_parquet(uri).rows() == [(7, "k1")]
    assert names(tmp_path) == [f"{1:020}.parquet"]


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(-20, 20)), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=6),
)
def test_any_reads_end_in_the_same(tmp_path_factory: pytest.TempPathFactory, rows: Any, reads: Any) -> None:
    """However many rows are pulled at a time, and taken in by a run: windows and late rows are those of one file with all rows."""
    times = sorted(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=m) for m, _ in rows)
    rows = [(came, came + timedelta(minutes=back)) for came, (_, back) in zip(times, rows, strict=True)]
    source = {
        "event_time": "at",
        "watermark": {"delay": "5m", "column": "came"},
        "contract": {"columns": {"came": "Datetime(us, UTC)", "at": "Datetime(us, UTC)"}},
    }
    window = {"time": "at", "every": "30m", "late": "quarantine", "aggregate": {"n": "count(*)"}}
    data = {
        "version": 1,
        "name": "p",
        "stages": {"w": {"from": "log", "do": [{"window": window}]}},
        "outputs": {"w": {"to": "out/w"}},
    }

    class Queue:
        most = 1

        def read(self, after: Any) -> Any:
            some = rows[after or 0 :][: self.most]
            return (pl.DataFrame(some, schema=["came", "at"], orient="row"), (after or 0) + len(some)) if some else None

    def ended(base: Path, reads: Any) -> Any:
        pipe = piped(base, {**data, "sources": {"log": {**source, "uri": "pulled/*.parquet"}}})
        queue, steps = Queue(), iter(reads)
        puller = Puller(pipe, {"log": queue}, {})
        going = True
        while going:
            queue.most, times = next(steps, (99, 1))
            going = sum(len(puller.pull()) for _ in range(times)) > 0
            plan = pipe.compile()
            plan.run().raise_for_status()
        late = plan.late("w").select("came", "at").collect().rows()
        return sorted(lp.scan(f"{base}/out/w").collect().rows()), sorted(late)

    whole = ended(tmp_path_factory.mktemp("whole"), [])
    assert ended(tmp_path_factory.mktemp("split"), reads) == whole

    # by hand: a row is late if its window had ended by the time it came, less five minutes
    def end(at: datetime) -> datetime:
        return at - timedelta(minutes=at.minute % 30) + timedelta(minutes=30)

    assert whole[1] == sorted(r for r in rows if end(r[1]) <= r[0] - timedelta(minutes=5))
    assert sum(n for *_, n in whole[0]) + len(whole[1]) == len(rows)


# what is wrong


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([ROW], "the reader for 'log' returned a list; return rows and the position after them, or None if nothing came"),
        ((ROW,), "the reader for 'log' returned a tuple; return rows and the position after them, or None if nothing came"),
        (({"x": [1]}, 1), "what the reader for 'log' returned is of type dict; give a pl.DataFrame or a pl.LazyFrame"),
        ((ROW, None), "the reader for 'log' returned the position None, which JSON does not hold; write numbers, texts, lists, and mappings with text as keys"),
        ((ROW, {0: 5}), "the reader for 'log' returned the position {0: 5}, which JSON does not hold; write numbers, texts, lists, and mappings with text as keys"),
        ((ROW, float("nan")), "the reader for 'log' returned the position nan, which JSON does not hold; write numbers, texts, lists, and mappings with text as keys"),
        ((ROW, (1, 2)), "the reader for 'log' returned the position (1, 2), which JSON does not hold; write numbers, texts, lists, and mappings with text as keys"),
        ((ROW, b"x"), "the reader for 'log' returned the position b'x', which JSON does not hold; write numbers, texts, lists, and mappings with text as keys"),
        ((ROW, 5), "the reader for 'log' returned 1 rows and the position 5, where it began: they would be read again; return the position after them"),
        ((pl.DataFrame(), 6), "the reader for 'log' returned rows without columns; return None if nothing came"),
    ],
)  # fmt: skip
def test_answers_that_are_none(tmp_path: Path, answer: Any, said: str) -> None:
    pipe = piped(tmp_path)
    pipe.pull({"log": Given((ROW, 5))})
    with pytest.raises(LazypipeError) as caught:
        pipe.pull({"log": Given(answer)})
    assert str(caught.value) == said
    assert names(tmp_path) == [f"{1:020}.parquet"]


@pytest.mark.parametrize(
    ("uri", "more"),
    [
        ("pulled", {}), ("pulled/*.csv", {"format": "csv"}), ("pulled/*.parquet", {"format": "dataset"}), ("in*/*.parquet", {}),
        ("pulled/**/*.parquet", {}), (["a/*.parquet", "b/*.parquet"], {}), ("a?.parquet", {}),
    ],
)  # fmt: skip
def test_places_where_nothing_can_be_pulled(tmp_path: Path, uri: Any, more: Any) -> None:
    definition = tmp_path / "p.yaml"
    definition.write_text(
        f"version: 1\nname: p\nsources:\n  log: {json.dumps({'uri': uri, **more})}\noutputs: {{log: {{to: out}}}}\n"
    )
    with pytest.raises(DefinitionError) as caught:
        lp.load(definition).pull({"log": Log([1])})
    assert str(caught.value) == (
        f"{definition}:4:9: pulled rows are kept in Parquet files of one folder, or in one file that is replaced; "
        "write uri: pulled/orders/*.parquet, or pulled/orders.parquet"
    )


def test_readers_that_are_none(tmp_path: Path) -> None:
    for wrong in (object(), Log):
        with pytest.raises(
            LazypipeError, match=r"the reader for 'log' has no method read; give an object like lazypipe.Reader"
        ):
            piped(tmp_path).pull({"log": wrong})  # type: ignore[dict-item]
    with pytest.raises(LazypipeError, match=r"there is no source 'lg' to pull for; did you mean 'log'\?"):
        lp.stream(piped(tmp_path), pull={"lg": Log([])})


@pytest.mark.parametrize("uri", ["pulled/*.parquet", f"pulled/{3:020}.parquet"])
def test_a_last_file_that_says_nothing(tmp_path: Path, uri: str) -> None:
    (tmp_path / "pulled").mkdir()
    path = tmp_path / f"pulled/{3:020}.parquet"
    ROW.write_parquet(path)
    pipe = piped(tmp_path, at(uri))
    fix = (
        "this folder holds only what was pulled, and its last file must stay: put it back, or pull into another folder"
    )
    with pytest.raises(StorageError) as caught:
        pipe.pull({"log": Log([1])})
    assert str(caught.value) == f"{path}: cannot be continued from: it does not say how far it goes; {fix}"
    path.write_bytes(b"nonsense")
    with pytest.raises(StorageError, match=r"cannot be continued from: .+; this folder holds only what was pulled"):
        pipe.pull({"log": Log([1])})


@pytest.mark.parametrize("uri", ["pulled/log/*.parquet", "pulled/log.parquet"])
def test_places_that_cannot_be_written(tmp_path: Path, uri: str) -> None:
    (tmp_path / "pulled").write_text("a file")
    with pytest.raises(StorageError) as caught:
        piped(tmp_path, at(uri)).pull({"log": Log([1])})
    assert str(caught.value).startswith(f"{tmp_path}/pulled/log")
    assert (tmp_path / "pulled").read_text() == "a file"


def test_values_that_no_file_holds_and_readers_that_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"0001.parquet: cannot be written: .+; fix the cause and go on"):
        piped(tmp_path).pull({"log": Given((pl.DataFrame({"x": [object()]}), 1))})
    with pytest.raises(StorageError, match=r"pulled/all.parquet: cannot be written: .+; fix the cause and go on"):
        piped(tmp_path, at("pulled/all.parquet")).pull({"log": Given((pl.DataFrame({"x": [object()]}), 1))})
    assert [*tmp_path.rglob("*.parquet")] == []
    with pytest.raises(LazypipeError, match=r"^no more of that$"):
        piped(tmp_path).pull({"log": Given(LazypipeError("no more of that"))})


def test_secrets_are_not_told(tmp_path: Path) -> None:
    pipe = piped(tmp_path, at("${PLACE}/*.parquet"))
    with pytest.raises(SourceError) as caught:
        pipe.pull({"log": Given(ValueError("no"))}, env={"PLACE": f"{tmp_path}/hidden"})
    assert "hidden" not in str(caught.value)
    assert str(caught.value).startswith("${PLACE}: cannot be pulled after null: ValueError: no;")


# the command line


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "feed_of_test.py").write_text(
        "import polars as pl\n"
        "class Log:\n"
        "    def read(self, after):\n"
        "        begin = after or 0\n"
        "        return None if begin == 4 else (pl.DataFrame({'x': [begin], 'k': ['a']}), begin + 1)\n"
        "made = Log()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "p.yaml"
    path.write_text(piped(tmp_path).to_yaml())
    yield path
    sys.modules.pop("feed_of_test", None)


def test_commands(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(module), "--pull", "log=feed_of_test:Log"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told[:4] == [f"log: 1 row pulled → {module.parent}/pulled/{n:020}.parquet" for n in (1, 2, 3, 4)]
    assert held(module.parent) == [(n, "a") for n in range(4)]
    assert main(["stream", str(module), "--pull", "log=feed_of_test:made", "--once"]) == 0
    assert capsys.readouterr().out == ""


def test_a_stream_that_pulls_from_the_command_line(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stream", str(module), "--pull", "log=feed_of_test:made", "--once"]) == 0
    assert [line.rpartition("kept ")[2] for line in capsys.readouterr().out.splitlines()] == ["+1, sums +1"] * 4
    assert held(module.parent) == [(n, "a") for n in range(4)]


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("feed_of_test", "it names no object"),
        ("feed_of_tests:Log", "No module named 'feed_of_tests'"),
        ("feed_of_test:Logs", "module 'feed_of_test' has no attribute 'Logs'"),
    ],
)
def test_commands_that_name_nothing(module: Path, capsys: pytest.CaptureFixture[str], where: str, why: str) -> None:
    assert main(["run", str(module), "--pull", f"log={where}"]) == 2
    assert capsys.readouterr().err.strip() == f"--pull log={where}: {why}; write --pull log=module:Object"
