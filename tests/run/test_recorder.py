"""What a run tells the ledger: who, with which code, of which bytes; and what happens where it cannot."""

from __future__ import annotations

import getpass
import json
import os
import uuid
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from blake3 import blake3

import lazypipe as lp
from lazypipe.errors import DefinitionError
from lazypipe.storage import content


def pipe(folder: str, audit: Any = "recorded", source: str = "a.csv", to: str = "out/b", **more: Any) -> lp.Pipeline:
    made = lp.pipeline("p", base=folder, audit=audit).source("a", source, **more)
    return made.output("b", to, from_="a").build()


@pytest.fixture
def home(tmp_path: Path) -> str:
    pl.DataFrame({"x": [1, 2]}).write_csv(tmp_path / "a.csv")
    return str(tmp_path)


def last(target: lp.Pipeline) -> lp.Entry:
    return lp.ledger(target).records()[-1]


def test_who_ran_it(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAZYPIPE_ACTOR", raising=False)
    monkeypatch.setenv("LOGNAME", "of the machine")
    plan = pipe(home).compile()
    plan.run()
    assert last(pipe(home)).actor == "of the machine"
    monkeypatch.setenv("LAZYPIPE_ACTOR", "of the environment")
    plan.run()
    assert last(pipe(home)).actor == "of the environment"
    named = pipe(home, {"actor": "${WHO}"})
    named.compile(env={"WHO": "of the definition"}).run()
    assert lp.ledger(f"{home}/.lazypipe/ledger").records()[-1].actor == "of the definition"
    named.compile(env={"WHO": "x"}).run(actor="of the call")
    assert lp.ledger(f"{home}/.lazypipe/ledger").records()[-1].actor == "of the call"
    monkeypatch.delenv("LAZYPIPE_ACTOR")

    def nobody() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nobody)
    plan.run()
    assert last(pipe(home)).actor == f"user {os.getuid()}"


def test_the_code(home: str) -> None:
    assert pipe(home).compile().run(code="v7").status == "done"
    assert last(pipe(home)).body["code"]["version"] == "v7"
    (Path(home) / ".git").mkdir()
    (Path(home) / ".git" / "HEAD").write_text("0123456789abcdef\n")
    pipe(home).compile().run()
    assert last(pipe(home)).body["code"]["version"] == "0123456789abcdef"


def test_variables_in_ledger_and_key_do_not_show(home: str) -> None:
    target = pipe(home, {"ledger": "${PLACE}/books", "key": "${KEY}"})
    plan = target.compile(env={"PLACE": f"{home}/hidden-place", "KEY": "hidden-key"})
    result = plan.run()
    assert result.status == "done"
    ledger = lp.ledger(plan)
    assert (ledger.verify().signed, ledger.verify().ok) == (1, True)
    told = str([e.to_dict() for e in ledger.records()]) + str([ledger.object(e) for e in ledger.records()])
    commit = Path(f"{home}/out/b.commits/{1:020}.json").read_text()
    assert '"uri":"${PLACE}/books"' in commit
    for text in (told, commit, repr(plan), Path(result.record).read_text()):
        assert "hidden-key" not in text
        assert "hidden-place" not in text
    (Path(home) / "hidden-place" / "file").write_text("x")
    refused = pipe(home, {"ledger": "${PLACE}/file/books"}).compile(env={"PLACE": f"{home}/hidden-place"}).run()
    (warning,) = refused.warnings
    assert warning.startswith("${PLACE}/file/books: this run is not in the ledger: cannot write to the ledger")
    assert "hidden-place" not in warning


@pytest.mark.parametrize(
    ("audit", "env", "message"),
    [
        (
            {"key": "in the clear"},
            {},
            "the key that signs records is written in the definition; write key: ${LEDGER_KEY}",
        ),
        ({"key": "${KEY}"}, {"KEY": ""}, "the key is empty; write key: ${LEDGER_KEY}, and set that variable"),
        ({"key": "${KEY}"}, {}, "environment variable KEY is not set; set it: export KEY=…"),
        ({"ledger": "${PLACE}/x"}, {}, "environment variable PLACE is not set"),
    ],
)
def test_wrong_settings_are_told_with_their_place(
    home: str, audit: dict[str, str], env: dict[str, str], message: str
) -> None:
    text = pipe(home, audit).to_yaml()
    with pytest.raises(DefinitionError) as caught:
        lp.Pipeline.from_yaml(text, base=home).compile(env=env)
    assert message in str(caught.value)
    (problem,) = caught.value.problems
    line, column = next(
        (n, row.index(next(iter(audit))) + 1) for n, row in enumerate(text.splitlines(), 1) if next(iter(audit)) in row
    )
    assert (problem.where.line, problem.where.column) == (line, column)  # type: ignore[union-attr]
    with pytest.raises(DefinitionError):
        lp.ledger(lp.Pipeline.from_yaml(text, base=home))


