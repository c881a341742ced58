"""Others deliver, in parts, late, twice, and change their minds: what a run takes in, what it leaves, and what it says."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.__main__ import main
from tests.delivered import alter, put

TYPES = {"columns": {"k": "String", "v": "Int64"}}
OLD = 1_700_000_000
NOW = datetime.fromtimestamp(OLD, UTC) + timedelta(days=30)
SUM = {"aggregate": {"by": "k", "aggregate": {"s": "sum(v)"}}}
WHOLE = {"over": {"by": "k", "columns": {"s": "sum(v)"}}}


class Site:
    """A folder that others deliver to, and a pipeline that reads it."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def put(self, name: str, *rows: tuple[str, int], at: int = OLD) -> Path:
        return put(self.base / "in" / name, "k,v\n" + "".join(f"{k},{v}\n" for k, v in rows), at)

    def mark(self, name: str, text: str = "") -> None:
        (self.base / "in" / name).write_text(text)

    def data(self, do: list[Any], source: dict[str, Any], uri: str = "in/**/*.csv") -> dict[str, Any]:
        return {
            "version": 1,
            "name": "p",
            "sources": {"s": {"uri": uri, "contract": TYPES, **source}},
            "stages": {"flown": {"from": "s", "do": do}},
            "outputs": {"flown": {"to": "out/flown"}},
        }

    def plan(self, do: list[Any], uri: str = "in/**/*.csv", **source: Any) -> lp.Plan:
        return lp.Pipeline.from_dict(self.data(do, source, uri), base=str(self.base)).compile()

    def rows(self, name: str = "flown") -> list[tuple[Any, ...]]:
        return sorted(lp.scan(str(self.base / "out" / name)).collect().rows())

    def run(self, do: list[Any], *, now: datetime = NOW, full: bool = False, **source: Any) -> lp.SegmentResult:
        result = self.plan(do, **source).run(now=now, full=full)
        (segment,) = result.segments
        assert result.status == segment.status
        assert result.exit_code == (0 if segment.error is None else 3)
        return segment


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def told(segment: lp.SegmentResult) -> tuple[str, str | None]:
    """Return what became of it and why; not how many groups were made anew, where it has any."""
    return segment.status, segment.why and re.sub(r"; \d+ groups? touched, .*", "", segment.why)


# deliveries that are not whole


def test_a_delivery_waits_for_its_marker(site: Site) -> None:
    expect = {"expect": {"marker": "_SUCCESS"}}
    site.put("2013-03/a.csv", ("a", 1))
    assert told(site.run([], **expect)) == ("waiting", "waiting for _SUCCESS in in/2013-03/")
    assert not (site.base / "out/flown.commits").exists()
    site.mark("2013-03/_SUCCESS")
    assert told(site.run([], **expect)) == ("done", "nothing was committed yet")
    assert site.rows() == [("a", 1)]
    site.put("2013-04/a.csv", ("b", 2))
    site.put("2013-05/a.csv", ("c", 3))
    both = "waiting for _SUCCESS in in/2013-04/ and 1 more"
    assert told(site.run([], **expect)) == ("unchanged", f"nothing changed: s: 1 unchanged, {both}")
    site.mark("2013-05/_SUCCESS")
    again = "s: 1 added, 1 unchanged, waiting for _SUCCESS in in/2013-04/"
    assert told(site.run([], **expect)) == ("done", again)
    assert site.rows() == [("a", 1), ("c", 3)]
    site.mark("2013-04/_SUCCESS")
    assert told(site.run([], **expect)) == ("done", "s: 1 added, 2 unchanged")
    assert site.rows() == [("a", 1), ("b", 2), ("c", 3)]
    assert told(site.run([], **expect)) == ("unchanged", "nothing changed: s: 3 unchanged")


