"""``lp.optimize`` and its commands, from outside."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.optimizer.forms import Cast
from lazypipe.storage.sink import DatasetSink

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Advice by bytes alone: times on a busy machine are no ground for a test."""
    monkeypatch.setattr("lazypipe.optimize.advise", partial(lp.optimize.advise, clock=lambda: 0.0))


def rows(start: int, stop: int) -> pl.DataFrame:
    return pl.select(id=pl.int_range(start, stop)).with_columns(
        day=pl.col("id") % 5, price=pl.col("id") * 7_919 % 10_007 / 4
    )


@pytest.fixture
def uri(tmp_path: Path) -> str:
    (tmp_path / "in").mkdir()
    for i in range(3):
        rows(5_000 * i, 5_000 * i + 5_000).write_parquet(tmp_path / "in" / f"{i}.parquet")
        plan(tmp_path).run().raise_for_status()
    return str(tmp_path / "out")


def plan(folder: Path) -> lp.Plan:
    built = lp.pipeline("p", base=str(folder)).source("a", "in/*.parquet").stage("b", "a", do=[{"filter": "id >= 0"}])
    return built.output("b", "out").build().compile()


def reader(folder: Path) -> Path:
    file = folder / "reader.yaml"
    text = "version: 1\nname: reader\nsources: {s: {uri: out, format: dataset}}\nstages: {t: {from: s, do: [{filter: id = 7}]}}\noutputs: {t: {to: t}}\n"
    file.write_text(text)
    return file


def test_a_dataset_is_written_anew_for_a_goal(uri: str, tmp_path: Path) -> None:
    before = Dataset(uri).read()
    asked = lp.optimize.workload(
        uri, [lp.load(reader(tmp_path)).compile()], queries=["SELECT price FROM self WHERE day = 3"]
    )
    assert [(q.name, dict(q.filters)) for q in asked.queries] == [
        ("SELECT price FROM self WHERE day = 3", {"day": "equal"}),
        ("reader/t", {"id": "equal"}),
    ]
    made = lp.optimize.rewrite(uri, "storage", workload=asked, now=NOW)
    after = Dataset(uri).read()
    assert (made.version, after.time, after.rows_of, after.info["optimize"]["goal"]) == (4, NOW, 3, "storage")
    assert after.info["optimize"]["reasons"] == list(made.reasons) != []
    assert after.bytes < before.bytes
    assert lp.scan(uri).collect().sort("id").equals(rows(0, 15_000))
    result = plan(tmp_path).run()
    assert [s.status for s in result.segments] == ["unchanged"]
    found = lp.ledger(plan(tmp_path)).verify(datasets=[uri])
    assert (found.ok, found.warnings) == (True, ())
    entry = lp.ledger(plan(tmp_path)).records()[made.record - 1] if made.record else None
    assert entry is not None
    assert (entry.kind, entry.run, entry.pipeline, entry.status) == ("rewrite", after.run, "p", "done")
    (segment,) = entry.body["segments"]
    assert [(d["path"], d["rows"]) for d in segment["data"]] == [(f.path, f.rows) for f in after.files]
    assert sorted(segment["replaced"]) == sorted(f.path for f in before.files)
    assert made.to_dict()["record"] == entry.number


