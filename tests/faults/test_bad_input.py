"""Bad input: an error that names the file and the source, nothing published, and a next run that is not hindered."""

from __future__ import annotations

import functools
import gzip
import io
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import SourceError
from lazypipe.storage.datasets.dataset import Dataset

ROWS = 3000
FRAME = pl.DataFrame(
    {"x": range(ROWS), "s": [f"text {i}" for i in range(ROWS)], "z": [i / 2 for i in range(ROWS)]},
)
NOW = timedelta(0)


def encode(kind: str, frame: pl.DataFrame = FRAME) -> bytes:
    base = kind.removesuffix(".gz")
    buffer = io.BytesIO()
    match base:
        case "parquet":
            frame.write_parquet(buffer, row_group_size=500, compression="uncompressed")
        case "arrow":
            frame.write_ipc(buffer)
        case "csv":
            frame.write_csv(buffer)
        case _:
            frame.write_ndjson(buffer)
    data = buffer.getvalue()
    return gzip.compress(data) if kind.endswith(".gz") else data


class World:
    """A pipeline over three files that has run once, so that there is something to lose."""

    def __init__(self, root: str, kind: str) -> None:
        self.root, self.kind = root, kind
        self.fs, self.path = fsspec.core.url_to_fs(root)
        self.names = [f"data/{n}.{kind}" for n in (1, 2, 3)]
        for name in self.names:
            self.put(name, encode(kind))
        # the stages need one column of three; the export's needs another
        self.pipe = lp.Pipeline.from_yaml(
            f"""
            version: 1
            name: p
            sources: {{flights: {{uri: "data/*.{kind}", contract: {{columns: {{x: Int64, s: String, z: Float64}}}}}}}}
            stages:
              few: {{from: flights, do: [{{select: [x]}}, {{filter: x >= 10}}]}}
              all: {{from: flights, do: [{{aggregate: {{aggregate: {{n: count(*), z: max(z)}}}}}}]}}
            outputs:
              few: {{to: out/few}}
              all: {{to: out/all.csv, format: csv}}
            """,
            base=root,
        )
        self.pipe.compile().run(run="good").raise_for_status()
        self.before = self.published()

    def put(self, name: str, data: bytes) -> None:
        self.fs.makedirs(f"{self.path}/{name}".rpartition("/")[0], exist_ok=True)
        self.fs.pipe_file(f"{self.path}/{name}", data)

    def published(self) -> tuple[Any, ...]:
        few = lp.scan(f"{self.root}/out/few")
        versions = Dataset(f"{self.root}/out/few").log.versions()
        return versions, sorted(few.collect().rows()), self.fs.cat_file(f"{self.path}/out/all.csv")

    def files(self) -> list[str]:
        return sorted(p.removeprefix(self.path) for p in self.fs.find(f"{self.path}/out"))

    def assert_refused(self, name: str, message: str, *, plan: lp.Plan | None = None) -> str:
        """Run on bad input; return the error after all that must hold for any."""
        try:
            result = (plan or self.pipe.compile()).run()
        except SourceError as error:  # the schema is read from this file: it cannot even be compiled
            found: Exception = error
            assert error.exit_code == 3
        else:
            assert result.status == "error"
            assert result.exit_code == 3
            assert result.commits == {}
            (found, *_) = [s.error for s in result.segments if s.error is not None]
        text = str(found)
        assert isinstance(found, SourceError)
        assert found.uri is not None
        assert re.fullmatch(re.escape(f"{self.root}/") + name, found.uri), found.uri
        assert "source 'flights': " in text
        assert re.search(message, text), text
        assert not re.search(r"\n|FAILED HERE|plan until|Traceback|SCAN|hint:", text), text
        assert self.published() == self.before
        return text

    def assert_mended(self, name: str) -> None:
        """The next run on whole input works, and vacuum leaves live files only."""
        self.put(name, encode(self.kind))
        result = self.pipe.compile().run(run="next", full=True)
        result.raise_for_status()
        assert result.commits == {"few": 2}
        assert self.published()[1:] == self.before[1:]
        lp.vacuum(self.pipe, older_than=NOW)
        assert [f for f in self.files() if "next" not in f] == ["/out/all.csv", f"/out/few.commits/{2:020}.json"]