def test_what_was_whole_once_is_read_again_though_its_marker_is_gone(site: Site) -> None:
    expect = {"expect": {"marker": "_SUCCESS"}}
    site.put("1/a.csv", ("a", 1))
    site.mark("1/_SUCCESS")
    site.run([], **expect)
    (site.base / "in/1/_SUCCESS").unlink()
    assert site.run([], **expect).status == "unchanged"
    assert told(site.run([{"filter": "v > 0"}], **expect))[0] == "done"
    assert site.run([], full=True, **expect).why == "full rebuild requested"
    assert site.rows() == [("a", 1)]
    # no delivery is refused that nothing is read of
    assert site.run([], **expect, on_partial="fail").status == "unchanged"


def test_a_manifest_with_checksums(site: Site) -> None:
    expect = {"expect": {"manifest": "manifest.json"}}
    paths = [site.put("a.csv", ("a", 1)), site.put("b.csv", ("b", 2))]
    files = [
        {"name": p.name, "size": p.stat().st_size, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in paths
    ]
    assert told(site.run([SUM], **expect)) == ("waiting", "waiting for manifest.json in in/")
    site.put("b.csv", ("b", 9))
    site.mark("manifest.json", json.dumps({"files": files}))
    why = "waiting for the rest of in/manifest.json ('b.csv' has another sha256 than in the manifest)"
    assert told(site.run([SUM], **expect)) == ("waiting", why)
    site.put("b.csv", ("b", 2))
    assert told(site.run([SUM], **expect)) == ("done", "nothing was committed yet")
    assert site.rows() == [("a", 1), ("b", 2)]
    site.put("c.csv", ("a", 5))
    unlisted = "nothing changed: s: 2 unchanged, waiting for in/c.csv (no manifest lists it)"
    assert told(site.run([SUM], **expect)) == ("unchanged", unlisted)
    site.mark("manifest.json", "{")
    failed = site.run([SUM], **expect)
    assert failed.why is not None
    assert failed.why.startswith(
        "nothing changed: s: 2 unchanged, waiting for the rest of in/manifest.json (the manifest cannot"
    )


def test_an_expected_number_of_files(site: Site) -> None:
    expect = {"expect": {"files": 2}}
    site.put("a.csv", ("a", 1))
    why = "waiting for the rest of in (1 of 2 files are there)"
    for do in ([], [SUM], [WHOLE]):
        assert told(site.run(do, **expect)) == ("waiting", why)
    site.put("b.csv", ("a", 2))
    assert site.run([SUM], **expect).status == "done"
    # one too many: what was consumed stays, and the new one waits
    site.put("c.csv", ("a", 4))
    more = "waiting for the rest of in (3 of 2 files are there)"
    assert told(site.run([SUM], **expect)) == ("unchanged", f"nothing changed: s: 2 unchanged, {more}")
    assert site.rows() == [("a", 3)]


def test_a_file_that_is_still_written(site: Site) -> None:
    settle = {"settle": "5m"}
    young = int(NOW.timestamp()) - 60
    site.put("a.csv", ("a", 1), at=young)
    why = "waiting for in/a.csv (written 60 s ago, and to settle for 300 s)"
    assert told(site.run([], **settle)) == ("waiting", why)
    later = NOW + timedelta(minutes=10)
    assert site.run([], now=later, **settle).status == "done"
    # it grows again, and another one has come: its rows stay until it has settled
    site.put("a.csv", ("a", 1), ("a", 2), at=young + 600)
    site.put("b.csv", ("b", 1))
    found = site.run([], now=later, **settle)
    assert told(found) == ("done", f"s: 1 added, 1 waiting, {why}")
    assert site.rows() == [("a", 1), ("b", 1)]
    assert site.run([], now=later, **settle).status == "unchanged"
    # another definition needs all of it, and what was consumed is not there any more
    assert told(site.run([{"derive": {"w": "v + 1"}}], now=later, **settle)) == ("waiting", why)
    assert site.rows() == [("a", 1), ("b", 1)]
    assert site.run([], now=later + timedelta(minutes=5), **settle).status == "done"
    assert site.rows() == [("a", 1), ("a", 2), ("b", 1)]
    assert site.run([], now=later + timedelta(minutes=5), **settle).status == "unchanged"


def test_a_file_that_is_still_written_in_an_output_that_is_made_anew(site: Site) -> None:
    settle = {"settle": "5m"}
    site.put("a.csv", ("a", 1))
    assert site.run([WHOLE], **settle).status == "done"
    site.put("a.csv", ("a", 2), ("b", 2), at=int(NOW.timestamp()))
    assert site.run([WHOLE], **settle).status == "unchanged"
    site.put("b.csv", ("a", 5))
    assert site.run([WHOLE], **settle).status == "waiting"
    assert site.rows() == [("a", 1, 1)]
    # asked for in full, it is made of what is whole
    full = site.run([WHOLE], full=True, **settle)
    assert told(full) == (
        "done",
        "full rebuild requested; waiting for in/a.csv (written 0 s ago, and to settle for 300 s)",
    )
    assert site.rows() == [("a", 5, 5)]


def test_a_folder_that_is_replaced_by_half_a_delivery_leaves_the_output_as_it_is(site: Site) -> None:
    expect = {"expect": {"marker": "{name}.ok"}}
    site.put("a.csv", ("a", 1))
    site.mark("a.csv.ok")
    site.run([], **expect)
    (site.base / "in/a.csv").unlink()
    site.put("b.csv", ("b", 1))
    assert told(site.run([], **expect)) == ("waiting", "waiting for the rest of in/b.csv (there is no b.csv.ok)")
    assert site.rows() == [("a", 1)]
    site.mark("b.csv.ok")
    assert told(site.run([], **expect)) == ("done", "s: 1 added, 1 removed")
    assert site.rows() == [("b", 1)]


def test_partial_deliveries_can_fail(site: Site) -> None:
    site.put("a.csv", ("a", 1))
    failed = site.run([], expect={"files": 2}, on_partial="fail")
    assert failed.status == "error"
    said = (
        "in: source 's': the delivery is incomplete: 1 of 2 files are there; deliver the rest, or say on_partial: wait"
    )
    assert str(failed.error) == f"{site.base}/{said}"
    # what was consumed and is not whole any more is refused where something is to be read
    site.put("b.csv", ("a", 1))
    assert site.run([], expect={"files": 2}, on_partial="fail").status == "done"
    site.put("c.csv", ("a", 1))
    assert site.run([], expect={"files": 2}, on_partial="fail").status == "error"


def test_what_is_downstream_waits_too_and_the_rest_goes_on(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put("1/a.csv", ("a", 1))
    site.put("dim.csv", ("a", 7))
    data = {
        "version": 1,
        "name": "p",
        "sources": {
            "s": {"uri": "in/1/*.csv", "contract": TYPES, "expect": {"marker": "_SUCCESS"}},
            "d": {"uri": "in/dim.csv", "contract": TYPES},
        },
        "stages": {
            "kept": {
                "from": "s",
                "do": [{"derive": {"v": "v + 1"}}],
                "gate": [{"not_null": {"columns": "k", "action": "drop"}}],
            },
            "flown": {"from": "kept", "do": [{"filter": "v > 0"}]},
            "below": {"from": "flown", "do": [SUM]},
            "file": {"from": "kept", "do": [{"filter": "v < 9"}]},
            "other": {"from": "d", "do": [{"join": {"with": "s", "on": "k", "columns": {"v": "w"}}}]},
            "alone": {"from": "d", "do": []},
        },
        "outputs": {
            "flown": {"to": "out/flown"},
            "below": {"to": "out/below"},
            "file": {"to": "out/file.parquet"},
            "added": {"from": "kept", "to": "out/added", "mode": "append"},
            "other": {"to": "out/other"},
            "alone": {"to": "out/alone"},
        },
    }
    path = site.base / "p.yaml"
    path.write_text(json.dumps(data))
    monkeypatch.chdir(site.base)
    assert main(["plan", str(path)]) == 0
    plan = capsys.readouterr().out.splitlines()
    assert "flown: waiting for _SUCCESS in in/1/" in plan
    assert f"    writes nothing: {site.base}/out/flown stays at version 0" in plan
    assert main(["run", str(path)]) == 0
    err = capsys.readouterr().err
    lines = err.splitlines()
    for name in ("flown", "below", "file", "added", "other"):
        assert f"{name}: waiting for _SUCCESS in in/1/" in lines
    assert any(line.startswith("alone: 1 row,") for line in lines)
    assert lines[-1].startswith("waiting in ")
    (entry,) = lp.ledger(lp.load(path)).runs()
    assert entry.status == "waiting"
    site.mark("1/_SUCCESS")
    result = lp.load(path).compile().run()
    assert result.status == "done"
    assert site.rows("below") == [("a", 2)]
    assert site.rows("other") == [("a", 7, 1)]
    # a dimension that is not whole any more holds up what needs it, only where there is work
    site.put("1/b.csv", ("b", 5))
    (site.base / "in/1/_SUCCESS").unlink()
    site.put("dim.csv", ("a", 7), ("b", 8))
    assert {s.name: s.status for s in lp.load(path).compile().run().segments}["other"] == "done"
    assert site.rows("other") == [("a", 7, 1)]
    site.put("1/a.csv", ("a", 100))
    site.put("dim.csv", ("a", 9), ("b", 8), at=OLD + 5)
    assert {s.name: s.status for s in lp.load(path).compile().run().segments}["other"] == "waiting"
    assert site.rows("other") == [("a", 7, 1)]


def test_a_segment_below_one_that_failed_and_one_that_waits_is_blocked(site: Site) -> None:
    site.put("1/a.csv", ("a", 1))
    site.put("2/a.csv", ("a", 1))
    data = {
        "version": 1,
        "name": "p",
        "sources": {
            "s": {"uri": "in/1/*.csv", "contract": TYPES, "expect": {"marker": "_SUCCESS"}},
            "t": {"uri": "in/2/*.csv", "contract": TYPES},
        },
        "stages": {
            "a": {"from": "s", "do": []},
            "b": {"from": "t", "do": [], "gate": [{"between": {"column": "v", "max": 0}}]},
            "c": {"from": "a", "do": [{"union": {"with": "b"}}]},
        },
        "outputs": {n: {"to": f"out/{n}"} for n in "abc"},
    }
    result = lp.Pipeline.from_dict(data, base=str(site.base)).compile().run(now=NOW)
    assert [(s.name, s.status) for s in result.segments] == [("a", "waiting"), ("b", "gate_failed"), ("c", "blocked")]
    assert result.status == "gate_failed"


def test_a_file_that_waits_is_not_taken_for_a_corrupt_one(site: Site) -> None:
    half = site.base / "in/a.parquet"
    half.parent.mkdir()
    half.write_bytes(b"PAR1 and then nothing")
    source = {"expect": {"marker": "{name}.ok"}, "on_corrupt": "skip"}
    plan = site.plan([], uri="in/*.parquet", **source)
    (found,) = plan.run(now=NOW).segments
    assert (found.status, found.corrupt) == ("waiting", ())
    pl.DataFrame({"k": ["a"], "v": [1]}).write_parquet(half)
    site.mark("a.parquet.ok")
    assert site.plan([], uri="in/*.parquet", **source).run(now=NOW).status == "done"
    assert site.rows() == [("a", 1)]


def test_where_the_one_whole_file_is_corrupt_the_others_are_waited_for(site: Site) -> None:
    site.put("a.csv").write_bytes(b"k,v\n\xff\xfe\xff,1\n")
    site.mark("a.csv.ok")
    site.put("b.csv", ("b", 1))
    found = site.run([], expect={"marker": "{name}.ok"}, on_corrupt="skip")
    assert told(found) == ("waiting", "waiting for the rest of in/b.csv (there is no b.csv.ok)")
    assert [Path(c.uri).name for c in found.corrupt] == ["a.csv"]
    site.mark("b.csv.ok")
    site.run([], expect={"marker": "{name}.ok"}, on_corrupt="skip")
    assert site.rows() == [("b", 1)]


# files that go, or change


def two(site: Site, do: list[Any], **source: Any) -> None:
    site.put("a.csv", ("a", 1))
    site.put("b.csv", ("b", 2))
    assert site.run(do, **source).status == "done"


KINDS = pytest.mark.parametrize("do", [[], [SUM]], ids=["units", "fold"])


@KINDS
def test_files_that_are_gone_keep_their_rows(site: Site, do: list[Any]) -> None:
    source = {"on_removed": "ignore"}
    two(site, do, **source)
    (site.base / "in/b.csv").unlink()
    assert told(site.run(do, **source)) == ("unchanged", "nothing changed: s: 1 ignored, 1 unchanged")
    site.put("c.csv", ("c", 3))
    assert told(site.run(do, **source)) == ("done", "s: 1 added, 1 ignored, 1 unchanged")
    assert site.rows() == [("a", 1), ("b", 2), ("c", 3)]
    assert site.run(do, **source).status == "unchanged"
    # it is no news when it comes back, and is followed when it is another
    site.put("b.csv", ("b", 2))
    assert told(site.run(do, **source)) == ("unchanged", "nothing changed: s: 3 unchanged")
    site.put("b.csv", ("b", 20), at=OLD + 5)
    assert site.run(do, **source).status == "done"
    assert site.rows() == [("a", 1), ("b", 20), ("c", 3)]
    (site.base / "in/b.csv").unlink()
    assert site.run(do).status == "done"
    assert site.rows() == [("a", 1), ("c", 3)]


@KINDS
def test_files_that_change_keep_their_rows(site: Site, do: list[Any]) -> None:
    source = {"on_modified": "ignore"}
    two(site, do, **source)
    site.put("b.csv", ("b", 20))
    site.put("c.csv", ("c", 3))
    assert told(site.run(do, **source)) == ("done", "s: 1 added, 1 ignored, 1 unchanged")
    assert site.rows() == [("a", 1), ("b", 2), ("c", 3)]
    assert told(site.run(do, **source)) == ("unchanged", "nothing changed: s: 1 ignored, 2 unchanged")
    # followed again, it is made anew from what is there
    assert site.run(do).status == "done"
    assert site.rows() == [("a", 1), ("b", 20), ("c", 3)]


@pytest.mark.parametrize(
    ("source", "then"),
    [
        ({"on_removed": "ignore"}, [("a", 1), ("b", 20)]),
        ({"on_removed": "fail"}, [("a", 1), ("b", 20)]),
        ({"on_modified": "ignore"}, [("a", 1), ("b", 2)]),
        ({"on_modified": "ignore", "on_removed": "ignore"}, [("a", 1), ("b", 2)]),
    ],
    ids=str,
)
@pytest.mark.parametrize("do", [[], [SUM], [WHOLE]], ids=["units", "fold", "groups"])
def test_a_file_that_changes_under_a_name_that_a_run_has_seen_is_the_file_that_it_was(
    site: Site, do: list[Any], source: dict[str, str], then: list[tuple[str, int]]
) -> None:
    two(site, do, **source)
    (site.base / "in/b.csv").rename(site.base / "in/z.csv")
    assert told(site.run(do, **source)) == ("done", "s: 1 moved, 1 unchanged")
    assert site.run(do, **source).status == "unchanged"
    assert [row[:2] for row in site.rows()] == [("a", 1), ("b", 2)]
    site.put("z.csv", ("b", 20), at=OLD + 5)
    assert site.run(do, **source).error is None
    assert [row[:2] for row in site.rows()] == then
    assert site.run(do, **source).status == "unchanged"


@pytest.mark.parametrize("do", [[], [SUM], [WHOLE]], ids=["units", "fold", "groups"])
@pytest.mark.parametrize("source", [{"settle": "5m"}, {"expect": {"marker": "{name}.ok"}}], ids=str)
def test_a_file_that_is_written_anew_under_a_name_that_a_run_has_seen_keeps_its_rows_until_it_is_whole(
    site: Site, do: list[Any], source: dict[str, Any]
) -> None:
    site.put("a.csv", ("a", 1))
    site.put("b.csv", ("b", 2))
    for name in "abz":
        site.mark(f"{name}.csv.ok")
    assert site.run(do, **source).status == "done"
    (site.base / "in/b.csv").rename(site.base / "in/z.csv")
    assert told(site.run(do, **source)) == ("done", "s: 1 moved, 1 unchanged")
    (site.base / "in/z.csv.ok").unlink()
    site.put("z.csv", ("b", 20), at=int(NOW.timestamp()) - 60)
    assert site.run(do, **source).error is None
    assert [row[:2] for row in site.rows()] == [("a", 1), ("b", 2)]
    site.mark("z.csv.ok")
    assert site.run(do, now=NOW + timedelta(minutes=10), **source).status == "done"
    assert [row[:2] for row in site.rows()] == [("a", 1), ("b", 20)]


@pytest.mark.parametrize("do", [[], [SUM], [WHOLE]], ids=["units", "fold", "full"])
def test_changes_can_fail(site: Site, do: list[Any]) -> None:
    two(site, do)
    before = site.rows()
    path = site.put("b.csv", ("b", 20))
    failed = site.run(do, on_modified="fail")
    assert str(failed.error) == (
        f"{path}: source 's': a file that was read is changed; restore it, or say on_modified: reprocess or ignore"
    )
    path.unlink()
    failed = site.run(do, on_removed="fail")
    assert str(failed.error) == (
        f"{path}: source 's': a file that was read is gone; restore it, or say on_removed: delete or ignore"
    )
    assert site.rows() == before
    assert site.run(do, full=True, on_removed="fail").status == "done"


def test_what_is_made_anew_cannot_keep_what_is_not_there(site: Site) -> None:
    source = {"on_removed": "ignore", "on_modified": "ignore"}
    site.put("c.csv", ("c", 3))
    two(site, [WHOLE], **source)
    (site.base / "in/b.csv").unlink()
    site.put("c.csv", ("c", 30))
    # by itself that is no reason to make it anew
    assert told(site.run([WHOLE], **source)) == ("unchanged", "nothing changed: s: 2 ignored, 1 unchanged")
    assert site.rows() == [("a", 1, 1), ("b", 2, 2), ("c", 3, 3)]
    site.put("d.csv", ("d", 4))
    said = "s: 1 added, 2 ignored, 1 unchanged; rows of s must be read again, but their files changed or are gone"
    refused = site.run([WHOLE], **source)
    assert str(refused.error) == (
        f"output 'flown': rebuilding it would lose the rows of a file that is gone, such as {site.base / 'in/b.csv'} ({said}); "
        "put back what is gone, run it in full, or say on_removed: delete"
    )
    assert site.rows() == [("a", 1, 1), ("b", 2, 2), ("c", 3, 3)]
    assert told(site.run([WHOLE], full=True, **source)) == ("done", "full rebuild requested")
    assert site.rows() == [("a", 1, 1), ("c", 30, 30), ("d", 4, 4)]
    assert told(site.run([WHOLE], **source)) == ("unchanged", "nothing changed: s: 3 unchanged")


def test_what_is_below_follows_files_that_were_ignored_until_all_was_made_anew(site: Site) -> None:
    def run(step: str) -> dict[str, str]:
        data = site.data([{"derive": {"w": step}}], {"on_modified": "ignore"})
        data["stages"]["below"] = {"from": "flown", "do": [{"filter": "v > 0"}]}
        data["outputs"]["below"] = {"to": "out/below"}
        return {s.name: s.status for s in lp.Pipeline.from_dict(data, base=str(site.base)).compile().run().segments}

    site.put("a.csv", ("a", 1))
    site.put("b.csv", ("b", 2))
    run("v + 1")
    site.put("b.csv", ("b", 20))
    assert run("v + 1") == {"flown": "unchanged", "below": "unchanged"}
    assert run("v + 2") == {"flown": "done", "below": "done"}
    assert site.rows("below") == site.rows() == [("a", 1, 3), ("b", 20, 22)]
    assert run("v + 2") == {"flown": "unchanged", "below": "unchanged"}


@pytest.mark.parametrize("mode", ["delete", "ignore", "fail"])
def test_data_files_of_a_dataset_that_go(site: Site, mode: str) -> None:
    site.put("a.csv", ("a", 1))
    site.put("b.csv", ("b", 2))
    site.run([])
    source = {"uri": "out/flown", "on_removed": mode}
    data = site.data([{"filter": "v > 0"}], source)
    data["outputs"]["flown"]["to"] = "out/next"
    data["name"] = "next"

    def follow() -> lp.RunResult:
        return lp.Pipeline.from_dict({**data, "state": "next"}, base=str(site.base)).compile().run()

    assert follow().status == "done"
    (site.base / "in/b.csv").unlink()
    site.run([])
    result = follow()
    if mode == "fail" and result.status == "error":
        assert "a file that was read is gone" in str(result.segments[0].error)
    else:
        assert site.rows("next") == ([("a", 1), ("b", 2)] if mode == "ignore" else [("a", 1)])
        assert follow().status == "unchanged"


# content


@KINDS
def test_content_that_is_replaced_under_the_same_stamp(site: Site, do: list[Any]) -> None:
    two(site, do)
    two(Site(site.base / "x"), do, detect="content")
    site.put("b.csv", ("b", 7))
    Site(site.base / "x").put("b.csv", ("b", 7))
    assert told(site.run(do)) == ("unchanged", "nothing changed: s: 2 unchanged")
    found = Site(site.base / "x").run(do, detect="content")
    assert told(found) == ("done", "s: 1 modified, 1 unchanged")
    assert Site(site.base / "x").rows() == [("a", 1), ("b", 7)]
    # the run that read the files has seen what they held
    first = site.run(do, detect="content")
    assert told(first) == ("done", "s: 1 modified, 1 unchanged")
    assert site.rows() == [("a", 1), ("b", 7)]
    assert told(site.run(do, detect="content")) == ("unchanged", "nothing changed: s: 2 unchanged")
    # what is known of content stays known where nothing asks for it: a touched file is no news
    site.put("b.csv", ("b", 7), at=OLD + 9)
    site.put("c.csv", ("c", 1))
    assert told(site.run(do)) == ("done", "s: 1 added, 1 touched, 1 unchanged")
    # one that grew is not one that was changed
    site.put("b.csv", ("b", 7), ("b", 8))
    assert told(site.run(do, on_modified="fail")) == ("done", "s: 1 grown, 2 unchanged")


def test_two_outputs_of_one_source_hash_each_file_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from lazypipe.incremental import hashing

    hashed: list[str] = []
    whole = hashing.hash_file
    monkeypatch.setattr(hashing, "hash_file", lambda uri, *more: hashed.append(Path(uri).name) or whole(uri, *more))
    site.put("a.csv", ("a", 1))
    site.put("b.csv", ("b", 2))
    data = site.data([], {"detect": "content"})
    data["stages"]["sums"] = {"from": "s", "do": [SUM]}
    data["outputs"]["sums"] = {"to": "out/sums"}
    plan = lp.Pipeline.from_dict(data, base=str(site.base)).compile()
    for _ in range(2):
        plan.run()
        assert sorted(hashed) == ["a.csv", "b.csv"]
        hashed.clear()


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "modify", "replace", "remove", "touch", "rename", "nothing"]),
        st.integers(0, 3),
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=4,
)


