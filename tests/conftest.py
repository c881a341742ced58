"""Shared fixtures, hypothesis profiles, and the hook that keeps the test report free of machine details."""

from __future__ import annotations

import functools
import gc
import importlib
import itertools
import os
import pkgutil
import shutil
import signal
import sys
import tempfile
import tomllib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coverage.control
import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lazypipe

ROOT = Path(__file__).parent.parent
MEMORY = "/dev/shm"
MEASURED = 5
"""Examples of a test whose lines count as covered."""
UNMEASURED = ("tests/properties/", "tests/test_benchmarks.py")
"""Tests whose lines do not count as covered, and so are not followed: what must be covered is, by tests that say which case they mean."""
REDUNDANT = frozenset((ROOT / "tests" / "uncounted.txt").read_text().splitlines())

# processes that the tests start, themselves among them, find modules compiled: that takes half of their time, and a machine may say otherwise
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# by how many threads it has, Polars cuts also a few rows into batches: so they are the same ones on any machine, unless somebody asks for others;
# it asks when it is imported, which is later
os.environ.setdefault("POLARS_MAX_THREADS", "2")

# three reports ask for the same files at the end, when one process works: they are read once
coverage.control.PythonFileReporter = functools.cache(coverage.control.PythonFileReporter)

settings.register_profile(
    "ci",
    max_examples=25,
    deadline=None,
    # what is tested does not hang on luck; "deep" draws others each time
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("few", parent=settings.get_profile("ci"), max_examples=8)
settings.register_profile("deep", parent=settings.get_profile("ci"), max_examples=2_000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C be Ctrl-C: a shell that starts the tests in the background has them ignore it. And keep files in memory, if there is room."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "TMPDIR" not in os.environ and not hasattr(config, "workerinput") and _is_roomy(MEMORY):
        os.environ["TMPDIR"], tempfile.tempdir = MEMORY, None


def _is_roomy(folder: str) -> bool:
    """Whether files can be in memory: each commit waits for the disk otherwise, and there are some thousands."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return os.access(folder, os.W_OK) and min(shutil.disk_usage(folder).free, free) > 2 * 2**30


@pytest.fixture(autouse=True, scope="session")
def _few_rows_are_worth_a_layout() -> Iterator[None]:
    """Have runs choose layouts for as few rows as tests have; those of waiting say what they wait for."""
    layouts = importlib.import_module("lazypipe.run.layouts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "_WORTH", 1 << 16)
        patch.setattr(layouts, "_SMALL", 1)
        patch.setattr(layouts, "_LEAST_SECONDS", 0.06)
        patch.setattr(layouts, "LITTLE", 0.0)
        yield


@pytest.fixture(autouse=True, scope="session")
def _nothing_is_in_order_by_luck() -> Iterator[None]:
    """Have what may come in any order come in the one that is least likely: rows put aside from the largest to the smallest, later names of runs first."""
    gates, context = importlib.import_module("lazypipe.gates.tap"), importlib.import_module("lazypipe.run.context")
    unpacked, left = gates._unpacked, itertools.count(-1, -1)

    def turned(parts: Sequence[Any]) -> Any:
        rows = unpacked(parts)
        return rows.sort([n for n, t in rows.schema.items() if not t.is_nested()], descending=True)

    def token(_: int) -> str:
        return f"{next(left) & 0xFFFF:04x}{os.getpid() & 0xFFFF:04x}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gates, "_unpacked", turned)
        patch.setattr(context, "secrets", SimpleNamespace(token_hex=token))
        yield


@settings(max_examples=1)
@given(st.text(), st.integers())
def _warm(text: str, number: int) -> None:
    """Have hypothesis read its tables and all modules: once for all tests."""


@contextmanager
def _unfollowed() -> Iterator[None]:
    """Have processes that start meanwhile count nothing as covered."""
    told = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("COVERAGE_PROCESS_")}
    try:
        yield
    finally:
        os.environ.update(told)


def _controller(config: pytest.Config) -> Any:
    """Return what counts what is covered; None where nothing does, though there is a plugin (--no-cov)."""
    return getattr(config.pluginmanager.getplugin("_cov"), "cov_controller", None)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[Any]:
    """Count as covered what importing lazypipe reaches, and then nothing until the tests run: collecting them takes half the time."""
    coverage_of = _controller(session.config)
    for module in pkgutil.walk_packages(lazypipe.__path__, "lazypipe."):
        importlib.import_module(module.name)
    if coverage_of is not None:
        coverage_of.pause()
        with _unfollowed():
            # it ends after all tests do, and what it then wrote was half a file to whoever combined what was counted
            resource_tracker.ensure_running()
    try:
        result = yield
        if coverage_of is not None:
            _warm()
        return result
    finally:
        if coverage_of is not None:
            coverage_of.resume()
        # thousands of tests are no garbage: the collector need not look at them again and again
        gc.collect()
        gc.freeze()


def _unmeasured(item: pytest.Item) -> bool:
    name = item.nodeid.partition("[")[0]
    return name.startswith(UNMEASURED) or name in REDUNDANT or item.path.stem.endswith("_kills")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """Follow no lines of a test that does not count, of what it is set up with, or of processes that it starts."""
    coverage_of = _controller(item.config)
    if coverage_of is None or not _unmeasured(item):
        return (yield)
    coverage_of.pause()
    try:
        with _unfollowed():
            return (yield)
    finally:
        coverage_of.resume()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Count as covered what the first examples of a test reach: the rest look for what is wrong, in less time."""
    coverage_of = _controller(item.config)
    drawn = getattr(getattr(item, "obj", None), "hypothesis", None)
    if drawn is None or coverage_of is None or not coverage_of.started:
        return (yield)
    test, examples = drawn.inner_test, 0

    @functools.wraps(test)
    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal examples
        examples += 1
        if examples == MEASURED + 1:
            coverage_of.pause()
        return test(*args, **kwargs)

    drawn.inner_test = counted
    try:
        return (yield)
    finally:
        drawn.inner_test = test
        if examples > MEASURED:
            coverage_of.resume()


@pytest.hookimpl(optionalhook=True)
def pytest_json_modifyreport(json_report: dict[str, Any]) -> None:
    """Strip absolute paths and host details: the report is committed with each release."""
    for key in ("root", "environment", "created", "duration"):
        json_report.pop(key, None)
    # processes that share the tests end them in any order
    json_report.get("tests", []).sort(key=lambda test: test["nodeid"])
    for test in json_report.get("tests", ()):
        if test["outcome"] == "passed":
            for key in ("lineno", "setup", "teardown"):
                test.pop(key, None)
            # which of the processes it ran in; a session that was interrupted has tests that were only set up
            test.get("call", {}).pop("longrepr", None)
    _relative(json_report)


def _relative(node: Any) -> Any:
    if isinstance(node, dict):
        for key, value in list(node.items()):
            if key == "duration":
                node[key] = round(value, 2)
            else:
                node[key] = _relative(value)
    elif isinstance(node, list):
        node[:] = [_relative(value) for value in node]
    elif isinstance(node, str):
        return node.replace(f"{ROOT}/", "").replace(str(ROOT), ".").replace(str(Path.home()), "~")
    return node


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a whole run that leaves a line or branch of the critical packages uncovered."""
    options = session.config.option
    whole = (
        [str(a) for a in session.config.args] == session.config.getini("testpaths")
        and not options.keyword
        and not options.markexpr
    )
    if not whole or hasattr(session.config, "workerinput") or options.no_cov or exitstatus not in (0, 1):
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    measured = _controller(session.config).cov
    for package in project["tool"]["lazypipe"]["critical"]["packages"]:
        for path in sorted((ROOT / package).rglob("*.py")):
            analysis = measured._analyze(str(path))
            if analysis.numbers.pc_covered < 100:
                print(f"{path.relative_to(ROOT)}: not covered: {analysis.missing_formatted(branches=True)}")
                session.exitstatus = 1


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(params=["local", "memory"])
def somewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where files are: on this machine, where Polars reads them itself, or in memory, where fsspec does."""
    if request.param == "local":
        yield str(tmp_path)
        return
    fs, name = fsspec.filesystem("memory"), uuid.uuid4().hex
    fs.makedirs(f"/{name}")
    yield f"memory://{name}"
    fs.rm(f"/{name}", recursive=True)