@pytest.fixture
def root(somewhere: str) -> str:
    return somewhere


def lines(*changed: str, at: int = 1500) -> Callable[[bytes], bytes]:
    """Put lines into the middle of a text."""

    def change(data: bytes) -> bytes:
        old = data.splitlines(keepends=True)
        return b"".join([*old[:at], *(c.encode("latin-1") + b"\n" for c in changed), *old[at:]])

    return change


def header(text: str) -> Callable[[bytes], bytes]:
    return lambda data: text.encode() + b"\n" + data.partition(b"\n")[2]


CASES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "parquet: empty": ("parquet", lambda _: b"", r"the file is empty \(0 bytes\)"),
    **{
        f"parquet: cut at {cut}": ("parquet", lambda d, c=cut: d[:c], "(?i)parquet")  # type: ignore[misc]
        for cut in (3, 12, 1000, -500, -9, -8, -1)
    },
    "parquet: garbage in the footer": (
        "parquet",
        lambda d: d[:-300] + b"\xa5" * 292 + d[-8:],
        "(?i)parquet|thrift|footer",
    ),
    "parquet: garbage for the length of the footer": (
        "parquet",
        lambda d: d[:-8] + b"\xff\xff\xff\x7f" + d[-4:],
        "(?i)parquet|footer",
    ),
    "parquet: text": ("parquet", lambda _: b"<html>not found</html>" * 9, "(?i)parquet"),
    "parquet: other type": (
        "parquet",
        lambda _: encode("parquet", FRAME.with_columns(pl.col("x").cast(pl.String))),
        "column 'x'",
    ),
    "parquet: no column": ("parquet", lambda _: encode("parquet", FRAME.drop("x")), "'x'"),
    "parquet: new column": ("parquet", lambda _: encode("parquet", FRAME.with_columns(new=1)), "'new'"),
    "arrow: empty": ("arrow", lambda _: b"", "the file is empty"),
    **{
        f"arrow: cut at {cut}": ("arrow", lambda d, c=cut: d[:c], "ipc")  # type: ignore[misc]
        for cut in (3, 1000, -100, -1)
    },
    "arrow: other type": (
        "arrow",
        lambda _: encode("arrow", FRAME.with_columns(pl.col("x").cast(pl.String))),
        "column 'x'",
    ),
    "csv: empty": ("csv", lambda _: b"", "the file is empty"),
    "csv: short row": ("csv", lines("5,short"), "line 1501 has 2 of 3 fields"),
    "csv: short row with quotes": ("csv", lines('5,"sho,rt"'), "line 1501 has 2 of 3 fields"),
    "csv: short last row": ("csv", lambda d: d + b"5,short", f"line {ROWS + 2} has 2 of 3 fields"),
    "csv: long row": ("csv", lines("5,long,1.5,more"), r"\(line 1501\)|too many fields"),
    "csv: wrong type": ("csv", lines("5,s,abc"), "'abc' in column 'z' is not a valid Float64"),
    "csv: wrong type in the key": ("csv", lines("five,s,1.5"), "'five' in column 'x' is not a valid Int64"),
    "csv: unclosed quote": ("csv", lines('5,"open,1.5'), "csv"),
    "csv: text behind a quote": ("csv", lines('5,"a"b,1.5'), "csv"),
    "csv: blank line": ("csv", lines(""), "line 1501 has 0 of 3 fields"),
    "csv: NUL in a number": ("csv", lines("5,s,1\0"), "csv"),
    "csv: invalid UTF-8": ("csv", lines("5,\xff\xfe,1.5"), "(?i)utf-?8"),
    "csv: no header": ("csv", lambda d: d.partition(b"\n")[2], "csv|column"),
    "csv: missing column": ("csv", header("x,s"), "(?i)z|columns"),
    "csv: other column": ("csv", header("x,s,zz"), "the file lacks column 'z'"),
    "csv: new column": ("csv", header("x,s,z,new"), "new"),
    "csv: short row in another order": (
        "csv",
        lambda _: encode("csv", FRAME.select("z", "x", "s")) + b"1.5,7\n",
        "line 3002 has 2",
    ),
    "csv: only a newline": ("csv", lambda _: b"\n", "(?i)empty|column"),
    "csv.gz: truncated": ("csv.gz", lambda d: d[: len(d) // 2], "the packed text ends too early"),
    "csv.gz: without its checksum": ("csv.gz", lambda d: d[:-8], "the packed text ends too early"),
    "csv.gz: other checksum": ("csv.gz", lambda d: d[:-8] + b"\0\0\0\0" + d[-4:], "the packed text is damaged"),
    "csv.gz: of nothing": ("csv.gz", lambda _: gzip.compress(b""), "(?i)empty"),
    "csv.gz: short row": (
        "csv.gz",
        lambda d: gzip.compress(lines("5,short")(gzip.decompress(d))),
        "line 1501 has 2 of 3",
    ),
    "ndjson: empty": ("ndjson", lambda _: b"", "the file is empty"),
    "ndjson: broken line": ("ndjson", lines('{"x": 5, "s": '), r"ndjson: .*\(line 1501\)"),
    "ndjson: wrong type": ("ndjson", lines('{"x": 5, "s": "t", "z": "abc"}'), r"abc.*\(line 1501\)"),
    "ndjson: a list": ("ndjson", lines("[1, 2, 3]"), r"\(line 1501\)"),
    "ndjson: two objects": ("ndjson", lines('{"x": 5} {"x": 6}'), r"\(line 1501\)"),
    "ndjson: cut": ("ndjson", lambda d: d[:-12], rf"\(line {ROWS}\)"),
    "ndjson: invalid UTF-8": ("ndjson", lines('{"x": 5, "s": "\xff"}'), "(?i)utf-?8"),
    "ndjson.gz: truncated": ("ndjson.gz", lambda d: d[: len(d) // 2], "the packed text ends too early"),
}


SHAPES = ("other type", "no column", "missing column", "other column", "new column", "no header")
# what differs elsewhere is how bytes are read: some damage of each kind is enough there
ELSEWHERE = (
    "empty",
    "cut at -9",
    "cut at 1000",
    "garbage in the footer",
    "other type",
    "short row",
    "long row",
    "wrong type",
)
ELSEWHERE += (
    "unclosed quote",
    "invalid UTF-8",
    "other column",
    "short row in another order",
    "truncated",
    "of nothing",
    "cut",
)
PLACES = [("memory", case, 2) for case in CASES if case.partition(": ")[2] in ELSEWHERE]
# it is the first file that says which columns there are
PLACES += [("local", case, 1) for case in CASES if case.partition(": ")[2] in ELSEWHERE and not case.endswith(SHAPES)]


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_among_many(tmp_path: Path, case: str) -> None:
    kind, damage, message = CASES[case]
    world = World(str(tmp_path), kind)
    name = f"data/2.{kind}"
    world.put(name, damage(encode(kind)))
    world.assert_refused(name, message)
    world.assert_mended(name)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], World]]:
    """Give worlds that were made once: what is refused changes nothing in them."""
    root = tmp_path_factory.mktemp("worlds")
    where = {"local": str(root), "memory": f"memory://{root.name}"}
    yield functools.cache(lambda place, kind: World(f"{where[place]}/{kind}", kind))
    fsspec.filesystem("memory").rm(f"/{root.name}", recursive=True)


