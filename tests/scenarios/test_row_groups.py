"""Large Parquet files that are written anew: only row groups that are others are read, and the result is that of a full run."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.run.recorder import Recorder
from lazypipe.run.segment.query import Query
from lazypipe.storage.parquet import row_groups
from tests.properties.scale import READ, read_as_modified
from tests.scenarios import growing
from tests.scenarios.growing import NOW, SUMS, Growing

EXAMPLES = settings().max_examples
SCHEMA = pa.schema([("id", pa.int64()), ("k", pa.string()), ("v", pa.int64())])
KINDS = growing.KINDS | {
    "looked": {"do": [{"join": {"with": "m", "on": "k", "how": "left", "columns": {"w": "there"}}}]},
    "self": {"do": [{"join": {"with": "s", "on": "id", "how": "semi"}}]},
}
Row = tuple[int, str, int | None]


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Files of tests are large ones, and such as are known to change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_groups, "LARGE", 0)
        patch.setattr(Recorder, "read", read_as_modified)
        yield


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of files before they change."""
    monkeypatch.setattr(Recorder, "read", READ)


class Exports(Growing):
    """Parquet files that others write anew, row group by row group."""

    kinds = KINDS

    def __init__(self, base: Path, kind: str = "rows", uri: str = "in/**/*.parquet") -> None:
        super().__init__(base, kind, uri)
        self.write("m", [[(0, "a", 7), (0, "c", 8)]], to="more")

    def write(
        self, name: str, groups: Sequence[Sequence[Row]], *, to: str = "in", codec: str = "none", **how: Any
    ) -> Path:
        """One row group for each list of rows."""
        path = self.base / to / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        schema = how.pop("schema", SCHEMA)
        with pq.ParquetWriter(path, schema, compression=codec, **how) as writer:
            for rows in groups:
                columns = dict(zip(SCHEMA.names, zip(*rows, strict=True), strict=True))
                columns |= {n: [0] * len(rows) for n in schema.names if n not in columns}
                writer.write_table(pa.table({n: list(columns[n]) for n in schema.names}, schema=schema))
        self.stamp(path)
        return path

    def data(self, out: str = "out") -> dict[str, Any]:
        made = super().data(out)
        if self.kind == "looked":
            made["sources"]["raw"] = {"uri": "more/*.parquet"}
            made["stages"]["m"] = {"from": "raw", "do": [{"select": ["k", "v"]}, {"rename": {"v": "w"}}]}
        return made

    def parts(self) -> list[int]:
        """Return at which bytes the parts of the first file begin, as they were consumed; nothing of one that was read at once."""
        listed, *_ = self.commit().info["consumed"]["units"]["s"]
        return [] if isinstance(listed, int) else [start for start, _ in listed]


def groups(count: int, rows: int = 10, first: int = 0) -> list[list[Row]]:
    return [[(n, "abcd"[n % 4], n % 60) for n in range(g * rows, (g + 1) * rows)] for g in range(first, first + count)]


def borders(path: Path) -> list[int]:
    """Return where row groups begin, by another reader of footers; the last place is where they end."""
    about = pq.ParquetFile(path).metadata
    columns = [[about.row_group(g).column(c) for c in range(about.num_columns)] for g in range(about.num_row_groups)]
    found = [min(c.dictionary_page_offset or c.data_page_offset for c in of) for of in columns]
    return [*found, found[-1] + sum(c.total_compressed_size for c in columns[-1])]


# what is read


def test_row_groups_behind_those_that_were_read_are_read_alone(tmp_path: Path) -> None:
    exports = Exports(tmp_path)
    old = borders(exports.write("a", groups(40)))
    assert exports.same().written == 400
    path = exports.write("a", groups(42))
    (step,) = exports.plan().preview()
    assert step["why"] == "s: 1 grown (40 of 42 row groups unchanged)"
    size = path.stat().st_size - old[-1]
    assert step["reads"] == [{"name": "s", "files": 1, "of": 1, "bytes": size, "rows": 20}]
    assert exports.same().written == 20
    assert exports.parts() == [0, old[-1], borders(path)[41]]
    assert exports.step().status == "unchanged"
    exports.write("a", groups(43))
    assert exports.same().written == 10