def test_a_ledger_that_is_off_needs_no_variables(home: str) -> None:
    assert pipe(home, {"mode": "off", "key": "${KEY}"}).compile(env={}).run().status == "done"


def test_remote_files_are_hashed_where_that_is_asked_for() -> None:
    base = f"memory://{uuid.uuid4().hex}"
    fs, path = fsspec.core.url_to_fs(f"{base}/a.csv")
    fs.pipe_file(path, b"x\n1\n")
    for audit, expected in (("recorded", None), ({"hash": "all"}, blake3(b"x\n1\n").hexdigest())):
        target = pipe(base, audit)
        assert target.compile().run(full=True).status == "done"
        entry = last(target)
        (file,) = entry.body["inputs"]["a"]["files"]
        assert (file["blake3"], file["size"]) == (expected, 4)
        assert file["stamp"]
        (data,) = entry.body["segments"][0]["data"]
        assert (data["blake3"] is None) == (expected is None)
        assert (data["blake3"] or expected) == (
            blake3(fs.cat_file(f"{path.rpartition('/')[0]}/out/b/{data['path']}")).hexdigest() if expected else None
        )
    assert lp.ledger(target).verify(datasets=[f"{base}/out/b"]).ok


def test_exports_are_hashed_under_their_own_name(home: str) -> None:
    target = lp.pipeline("p", base=home).source("a", "a.csv").output("e", "out/e.csv", from_="a", format="csv").build()
    target.compile().run().raise_for_status()
    (data,) = last(target).body["segments"][0]["data"]
    assert data == {
        "path": "e.csv", "rows": 2, "bytes": 6, "blake3": blake3(Path(f"{home}/out/e.csv").read_bytes()).hexdigest()
    }  # fmt: skip


def test_large_files_are_hashed_beside_the_run(home: str) -> None:
    noise = pl.int_range(120_000, eager=True).hash(1)
    pl.DataFrame({"x": noise}).write_parquet(f"{home}/a.parquet")
    target = pipe(home, source="a.parquet")
    target.compile().run().raise_for_status()
    (data,) = last(target).body["segments"][0]["data"]
    assert data["bytes"] > 1 << 18
    assert data["blake3"] == blake3(Path(f"{home}/out/b/{data['path']}").read_bytes()).hexdigest()


def test_a_file_that_is_written_anew_while_it_is_read_has_no_hash(home: str) -> None:
    """What was hashed need not be what was read."""
    seen: list[Any] = []

    def observer(*_: Any) -> None:
        if not seen:
            seen.append(1)
            Path(f"{home}/a.csv").write_text("x\n1\n2\n")

    os.utime(f"{home}/a.csv", ns=(10**18, 10**18))
    plan = pipe(home, gate=[{"not_null": "x"}]).compile()
    found = plan.run(observer=lambda _s, _n, _c, rows: observer() if rows else None)
    assert found.status == "done"
    (file,) = last(pipe(home)).body["inputs"]["a"]["files"]
    assert file["blake3"] is None