@pytest.mark.parametrize(("where", "case", "place"), PLACES)
def test_a_bad_file_elsewhere(worlds: Callable[[str, str], World], where: str, case: str, place: int) -> None:
    kind, damage, message = CASES[case]
    world = worlds(where, kind)
    name = f"data/{place}.{kind}"
    world.put(name, damage(encode(kind)))
    try:
        world.assert_refused(name, message)
    finally:
        world.put(name, encode(kind))


@pytest.mark.parametrize(
    "case", ["parquet: cut at -9", "csv: wrong type", "ndjson: cut", "csv: other column", "parquet: other type"]
)
def test_a_file_that_goes_bad_between_compiling_and_running(root: str, case: str) -> None:
    kind, damage, message = CASES[case]
    world = World(root, kind)
    plan = world.pipe.compile()
    for name in world.names:
        world.put(name, damage(encode(kind)))
    if kind == "csv" and case.endswith("column"):
        message = "the file lacks column 'z'"
    world.assert_refused(rf"data/[123]\.{kind}", message, plan=plan)


@pytest.mark.parametrize(("kind", "line"), [("csv", "5,s,abc"), ("csv", "5,s,1.5,more"), ("ndjson", '{"z": "abc"}')])
def test_the_line_is_told_where_it_is_known(root: str, kind: str, line: str) -> None:
    world = World(root, kind)
    world.put(world.names[1], lines(line)(encode(kind)))
    assert "(line 1501)" in world.assert_refused(world.names[1], "")