def test_an_export_that_is_written_anew_each_night(tmp_path: Path) -> None:
    exports = Exports(tmp_path, "sums")
    # full row groups of ten, and what is left
    nights = [
        [*groups(40), groups(41)[40][:7]],
        [*groups(42), groups(43)[42][:3]],
        [*groups(43), groups(44)[43][:1]],
        groups(44),
    ]
    path = exports.write("a", nights[0], codec="zstd")
    exports.same()
    exports.write("a", nights[1], codec="zstd")
    # it is not known yet which of its rows are in which row group, so it is read once more
    assert exports.same().why == "s: 1 modified (40 of 43 row groups unchanged)"
    assert exports.parts() == [0, borders(path)[40], borders(path)[42]]
    for night, same in ((nights[2], 42), (nights[3], 43)):
        last = exports.parts()[-1]
        exports.write("a", night, codec="zstd")
        (step,) = exports.plan().preview()
        assert step["why"] == f"s: 1 modified ({same} of 44 row groups unchanged)"
        size, rows = path.stat().st_size - last, sum(map(len, night[borders(path).index(last) :]))
        assert step["reads"] == [{"name": "s", "files": 1, "of": 1, "bytes": size, "rows": rows}]
        exports.same()
        assert exports.step().status == "unchanged"


@pytest.mark.usefixtures("first")
def test_from_the_second_version_on_it_is_known_what_changes(tmp_path: Path) -> None:
    exports = Exports(tmp_path, "sums")
    written = []
    for night in range(5):
        path = exports.write("a", [*groups(40 + night, 500), groups(41 + night, 500)[-1][:50]])
        (step,) = exports.plan().preview()
        exports.same()
        written.append(step["reads"][0]["bytes"] * 100 // path.stat().st_size)
    assert written[:2] == [100, 100]
    assert max(written[2:]) < 12
    exports.source = {"detect": "content"}  # what is hashed anyway is known from the first version on
    exports.write("b", groups(40))
    exports.same()
    exports.write("b", groups(41))
    assert exports.same().why == "s: 1 grown (40 of 41 row groups unchanged), 1 unchanged"


@pytest.mark.usefixtures("first")
def test_of_files_that_never_change_no_row_groups_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = Exports(tmp_path)
    exports.write("a", groups(40))
    monkeypatch.setattr("lazypipe.storage.parquet.row_groups.footer_of", None)
    exports.same()
    exports.write("b", groups(40))
    exports.same()
    assert "borders" not in exports.commit().info["consumed"]["sources"]["s"]


def test_who_writes_all_row_groups_anew_is_read_as_a_whole(tmp_path: Path) -> None:
    """As Polars does where it is not told how large they are: as many rows in each of them."""
    exports = Exports(tmp_path)
    for rows in (20, 21, 22):
        exports.write("a", groups(4, rows))
        assert exports.same().written == 4 * rows
        assert exports.parts() == []
    exports.write("a", [*groups(4, 22), groups(1, 22, first=4)[0][:3]])
    assert exports.same().written == 3


def test_a_correction_in_the_middle(tmp_path: Path) -> None:
    exports = Exports(tmp_path)
    all_rows = groups(20)
    plain = {"use_dictionary": False, "write_statistics": False}
    path = exports.write("a", all_rows, **plain)
    exports.same()
    written = []
    for group, row in ((12, 3), (12, 4), (15, 0), (19, 9), (2, 0), (2, 1)):
        before = path.stat().st_size
        all_rows[group][row] = (all_rows[group][row][0], all_rows[group][row][1], 59)
        exports.write("a", all_rows, **plain)
        assert path.stat().st_size == before  # neither the size nor where row groups are tells of it
        written.append(exports.same().written)
    # what is behind is read with it; what is ahead is not, where it was found before that it may stay
    assert written == [200, 80, 80, 10, 200, 180]


def test_bytes_that_are_read_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = f"memory://{uuid.uuid4().hex}"
    fs = fsspec.filesystem("memory")
    exports = Exports(tmp_path, uri=f"{folder}/*.parquet")
    exports.source = {"detect": "content"}  # what is elsewhere is hashed only if that is asked for
    path = tmp_path / "in/a.parquet"

    def put(of: list[list[Row]]) -> list[int]:
        fs.pipe_file(f"{folder}/a.parquet", exports.write("a", of).read_bytes())
        return borders(path)

    wide = [[(n, "x" * 2_000 + str(n), n) for n in range(g * 50, g * 50 + 50)] for g in range(12)]  # 100 kB each
    put(wide[:8])
    exports.step()
    put(wide[:10])
    plan, ranges = exports.plan(), list[tuple[int, int]]()
    read = MemoryFileSystem.cat_file

    def cat_file(fs: Any, path: str, start: Any = None, end: Any = None, **more: Any) -> bytes:
        found: bytes = read(fs, path, start, end, **more)
        if start is not None and path.endswith(".parquet"):
            ranges.append((start, start + len(found)))
        return found

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    (segment,) = plan.run(now=NOW).segments
    assert (segment.why, segment.written) == ("s: 1 grown (8 of 10 row groups unchanged)", 100)
    places = borders(path)
    tail = min(places[8], path.stat().st_size - (64 << 10))  # the footer, and what comes along with it
    assert [r for r in ranges if r[0] < tail] == []
    assert any(start <= places[8] and places[9] <= end for start, end in ranges)
    assert len(exports.rows()) == 500


def test_less_is_asked_of_a_file_that_begins_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports = Exports(tmp_path)
    exports.write("a", groups(5))
    exports.same()
    exports.write("a", [groups(1)[0][:5], *groups(9, first=1)])
    hashed: list[str] = []
    monkeypatch.setattr("lazypipe.incremental.hashing.hash_file", lambda uri, *_: hashed.append(uri))
    assert exports.plan().preview()[0]["why"] == "s: 1 modified"
    assert hashed == []  # its footer says so
    monkeypatch.undo()
    row_groups.LARGE = 0
    assert exports.same().written == 95


@pytest.mark.parametrize("change", ["codec", "order", "column", "type", "one", "small", "text"])
def test_files_that_have_nothing_in_common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    exports = Exports(tmp_path)
    exports.source = {"contract": {"columns": {"id": "Int64", "k": "String", "v": "Int64"}, "on_new_column": "discard_column", "on_type_change": "evolve"}}  # fmt: skip
    exports.write("a", groups(5))
    exports.same()
    names = {"order": ["v", "id", "k"], "column": [*SCHEMA.names, "w"]}.get(change, SCHEMA.names)
    schema = pa.schema([(n, pa.int64() if n == "w" else SCHEMA.field(n).type) for n in names])
    if change == "type":
        schema = schema.set(2, pa.field("v", pa.int32()))
    if change == "small":
        monkeypatch.setattr(row_groups, "LARGE", 1 << 30)
    now = [[r for g in groups(6) for r in g]] if change == "one" else groups(6)
    path = exports.write("a", now, codec="snappy" if change == "codec" else "none", schema=schema)
    if change == "text":
        path.write_bytes(b"no Parquet")
        assert "in/a.parquet" in str(exports.plan().run(now=NOW).segments[0].error)
        return
    assert exports.same().why == "s: 1 modified"


def test_what_is_no_row_is_no_change(tmp_path: Path) -> None:
    exports = Exports(tmp_path)
    exports.write("a", groups(5))
    exports.same()
    exports.write("a", groups(6))
    exports.same()
    # pandas notes how many rows there are, others what wrote them
    exports.write("a", groups(6), schema=SCHEMA.with_metadata({"pandas": "{}", "made": "by another"}))
    assert exports.same().why == "nothing changed: s: 1 touched"
    exports.write("a", groups(7))
    assert exports.same().written == 10


def test_types_that_only_the_schema_of_arrow_tells(tmp_path: Path) -> None:
    exports = Exports(tmp_path)
    zones = [pa.timestamp("us", tz=z) for z in ("UTC", "Europe/Berlin")]
    for zone, count in ((zones[0], 5), (zones[1], 6)):
        rows = [[(n, "a", n) for n, _, _ in g] for g in groups(count)]
        exports.write("a", rows, schema=pa.schema([("id", pa.int64()), ("k", pa.string()), ("v", zone)]))
        result = exports.same()
    assert result.written == 60
    moved = "v is Datetime(us, Europe/Berlin) and was Datetime(us, UTC)"
    assert result.why == f"columns of files changed: s: in {tmp_path}/in/a.parquet, {moved}"


# what becomes of a file and its parts


def test_parts_go_along_with_their_file(tmp_path: Path) -> None:
    exports = Exports(tmp_path, "gated")
    path = exports.write("a", groups(5))
    exports.same()
    exports.write("a", groups(6))
    exports.same()
    moved = path.rename(tmp_path / "in/b.parquet")
    assert exports.step().why == "nothing changed: s: 1 moved"
    exports.stamp(moved)
    moved.rename(path)
    assert exports.step().why == "nothing changed: s: 1 touched"
    exports.write("a", groups(8))
    assert exports.step(max_files=1).why == "s: 1 grown (6 of 8 row groups unchanged)"
    lp.rollback(exports.plan(), "o", version=2)
    assert exports.same().why == "s: 1 grown (6 of 8 row groups unchanged)"
    path.unlink()
    exports.write("b", groups(1))
    exports.same()


def test_there_are_never_too_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazypipe.incremental.leaves._MOST_PARTS", 4)
    exports = Exports(tmp_path)
    counts, written = [], []
    for night in range(9):
        exports.write("a", [*groups(5 + night), groups(6 + night)[-1][:5]])
        written.append(exports.same().written)
        counts.append(len(exports.parts()))
    assert counts == [0, 3, 4, 3, 4, 3, 4, 3, 4]
    assert written == [55, 65, 15, 85, 15, 105, 15, 125, 15]


def test_growth_is_no_change_that_is_refused_or_ignored(tmp_path: Path) -> None:
    exports = Exports(tmp_path)
    exports.write("a", groups(5))
    exports.run()
    exports.source = {"on_modified": "fail"}
    exports.write("a", groups(6))
    assert exports.step().written == 10
    exports.source = {"on_modified": "ignore"}
    exports.write("a", groups(7))
    assert exports.step().written == 10
    # a row group that is written anew is one
    exports.write("a", [*groups(6), groups(8)[6][:5], groups(8)[7]])
    assert exports.step().why == "nothing changed: s: 1 ignored"
    exports.source = {"on_modified": "fail"}
    error = str(exports.plan().run(now=NOW).segments[0].error)
    assert error == f"{tmp_path}/in/a.parquet: source 's': a file that was read is changed; restore it, or say on_modified: reprocess or ignore"  # fmt: skip
    assert len(exports.rows()) == 70
    exports.source = {}
    assert exports.same().written == 15


@pytest.mark.usefixtures("first")
def test_rows_that_are_added_are_added_once(tmp_path: Path) -> None:
    for mode in ({"mode": "append"}, {"mode": "upsert", "key": "id"}, {"mode": "scd2", "key": "id"}):
        exports = Exports(tmp_path / mode["mode"])
        exports.output = mode
        exports.write("b", groups(2, first=90))
        for count in (5, 6, 9):
            exports.write("a", groups(count))
            result = exports.step()
        assert result.written == 30 or mode["mode"] == "scd2"
        path = exports.base / "in/a.parquet"
        path.rename(exports.base / "in/c.parquet")
        assert "1 moved" in exports.step().why
        exports.write("c", groups(10))
        exports.step()
        assert [r[0] for r in exports.rows()] == sorted([*range(100), *range(900, 920)], key=lambda n: repr((n,))[1:])


def test_what_is_added_of_a_file_that_did_not_just_grow(tmp_path: Path) -> None:
    exports = Exports(tmp_path)
    exports.output = {"mode": "upsert", "key": "id"}
    for last in (3, 7, 10):
        exports.write("a", [*groups(5), groups(6)[5][:last]])
        assert exports.step().written == 50 + last  # the rows that it had are delivered again
    assert len(exports.rows()) == 60
    exports = Exports(tmp_path / "append")
    exports.output = {"mode": "append"}
    exports.source = {"on_modified": "fail"}
    exports.write("a", [*groups(5), groups(6)[5][:3]])
    exports.step()
    exports.write("a", groups(6))
    assert "is changed" in str(exports.plan().run(now=NOW).segments[0].error)


def test_all_who_read_a_source_have_what_they_need(tmp_path: Path) -> None:
    exports = Exports(tmp_path, "gated")
    exports.more = {
        "stages": {"t": {"from": "s", **SUMS}, "u": {"from": "s", "do": [{"derive": {"w": "v + 1"}}]}},
        "outputs": {"t": {}, "u": {}},
    }
    path = exports.write("a", groups(6))
    exports.same()
    exports.write("a", [*groups(6), groups(7)[6][:5]])
    exports.same()
    exports.write("a", groups(8))
    exports.run(outputs=["o", "t"])
    exports.write("a", [*groups(8), groups(9)[8][:5]])
    exports.same()
    last = exports.parts()[-1]
    exports.write("a", groups(10))
    shared = next(s for s in exports.plan().preview() if s["name"] == "s")
    assert shared["reads"][0]["bytes"] == path.stat().st_size - last
    exports.same()
    exports.write("a", [*groups(3), groups(4)[3][:5]])
    exports.same()


def test_what_reads_the_output_follows(tmp_path: Path) -> None:
    exports = Exports(tmp_path)
    exports.more = {"stages": {"t": {"from": "o", **SUMS}}, "outputs": {"t": {}}}
    exports.write("a", groups(6))
    exports.same()
    for count in range(6, 10):
        exports.write("a", [*groups(count), groups(count + 1)[count][:5]])
        assert exports.same().written == (5 if count == 6 else 15)


def test_folders_are_columns_of_row_groups_too(tmp_path: Path) -> None:
    exports = Exports(tmp_path)
    exports.output = {"partition_by": ["day"]}
    exports.write("day=2024-01-01/a", groups(5))
    exports.write("day=2024-01-02/a", groups(5, first=5))
    exports.same()
    exports.write("day=2024-01-01/a", groups(6))
    assert exports.same().written == 10
    assert {r[3] for r in exports.rows()} == {datetime(2024, 1, d).date() for d in (1, 2)}


def test_files_that_differ_from_the_contract(tmp_path: Path) -> None:
    exports = Exports(tmp_path)
    exports.source = {"contract": {"columns": {"id": "Int64", "k": "String", "v": "Int64", "w": "Int64"}, "on_missing_column": "evolve", "on_type_change": "evolve"}}  # fmt: skip
    narrow = pa.schema([("v", pa.int16()), ("id", pa.int32()), ("k", pa.string())])
    exports.write("a", groups(5), schema=narrow)
    exports.same()
    exports.write("a", groups(6), schema=narrow)
    assert exports.same().written == 10
    assert exports.rows()[-1] == (9, 9, "b", None)


def test_a_watermark_over_row_groups(tmp_path: Path) -> None:
    exports = Exports(tmp_path)
    window = {"window": {"time": "at", "every": "1h", "late": "drop", "aggregate": {"n": "count(*)"}}}
    exports.more = {"stages": {"w": {"from": "s", "do": [window]}}, "outputs": {"w": {}}}
    exports.source = {"event_time": "at", "watermark": {"delay": "1h", "tolerance": "1000d"}}
    schema = pa.schema([*SCHEMA, ("at", pa.timestamp("us"))])

    def write(name: str, of: list[list[Row]]) -> None:
        path = tmp_path / f"in/{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        with pq.ParquetWriter(path, schema) as writer:
            for rows in of:
                at = [datetime(2023, 11, 1) + timedelta(minutes=10 * n) for n, _, _ in rows]
                table = pa.table([*map(list, zip(*rows, strict=True)), at], schema=schema)
                writer.write_table(table)
        exports.stamp(path)

    write("a", groups(5))
    write("b", groups(3, first=3))
    exports.same()
    for count in (6, 8, 9):
        write("b", [*groups(count, first=3), groups(count + 4)[count + 3][:4]])
        exports.same()
    write("a", groups(6))
    exports.same()
    write("c", groups(2))
    exports.same()


def test_where_a_row_is_from(tmp_path: Path) -> None:
    exports = Exports(tmp_path)
    exports.write("a", groups(5))
    exports.run()
    exports.write("a", groups(7))
    exports.run()
    found = lp.trace(exports.plan(), "o", {"id": 63}).sources["s"]
    assert found.rows is not None
    assert found.rows["_lazypipe_row"].to_list() == [63]


@pytest.mark.parametrize("kind", ["rows", "sums", "gated"])
@pytest.mark.parametrize("how", ["grow", "rewrite"])
def test_a_file_that_is_written_anew_while_a_run_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, how: str
) -> None:
    """What was read may be more than what was hashed, so that row groups say nothing of it."""
    exports = Exports(tmp_path, kind)
    take = Query.take_snapshot

    def meanwhile(count: int) -> None:
        def take_snapshot(query: Query, name: str, source: Any) -> Any:
            monkeypatch.setattr(Query, "take_snapshot", take)
            found = take(query, name, source)
            exports.write("a", groups(count) if how == "grow" else [*groups(count), groups(count + 1)[count][:3]])
            return found

        monkeypatch.setattr(Query, "take_snapshot", take_snapshot)

    exports.write("a", groups(5))
    meanwhile(7)
    exports.run()
    exports.same()
    exports.write("a", groups(8))
    exports.same()
    exports.write("a", groups(9))
    meanwhile(11)
    exports.run()
    exports.same()
    exports.write("a", groups(12))
    exports.same()


