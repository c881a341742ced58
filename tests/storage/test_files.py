"""Lists of files: what a pattern names, in an order that does not change, and what is refused."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import textwrap
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import fsspec
import polars as pl
import pytest

from lazypipe.errors import SourceError
from lazypipe.spec.endings import format_of
from lazypipe.storage import files
from lazypipe.storage.files import FileColumns, FileInfo, expand, files_at, named
from lazypipe.storage.formats import FORMATS
from lazypipe.storage.local_files import matching
from lazypipe.storage.scan import Reader

CSV = FORMATS["csv"].endings


@pytest.fixture
def root(somewhere: str) -> str:
    return somewhere


def put(root: str, *names: str, content: bytes = b"x\n1\n") -> None:
    fs, path = fsspec.core.url_to_fs(root)
    for name in names:
        fs.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{path}/{name}", content)


def names(root: str, *patterns: str) -> list[str]:
    found = expand([f"{root}/{p}" for p in patterns], endings=CSV)
    return [f.uri.removeprefix(f"{root}/") for f in found]


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("x.parquet", "parquet"),
        ("X.PQ", "parquet"),
        ("a/b-*.csv.gz", "csv"),
        ("x.jsonl.zst", "ndjson"),
        ("x.ndjson", "ndjson"),
        ("x.feather", "ipc"),
        ("x.arrow", "ipc"),
        ("x.csv::zip://z.zip", "csv"),
        ("x.txt", None),
        ("x.gz", None),
        ("folder", None),
        ("csv", None),
    ],
)
def test_formats_are_told_from_names(name: str, format: str | None) -> None:
    assert format_of(name) == format


def test_a_file_has_its_size_and_a_stamp_that_changes(root: str) -> None:
    put(root, "a.csv")
    (before,) = expand([f"{root}/a.csv"])
    assert before.size == 4
    assert before.stamp
    put(root, "a.csv", content=b"x\n1\n2\n")
    if not root.startswith("memory"):
        os.utime(f"{root}/a.csv", ns=(1, 1))
    (after,) = expand([f"{root}/a.csv"])
    assert (after.uri, after.size) == (before.uri, 6)
    assert after.stamp != before.stamp


def test_globs_are_sorted_within_and_in_the_order_given_between(root: str) -> None:
    put(root, "b/2.csv", "b/1.csv", "b/10.csv", "a/9.csv", "b/1.txt")
    assert names(root, "b/*.csv", "a/*.csv") == ["b/1.csv", "b/10.csv", "b/2.csv", "a/9.csv"]
    assert names(root, "b/[12].csv") == ["b/1.csv", "b/2.csv"]
    assert names(root, "b/1?.csv") == ["b/10.csv"]


def test_a_file_named_twice_is_read_once(root: str) -> None:
    put(root, "1.csv", "2.csv")
    assert names(root, "2.csv", "*.csv") == ["2.csv", "1.csv"]


def test_globs_go_down_folders_only_where_asked(root: str) -> None:
    put(root, "1.csv", "x/2.csv", "x/y/3.csv")
    assert names(root, "*.csv") == ["1.csv"]
    assert names(root, "*/*.csv") == ["x/2.csv"]
    assert names(root, "**/*.csv") == ["1.csv", "x/2.csv", "x/y/3.csv"]


def test_a_folder_stands_for_the_files_of_its_format_below(root: str) -> None:
    put(root, "d/b.csv", "d/a.csv.gz", "d/sub/C.CSV", "d/notes.txt", "d/x.parquet")
    assert names(root, "d") == ["d/a.csv.gz", "d/b.csv", "d/sub/C.CSV"]


def test_hidden_files_are_passed_over(root: str) -> None:
    """Exports that are being written are hidden; other tools put _SUCCESS and _delta_log beside their data."""
    put(root, "d/a.csv", "d/.r-001.b.csv", "d/_c.csv", "d/.hidden/d.csv", "d/_delta_log/e.csv")
    assert names(root, "d") == ["d/a.csv"]
    assert names(root, "d/*a.csv") == ["d/a.csv"]
    assert ".r-001.b.csv" not in "".join(names(root, "d/*.csv", "d/**/*.csv"))
    assert names(root, "d/.r-001.b.csv") == ["d/.r-001.b.csv"]
    assert names(root, "d/.hidden/*.csv") == ["d/.hidden/d.csv"]


def test_characters_of_patterns_in_the_name_of_a_file_that_exists(tmp_path: Path) -> None:
    put(str(tmp_path), "a[1].csv", "a1.csv")
    assert names(str(tmp_path), "a[1].csv") == ["a[1].csv"]


@pytest.mark.parametrize(
    "pattern",
    ["*", "*.csv", "x/*.csv", "*/*.csv", "*/*/*.csv", "**/*.csv", "**", "x/**/*.csv", "**/y/*.csv", "[ax]*", ".h*", ".h/*", "?.csv", "*/y/3.csv", "l/*.csv", "**/.h.csv", "nothing*", "gone/*.csv", "gone/*/*.csv", "a.csv/*/b"],
)  # fmt: skip
def test_patterns_match_what_pythons_own_glob_matches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    put(str(tmp_path), "a.csv", "ab.csv", "x/2.csv", "x/y/3.csv", ".h/4.csv", "x/.h.csv", "x.csv/y/3.csv", "x/y/n.txt")
    os.symlink("x/y", tmp_path / "l")
    os.symlink("x/2.csv", tmp_path / "link.csv")
    for base in (f"{tmp_path}/", ""):
        monkeypatch.chdir(tmp_path)
        expected = sorted({p for p in glob.glob(f"{base}{pattern}", recursive=True) if os.path.isfile(p)})
        if expected:
            found = expand([f"{base}{pattern}"])
            assert [f.uri for f in found] == expected
            assert tuple(files_at(named([f"{base}{pattern}"]) or ())) == found
        else:
            with pytest.raises(SourceError, match="no file matches"):
                expand([f"{base}{pattern}"])


@pytest.mark.parametrize("pattern", ["*", "*.csv", "*v", "*.csv.csv"])
@pytest.mark.parametrize(
    "there",
    [
        ["a.csv", "b.csv.csv"],
        ["a.csv", ".b.csv"],
        [".csv", "a.csv"],
        ["a.csv.x", "b.csv"],
        ["a.csvx", "bcsv"],
        [".csv"],
    ],
)
def test_names_fit_by_their_ends_all_some_or_none_of_them(tmp_path: Path, there: list[str], pattern: str) -> None:
    put(str(tmp_path), *there)
    assert [n for of in matching(f"{tmp_path}/{pattern}") for n in of.names] == sorted(
        glob.glob(pattern, root_dir=tmp_path)
    )


def test_files_are_looked_at_from_their_folder_where_the_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(str(tmp_path), "d/a.csv", "d/b.csv", "d/x.csv/n.txt", "e/c.csv")
    put(str(tmp_path), "d/c.csv", content=b"x\n1\n2\n")
    found = expand([f"{tmp_path}/*/*.csv", f"{tmp_path}/d"], endings=CSV)
    assert [(f.uri.rpartition("/")[2], f.size) for f in found] == [
        ("a.csv", 4),
        ("b.csv", 4),
        ("c.csv", 6),
        ("c.csv", 4),
    ]
    assert [f.stamp for f in found] == [str(os.stat(f.uri).st_mtime_ns) for f in found]
    monkeypatch.setattr(files, "_FROM_FOLDERS", False)
    assert expand([f"{tmp_path}/*/*.csv", f"{tmp_path}/d"], endings=CSV) == found


@pytest.mark.parametrize("leads", ["nowhere", "b.csv"])
@pytest.mark.parametrize("pattern", ["d/*.csv", "**/*.csv", "**", "d"])
def test_a_link_that_leads_nowhere_is_told(tmp_path: Path, leads: str, pattern: str) -> None:
    put(str(tmp_path), "d/a.csv", "d/c.csv")
    os.symlink(leads, tmp_path / "d" / "b.csv")
    fix = "deliver that file, or remove the link"
    with pytest.raises(SourceError, match=f"{tmp_path}/d/b.csv: is a link to a file that does not exist; {fix}"):
        expand([f"{tmp_path}/{pattern}"], endings=CSV)
    assert FileInfo(f"{tmp_path}/d/b.csv", None) in files_at(named([f"{tmp_path}/d/*.csv"]) or ())


def test_a_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    put(str(tmp_path), "d/a.csv", "d/\udcff.csv")
    for pattern in ("d/*.csv", "d", "**/*.csv", "d/\udcff.csv"):
        with pytest.raises(SourceError) as caught:
            expand([f"{tmp_path}/{pattern}"], endings=CSV)
        expected = f"{tmp_path}/d/\\xff.csv: the name is not UTF-8 text; rename the file or its folder"
        assert str(caught.value) == expected
        assert named([f"{tmp_path}/{pattern}"], endings=CSV) is None


def test_colons_in_a_whole_path_are_no_chain(tmp_path: Path) -> None:
    put(str(tmp_path), "a::b/c::d.csv")
    (found,) = expand([f"{tmp_path}/**/*.csv"])
    assert found.uri == f"{tmp_path}/a::b/c::d.csv"
    assert Reader("csv").scan([found], pl.Schema({"x": pl.Int64})).collect().rows() == [(1,)]


def test_names_without_looking_at_files(tmp_path: Path) -> None:
    put(str(tmp_path), "d/a.csv", "d/b=1/c.csv", "d/x.txt", "e.csv")
    root = f"{tmp_path}"
    both = (f"{root}/d/a.csv", f"{root}/d/b=1/c.csv")
    found = named([f"{root}/d"], endings=CSV)
    assert found is not None
    assert (tuple(found), found[1], len(found)) == (both, both[1], 2)
    assert (found.each_folder, found.first) == ([*both], FileInfo(both[0], 4, str(os.stat(both[0]).st_mtime_ns)))
    several = named([f"{root}/e.csv", f"{root}/*.csv", f"{root}/d"], endings=CSV)
    assert several is not None
    assert several[:] == (f"{root}/e.csv", *both)
    # these are left to those who look, and say what is wrong
    nothing = [f"{root}/gone", f"{root}/gone.csv", f"{root}/*.x", "memory://x/*.csv"]
    assert [named([f"{root}/d", pattern], endings=CSV) for pattern in nothing] == [None] * 4


def test_files_as_columns_are_those_files(tmp_path: Path) -> None:
    put(str(tmp_path), "b.csv", "a.csv", "c/d.csv")
    found = expand([f"{tmp_path}/**/*.csv"])
    one_by_one = [
        FileInfo(p, 4, str(os.stat(p).st_mtime_ns)) for p in (f"{tmp_path}/{n}" for n in ("a.csv", "b.csv", "c/d.csv"))
    ]
    assert [*found] == one_by_one
    assert (found[1], found[1:], len(found)) == (one_by_one[1], tuple(one_by_one[1:]), 3)
    assert isinstance(found, FileColumns)
    assert found == tuple(one_by_one) == found
    assert found == expand([f"{tmp_path}/*.csv", f"{tmp_path}/c"], endings=CSV)
    assert found != expand([f"{tmp_path}/*.csv"])
    assert found != [*one_by_one]
    assert (hash(found), repr(found)) == (hash(tuple(one_by_one)), repr(tuple(one_by_one)))


def test_the_first_name_may_be_that_of_a_folder_or_gone(tmp_path: Path) -> None:
    put(str(tmp_path), "a.csv/x.txt", "c.csv")
    os.symlink("nowhere", tmp_path / "b.csv")
    found = named([f"{tmp_path}/*.csv"])
    assert found is not None
    assert found.first == FileInfo(f"{tmp_path}/c.csv", 4, str(os.stat(tmp_path / "c.csv").st_mtime_ns))


def test_files_that_are_gone_meanwhile_are_missed(tmp_path: Path) -> None:
    put(str(tmp_path), "a.csv", "b.csv", "c.csv/d")
    there = named([f"{tmp_path}/*.csv"])
    assert there is not None
    os.remove(tmp_path / "b.csv")
    assert [*files_at(there)] == [*expand([f"{tmp_path}/a.csv"]), FileInfo(f"{tmp_path}/b.csv", None)]


def test_links_that_lead_back_up_are_not_followed_around(tmp_path: Path) -> None:
    put(str(tmp_path), "d/a.csv", "d/s/b.csv", "e/c.csv")
    os.symlink("..", tmp_path / "d" / "s" / "up")
    os.symlink("../../e", tmp_path / "d" / "s" / "aside")
    os.symlink("itself", tmp_path / "d" / "itself")
    os.symlink("s", tmp_path / "d" / "folder.csv")
    assert names(str(tmp_path), "d/**/*.csv") == [
        "d/a.csv",
        "d/folder.csv/aside/c.csv",
        "d/folder.csv/b.csv",
        "d/s/aside/c.csv",
        "d/s/b.csv",
    ]
    assert names(str(tmp_path), "d") == ["d/a.csv", "d/s/b.csv"]


@pytest.mark.parametrize(
    "name",
    ["with space.csv", "ü.csv", "a#b.csv", "100%.csv", "a%20b.csv", "new\nline.csv", "back\\slash.csv"],
)
def test_odd_names(root: str, name: str) -> None:
    put(root, name)
    assert names(root, name) == names(root, "*.csv") == [name]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("missing.csv", "there is no such file"),
        ("no/such/folder/x.csv", "there is no such file"),
        ("*.nothing", "no file matches"),
        ("no/such/*.csv", "no file matches"),
        ("empty", "holds no data file; expected files that end in .csv, .csv.gz, .csv.zst$"),
        (
            "other",
            "holds no data file; expected files that end in .csv, .csv.gz, .csv.zst; for those that it holds, say format: ndjson$",
        ),
    ],
)
def test_nothing_there_is_an_error_that_names_the_pattern(root: str, pattern: str, message: str) -> None:
    put(root, "a.csv", "empty/notes.txt", "other/notes.txt", "other/more/x.jsonl.gz")
    with pytest.raises(SourceError, match=message) as caught:
        expand([f"{root}/a.csv", f"{root}/{pattern}"], endings=CSV)
    assert caught.value.uri == f"{root}/{pattern}"


def test_members_of_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for name in ("b.csv", "a.csv", "sub/c.csv"):
            archive.writestr(name, "x\n1\n")
    chain = f"::file://{tmp_path}/z.zip"
    assert [f.uri for f in expand([f"zip://*.csv{chain}"])] == [f"zip://a.csv{chain}", f"zip://b.csv{chain}"]
    assert [(f.uri, f.size) for f in expand([f"zip://sub/c.csv{chain}"])] == [(f"zip://sub/c.csv{chain}", 4)]


class _Server(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/a.csv" else 404)
        self.send_header("Content-Length", "4")
        self.send_header("ETag", '"v1"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_file_on_a_web_server_is_asked_for_its_size() -> None:
    with HTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            base = f"http://127.0.0.1:{server.server_port}"
            (found,) = expand([f"{base}/a.csv"])
            assert (found.uri, found.size, found.stamp) == (f"{base}/a.csv", 4, '"v1"')
            with pytest.raises(
                SourceError, match="gone.csv: cannot be listed: .*404.*; check the path, permissions and network"
            ):
                expand([f"{base}/gone.csv"])
        finally:
            server.shutdown()
            thread.join()
        with pytest.raises(SourceError, match="cannot be listed: .*refused"):
            expand(["http://127.0.0.1:9/a.csv"])


UNREADABLE = """
import os, sys
from lazypipe.errors import SourceError
from lazypipe.storage.files import expand
from lazypipe.storage.formats import FORMATS
root, *patterns = sys.argv[1:]
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for pattern in patterns:
    try:
        print("found", len(expand([root + "/" + pattern], endings=FORMATS["csv"].endings)))
    except SourceError as error:
        print(error)