def test_a_pipeline_that_writes_a_dataset_says_what_readers_ask(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its declared queries, how it says that rows are read, and what its other outputs do with them; also from a folder of one's own."""
    built = lp.pipeline("w", base=tmp_path).source("a", "in/*.parquet").stage("b", "a", do=[{"filter": "id >= 0"}])
    built = built.stage("c", "b", do=[{"filter": "day = 3"}])
    built = built.output("b", "out", workload={"queries": ["SELECT price FROM self WHERE id = 7"], "access": "scan"})
    writer = built.output("c", "c").build().compile()
    monkeypatch.chdir(tmp_path)
    for place in (uri, f"file://{uri}/", "out", "../" + tmp_path.name + "/out"):
        asked = lp.optimize.workload(place, [writer, lp.load(reader(tmp_path)).compile()])
        assert [(q.name, dict(q.filters)) for q in asked.queries] == [
            ("SELECT price FROM self WHERE id = 7", {"id": "equal"}),
            ("w/c", {"day": "equal"}),
            ("reader/t", {"id": "equal"}),
        ], place
        assert asked.declared == "scan"
    assert lp.optimize.workload(uri, [writer], access="time range").declared == "time range"
    lp.pipeline("o", base=tmp_path).source("a", "in/*.parquet").output("a", "out-2").build().compile().run()
    assert not lp.optimize.workload(f"{uri}-2", [writer]).queries


def test_what_a_version_was_made_of_is_known_after_it_was_written_anew(uri: str, tmp_path: Path) -> None:
    made = lp.optimize.compact(uri, actor="keeper")
    ledger = lp.ledger(plan(tmp_path))
    assert (ledger.records()[-1].kind, ledger.records()[-1].actor) == ("compact", "keeper")
    history = ledger.history(uri, made.version)
    assert {s.entry.run for s in history.steps if s.entry} >= {r.run for r in ledger.records()[-2:]}
    (held,) = [h for h in ledger.containing(str(tmp_path / "in" / "0.parquet")) if h.in_force]
    assert (held.version, held.via) == (made.version, ("earlier version",))
    assert "keeper" in json.dumps(lp.audit_report(ledger, uri).to_dict())
    (tmp_path / "in" / "9.parquet").write_bytes((tmp_path / "in" / "0.parquet").read_bytes())
    assert plan(tmp_path).run().status == "done"
    assert ledger.verify(datasets=[uri]).ok


def test_why_a_rewrite_is_not_in_the_ledger(uri: str, tmp_path: Path) -> None:
    dataset = Dataset(uri)

    def again(info: dict[str, Any], ledger: Any = None) -> lp.optimize.Rewrite:
        latest = dataset.read()
        kept = {k: v for k, v in latest.info.items() if k != "ledger"} | info
        dataset.log.append(replace(latest, version=latest.version + 1, run="x", info=kept))
        return lp.optimize.rewrite(uri, lp.optimize.Layout(level=latest.version), ledger=ledger)

    own = lp.ledger(plan(tmp_path))
    run = own.records()[-1].run
    assert again({}).unrecorded is None
    assert again({}, own).unrecorded == "no run in that ledger has written the rows"
    hidden = again({"ledger": {"uri": "s3://***/ledger", "run": run}})
    assert hidden.unrecorded == "the ledger's URI holds a secret, name it with ledger="
    gone = again({"ledger": {"uri": own.uri, "run": "gone"}})
    assert gone.unrecorded == f"run 'gone', which wrote the rows, is not in {own.uri}"
    assert str(gone).endswith(f"; not in the ledger: {gone.unrecorded}")
    assert again({"ledger": {"uri": own.uri, "run": run}}, own.uri).record is not None
    signed = lp.ledger(str(tmp_path / "signed"), key="secret")
    shutil.copytree(Path(own.uri) / "objects", tmp_path / "signed" / "objects")
    signed.append(dict(own.records()[-1].body), time=NOW)
    told = {"ledger": {"uri": signed.uri, "run": own.records()[-1].run}}
    assert again(told).unrecorded == f"the records in {signed.uri} are signed, give lp.ledger(…, key=…) as ledger="
    assert again(told, signed).record == 2
    assert signed.verify().ok
    (next((tmp_path / "signed").glob("*2.json"))).write_text("{")
    assert "the record is truncated or damaged" in str(again(told, signed).unrecorded)
    assert lp.scan(uri).collect().sort("id").equals(rows(0, 15_000))


def test_a_rewrite_with_other_rows_is_not_taken_for_one(uri: str, tmp_path: Path) -> None:
    lp.optimize.compact(uri)
    dataset = Dataset(uri)
    latest = dataset.read()
    forged = replace(latest, version=5, run="x", files=(replace(latest.files[0], rows=1, units={}),))
    dataset.log.append(forged)
    found = lp.ledger(plan(tmp_path)).verify(datasets=[uri])
    assert [p.what for p in found.problems] == ["version 5 was committed by run 'x', which the ledger does not know"]
    lp.vacuum(uri, keep=1)
    assert lp.ledger(plan(tmp_path)).verify(datasets=[uri]).ok  # nothing to compare with any more
    (tmp_path / "out.commits" / f"{5:020}.json").write_text("{")
    assert not lp.ledger(plan(tmp_path)).verify(datasets=[uri]).ok


def test_a_layout_of_ones_own(uri: str) -> None:
    made = lp.optimize.rewrite(uri, lp.optimize.Layout(level=15, sort_by=("price",)), partition_by=["day"])
    assert made.layout == lp.optimize.Layout(level=15, sort_by=("price",))
    assert {f.path.split("/")[0] for f in Dataset(uri).read().files} == {f"day={i}" for i in range(5)}
    assert lp.optimize.rewrite(uri, made.layout, dry_run=True).tasks == ()
    assert len(lp.optimize.rewrite(uri, made.layout, every=True).written) == 5
    assert lp.scan(uri).collect().sort("id").equals(rows(0, 15_000))


@pytest.mark.parametrize("goal", ["storage", "balanced", "read", "write"])
def test_a_dry_run_tells_what_is_then_done(goal: Any, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else the machine does: a layout that follows from times would be another each time."""
    drawn = random.Random(goal)
    now = itertools.accumulate(drawn.expovariate(100.0) for _ in itertools.count())
    monkeypatch.setattr("lazypipe.optimize.advise", partial(lp.optimize.advise, clock=lambda: next(now)))
    monkeypatch.setattr("time.process_time", lambda: next(now))
    told = [lp.optimize.rewrite(uri, goal, dry_run=True) for _ in range(3)]
    assert [t.version for t in told] == [None] * 3
    done = lp.optimize.rewrite(uri, goal)
    for one in told:
        assert (one.layout, one.tasks, one.replaced, one.reasons) == (
            done.layout, done.tasks, done.replaced, done.reasons
        )  # fmt: skip
    assert lp.scan(uri).collect().sort("id").equals(rows(0, 15_000))


def test_who_loses_an_order_is_told(uri: str) -> None:
    own = lp.optimize.Layout(sort_by=("price", "day"), curve="hilbert")
    lp.optimize.rewrite(uri, own)
    asked = lp.optimize.workload(uri, queries=["SELECT id FROM self WHERE price = 3"])
    lost = "no longer ordered by price, day (hilbert): no readers were named (workload=, or --pipeline FILE)"
    assert lost not in lp.optimize.rewrite(uri, "read", workload=asked, dry_run=True).reasons
    assert lp.optimize.rewrite(uri, "read", dry_run=True).reasons[-1] == lost
    assert lp.optimize.rewrite(uri, "read").reasons[-1] == lost
    assert lost not in lp.optimize.rewrite(uri, "read", dry_run=True).reasons


@pytest.mark.parametrize(
    ("goal", "query"), [("storage", None), ("read", "SELECT amount FROM self WHERE customer = 3"), ("read", None)]
)
def test_asked_again_for_the_same_goal_an_order_stays(goal: Any, query: str | None, tmp_path: Path) -> None:
    """Rows in an order show no longer what it has brought; to give it up would let all that comes later in as it comes."""

    def sold(start: int, stop: int) -> None:
        """Rows of 500 customers, of which a name and a town follow, in no order."""
        drawn = pl.select(n=pl.int_range(start, stop)).select(
            customer=pl.col("n").hash(3) % 500, amount=pl.col("n").hash(4) % 10_007
        )
        known = {"name": pl.col("customer").hash(9).cast(pl.String), "town": pl.col("customer").hash(5).cast(pl.String)}
        (tmp_path / "in").mkdir(exist_ok=True)
        drawn.with_columns(**known).write_parquet(tmp_path / "in" / f"{start:06}.parquet")
        built = lp.pipeline("p", base=str(tmp_path)).source("a", "in/*.parquet").stage("b", "a")
        built.output("b", "out", mode="append").build().compile().run().raise_for_status()

    uri = str(tmp_path / "out")
    sold(0, 40_000)
    asked = lp.optimize.workload(uri, queries=["SELECT amount FROM self WHERE customer = 3"])
    first = lp.optimize.rewrite(uri, goal, workload=asked if goal == "read" else None)
    assert first.layout is not None
    (by,) = first.layout.sort_by
    assert by in ("customer", "name", "town")
    again = lp.optimize.workload(uri, queries=[query]) if query else None
    advice = lp.optimize.advise(uri, again, goal, timed=False)
    assert (advice.layout.sort_by, advice.layout.row_group_rows) == (
        (by,),
        first.layout.row_group_rows if query else None,
    )
    assert f"ordered by {by}: as before: no other order is better" in map(str, advice.reasons)
    for _ in range(2):
        made = lp.optimize.rewrite(uri, goal, workload=again)
        assert made.layout is not None
        assert made.layout.sort_by == (by,)
        assert not any("no longer ordered" in r for r in made.reasons)
    assert made.tasks == ()
    before = {f.path for f in Dataset(uri).read().files}
    sold(40_000, 50_000)
    (new,) = (f for f in Dataset(uri).read().files if f.path not in before)
    assert Dataset(uri).scan(replace(Dataset(uri).read(), files=(new,))).collect()[by].is_sorted()
    # writers for whom an order is too dear give it up
    other = lp.optimize.rewrite(uri, "write").layout
    assert other is not None
    assert other.sort_by == ()


def test_other_folders_are_told_before_they_are_made(uri: str) -> None:
    def why(**by: Any) -> list[str]:
        return [t.why for t in lp.optimize.rewrite(uri, lp.optimize.Layout(level=15), dry_run=True, **by).tasks]

    assert why(partition_by=["day"]) == ["folders by day"]
    lp.optimize.rewrite(uri, lp.optimize.Layout(), partition_by=["day"])
    assert why(partition_by=["day"]) == ["another layout"]
    assert why(partition_by=["id", "day"]) == ["folders by id, day, rather than by day"]
    assert why(partition_by=[]) == ["no folders, rather than by day"]
    assert set(why()) == {"another layout"}


def test_folders_of_few_rows_do_not_make_a_dataset_larger(tmp_path: Path) -> None:
    """Each file has a dictionary of its own: what is best for all rows in one file is not what is best for many small ones."""
    number = pl.int_range(120_000, eager=True).alias("id").to_frame()
    frame = number.with_columns(
        price=(pl.col("id").hash(4) % 10_000).hash(5).cast(pl.Float64), day=(pl.col("id").hash(5) % 60).cast(pl.Int32)
    )
    target = Dataset(str(tmp_path / "by_day"))
    files = DatasetSink(target.uri, "w", partition_by=("day",)).write(frame.lazy()).files
    target.commit(files, frame.schema, run="w", time=NOW, mode="replace", partition_by=("day",))
    made = lp.optimize.rewrite(target.uri, "balanced")
    assert sum(made.after.values()) < 0.97 * sum(made.before.values())
    assert lp.scan(target.uri).collect().select(frame.columns).sort("id").equals(frame)


def test_what_is_wrong_is_told(uri: str, tmp_path: Path) -> None:
    with pytest.raises(lp.LazypipeError, match="there is no goal 'storag'; did you mean 'storage'"):
        lp.optimize.rewrite(uri, "storag")  # type: ignore[arg-type]
    with pytest.raises(lp.LazypipeError, match="workload=3 is none; make one with"):
        lp.optimize.advise(pl.DataFrame({"a": [1]}), workload=3)  # type: ignore[arg-type]
    with pytest.raises(lp.LazypipeError, match="budget=-1 is less than no time; give seconds"):
        lp.optimize.advise(pl.DataFrame({"a": [1]}), budget=-1)
    with pytest.raises(lp.LazypipeError, match="query 2: unknown column 'prize'; did you mean 'price'"):
        lp.optimize.workload(uri, queries=["SELECT id FROM self", "SELECT prize FROM self"])
    for call in (lp.optimize.rewrite, lp.optimize.compact, lp.optimize.workload):
        with pytest.raises(lp.StorageError, match="there is no dataset here"):
            call(str(tmp_path / "nowhere"))  # type: ignore[operator]


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_folder_that_is_read_without_its_log_holds_what_is_in_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(9):
        pl.DataFrame({"x": [number]}).write_parquet(tmp_path / f"{number}.parquet")
    pipe = lp.pipeline("p", base=tmp_path).source("s", "*.parquet").stage("t", "s").output("t", "out/t").build()
    pipe.compile().run().raise_for_status()
    (tmp_path / "3.parquet").unlink()
    pipe.compile().run().raise_for_status()
    uri = str(tmp_path / "out/t")
    assert pl.scan_parquet(uri).collect()["x"].sort().to_list() == [*range(9)]
    # the row that is gone is less than a fifth
    assert run(capsys, "compact", uri)[2] == f"{uri}: nothing to do\n"
    assert "1 dead row left out" in run(capsys, "compact", uri, "--dead", "0")[2]
    assert run(capsys, "vacuum", uri)[0] == 0
    assert pl.scan_parquet(uri).collect()["x"].sort().to_list() == [0, 1, 2, 4, 5, 6, 7, 8]


def test_commands(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "compact", uri, "--dry-run")
    assert (code, err.startswith(f"{uri}: would rewrite 3 files")) == (0, True)
    assert out.startswith(f"# Plan of {uri}\n")
    assert Dataset(uri).read().version == 3
    code, out, err = run(capsys, "compact", uri, "--target", 10_000_000, "--json")
    assert (code, json.loads(out)["files"]) == (0, [3, 1])
    code, out, err = run(capsys, "compact", uri)
    assert (code, out, err) == (0, "", f"{uri}: nothing to do\n")
    code, out, err = run(
        capsys,
        "optimize",
        uri,
        "--goal",
        "read",
        "--pipeline",
        reader(tmp_path),
        "--partition-by",
        "day",
        "--budget",
        5,
    )
    assert code == 0
    assert "| column | bytes before | bytes after | change |" in out
    assert err.startswith(f"{uri}: version 5: 1 file (")
    assert Dataset(uri).read().partition_by == ("day",)
    code, out, err = run(capsys, "optimize", tmp_path / "nowhere")
    assert (code, "there is no dataset here" in err) == (3, True)


def test_a_reader_takes_its_parameters_and_modules(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a message says to pass is taken: a reader of a dataset may have parameters without defaults, and Python stages."""
    (tmp_path / "steps_of_a_reader.py").write_text("def some(frame):\n    return frame\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = (
        "version: 1\nname: asks\nparams: {{{param}: {{type: integer}}}}\nsources: {{b: {{uri: {uri}}}}}\nstages:\n"
        "  q: {{from: b, do: [{{filter: 'day = :{param}'}}, {{python: {{call: 'steps_of_a_reader:some'}}}}]}}\n"
        "outputs: {{q: {{to: out/q_{param}}}}}\n"
    )
    files = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
    for file, param in zip(files, ("at", "until"), strict=True):
        file.write_text(text.format(param=param, uri=uri))
    dry, allow = ("optimize", uri, "--goal", "read", "--dry-run"), ("--allow", "steps_of_a_reader")
    asked = (*dry, "--pipeline", files[0])
    code, _, err = run(capsys, *asked, "--param", "at=1")
    assert (code, "allow it: --allow steps_of_a_reader" in err) == (2, True)
    code, _, err = run(capsys, *asked, *allow)
    assert (code, "pass it (--param at=…)" in err) == (2, True)
    code, _, err = run(capsys, *asked, *allow, "--param", "at=1", "--param", "on=1")
    assert (code, err) == (2, f"{files[0]}:3:1: unknown parameter 'on'; known parameters: at\n")
    code, out, _ = run(capsys, *asked, *allow, "--param", "at=1")
    assert (code, "- ordered by day: " in out) == (0, True)
    both = (*asked, "--pipeline", files[1], *allow, "--param", "at=1")
    assert run(capsys, *both)[0] == 2
    assert run(capsys, *both, "--param", "until=2")[0] == 0
    code, _, err = run(capsys, *dry, "--param", "at=1")
    assert (code, err) == (2, "--param and --allow are for the pipelines that --pipeline names; name one\n")


def test_a_rollback_is_in_the_ledger(uri: str, tmp_path: Path) -> None:
    made, ledger = plan(tmp_path), lp.ledger(plan(tmp_path))
    first = ledger.records()[-3].run
    assert lp.rollback(made, "b", version=1, now=NOW, actor="keeper") == 4
    entry = ledger.records()[-1]
    assert (entry.kind, entry.actor, entry.status, entry.run) == ("rollback", "keeper", "done", Dataset(uri).read().run)
    (segment,) = entry.body["segments"]
    files = [(f.path, f.blake3) for f in Dataset(uri).read(version=1).files]
    assert [(d["path"], d["blake3"]) for d in segment["data"]] == files
    assert (segment["of"], segment["version"], segment["rows"]) == (1, 4, Dataset(uri).read(version=1).rows)
    assert [s.version for s in ledger.history(uri).steps] == [4, 1]
    assert first in {s.entry.run for s in ledger.history(uri).steps if s.entry}
    # what came in between is not in it
    held = {n: [h for h in ledger.containing(str(tmp_path / "in" / f"{n}.parquet")) if h.in_force] for n in range(3)}
    assert [(h.version, h.via) for n in range(3) for h in held[n]] == [(4, ("earlier version",))]
    report = lp.audit_report(ledger, uri)
    assert f"- Rows restored: {segment['rows']:,}, those of version 1" in report.to_markdown()
    assert made.run().status == "done"
    assert lp.scan(uri).collect().sort("id").equals(rows(0, 15_000))
    assert [s.version for s in ledger.history(uri).steps] == [5]  # its record names all inputs
    lp.rollback(uri, version=3)
    found = ledger.verify(datasets=[uri])
    assert (found.problems, found.warnings) == ((), ())


def test_a_rollback_of_what_a_run_wrote_in_which_another_output_was_blocked(tmp_path: Path) -> None:
    rows(0, 10).write_parquet(tmp_path / "a.parquet")
    small = [{"row_count": {"max": 9, "action": "fail"}}]
    made = lp.pipeline("p", base=str(tmp_path)).source("a", "a.parquet")
    made = made.stage("few", "a", gate=small).stage("below", "few", do=[{"limit": 1}]).stage("good", "a")
    plan = made.output("few", "out/few").output("below", "out/below").output("good", "out/good").build().compile()
    assert [s.status for s in plan.run().segments] == ["gate_failed", "blocked", "done"]
    assert lp.rollback(plan, "good", version=1) == 2
    entry = lp.ledger(plan).records()[-1]
    assert (entry.kind, entry.body["segments"][0]["uri"]) == ("rollback", str(tmp_path / "out/good"))


def test_a_rollback_that_is_not_recorded_is_noted(uri: str, tmp_path: Path) -> None:
    dataset, ledger = Dataset(uri), lp.ledger(plan(tmp_path))
    dataset.rollback(1, run="x", time=NOW)
    found = ledger.verify(datasets=[uri])
    told = "version 4 was made by 'x', outside of any run, of version 1, which it brings back"
    assert (found.problems, [w.what for w in found.warnings]) == ((), [told])
    latest = dataset.read()
    others = (replace(latest, files=()), *(replace(latest, mode=f"rollback to {of}") for of in ("x", "9")))
    for number, forged in enumerate(others, start=5):
        dataset.log.append(replace(forged, version=number))
        wrong = ledger.verify(datasets=[uri]).problems
        assert wrong[-1].what == f"version {number} was committed by run 'x', which the ledger does not know"
    lp.vacuum(uri, keep=1)
    dataset.rollback(7, run="y", time=NOW)
    lp.vacuum(uri, keep=1)
    assert ledger.verify(datasets=[uri]).ok  # nothing to compare with any more
    signed = lp.ledger(str(tmp_path / "signed"), key="secret")
    assert lp.rollback(uri, version=8, ledger=signed) == 9
    assert signed.records() == ()


def test_rollbacks_by_pipelines_that_sign_their_records_or_keep_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_KEY", "secret")
    (tmp_path / "in").mkdir()
    rows(0, 10).write_parquet(tmp_path / "in" / "0.parquet")
    ledger, uri = str(tmp_path / "ledger"), str(tmp_path / "out")
    for number, audit in enumerate(({"ledger": ledger, "key": "${LEDGER_KEY}"}, "off")):
        built = lp.Pipeline.from_dict(
            {
                "version": 1,
                "name": "p",
                "audit": audit,
                "sources": {"a": {"uri": "in/*.parquet"}},
                "stages": {"b": {"from": "a"}},
                "outputs": {"b": {"to": "out"}},
            },
            base=str(tmp_path),
        )
        built.compile().run(full=True).raise_for_status()
        lp.rollback(built, "b", version=2 * number + 1)
    assert [e.kind for e in lp.ledger(ledger).records()] == ["run", "rollback"]
    assert lp.ledger(ledger, key="secret").verify().ok
    assert lp.history(uri)["mode"].to_list() == ["replace", "rollback to 1", "replace", "rollback to 3"]


def test_status_says_why_files_are_laid_out_as_they_are(
    tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = tmp_path / "p.yaml"
    definition.write_text(plan(tmp_path).pipeline.to_yaml())
    assert main(["status", str(definition)]) == 0
    assert "laid out" not in capsys.readouterr().out
    made = lp.optimize.rewrite(uri, "storage")
    assert main(["status", str(definition)]) == 0
    told = capsys.readouterr().out.splitlines()
    first = told.index("    laid out for storage:") + 1
    assert told[first:] == [f"        {reason}" for reason in Dataset(uri).read().info["optimize"]["reasons"]]
    assert len(told) > first
    assert made.tasks
    # one that somebody gave has no reasons
    lp.optimize.rewrite(uri, lp.optimize.Layout(codec="lz4"))
    assert main(["status", str(definition)]) == 0
    assert "laid out" not in capsys.readouterr().out


def test_what_is_no_part_and_no_size_is_refused(uri: str) -> None:
    with pytest.raises(lp.LazypipeError, match="dead is 20; write a fraction of a file's rows, from 0 to 1"):
        lp.optimize.compact(uri, dead=20)
    with pytest.raises(lp.LazypipeError, match="target is 0; write the size of a file in bytes"):
        lp.optimize.compact(uri, target=0)


@pytest.mark.parametrize("name", ["self", "exprs", "named_exprs"])
def test_columns_may_be_called_like_arguments_of_polars(name: str, tmp_path: Path) -> None:
    given = pl.select((pl.int_range(20_000) * 7_919 % 30_000).alias(name))
    (tmp_path / "in").mkdir()
    given.write_parquet(tmp_path / "in" / "0.parquet")
    built = lp.pipeline("p", base=str(tmp_path)).source("a", "in/*.parquet").stage("b", "a").output("b", "out")
    built.build().compile().run().raise_for_status()
    advice = lp.optimize.advise(given, None, "storage", sample=given.height, timed=True)
    assert {t.column for t in advice.measured} >= {None, name}
    fitting = lp.optimize.Layout(forms={name: Cast(pl.Int16())})  # of some values
    lp.optimize.rewrite(str(tmp_path / "out"), fitting)
    found = lp.scan(str(tmp_path / "out")).collect()
    assert found.schema == given.schema
    assert found.sort(name).equals(given.sort(name))