def test_files_that_have_not_changed_are_not_hashed_again(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(f"{home}/a.csv", ns=(10**18, 10**18))
    pipe(home).compile().run().raise_for_status()
    first = last(pipe(home)).body["inputs"]["a"]
    hashed: list[str] = []
    plain = content.hash_file
    monkeypatch.setattr(content, "hash_file", lambda uri, *more: hashed.append(uri) or plain(uri, *more))
    pipe(home).compile().run(full=True).raise_for_status()
    assert last(pipe(home)).body["inputs"]["a"] == first
    assert hashed == []


@pytest.mark.parametrize("large", [8, 1 << 23])
def test_what_was_hashed_to_see_whether_it_changed_is_not_hashed_again(
    home: str, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.run.recorder._LARGE", large)
    source, target = Path(f"{home}/a.parquet"), pipe(home, source="a.parquet", detect="content")
    plain = content._local
    for number in (1, 2):
        pl.DataFrame({"x": [number, 2]}).write_parquet(source)
        os.utime(source, ns=(10**18 + number, 10**18 + number))
        hashed: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(content, "_local", lambda path, made, to=hashed: to.append(path) or plain(path, made))
            patch.setattr("lazypipe.storage.following.Following.ahead", lambda *_: False)
            result = target.compile().run()
        assert (result.status, hashed) == ("done", [str(source)])
    assert result.segments[0].why == "a: 1 modified"
    (file,) = last(target).body["inputs"]["a"]["files"]
    assert file["blake3"] == blake3(source.read_bytes()).hexdigest()
    # later runs know it too
    kept = json.loads(Path(f"{home}/.lazypipe/hashes.json").read_text())["hashes"]
    assert kept[-1] == [str(source), file["size"], file["stamp"], file["blake3"]]


@pytest.mark.parametrize("files", [1, 3])
def test_large_inputs_are_hashed_once(home: str, files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazypipe.run.recorder._LARGE", 8)
    texts = ["x\n" + "1234567\n" * (100_000 + number) for number in range(files)]
    for number, text in enumerate(["x\n1\n", *texts]):
        Path(f"{home}/{number}.csv").write_text(text)
        os.utime(f"{home}/{number}.csv", ns=(10**18, 10**18))
    target = pipe(home, source="[0-9].csv")
    target.compile().run().raise_for_status()
    found = last(target).body["inputs"]["a"]["files"]
    assert [f["blake3"] for f in found] == [blake3(t.encode()).hexdigest() for t in ("x\n1\n", *texts)]
    # the state of an output holds them too
    commit = json.loads(Path(f"{home}/out/b.commits/{1:020}.json").read_text())
    assert all(f["blake3"] in json.dumps(commit) for f in found)
    hashed: list[str] = []
    plain = content.hash_file
    monkeypatch.setattr(content, "hash_file", lambda uri, *more: hashed.append(uri) or plain(uri, *more))
    monkeypatch.setattr("lazypipe.storage.following.Following.ahead", lambda _, path: hashed.append(path))
    target.compile().run(full=True).raise_for_status()
    assert last(target).body["inputs"]["a"]["files"] == found
    assert hashed == []


@pytest.mark.parametrize("change", ["longer", "other bytes", "gone"])
def test_a_large_input_that_changes_while_it_is_read_has_no_hash(
    home: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.run.recorder._LARGE", 8)
    source = Path(f"{home}/a.parquet")
    pl.DataFrame({"x": range(100_000)}).write_parquet(source, compression="uncompressed")
    os.utime(source, ns=(10**18, 10**18))

    def observer(_s: str, _n: int, _c: int, rows: int) -> None:
        if rows and change == "gone":
            source.unlink(missing_ok=True)
        elif rows:
            data = source.read_bytes()
            source.write_bytes(data + b"more" if change == "longer" else data[::-1])

    target = pipe(home, source="a.parquet", gate=[{"not_null": "x"}])
    target.compile().run(observer=observer)
    (file,) = last(target).body["inputs"]["a"]["files"]
    assert file["blake3"] is None


def test_a_file_that_cannot_be_hashed_is_left_to_the_query_that_reads_it(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> str:
        raise OSError("Input/output error")

    monkeypatch.setattr(content, "_local", refuse)
    assert pipe(home).compile().run().status == "done"
    assert last(pipe(home)).body["inputs"]["a"]["files"][0]["blake3"] is None


@pytest.mark.parametrize("mode", ["recorded", "required"])
def test_a_mistake_of_our_own_is_no_traceback(home: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazypipe.records.body.definition_key", lambda _: 1 / 0)
    result = pipe(home, mode).compile().run()
    if mode == "recorded":
        (warning,) = result.warnings
        assert result.status == "done"
        assert warning == "this run is not in the ledger: division by zero; report it as a bug of lazypipe"
    else:
        assert result.status == "error"
        assert str(result.segments[0].error) == (
            "audit is required, and division by zero; report it as a bug of lazypipe; nothing was published"
        )
        assert "nothing was published" in str(result.error)


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "interrupted"), (ZeroDivisionError("a bug"), "error")]
)
def test_a_run_that_gives_no_result_is_recorded_all_the_same(
    home: str, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str
) -> None:
    def broken(*_: Any) -> None:
        raise error

    plan = pipe(home).compile()
    monkeypatch.setattr("lazypipe.run.executor._Execution.run_one", broken)
    with pytest.raises(type(error)):
        plan.run(run="r1")
    entry = last(pipe(home))
    assert (entry.run, entry.status, entry.body["segments"]) == ("r1", status, [])
    assert entry.body["error"] == (str(error) or type(error).__name__)
