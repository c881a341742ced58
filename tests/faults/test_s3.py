"""A pipeline whose files, log, state and ledger all stand on S3: a real server on loopback, which holds to conditional writes."""

from __future__ import annotations

import gzip
import io
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.errors import LazypipeError, SourceError, StorageError
from lazypipe.run.retry import is_transient
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.log import CommitLog
from lazypipe.storage.files import FileInfo
from lazypipe.storage.numbered import NumberedFiles
from lazypipe.storage.scan import Reader
from tests.faults.between import DROPPED, LOST, Asked, Between, between


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture
def options(server: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """As an environment has them, for state and ledger; the same are given to sources and outputs."""
    found = {
        "aws_access_key_id": "k",
        "aws_secret_access_key": "s",
        "aws_endpoint_url": server,
        "aws_region": "eu-central-1",
    }
    for name, value in found.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    for name in ("NO_PROXY", "no_proxy"):  # a machine may reach its packages through one
        monkeypatch.setenv(name, "127.0.0.1")
    return found


@pytest.fixture
def bucket(options: dict[str, Any], request: pytest.FixtureRequest) -> str:
    # the end of a long name is what tells parameters apart
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[-60:].strip("-")
    uris.file_system(f"s3://{name}", options)[0].mkdir(name)
    return f"s3://{name}"


def deliver(bucket: str, options: dict[str, Any], name: str, rows: str) -> None:
    fs, path = uris.file_system(f"{bucket}/in/{name}", options)
    fs.pipe_file(path, f"id,day,v\n{rows}".encode())


def definition(bucket: str, options: dict[str, Any], tmp_path: Path) -> lp.Pipeline:
    rule = {"between": {"column": "v", "min": 0, "action": "quarantine"}}
    return (
        lp.pipeline("p", base=str(tmp_path), state=f"{bucket}/state")
        .source("orders", f"{bucket}/in/*.csv", storage_options=options)
        .stage("good", "orders", gate=[rule])
        .stage("days", "good", do=[{"aggregate": {"by": "day", "aggregate": {"v": "sum(v)"}}}])
        .output("good", f"{bucket}/good", storage_options=options, partition_by="day")
        .output("days", f"{bucket}/days", storage_options=options)
        .build()
    )


def pipeline(bucket: str, options: dict[str, Any], tmp_path: Path) -> lp.CompiledPipeline:
    return definition(bucket, options, tmp_path).compile()


def days(bucket: str, options: dict[str, Any], **when: Any) -> list[tuple[Any, ...]]:
    return lp.scan(f"{bucket}/days", storage_options=options, **when).sort("day").collect().rows()


def test_kept_up_to_date(bucket: str, options: dict[str, Any], tmp_path: Path) -> None:
    deliver(bucket, options, "a.csv", "1,mon,5\n2,tue,-1\n3,tue,2\n")
    assert pipeline(bucket, options, tmp_path).run().status == "done"
    assert days(bucket, options) == [("mon", 5), ("tue", 2)]
    assert pipeline(bucket, options, tmp_path).run().status == "unchanged"
    deliver(bucket, options, "b.csv", "4,mon,7\n")
    assert pipeline(bucket, options, tmp_path).run().status == "done"
    assert days(bucket, options) == [("mon", 12), ("tue", 2)]
    assert days(bucket, options, version=1) == [("mon", 5), ("tue", 2)]
    assert lp.scan(f"{bucket}/good__quarantine", storage_options=options).collect()["id"].to_list() == [2]
    ledger = lp.ledger(f"{bucket}/state/ledger")
    assert [r.status for r in ledger.records()] == ["done", "unchanged", "done"]
    assert ledger.verify().problems == ()
    assert len(lp.vacuum(f"{bucket}/days", older_than=timedelta())) > 0
    files = uris.file_system(f"{bucket}/days", options)[0].find(f"{bucket}/days".removeprefix("s3://"))
    rows = pl.scan_parquet([f"s3://{f}" for f in files if f.endswith(".parquet")], storage_options=options)
    assert rows.select("day", "v").sort("day").collect().rows() == days(bucket, options)


def test_commands_about_a_uri_take_credentials(
    bucket: str,
    options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(2):
        deliver(bucket, options, f"{number}.csv", f"{number},mon,1\n")
        pipeline(bucket, options, tmp_path).run()
    for name in options:
        monkeypatch.delenv(name.upper())
    given = [word for name, value in options.items() for word in ("--storage-option", f"{name}={value}")]

    def told(*words: str) -> Any:
        assert main([*words, "--json", *given]) == 0
        return json.loads(capsys.readouterr().out)

    good = f"{bucket}/good"
    assert told("diff", f"{good}@1", good, "--key", "id")["inserted"] == 1
    assert told("compact", good)["files"] == [2, 1]
    assert told("optimize", good, "--dry-run")["tasks"]
    assert told("vacuum", good, "--older-than", "0s")["deleted"]
    assert lp.scan(good, storage_options=options).collect().height == 2
    versions = lp.history(good, storage_options=options)["version"].to_list()
    assert versions == [3]
    assert lp.rollback(good, version=3, storage_options=options) == 4
    with pytest.raises(
        lp.LazypipeError, match="^storage_options are those of a dataset that is given by its URI; outputs of a pipe"
    ):
        lp.vacuum(lp.pipeline("p").build(), storage_options=options)


_LONG = "".join(f"{n},2024-01-{n % 28 + 1:02},{n / 2}\n" for n in range(12_000))
_QUOTED = "".join(f'{n},"a\nb",{n % 7}/2/24\n' for n in range(9_000))
_WIDE = ",".join(f"{'x' * 300}{n}" for n in range(300))
TEXTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "short": (b"i,d,f\n1,2024-01-02,0.5\n", {}),
    "long": (f"i,d,f\n{_LONG}".encode(), {}),
    "a word far down": (f"i,d,f\n{_LONG[:200_000]}x,2024-01-02,y\n{_LONG}".encode(), {}),
    "dates far down are none": (f"i,d,f\n{_LONG[:1_000]}1,none,y\n{_LONG}".encode(), {}),
    "quoted lines": (f"i,s,d\n{_QUOTED}".encode(), {}),
    "short years": (b"i,d\n" + b"1,1/2/24\n" * 300, {}),
    "wide": (f"{_WIDE}\n{'1,' * 299}2024-01-02\n".encode(), {}),
    "long rows": (("i,s\n" + f"1,{'y' * 5_000}\n" * 200).encode(), {}),
    "gzip": (gzip.compress(f"i,d,f\n{_LONG}".encode()), {}),
    "ahead of it": (f"one\ntwo\ni;d;f\n{_LONG.replace(',', ';')}".encode(), {"skip_rows": 2, "separator": ";"}),
    "comments": (f"# one\ni,d,f\n{_LONG}".encode(), {"comment": "#"}),
    "no header": (_LONG.encode(), {"header": False}),
    "no rows": (b"i,d,f\n", {}),
    "a blank line": (b"\n", {}),
    "a bad quote": (b'i,d\n1,"' + b"z" * 100_000, {}),
    "not UTF-8": ("i,ä\n1,é\n".encode("latin-1"), {}),
}


@pytest.mark.parametrize("declared", [{}, {"i": pl.Int64(), "d": pl.String()}], ids=["", "declared"])
def test_columns_are_those_of_the_same_file_on_this_machine(
    bucket: str, options: dict[str, Any], tmp_path: Path, declared: dict[str, pl.DataType]
) -> None:
    def told(read: dict[str, Any], uri: str, size: int, ask: str) -> object:
        reader = Reader("csv", declared, read, options if "://" in uri else {})
        file = FileInfo(uri, size)
        try:
            return reader.header(file, pl.Schema({"i": pl.Int64()})) if ask == "header" else reader.infer([file])
        except (LazypipeError, pl.exceptions.PolarsError) as error:
            return str(error).replace(uri, "it")

    for name, (text, read) in TEXTS.items():
        here = tmp_path / "x.csv"
        here.write_bytes(text)
        fs, path = uris.file_system(f"{bucket}/x.csv", options)
        fs.pipe_file(path, text)
        for ask in ("infer", "header"):
            found = told(read, f"{bucket}/x.csv", len(text), ask)
            assert (name, found) == (name, told(read, str(here), len(text), ask))


def test_one_of_many_creates_a_number(bucket: str, options: dict[str, Any]) -> None:
    together = threading.Barrier(8)

    def create(number: int) -> int | None:
        files = NumberedFiles(f"{bucket}/log", {**options, "skip_instance_cache": True}, what="the log")
        together.wait()
        try:
            files.create(1, f"{number}".encode())
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        won = [n for n in pool.map(create, range(8)) if n is not None]
    assert [f"{n}".encode() for n in won] == [NumberedFiles(f"{bucket}/log", options, what="the log").read(1)]


def test_what_came_after_a_listing_is_read(bucket: str, options: dict[str, Any]) -> None:
    files = NumberedFiles(f"{bucket}/log", options, what="the log")
    files.create(1, b"1")
    assert files.numbers() == [1]
    # as by a try of its own whose answer was lost: the client does not know of it
    NumberedFiles(f"{bucket}/log", {**options, "skip_instance_cache": True}, what="the log").create(2, b"2")
    assert files.read(2) == b"2"
    assert files.read(3) is None


def test_two_runs_at_once_lose_nothing(bucket: str, options: dict[str, Any], tmp_path: Path) -> None:
    for number in range(4):
        deliver(bucket, options, f"{number}.csv", f"{number},mon,1\n")
    plans = [pipeline(bucket, options, tmp_path) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        found = [*pool.map(lambda plan: plan.run(), plans)]
    assert "done" in {r.status for r in found}
    assert all(r.status in ("done", "unchanged") or r.overtaken for r in found)
    assert pipeline(bucket, options, tmp_path).run().status in ("done", "unchanged")
    assert days(bucket, options) == [("mon", 4)]


@pytest.fixture
def proxy(server: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    """What the environment and ``options`` lead to; who has them from before goes to the store itself."""
    monkeypatch.setattr(S3FileSystem, "retries", 2)  # what is away stays away: its own, on top of those of botocore
    with between(server) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
        options["aws_endpoint_url"] = found.url
        yield found


def test_a_record_whose_answer_is_lost_is_one_record(
    bucket: str, options: dict[str, Any], tmp_path: Path, proxy: Between
) -> None:
    deliver(bucket, options, "a.csv", "1,mon,5\n")
    proxy.once(LOST, "PUT", "/state/ledger/0")
    assert pipeline(bucket, options, tmp_path).run().status == "done"
    assert [path for method, path in proxy.take() if method == "PUT" and "/state/ledger/0" in path][1:]
    assert days(bucket, options) == [("mon", 5)]
    assert lp.history(f"{bucket}/days", storage_options=options)["version"].to_list() == [1]
    ledger = lp.ledger(f"{bucket}/state/ledger")
    assert [e.number for e in ledger.runs()] == [1]
    assert ledger.verify().problems == ()


@pytest.mark.parametrize("to", ["/days.commits/0", "/days.commits/lists/"], ids=["log", "list"])
def test_a_commit_whose_answer_is_lost_is_one_commit(
    to: str, bucket: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: Between
) -> None:
    # what takes more than a few bytes rests upon lists, whose answers may be lost as well
    for module, name in (("log", "_LONG"), ("log", "_LARGE"), ("since", "_MANY"), ("since", "_LARGE")):
        monkeypatch.setattr(f"lazypipe.storage.datasets.{module}.{name}", 1)
    deliver(bucket, options, "a.csv", "1,mon,5\n")
    pipeline(bucket, options, tmp_path).run().raise_for_status()
    deliver(bucket, options, "b.csv", "2,tue,7\n")
    proxy.once(LOST, "PUT", to)
    proxy.take()
    assert pipeline(bucket, options, tmp_path).run().status == "done"
    assert [path for method, path in proxy.take() if method == "PUT" and to in path][1:]
    assert days(bucket, options) == [("mon", 5), ("tue", 7)]
    assert lp.history(f"{bucket}/days", storage_options=options)["version"].to_list() == [1, 2]
    assert pipeline(bucket, options, tmp_path).run().status == "unchanged"
    ledger = lp.ledger(f"{bucket}/state/ledger")
    assert [r.status for r in ledger.records()] == ["done", "done", "unchanged"]
    assert ledger.verify().problems == ()


@pytest.mark.parametrize(
    ("method", "to"),
    [
        ("GET", "prefix=in/"),
        ("PUT", "/good.commits/"),
        ("PUT", "/state/ledger/"),
    ],
)
def test_a_stream_goes_on_when_the_network_is_back(
    method: str,
    to: str,
    bucket: str,
    options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    proxy: Between,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    options["max_retries"] = 0
    deliver(bucket, options, "a.csv", "1,mon,5\n2,tue,-1\n")
    sleeps = list[float]()
    away = list[Asked]()

    def goes_away(asked: Asked) -> str | None:
        """From that request on: what is asked first is done, but nobody is told."""
        if away or (asked[0] == method and to in asked[1]):
            away.append(asked)
            return DROPPED if away[1:] else LOST
        return None

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 1:
            deliver(bucket, options, "b.csv", "3,tue,2\n4,mon,-7\n")
            proxy.fate = goes_away
        elif proxy.fate is goes_away and len(sleeps) == 3:
            proxy.fate = lambda _: None
        elif len(sleeps) > 3:
            stream.stop()

    stream = lp.stream(definition(bucket, options, tmp_path), sleep=sleep)
    results = list(stream)
    assert away
    assert "done" in [r.status for r in results]
    assert days(bucket, options) == [("mon", 5), ("tue", 2)]
    assert sorted(lp.scan(f"{bucket}/good", storage_options=options).collect()["id"]) == [1, 3]
    aside = lp.scan(f"{bucket}/good__quarantine", storage_options=options).collect()["id"]
    assert sorted(aside) == [2, 4]
    for output in ("good", "days"):
        assert lp.history(f"{bucket}/{output}", storage_options=options)["version"].to_list() == [1, 2]
    assert lp.ledger(f"{bucket}/state/ledger").verify().problems == ()


def test_whichever_answer_is_lost_nothing_comes_twice(
    bucket: str, options: dict[str, Any], tmp_path: Path, proxy: Between
) -> None:
    deliver(bucket, options, "0.csv", "0,mon,0\n-1,mon,-1\n")
    pipeline(bucket, options, tmp_path).run().raise_for_status()
    written, number = 1, 0
    while number < written:
        number += 1
        deliver(bucket, options, f"{number}.csv", f"{number},mon,{number}\n{-1 - number},mon,-1\n")
        puts = list[str]()

        def fate(asked: Asked, puts: list[str] = puts, lost: int = number) -> str | None:
            """Lose the answer to that numbered file of the run; a second try is one more."""
            if asked[0] != "PUT" or "/0000" not in asked[1]:
                return None
            puts.append(asked[1])
            return LOST if len(puts) == lost else None

        plan = pipeline(bucket, options, tmp_path)
        proxy.fate = fate
        assert plan.run().status == "done", puts[-2:]
        proxy.fate = lambda _: None
        written = len(puts) - 1
        assert puts[number - 1] in puts[number:]
        for output in ("good", "days"):
            versions = lp.history(f"{bucket}/{output}", storage_options=options)["version"].to_list()
            assert (output, versions) == (output, [*range(1, number + 2)])
        assert len([*lp.ledger(f"{bucket}/state/ledger").records()]) == number + 1
    assert written == 4  # what is put aside, both outputs, the ledger
    ids = sorted(lp.scan(f"{bucket}/good", storage_options=options).collect()["id"])
    aside = sorted(lp.scan(f"{bucket}/good__quarantine", storage_options=options).collect()["id"])
    assert (ids, aside) == ([*range(number + 1)], [*range(-1 - number, 0)])
    assert lp.ledger(f"{bucket}/state/ledger").verify(datasets=[f"{bucket}/good", f"{bucket}/days"]).problems == ()


def test_a_commit_of_which_nobody_hears_again_is_not_called_none(
    bucket: str, options: dict[str, Any], tmp_path: Path, proxy: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for module, name in (("log", "_LONG"), ("log", "_LARGE"), ("since", "_MANY"), ("since", "_LARGE")):
        monkeypatch.setattr(f"lazypipe.storage.datasets.{module}.{name}", 1)
    deliver(bucket, options, "a.csv", "1,mon,5\n")
    pipeline(bucket, options, tmp_path).run().raise_for_status()
    away = list[Asked]()

    def goes_away(asked: Asked) -> str | None:
        """Take that commit, tell nobody, and answer nothing about it from then on."""
        if asked[0] == "PUT" and "/days.commits/0" in asked[1]:
            away.append(asked)
        return LOST if away and "/days.commits/0" in asked[1] else None

    deliver(bucket, options, "b.csv", "2,tue,7\n")
    plan = pipeline(bucket, options, tmp_path)
    proxy.fate = goes_away
    result = plan.run()
    proxy.fate = lambda _: None
    with pytest.raises(StorageError) as caught:
        result.raise_for_status()
    assert str(caught.value).startswith(f"{bucket}/days.commits: cannot commit: ")
    assert str(caught.value).endswith("; whether it became visible is not known; fix the cause and run again")
    assert is_transient(caught.value)
    assert days(bucket, options) == [("mon", 5), ("tue", 7)]  # with the lists that it rests upon
    assert pipeline(bucket, options, tmp_path).run().status == "unchanged"
    assert lp.history(f"{bucket}/days", storage_options=options)["version"].to_list() == [1, 2]
    ledger = lp.ledger(f"{bucket}/state/ledger")
    assert ledger.verify().problems == ()


def test_a_commit_whose_answers_are_all_lost_is_found(
    bucket: str, options: dict[str, Any], tmp_path: Path, proxy: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    deliver(bucket, options, "a.csv", "1,mon,5\n")
    proxy.fate = lambda asked: LOST if asked[0] == "PUT" and "/days.commits/0" in asked[1] else None
    assert pipeline(bucket, options, tmp_path).run().status == "done"
    proxy.fate = lambda _: None
    assert days(bucket, options) == [("mon", 5)]
    assert lp.history(f"{bucket}/days", storage_options=options)["version"].to_list() == [1]


_STORE = r"object-store error: .* Server returned non-2xx status code: "


@pytest.mark.parametrize(
    ("format_", "fate", "said", "passes"),
    [
        ("parquet", 503, f"{_STORE}503 Service Unavailable: <Error>.*", True),
        ("parquet", 429, f"{_STORE}429 Too Many Requests: <Error>.*", True),
        ("parquet", DROPPED, "object-store error: .* HTTP error: error sending request", True),
        (
            "parquet",
            403,
            f"object-store error: The operation lacked the necessary privileges .*{_STORE[20:]}403 Forbidden: .*",
            False,
        ),
        ("csv", 503, r"(\[Errno 16\] )?Please reduce your request rate\.", True),
        ("csv", DROPPED, "Connection was closed before we received a valid response from endpoint URL: .*", True),
        ("csv", 403, "Access Denied", False),
    ],
    ids=lambda value: str(value)[:8],
)
def test_what_cannot_be_fetched_is_not_called_unreadable(
    format_: str,
    fate: int | str,
    said: str,
    *,
    passes: bool,
    bucket: str,
    options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    proxy: Between,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    options["max_retries"] = 0

    def put(name: str, number: int) -> None:
        rows = io.BytesIO()
        getattr(pl.DataFrame({"id": [number]}), f"write_{format_}")(rows)
        fs, path = uris.file_system(f"{bucket}/in/{name}.{format_}", options)
        fs.pipe_file(path, rows.getvalue())

    put("a", 1)
    put("b", 2)
    made = lp.pipeline("p", base=str(tmp_path)).stage("b", "a").output("b", "out/b")
    # nobody takes it for a damaged one either, which would be left out
    made = made.source("a", f"{bucket}/in/*.{format_}", storage_options=options, on_corrupt="skip")
    made.build().compile().run().raise_for_status()
    put("a", 3)
    proxy.fate = lambda asked: fate if asked[1].endswith(f"/in/a.{format_}") else None
    with pytest.raises(SourceError) as caught:
        made.build().compile().run().raise_for_status()
    uri = f"{bucket}/in/a.{format_}"
    assert re.fullmatch(f"{uri}: source 'a': cannot be read: {said}; check permissions and network", str(caught.value))
    assert is_transient(caught.value) is passes
    proxy.fate = lambda _: None
    made.build().compile().run().raise_for_status()
    assert sorted(lp.scan(str(tmp_path / "out/b")).collect()["id"]) == [2, 3]


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_what_a_store_refused_once_is_told_without_reading_again(
    method: str, bucket: str, options: dict[str, Any], tmp_path: Path, proxy: Between
) -> None:
    """By then it may be back: whoever looks for a culprit finds none, and has read everything once more."""
    options["max_retries"] = 0
    for number in range(3):
        rows = io.BytesIO()
        pl.DataFrame({"id": [number]}).write_parquet(rows)
        fs, path = uris.file_system(f"{bucket}/in/{number}.parquet", options)
        fs.pipe_file(path, rows.getvalue())
    made = lp.pipeline("p", base=str(tmp_path), state=str(tmp_path / "state"))
    made = made.source("a", f"{bucket}/in/*.parquet", storage_options=options)
    plan = made.output("b", f"{bucket}/b", storage_options=options, **{"from": "a"}).build().compile()
    to = "/in/1.parquet" if method == "GET" else "/b/"
    left = [503, 503]  # Polars asks once more
    proxy.fate = lambda asked: left.pop() if left and asked[0] == method and to in asked[1] else None
    proxy.take()
    result = plan.run()
    assert not left
    reads = [path for asked, path in proxy.take() if asked == "GET" and ".parquet" in path]
    with pytest.raises(LazypipeError) as raised:
        result.raise_for_status()
    place, what = (f"{bucket}/in/1.parquet: source 'a'", "read") if method == "GET" else (f"{bucket}/b", "written")
    assert str(raised.value).startswith(f"{place}: cannot be {what}: object-store error: ")
    assert is_transient(raised.value)
    assert max(Counter(reads).values()) == (2 if method == "GET" else 1)
    plan.run().raise_for_status()
    assert sorted(lp.scan(f"{bucket}/b", storage_options=options).collect()["id"]) == [0, 1, 2]


def test_what_a_run_asks_of_the_store(bucket: str, options: dict[str, Any], tmp_path: Path, proxy: Between) -> None:
    name = bucket.removeprefix("s3://")

    def asked() -> Counter[tuple[str, str]]:
        """Return the requests since the last time, by the folder that they are about."""
        found = Counter[tuple[str, str]]()
        for method, path in proxy.take():
            listed = re.search(r"prefix=([^&]*)", path)
            folder = path.removeprefix(f"/{name}").strip("/").rpartition("/")[0] if listed is None else listed[1]
            found["LIST" if listed is not None else method, folder.strip("/")] += 1
        return found

    for number in range(3):
        rows = "".join(f"{id_},mon,{id_ - 1}\n" for id_ in range(10_000))  # more than is looked at to see how it begins
        deliver(bucket, options, f"{number}.csv", rows)
    pipeline(bucket, options, tmp_path).run().raise_for_status()
    deliver(bucket, options, "0.csv", "1,mon,5\n2,tue,-1\n3,tue,2\n")
    proxy.take()
    plan = pipeline(bucket, options, tmp_path)
    assert asked() == {("LIST", "in"): 1, ("GET", "in"): 1}
    plan.run().raise_for_status()
    read = asked()
    assert {read[of] for of in (("HEAD", "in"), ("HEAD", ""))} == {0}
    plan = pipeline(bucket, options, tmp_path)
    proxy.take()
    assert plan.run().status == "unchanged"
    assert asked() == {
        ("LIST", "state/ledger"): 1,
        ("GET", "state/ledger"): 1,
        ("LIST", "in"): 1,
        **{("LIST", f"{output}.commits"): 1 for output in ("good", "days")},
        **{("GET", f"{output}.commits"): 1 for output in ("good", "days")},
        ("PUT", "state/ledger"): 1,
        ("PUT", "state/runs"): 3,  # as it begins, after each output but the last, and at its end
    }


@pytest.mark.parametrize("fate", [None, 501])
def test_what_vacuum_asks_of_the_store(
    fate: int | None, bucket: str, options: dict[str, Any], tmp_path: Path, proxy: Between
) -> None:
    for number in range(5):
        deliver(bucket, options, f"{number}.csv", f"{number},mon,{number}\n")
        pipeline(bucket, options, tmp_path).run().raise_for_status()
    good = uris.file_system(f"{bucket}/good", options)
    before = len(good[0].find(good[1]))
    proxy.take()
    proxy.fate = lambda asked: fate if asked[0] == "POST" and "delete" in asked[1] else None
    gone = lp.vacuum(f"{bucket}/days", older_than=timedelta(), storage_options=options)
    proxy.fate = lambda _: None
    asked = Counter(method for method, _ in proxy.take())
    assert len(gone) == 4  # and as many versions
    if fate is None:
        assert (asked["POST"], asked["DELETE"]) == (2, 0)
    else:
        assert asked["DELETE"] == 8
    assert days(bucket, options) == [("mon", 10)]
    assert len(good[0].find(good[1])) == before
    fs, root = uris.file_system(f"{bucket}/days", options)
    assert len(fs.find(root)) == 1
    assert CommitLog(f"{bucket}/days.commits", options).versions() == [5]


def test_a_bucket_that_is_missing_is_not_waited_for(
    bucket: str, options: dict[str, Any], tmp_path: Path, proxy: Between
) -> None:
    def stream(uri: str) -> list[lp.RunResult]:
        made = lp.pipeline("p", base=str(tmp_path)).source(
            "a", uri, storage_options=options, contract={"columns": {"id": "Int64"}}
        )
        return list(lp.stream(made.output("a", "out/a").build(), lp.Trigger(once=True)))

    assert stream(f"{bucket}/in/*.csv") == []  # something may come
    with pytest.raises(
        SourceError, match=r"^s3://no-such-bucket/in/\*\.csv: .*there is no such bucket; check the URI$"
    ):
        stream("s3://no-such-bucket/in/*.csv")
    # rights that do not reach as far as the bucket itself
    proxy.fate = lambda asked: 403 if asked[0] == "HEAD" else None
    assert stream(f"{bucket}/in/*.csv") == []


def test_a_bucket_that_is_missing_is_not_made(bucket: str, options: dict[str, Any], tmp_path: Path) -> None:
    deliver(bucket, options, "a.csv", "1,mon,5\n")
    plan = lp.pipeline("p", base=str(tmp_path), state="s3://no-such-bucket/state")
    plan = plan.source("orders", f"{bucket}/in/*.csv", storage_options=options).stage("good", "orders")
    plan = plan.output("good", f"{bucket}/good", storage_options=options)
    with pytest.raises(
        lp.LazypipeError,
        match=r"^s3://no-such-bucket/state/runs/\S+\.json: cannot write the run's record: The specified bucket does not exist; "
        "fix the cause, or choose another folder with state$",
    ):
        plan.build().compile().run()
    assert not uris.file_system("s3://no-such-bucket", options)[0].exists("no-such-bucket")