def test_columns_in_another_order_are_matched_by_name(root: str) -> None:
    world = World(root, "csv")
    world.put(world.names[1], encode("csv", FRAME.select("z", "s", "x")))
    world.pipe.compile().run(run="next").raise_for_status()
    assert world.published()[1:] == world.before[1:]


def test_a_nul_in_a_text_is_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x,s\n1,a\0b\n")
    lp.pipeline("p", base=str(tmp_path)).source("a", "a.csv").output(
        "a", "out"
    ).build().compile().run().raise_for_status()
    assert lp.scan(str(tmp_path / "out")).collect().rows() == [(1, "a\0b")]


def test_a_column_that_the_contract_drops_is_parsed_all_the_same(root: str) -> None:
    fs, path = fsspec.core.url_to_fs(root)
    fs.makedirs(path, exist_ok=True)
    pipe = (
        lp.pipeline("p", base=root)
        .source("a", "a.csv", contract={"columns": {"x": "Int64"}, "on_new_column": "discard_column"})
        .output("a", "out")
        .build()
    )
    for row, message in (("2,b", "line 3 has 2 of 3"), ("2,b,c,d", "too many fields"), ('2,"b"x,c', "(?i)csv")):
        fs.pipe_file(f"{path}/a.csv", f"x,s,z\n1,a,b\n{row}\n".encode())
        result = pipe.compile().run()
        assert result.status == "error", row
        assert re.search(message, str(result.segments[0].error)), result.segments[0].error


def test_the_line_with_too_many_fields_is_told_behind_one_with_too_few(tmp_path: Path) -> None:
    for rows in ("3\n4,5,6,7\n", "\n3\n4,5\n4,5,6,7\n", "1,2,3\n" * 5_000 + "3\n1,2,3,4\n"):
        (tmp_path / "a.csv").write_text(f"x,y,z\n1,2,3\n{rows}")
        line = 2 + rows.count("\n")
        pipe = lp.pipeline("p", base=str(tmp_path)).source("a", "a.csv").output("a", "out").build()
        told = str(pipe.compile().run().segments[0].error)
        assert f"a line has too many fields (line {line})" in told


# what is not there


def test_a_missing_file_and_an_empty_glob(root: str) -> None:
    world = World(root, "parquet")
    plan = world.pipe.compile()
    for name in world.names:
        world.fs.rm_file(f"{world.path}/{name}")
    result = plan.run(run="bad")
    assert (result.status, result.exit_code) == ("error", 3)
    assert "source 'flights': no file matches" in str(result.segments[0].error)
    assert f"{root}/data/*.parquet" in str(result.segments[0].error)
    assert world.published() == world.before
    untyped = lp.pipeline("p", base=root).source("a", "data/*.parquet").output("a", "out/gone").build()
    with pytest.raises(SourceError, match=r"data/\*.parquet: source 'a': no file matches"):
        untyped.compile()
    gone = lp.pipeline("p", base=root).source("a", "gone.csv").output("a", "out/gone").build()
    with pytest.raises(SourceError, match="gone.csv: source 'a': there is no such file; check the path|URI"):
        gone.compile()


def test_a_file_that_vanishes_while_the_run_reads(tmp_path: Path) -> None:
    world = World(str(tmp_path), "parquet")
    plan = world.pipe.compile()
    vanished = tmp_path / world.names[1]

    def vanish(*_: object) -> None:
        vanished.unlink(missing_ok=True)

    source = plan.nodes["flights"].source
    assert source is not None
    listed = source.listing
    with replaced(source, "listing", lambda **how: (listed(**how), vanish())[0]):
        world.assert_refused(world.names[1], "No such file|does not exist", plan=plan)


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    object.__setattr__(owner, name, value)
    try:
        yield
    finally:
        object.__delattr__(owner, name)