"""


def test_an_unreadable_folder_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    put(str(tmp_path), "top/a/1.csv", "top/b/2.csv", "top/b/c/3.csv")
    os.chmod(tmp_path / "top" / "b", 0o000)
    patterns = ["top/a/*.csv", "top/b/*.csv", "top/*/*.csv", "top/**/*.csv", "top", "top/b/2.csv", "top/b/c/*.csv"]
    try:
        told = run_unprivileged(UNREADABLE, str(tmp_path), *patterns)
    finally:
        os.chmod(tmp_path / "top" / "b", 0o755)
    refused = f"{tmp_path}/top/b: cannot be listed: Permission denied; check the path, permissions and network"
    assert told[0] == "found 1"
    assert told[1:5] == [refused] * 4
    assert told[5] == refused.replace("top/b:", "top/b/2.csv:")
    assert "top/b/c" in told[6]
    assert "found" not in told[6]


def open_to_all(folder: Path) -> None:
    """Let other users reach a folder of pytest's, which are closed to them."""
    for parent in (folder, *folder.parents):
        if parent.stat().st_mode & 0o055 != 0o055:
            os.chmod(parent, parent.stat().st_mode | 0o055)


def run_unprivileged(script: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("order/*.csv", "no file matches; did you mean '{}/orders/*.csv'?"),
        ("ordres/2024/a.csv", "there is no such file; did you mean '{}/orders/2024/a.csv'?"),
        ("orders/a.cvs", "there is no such file; did you mean '{}/orders/a.csv'?"),
        ("orders/*.parquet", "no file matches; check the pattern; it starts from the definition's folder"),
        ("Orders/A.csv", "there is no such file; did you mean '{}/orders/a.csv'?"),
        ("orders/a.csv,orders/a.csv", "there is no such file; check the path; it starts from the definition's folder"),
        ("orders\\a.csv", "there is no such file; did you mean '{}/orders/a.csv'?"),
        (
            "orders/{{a,b}}.csv",
            "there is no such file; braces are no pattern; write a list: [{}/orders/a.csv, {}/orders/b.csv]",
        ),
        ("sales/a.csv", "there is no such file; check the path; it starts from the definition's folder"),
    ],
)
def test_a_path_much_like_one_that_there_is(tmp_path: Path, written: str, said: str) -> None:
    written = written.format()
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders/a.csv").write_text("x\n1\n")
    with pytest.raises(SourceError) as caught:
        expand((f"{tmp_path}/{written}",), {}, endings=(".csv",))
    assert str(caught.value) == f"{tmp_path}/{written}: {said.format(tmp_path, tmp_path)}"


def test_a_relative_path_much_like_one_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.csv").touch()
    with pytest.raises(SourceError, match=r"there is no such file; did you mean 'orders\.csv'\?"):
        expand(("oders.csv",), {}, endings=(".csv",))