# whatever happens

ROWS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["a", "b", "c"]), st.one_of(st.none(), st.integers(0, 60))),
    min_size=1,
    max_size=5,
)
EVENTS = st.tuples(
    st.sampled_from(["append", "append", "last", "last", "cell", "cell", "insert", "delete", "order", "codec", "move", "remove", "touch"]),
    st.integers(0, 1),
    st.integers(0, 9),
    ROWS,
)  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> dict[str, Any]:
    """Draw how files are laid out, and what becomes of them from run to run."""
    return {
        "kind": draw(st.sampled_from(sorted(KINDS))),
        "codec": draw(st.sampled_from(["none", "none", "zstd"])),
        "dictionary": draw(st.booleans()),
        "twin": draw(st.sampled_from([None, *sorted(set(KINDS) - {"looked"})])),
        "start": draw(st.lists(st.lists(ROWS, min_size=1, max_size=6), min_size=2, max_size=2)),
        "runs": draw(
            st.lists(st.tuples(st.lists(EVENTS, min_size=1, max_size=3), st.booleans()), min_size=2, max_size=5)
        ),
    }


@settings(max_examples=max(5, EXAMPLES // 8))
@given(histories())
def test_whatever_is_written_anew_the_result_is_that_of_a_full_run(case: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        exports = Exports(Path(folder), case["kind"])
        if case["twin"] is not None:  # another reader, which may be behind
            exports.more = {"stages": {"t": {"from": "s", **KINDS[case["twin"]]}}, "outputs": {"t": {}}}
        how = [{"codec": case["codec"], "use_dictionary": case["dictionary"]} for _ in range(2)]
        there: list[list[list[Row]]] = [[list(g) for g in of] for of in case["start"]]
        names = ["0", "1"]

        def write(number: int) -> None:
            exports.write(names[number], there[number], **how[number])

        exports.write("always", [[(99, "a", 1)]])
        write(0)
        write(1)
        exports.same()
        for events, both in case["runs"]:
            for what, number, place, rows in events:
                of, path = there[number], exports.base / f"in/{names[number]}.parquet"
                group = of[place % len(of)]
                if what == "append":
                    of.append(rows)
                elif what == "last":
                    of[-1] = [*of[-1], *rows]
                elif what == "cell":  # of the same size, where values are written one by one
                    group[0] = (group[0][0], group[0][1], place)
                elif what == "insert":
                    of.insert(place % len(of), rows)
                elif what == "delete" and len(of) > 1:
                    of.remove(group)
                elif what == "order":
                    of.reverse()
                elif what == "codec":
                    how[number]["codec"] = "snappy" if how[number]["codec"] == "none" else "none"
                if what == "remove":
                    path.unlink(missing_ok=True)
                elif what == "move" and path.exists() and "gated" not in (case["kind"], case["twin"]):
                    # rows put aside keep the name of the file that they came in
                    names[number] = f"{exports.writes}{number}"
                    path.rename(exports.base / f"in/{names[number]}.parquet")
                elif what == "touch" and path.exists():
                    exports.stamp(path)
                else:
                    write(number)
            if both:
                exports.same()
            else:
                exports.run(outputs=["o"])
        exports.same()


@settings(max_examples=max(5, EXAMPLES // 8))
@given(
    st.lists(st.tuples(st.sampled_from(["append", "last", "cell"]), st.integers(0, 9), ROWS), min_size=1, max_size=5)
)
def test_keys_that_are_written_anew_are_there_once(events: list[tuple[str, int, list[Row]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        exports = Exports(Path(folder))
        exports.output = {"mode": "upsert", "key": "id"}
        there: list[list[Row]] = [[(0, "a", 1)], [(1, "b", 2)]]
        exports.write("a", there)
        exports.step()
        last = 1
        for what, place, rows in events:
            new = [(last + n + 1, k, v) for n, (_, k, v) in enumerate(rows)]
            if what == "cell":
                group = there[place % len(there)]
                group[-1] = (group[-1][0], "c", place)
            else:
                last += len(new)
                there = [*there, new] if what == "append" else [*there[:-1], [*there[-1], *new]]
            exports.write("a", there)
            exports.step()
            assert exports.rows() == sorted((r for g in there for r in g), key=repr)


def test_the_frame_of_a_part_is_that_of_its_row_groups(tmp_path: Path) -> None:
    """Polars skips row groups ahead of a slice, and filters within it."""
    path = Exports(tmp_path).write("a", groups(9))
    places = borders(path)
    for first, last in ((0, 9), (0, 1), (3, 5), (8, 9)):
        start = 0 if not first else places[first]
        found = row_groups.RowPlaces.of(str(path)).between(start, places[last])
        assert found == (10 * first, 10 * (last - first))
    assert row_groups.RowPlaces.of(str(path)).between(places[9], path.stat().st_size) == (90, 0)
    plan = pl.scan_parquet(path).slice(30, 20).filter(pl.col("v") > 1).explain()
    assert "SLICE: Positive { offset: 30, len: 20 }" in plan
    assert "FILTER" not in plan