def test_a_dataset_as_a_source_whose_file_is_gone(tmp_path: Path) -> None:
    first = lp.pipeline("p", base=str(tmp_path)).source("a", "a.csv").output("a", "one").build()
    (tmp_path / "a.csv").write_text("x\n1\n")
    first.compile().run(run="r").raise_for_status()
    second = lp.pipeline("q", base=str(tmp_path)).source("one", "one").output("one", "two").build()
    plan = second.compile()
    (tmp_path / "one" / "r-001-00000.parquet").unlink()
    result = plan.run()
    assert (result.status, result.exit_code) == ("error", 3)
    assert re.search(
        r"one/r-001-00000.parquet: source 'one': .*No such file.*; restore it", str(result.segments[0].error)
    )


def test_a_dataset_as_a_source_whose_log_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    lp.pipeline("p", base=str(tmp_path)).source("a", "a.csv").output(
        "a", "one"
    ).build().compile().run().raise_for_status()
    plan = lp.pipeline("q", base=str(tmp_path)).source("one", "one").output("one", "two").build().compile()
    commit = tmp_path / "one.commits" / f"{1:020}.json"
    commit.write_bytes(commit.read_bytes()[:100])
    result = plan.run()
    assert (result.status, result.exit_code) == ("error", 3)
    assert f"{commit}: the commit file is truncated or damaged" in str(result.segments[0].error)


UNREADABLE = """
import os, sys
import lazypipe as lp
root = sys.argv[1]
pipe = lp.pipeline("p", base=root, state="state").source("a", "data/*/*.csv", contract={"columns": {"x": "Int64"}}).output("a", "out/a").build()
lp.pipeline("warm", base=root).source("a", "data/open/1.csv").output("a", "warm").build().compile().run().raise_for_status()
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
result = pipe.compile().run()
print(result.status, result.exit_code)
print(result.segments[0].error)
"""


def test_an_unreadable_folder(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o055 != 0o055:
            parent.chmod(parent.stat().st_mode | 0o055)
    for folder in ("open", "closed"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "1.csv").write_text("x\n1\n")
    for folder in ("out", "state"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder).chmod(0o777)
    (tmp_path / "data" / "closed").chmod(0o000)
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(UNREADABLE), str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
    finally:
        (tmp_path / "data" / "closed").chmod(0o755)
    assert done.returncode == 0, done.stderr
    status, error = done.stdout.splitlines()
    assert status == "error 3"
    assert error.startswith(f"{tmp_path}/data/closed: source 'a': cannot be listed: Permission denied")
    assert list((tmp_path / "out").iterdir()) == []


# operations


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"cast": {"s": "Int64"}}, r"operation 2 \(cast\): .* has values that cannot become Int64"),
        ({"derive": {"y": "s::bigint"}}, r"operation 2 \(derive\): .* has values that cannot become Int64"),
        ({"filter": "s::bigint > 1"}, r"operation 2 \(filter\): .* has values that cannot become Int64"),
        ({"join": {"with": "b", "on": "k", "validate": "m:1"}}, r"key \(1\) occurs 2 times"),
    ],
    ids=["cast", "derive", "filter", "join"],
)
def test_an_operation_that_fails_on_the_data(tmp_path: Path, operation: dict[str, Any], message: str) -> None:
    (tmp_path / "a.csv").write_text("k,s\n1,x\n2,y\n")
    (tmp_path / "b.csv").write_text("k,t\n1,x\n1,y\n")
    (name,) = operation
    text = textwrap.dedent(
        f"""\
        version: 1
        name: p
        sources: {{a: {{uri: a.csv}}, b: {{uri: b.csv}}}}
        stages:
          before: {{from: a, do: [{{filter: k > 0}}]}}
          bad:
            from: before
            do:
              - derive: {{one: '1'}}
              - {operation}
              - limit: 10
        outputs: {{bad: {{to: out/bad}}, before: {{to: out/before}}}}
        """
    )
    (tmp_path / "p.yaml").write_text(text)
    result = lp.load(tmp_path / "p.yaml").compile().run()
    assert (result.status, result.exit_code) == ("error", 3)
    statuses = {s.name: s.status for s in result.segments}
    assert statuses == {"before": "done", "bad": "error"}
    (error,) = [str(s.error) for s in result.segments if s.error]
    assert error.startswith(f"{tmp_path}/p.yaml:10:10: stage 'bad'"), error
    assert re.search(message, error), error
    assert "\n" not in error
    assert not (tmp_path / "out" / "bad.commits").exists()
    assert lp.scan(str(tmp_path / "out" / "before")).collect().height == 2


