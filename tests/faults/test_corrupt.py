"""Corrupt files: set aside whole, told with the reason, remembered where asked, and the rest is published."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pyarrow.parquet as pq
import pytest

import lazypipe as lp
from lazypipe.errors import SourceError
from lazypipe.run import corrupt as corrupt_run
from lazypipe.spec.loader import to_dict

ROWS = 2000
TYPES = {"x": "Int64", "s": "String", "z": "Float64"}


def rows(number: int) -> pl.DataFrame:
    """Rows that tell which file they are of."""
    first = number * ROWS
    return pl.DataFrame({"x": range(first, first + ROWS)}).with_columns(
        s=pl.format("text {}", "x"), z=pl.col("x").cast(pl.Float64) / 2
    )


def encode(kind: str, frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    match kind.removesuffix(".gz"):
        case "parquet":
            frame.write_parquet(buffer, row_group_size=500, compression="zstd", statistics=False)
        case "arrow":
            frame.write_ipc(buffer, record_batch_size=500)
        case "csv":
            frame.write_csv(buffer)
        case _:
            frame.write_ndjson(buffer)
    data = buffer.getvalue()
    return gzip.compress(data) if kind.endswith(".gz") else data


@pytest.fixture
def root(somewhere: str) -> str:
    return somewhere


class World:
    """Three files of one kind, and a pipeline with two outputs, each of which needs other columns."""

    def __init__(self, root: str, kind: str, **source: Any) -> None:
        self.root, self.kind = root, kind
        self.fs, self.path = fsspec.core.url_to_fs(root)
        for number in (1, 2, 3):
            self.put(number, encode(kind, rows(number)))
        contract = {} if source.get("contract", True) is None else {"contract": {"columns": TYPES}}
        self.pipe = (
            lp.pipeline("p", base=root)
            .source("a", f"data/*.{kind}", **(contract | {"on_corrupt": "skip"} | source))
            .stage("few", "a", do=[{"select": ["x"]}])
            .stage("some", "a", do=[{"filter": "z >= 0"}])
            .output("few", "out/few")
            .output("some", "out/some")
            .build()
        )

    def put(self, number: int, data: bytes) -> str:
        self.fs.makedirs(f"{self.path}/data", exist_ok=True)
        self.fs.pipe_file(f"{self.path}/data/{number}.{self.kind}", data)
        return f"{self.root}/data/{number}.{self.kind}"

    def damage(self, number: int, change: Callable[[bytes], bytes]) -> str:
        return self.put(number, change(encode(self.kind, rows(number))))

    def assert_holds(self, *numbers: int) -> None:
        """Both outputs hold the rows of just these files."""
        expected = [x for n in numbers for x in rows(n)["x"]]
        for output in ("few", "some"):
            found = lp.scan(f"{self.root}/out/{output}").collect()
            assert sorted(found["x"].to_list()) == expected, output

    def remembered(self) -> list[dict[str, Any]]:
        found = self.fs.glob(f"{self.path}/.lazypipe/quarantine/p/a__files/*")
        return [json.loads(line) for name in sorted(found) for line in self.fs.cat_file(name).decode().splitlines()]


def line(*changed: str, at: int = 1500) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        old = data.splitlines(keepends=True)
        return b"".join([*old[:at], *(c.encode("latin-1") + b"\n" for c in changed), *old[at:]])

    return change


def page(data: bytes) -> bytes:
    """Overwrite what the last row group holds of z, and nothing else."""
    meta = pq.read_metadata(io.BytesIO(data))
    chunk = meta.row_group(meta.num_row_groups - 1).column(2)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    stop = start + chunk.total_compressed_size
    return data[:start] + b"\xa5" * (stop - start) + data[stop:]


TRUNCATED = "the file does not end as {} does: it is truncated"
CASES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "parquet: no bytes": ("parquet", lambda _: b"", "the file is empty (0 bytes)"),
    "parquet: truncated": ("parquet", lambda d: d[: len(d) // 2], TRUNCATED.format("Parquet")),
    "parquet: its beginning only": ("parquet", lambda d: d[:7], TRUNCATED.format("Parquet")),
    "parquet: its end missing": ("parquet", lambda d: d[:-1], TRUNCATED.format("Parquet")),
    "parquet: a garbage footer": ("parquet", lambda d: d[:-300] + b"\xa5" * 292 + d[-8:], "is not readable as parquet"),
    "parquet: a footer too long": ("parquet", lambda d: d[:-8] + b"\xff\xff\xff\x7fPAR1", "is not readable as parquet"),
    "parquet: a page": ("parquet", page, "is not readable as parquet"),
    "parquet: text": ("parquet", lambda _: b"<html>gone</html>" * 9, "the file is an HTML page"),
    "parquet: bytes": ("parquet", lambda _: bytes(range(256)), "the file does not begin as Parquet does"),
    "arrow: no bytes": ("arrow", lambda _: b"", "the file is empty (0 bytes)"),
    "arrow: truncated": ("arrow", lambda d: d[: len(d) // 2], TRUNCATED.format("Arrow IPC")),
    "arrow: a garbage footer": ("arrow", lambda d: d[:-100] + b"\xa5" * 90 + d[-10:], "is not readable as ipc"),
    "csv: no bytes": ("csv", lambda _: b"", "the file is empty (0 bytes)"),
    "csv: a short row": ("csv", line("5,short"), "line 1501 has 2 of 3 fields"),
    "csv: a long row": ("csv", line("5,long,1.5,more"), "is not readable as csv: a line has too many fields"),
    "csv: an open quote": ("csv", line('5,"open,1.5'), "is not readable as csv"),
    "csv: a cell": (
        "csv",
        line("5,s,abc"),
        "is not readable as csv: 'abc' in column 'z' is not a valid Float64",
    ),
    "csv: not UTF-8": ("csv", line("5,\xff\xfe,1.5"), "is not readable as csv: the text is not UTF-8"),
    "csv: binary": ("csv", lambda _: bytes(range(256)) * 40, "the file does not begin with UTF-8 text"),
    "csv.gz: not gzip": ("csv.gz", gzip.decompress, "the file is not gzip, as its name says"),
    "csv.gz: truncated": ("csv.gz", lambda d: d[: len(d) // 2], "is not readable as csv: "),
    "csv.gz: a wrong checksum": ("csv.gz", lambda d: d[:-8] + bytes(4) + d[-4:], "is not readable as csv: "),
    "csv.gz: of nothing": ("csv.gz", lambda _: gzip.compress(b""), "is not readable as csv: "),
    "ndjson: no bytes": ("ndjson", lambda _: b"", "the file is empty (0 bytes)"),
    "ndjson: a broken line": ("ndjson", line('{"x": 5, "s": '), "is not readable as ndjson: "),
    "ndjson: not UTF-8": ("ndjson", line('{"s": "\xff\xfe"}'), "is not readable as ndjson: the text is not UTF-8"),
    "ndjson: cut short": ("ndjson", lambda d: d[:-12], "is not readable as ndjson: "),
    "ndjson: a cell": ("ndjson", line('{"x": "five"}'), "is not readable as ndjson: 'five' is not a valid Int64"),
    "ndjson.gz: truncated": ("ndjson.gz", lambda d: d[: len(d) // 2], "is not readable as ndjson: "),
}


# how bytes are read has nothing to do with where the file stands: each damage is seen in both places, and on both file systems
FIRST = {kind: case for case, (kind, _, _) in reversed(CASES.items())}.values()
PLACES = [("local", case, 1) for case in CASES] + [("memory", case, 2) for case in CASES]
PLACES += [("local", case, 2) for case in FIRST] + [("memory", case, 1) for case in FIRST]


@pytest.mark.parametrize(("root", "case", "place"), PLACES, indirect=["root"])
def test_one_corrupt_file_is_left_out_whole(root: str, case: str, place: int) -> None:
    kind, damage, why = CASES[case]
    world = World(root, kind)
    uri = world.damage(place, damage)
    result = world.pipe.compile().run(run="r")
    result.raise_for_status()
    (found,) = result.corrupt
    assert (found.source, found.uri, found.action) == ("a", uri, "skip")
    assert found.why.startswith(why)
    assert found.size == world.fs.size(f"{world.path}/data/{place}.{kind}")
    assert str(found) == f"{uri}: source 'a': {found.why}"
    world.assert_holds(*({1, 2, 3} - {place}))
    assert world.remembered() == []


@pytest.mark.parametrize("case", ["csv: a cell", "csv: a long row", "ndjson: a broken line", "ndjson: a cell"])
def test_the_line_is_told(root: str, case: str) -> None:
    kind, damage, _ = CASES[case]
    world = World(root, kind)
    world.damage(2, damage)
    (found,) = world.pipe.compile().run().corrupt
    assert found.why.endswith("(line 1501)")


@pytest.mark.parametrize("case", [c for c in CASES if c.partition(": ")[2] in ("truncated", "a page", "a short row")])
def test_without_the_option_the_run_fails_as_ever(root: str, case: str) -> None:
    kind, damage, _ = CASES[case]
    world = World(root, kind, on_corrupt="fail")
    uri = world.damage(2, damage)
    result = world.pipe.compile().run()
    assert result.status == "error"
    assert result.corrupt == ()
    assert uri in str(next(s.error for s in result.segments if s.error))


def test_result_and_record_say_which_files_and_why(tmp_path: Path) -> None:
    world = World(str(tmp_path), "csv")
    world.damage(2, line("5,s,abc"))
    world.damage(3, lambda _: b"")
    result = world.pipe.compile().run(run="r")
    (kept, *_) = [s for s in result.segments if s.name == "a"]
    assert [c.uri for c in kept.corrupt] == [f"{tmp_path}/data/3.csv", f"{tmp_path}/data/2.csv"]
    written = json.loads((tmp_path / ".lazypipe" / "runs" / "r.json").read_text())
    assert written["segments"] == result.to_dict()["segments"]
    (segment,) = [s for s in written["segments"] if s["name"] == "a"]
    assert segment["corrupt"][0] == {
        "source": "a",
        "uri": f"{tmp_path}/data/3.csv",
        "size": 0,
        "stamp": str((tmp_path / "data" / "3.csv").stat().st_mtime_ns),
        "why": "the file is empty (0 bytes)",
        "action": "skip",
    }


def test_all_corrupt_files_are_found_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(str(tmp_path), "csv")
    for number in (1, 3):
        world.damage(number, line("5,s,abc"))
    asked = []
    monkeypatch.setattr(
        "lazypipe.run.executor.leave_out_corrupt",
        lambda *given: asked.append(1) or corrupt_run.leave_out_corrupt(*given),
    )
    result = world.pipe.compile().run()
    result.raise_for_status()
    assert len(result.corrupt) == 2
    assert asked == [1]
    world.assert_holds(2)


# between several readers


def test_a_column_that_only_one_output_reads_keeps_the_file_from_both(root: str) -> None:
    world = World(root, "parquet")
    world.damage(2, page)
    (whole, *_) = [pl.scan_parquet(io.BytesIO(world.fs.cat_file(f"{world.path}/data/2.parquet")))]
    assert whole.select("x").collect(engine="streaming").height == ROWS  # what the first output reads is sound
    result = world.pipe.compile().run()
    result.raise_for_status()
    assert [len(s.corrupt) for s in result.segments] == [1, 1]
    assert len(result.corrupt) == 1
    world.assert_holds(1, 3)


def test_rows_of_a_corrupt_file_are_not_in_quarantine_either(root: str) -> None:
    gate = [{"between": {"column": "z", "max": 1500, "action": "quarantine"}}]
    world = World(root, "csv", gate=gate)
    uri = world.damage(2, line("5,s,abc"))
    result = world.pipe.compile().run()
    result.raise_for_status()
    assert [c.uri for c in result.corrupt] == [uri]
    report = result.gates["a"]
    assert (report.rows, report.quarantined) == (2 * ROWS, 2 * ROWS - 1001)
    bad = lp.scan(f"{root}/.lazypipe/quarantine/p/a").collect()
    assert bad.height == report.quarantined
    assert uri not in bad["_lazypipe_file"].to_list()


# what is not corrupt


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv"])
def test_other_columns_are_for_the_contract(root: str, kind: str) -> None:
    world = World(root, kind)
    uri = world.put(2, encode(kind, rows(2).rename({"z": "zz"})))
    result = world.pipe.compile().run()
    assert result.status == "error"
    assert result.corrupt == ()
    assert uri in str(next(s.error for s in result.segments if s.error))


def test_other_types_are_for_the_contract(root: str) -> None:
    world = World(root, "parquet")
    world.put(2, encode("parquet", rows(2).with_columns(pl.col("z").cast(pl.Float32))))
    result = world.pipe.compile().run()
    assert result.status == "error"
    assert "z" in str(result.segments[-1].error)


def test_a_file_that_is_gone_is_not_corrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(str(tmp_path), "parquet")
    plan = world.pipe.compile()
    gone = tmp_path / "data" / "2.parquet"
    monkeypatch.setattr(
        "lazypipe.run.context.admitted", lambda *given: (corrupt_run.admitted(*given), gone.unlink(missing_ok=True))[0]
    )
    result = plan.run()
    assert result.status == "error"
    assert result.corrupt == ()
    assert f"{gone}: source 'a': " in str(result.segments[0].error)


def test_an_operation_that_fails_is_told_as_ever(tmp_path: Path) -> None:
    World(str(tmp_path), "csv")
    pipe = (
        lp.pipeline("p", base=str(tmp_path))
        .source("a", "data/*.csv", on_corrupt="skip")
        .stage("b", "a", do=[{"cast": {"s": "Int64"}}])
        .output("b", "out/b")
        .build()
    )
    result = pipe.compile().run()
    assert result.status == "error"
    assert "operation 1 (cast)" in str(result.segments[0].error)
    assert result.corrupt == ()


# nothing left


@pytest.mark.parametrize("kind", ["parquet", "csv.gz", "ndjson", "arrow"])
def test_only_corrupt_files_and_a_contract(root: str, kind: str) -> None:
    world = World(root, kind)
    for number in (1, 2, 3):
        world.damage(number, lambda d: d[: len(d) // 2 - 3])
    result = world.pipe.compile().run()
    result.raise_for_status()
    assert len(result.corrupt) == 3
    world.assert_holds()
    assert dict(lp.scan(f"{root}/out/some").collect_schema()) == dict(rows(1).schema)


@pytest.mark.parametrize("kind", ["parquet", "csv.gz", "arrow"])
def test_only_corrupt_files_and_no_contract(root: str, kind: str) -> None:
    world = World(root, kind, contract=None)
    plan = world.pipe.compile()
    for number in (1, 2, 3):
        uri = world.damage(4 - number, lambda d: d[: len(d) // 3] if kind == "csv.gz" else d[:100])
    says = r"source 'a': no file is left, all 3 are corrupt; the first: .*; deliver one that can be read, or declare the columns"
    with pytest.raises(SourceError, match=says) as caught:
        world.pipe.compile()
    assert caught.value.uri == uri
    result = plan.run()
    assert result.status == "error"
    assert isinstance(result.segments[0].error, SourceError)
    assert "no file is left, all 3 are corrupt" in str(result.segments[0].error)


def test_the_schema_is_that_of_the_first_file_that_can_be_read(root: str) -> None:
    world = World(root, "parquet", contract=None)
    world.damage(1, lambda d: d[:100])
    plan = world.pipe.compile()
    assert plan.schema("a") == rows(2).schema
    plan.run().raise_for_status()
    world.assert_holds(2, 3)


# what is remembered


def test_a_quarantined_file_is_recorded_and_not_tried_again(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(root, "csv", on_corrupt="quarantine_file")
    uri = world.damage(2, line("5,s,abc"))
    first = world.pipe.compile().run(run="r1")
    (found,) = first.corrupt
    (entry,) = world.remembered()
    assert entry == found.to_dict() | {k: entry[k] for k in ("run", "time", "read_as")}
    assert (entry["run"], entry["uri"], entry["action"]) == ("r1", uri, "quarantine_file")
    with monkeypatch.context() as patch:
        patch.setattr("lazypipe.run.executor.leave_out_corrupt", lambda *_: pytest.fail("it was tried again"))
        second = world.pipe.compile().run(run="r2")
    assert second.corrupt == first.corrupt
    assert len(world.remembered()) == 1
    world.assert_holds(1, 3)


@pytest.mark.parametrize("case", ["parquet: no bytes", "parquet: a page", "csv: a short row"])
def test_what_is_recorded_for_each_kind_of_damage(root: str, case: str) -> None:
    kind, damage, why = CASES[case]
    world = World(root, kind, on_corrupt="quarantine_file")
    uri = world.damage(1, damage)
    world.pipe.compile().run().raise_for_status()
    (entry,) = world.remembered()
    assert entry["uri"] == uri
    assert entry["why"].startswith(why)


def test_a_file_that_is_delivered_anew_is_read(root: str) -> None:
    world = World(root, "csv", on_corrupt="quarantine_file")
    world.damage(2, line("5,s,abc"))
    world.pipe.compile().run().raise_for_status()
    world.put(2, encode("csv", rows(2)))
    result = world.pipe.compile().run()
    assert result.corrupt == ()
    world.assert_holds(1, 2, 3)


def test_a_file_is_tried_again_once_the_source_is_read_in_another_way(root: str) -> None:
    world = World(root, "csv", on_corrupt="quarantine_file")
    world.damage(2, line("5,s,abc"))
    world.pipe.compile().run().raise_for_status()
    data = to_dict(world.pipe)
    data["sources"]["a"]["contract"]["columns"]["z"] = "String"
    data["stages"]["some"]["do"] = []
    result = lp.Pipeline.from_dict(data, base=root).compile().run()
    result.raise_for_status()
    assert result.corrupt == ()


def test_a_record_that_was_half_written_is_passed_over(root: str) -> None:
    world = World(root, "csv", on_corrupt="quarantine_file")
    world.damage(2, line("5,s,abc"))
    world.pipe.compile().run(run="r1").raise_for_status()
    name = f"{world.path}/.lazypipe/quarantine/p/a__files/r1.jsonl"
    world.fs.pipe_file(name, world.fs.cat_file(name)[:40])
    result = world.pipe.compile().run(run="r2")
    result.raise_for_status()
    assert len(result.corrupt) == 1
    world.assert_holds(1, 3)


def test_where_nothing_can_be_remembered_nothing_is_published(tmp_path: Path) -> None:
    world = World(str(tmp_path), "csv", on_corrupt="quarantine_file")
    world.damage(2, line("5,s,abc"))
    (tmp_path / ".lazypipe").mkdir()
    (tmp_path / ".lazypipe" / "quarantine").write_text("not a folder")
    result = world.pipe.compile().run(run="r")
    assert result.status == "error"
    error = next(s.error for s in result.segments if s.error)
    assert str(error).startswith(f"{tmp_path}/.lazypipe/quarantine/p/a__files")
    assert str(error).endswith("; fix the cause, or choose another folder with state")
    assert not (tmp_path / "out").exists()


def test_values_of_the_environment_do_not_show(tmp_path: Path) -> None:
    world = World(str(tmp_path), "csv")
    world.damage(2, line("5,s,abc"))
    pipe = (
        lp.pipeline("p", base=str(tmp_path))
        .source("a", "${SECRET}/*.csv", on_corrupt="quarantine_file", contract={"columns": TYPES})
        .output("a", "out/a")
        .build()
    )
    plan = pipe.compile(env={"SECRET": "data"})
    result = plan.run(run="r1")
    assert [c.uri for c in result.corrupt] == [f"{tmp_path}/${{SECRET}}/2.csv"]
    assert [e["uri"] for e in world.remembered()] == [f"{tmp_path}/${{SECRET}}/2.csv"]
    assert plan.run(run="r2").corrupt == result.corrupt


# the definition


def test_a_dataset_has_no_corrupt_files_to_leave_out(tmp_path: Path) -> None:
    World(str(tmp_path), "parquet").pipe.compile().run().raise_for_status()
    pipe = lp.pipeline("q", base=str(tmp_path)).source("few", "out/few", on_corrupt="skip").output("few", "x").build()
    with pytest.raises(lp.DefinitionError) as caught:
        pipe.compile()
    message = "on_corrupt is for files that others deliver, and this is a dataset; remove on_corrupt"
    assert str(caught.value) == f"sources.few.on_corrupt: {message}"


def test_an_unknown_word() -> None:
    with pytest.raises(lp.DefinitionError, match="'on_corrupt' cannot be 'skp'; did you mean 'skip'?"):
        lp.pipeline("q").source("a", "a.csv", on_corrupt="skp").output("a", "x").build()


def test_the_option_survives_being_written() -> None:
    pipe = lp.pipeline("q").source("a", "a.csv", on_corrupt="quarantine_file").output("a", "x").build()
    assert "on_corrupt: quarantine_file" in pipe.to_yaml()
    assert lp.Pipeline.from_yaml(pipe.to_yaml()) == pipe


AGAIN = "; deliver it again, or say on_corrupt: quarantine_file or skip"


@pytest.mark.parametrize(
    ("case", "fix"),
    [
        ("csv.gz: truncated", AGAIN),
        ("csv.gz: a wrong checksum", AGAIN),
        ("ndjson.gz: truncated", AGAIN),
        ("arrow: truncated", AGAIN),
        ("arrow: a garbage footer", AGAIN),
        ("parquet: a page", AGAIN),
        ("ndjson: a broken line", "; each line must be one JSON object; declare types in contract"),
        (
            "ndjson: not UTF-8",
            "; convert it, such as with iconv -f WINDOWS-1252 -t UTF-8, or declare columns in contract: ",
        ),
        (
            "csv: not UTF-8",
            "; convert it, such as with iconv -f WINDOWS-1252 -t UTF-8, or declare columns in contract: ",
        ),
    ],
)
def test_what_is_to_be_done_fits_the_damage(root: str, case: str, fix: str) -> None:
    kind, damage, _ = CASES[case]
    world = World(root, kind, on_corrupt="fail")
    world.damage(2, damage)
    errors = [str(s.error) for s in world.pipe.compile().run().segments if s.error]
    assert errors
    assert [e for e in errors if fix not in e] == []