@given(
    detect=st.sampled_from(["stamp", "content"]),
    do=st.sampled_from([[], [SUM], [WHOLE], [{"filter": "v > 3"}, SUM]]),
    actions=ACTIONS,
)
@settings(max_examples=settings().max_examples * 3 // 5)
def test_changes_that_are_followed_give_what_a_full_run_gives(detect: str, do: list[Any], actions: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site, at = Site(Path(folder)), OLD
        source = {"detect": detect, "on_removed": "delete", "on_modified": "reprocess", "uri": "in/*.csv"}
        site.put("0.csv", ("a", 1))
        site.run(do, **source)
        for number, (action, index, rows) in enumerate(actions):
            at += 10
            files = sorted((site.base / "in").glob("*.csv"))
            chosen = files[index % len(files)]
            match action:
                case "add":
                    site.put(f"{number}-new.csv", *rows, at=at)
                case "modify":
                    site.put(chosen.name, *rows, at=at)
                case "replace" if detect == "content":
                    # other content of the same length under the same stamp
                    alter(chosen, chosen.read_bytes().translate(bytes.maketrans(b"0123456789", b"9876543210")))
                case "remove" if len(files) > 1:
                    chosen.unlink()
                case "touch":
                    os.utime(chosen, (at, at))
                case "rename":
                    chosen.rename(chosen.with_name(f"{number}-moved.csv"))
            site.run(do, **source)
            kept = site.rows()
            assert site.run(do, **source).status == "unchanged"
            site.run(do, full=True, **source)
            assert kept == site.rows()


# nothing there, and what is not looked into


def test_a_folder_that_is_still_empty_is_waited_for(site: Site) -> None:
    (site.base / "in").mkdir()
    for more in ({"expect": {"marker": "_SUCCESS"}}, {"settle": "5m"}, {"on_removed": "ignore"}):
        assert told(site.run([], **more)) == ("waiting", "waiting for in/**/*.csv")
    site.mark("_SUCCESS")
    assert told(site.run([], expect={"marker": "_SUCCESS"})) == ("waiting", "waiting for in/**/*.csv")
    for more in ({"expect": {"marker": "_SUCCESS"}, "on_partial": "fail"}, {}):
        failed = site.run([], **more)
        assert (failed.status, str(failed.error).partition("'s': ")[2].partition(";")[0]) == (
            "error",
            "no file matches",
        )
    site.put("a.csv", ("a", 1))
    assert site.run([], expect={"marker": "_SUCCESS"}).status == "done"


def test_a_folder_that_is_emptied_keeps_rows_where_it_may(site: Site) -> None:
    site.put("a.csv", ("a", 1))
    site.put("b.csv", ("b", 2))
    site.run([], on_removed="ignore")
    for name in ("a", "b"):
        (site.base / f"in/{name}.csv").rename(site.base / f"{name}.done")
    assert site.run([], on_removed="ignore").status == "unchanged"
    site.put("c.csv", ("c", 3))
    assert site.run([], on_removed="ignore").status == "done"
    assert site.rows() == [("a", 1), ("b", 2), ("c", 3)]
    # to be made anew there must be something
    (site.base / "in/c.csv").unlink()
    assert told(site.run([], on_removed="ignore", full=True)) == ("waiting", "waiting for in/**/*.csv")
    assert site.rows() == [("a", 1), ("b", 2), ("c", 3)]


@pytest.mark.parametrize("how", ["marker", "settle", "manifest"])
def test_compiling_does_not_look_into_files_that_wait(site: Site, how: str) -> None:
    source: dict[str, Any] = {
        "marker": {"expect": {"marker": "{name}.ok"}},
        "settle": {"settle": "5m"},
        "manifest": {"expect": {"manifest": "manifest.json"}},
    }[how]
    contract = {"columns": TYPES["columns"], "on_new_column": "evolve"}
    whole = site.put("b.csv", ("a", 1))
    digest = hashlib.sha256(whole.read_bytes()).hexdigest()
    site.mark("b.csv.ok")
    site.mark("manifest.json", json.dumps([{"name": "b.csv", "sha256": digest}]))
    half = site.put("a.csv")
    half.write_text('k,v,"half of a na')  # which can be read by nobody
    definition = site.data([], {**source, "contract": contract})

    def run() -> lp.SegmentResult:
        plan = lp.Pipeline.from_dict(definition, base=str(site.base)).compile()
        assert plan.schema("s").names() == ["k", "v"]
        (segment,) = plan.run().segments
        return segment

    assert run().status == "done"
    assert site.rows() == [("a", 1)]
    # what was taken in once is looked into, though its marker is gone
    (site.base / "in/b.csv.ok").unlink()
    assert run().status == "unchanged"


def test_columns_are_learned_from_files_that_wait_if_there_are_no_others(site: Site) -> None:
    site.put("a.csv", ("a", 1))
    definition = site.data([], {"expect": {"marker": "_SUCCESS"}})
    del definition["sources"]["s"]["contract"]
    plan = lp.Pipeline.from_dict(definition, base=str(site.base)).compile()
    assert plan.schema("s").names() == ["k", "v"]
    assert plan.run().status == "waiting"