def test_a_cast_of_the_contract_that_fails_names_source_and_file(tmp_path: Path) -> None:
    for name, text in (("1", "5"), ("2", "five")):
        pl.DataFrame({"x": [text]}).write_parquet(tmp_path / f"{name}.parquet")
    pipe = (
        lp.pipeline("p", base=str(tmp_path))
        .source("a", "*.parquet", contract={"columns": {"x": "Int64"}, "on_type_change": "freeze"})
        .output("a", "out")
        .build()
    )
    result = pipe.compile().run()
    assert (result.status, result.exit_code) == ("error", 3)
    assert str(result.segments[0].error) == (
        f"{tmp_path}/2.parquet: source 'a': column 'x' has 1 value that is not a valid Int64, such as 'five'; "
        "fix the file, or say on_type_change: discard_row or discard_column"
    ), result.segments[0].error


# secrets


def test_values_of_the_environment_never_show(tmp_path: Path) -> None:
    secret = "hunter2-p@ss"
    fs = fsspec.filesystem("memory")
    folder = f"/{secret}/{tmp_path.name}"
    pipe = lp.Pipeline.from_yaml(
        f"""
        version: 1
        name: p
        sources:
          a: {{uri: "memory://${{LAZYPIPE_PW}}/{tmp_path.name}/*.csv", contract: {{columns: {{x: Int64}}}}}}
        stages: {{b: {{from: a, do: [{{filter: x > 0}}]}}}}
        outputs: {{b: {{to: out/b}}}}
        """,
        base=str(tmp_path),
    )
    env = {"LAZYPIPE_PW": secret}
    shown = []

    def run() -> str:
        try:
            plan = pipe.compile(env=env)
            shown.extend(plan.explain("b", kind) for kind in ("logical", "optimized", "physical"))
            shown.append(repr(plan) + str(plan.preview()))
            result = plan.run()
        except lp.LazypipeError as error:
            shown.extend([str(error), repr(error), str(error.__cause__ or ""), str(error.args)])
            return "compile"
        shown.append(str(result.to_dict()) + repr(result))
        for segment in result.segments:
            shown.extend([str(segment.error), repr(segment.error)])
        return result.status

    assert run() == "error"
    for content, status in (
        (b"x\n1\n", "done"),
        (b"x\n1\n" * 200 + b"abc\n", "error"),
        (b"x,y\n1,2\n3\n", "error"),
        (b"", "error"),
    ):
        fs.pipe_file(f"{folder}/1.csv", content)
        assert run() == status, shown[-1]
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert any(p.suffix == ".json" and ".commits" in str(p) for p in files)
    assert any("runs" in str(p) for p in files)
    shown += [p.read_bytes().decode("latin-1") for p in files] + [str(p) for p in files]
    assert [text for text in shown if secret in text or "hunter2" in text] == []
    assert any("memory://${LAZYPIPE_PW}/" in text for text in shown)
    fs.rm(f"/{secret}", recursive=True)


class _Quiet(SimpleHTTPRequestHandler):
    """A server that gives whole files only."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_server_that_gives_whole_files_only_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_address[1]}/a.csv"
        with pytest.raises(lp.LazypipeError) as caught:
            lp.pipeline("p", base=tmp_path).source("s", uri).output("s", "out").build().compile()
        cached = lp.pipeline("p", base=tmp_path).source("s", f"simplecache::{uri}").output("s", "out").build()
        assert cached.compile().run().status == "done"
        server.shutdown()
    assert lp.scan(tmp_path / "out").collect()["x"].to_list() == [1]
    what = "cannot be read: the server serves only whole files, not parts of them"
    assert (
        str(caught.value) == f"{uri}: source 's': {what}; put simplecache:: in front of its URI, or copy it to a store"
    )
