"""The house rules of the design, as tests: layers, private Polars in one room, registries, the public names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lazypipe

PACKAGE = Path(lazypipe.__file__).parent

# lowest first; a module imports from its own floor's room and from floors below, never from above or from a neighbour room
FLOORS = (
    {"errors", "version"},
    {"sql"},
    {"in_order"},
    {"spec"},
    {"windows"},
    {"ops", "gates"},
    {"contracts"},
    {"storage"},
    {"plan"},
    {"compile"},
    {"incremental"},
    {"records"},
    {"run"},
    {"optimize"},
    {"api"},
    {"testing"},
    {"__init__"},
    {"cli"},
    {"__main__"},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            if module == "lazypipe":
                found |= {alias.name for alias in node.names if alias.name in FLOOR_OF} or {"__init__"}
            elif module.startswith("lazypipe."):
                found.add(module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {
                a.name.split(".")[1] if "." in a.name else "__init__"
                for a in node.names
                if a.name.split(".")[0] == "lazypipe"
            }
    return found


def test_no_module_imports_from_a_higher_floor_or_a_neighbour() -> None:
    found = {path: imported_rooms(path) - {room(path)} for path in MODULES}
    assert sum(map(len, found.values())) > len(MODULES)
    wrong = {
        str(path.relative_to(PACKAGE)): sorted(o for o in others if FLOOR_OF[o] >= FLOOR_OF[room(path)])
        for path, others in found.items()
    }
    assert {path: others for path, others in wrong.items() if others} == {}


def test_every_room_has_its_floor() -> None:
    assert {room(p) for p in MODULES} == set(FLOOR_OF)


def test_only_plan_touches_what_polars_keeps_to_itself() -> None:
    private = re.compile(r"\._ldf|\._pyexpr|\._df\b|polars\._plr|polars\._utils|NodeTraverser")
    for path in MODULES:
        if room(path) != "plan":
            assert not private.search(path.read_text()), path


def test_no_clock_and_no_randomness_left_of_run() -> None:
    reads = re.compile(r"datetime\.now|time\.time\(|date\.today|utcnow|random\.|secrets\.|uuid4")
    for path in MODULES:
        if room(path) in {"sql", "spec", "windows", "ops", "gates", "plan", "compile", "incremental"}:
            assert not reads.search(path.read_text()), path


def test_public_names() -> None:
    assert sorted(lazypipe.__all__) == list(lazypipe.__all__) or lazypipe.__all__[0][0].isupper()
    assert set(lazypipe.__all__) == {
        "AuditReport", "AwayError", "Backoff", "Builder", "Changes", "CheckResult", "CommitConflict", "DefinitionError", "Entry",
        "FileTransport", "Fingerprint", "GateError", "GateReport", "History", "Holding", "HttpTransport", "Impact",
        "Interrupted", "LazypipeError", "Ledger", "Lineage", "Location", "Pane", "Pipeline", "Plan", "Problem", "Pulled", "Reach",
        "Reader", "ReplayResult", "RowDiff", "RunError", "RunResult", "RunResults", "SegmentResult", "SourceError", "Split", "StorageError", "Stream",
        "Trace", "Traced", "Trigger", "Verification", "WindowHistory", "apply", "audit_report", "catalog", "check", "contracts",
        "diff", "history", "json_schema", "ledger", "load", "optimize", "pipeline", "replay", "publish_delta",
        "rollback", "rule", "run_all", "scan",
        "split", "stream", "suggest_rules", "trace", "vacuum", "window_history",
    }  # fmt: skip
    for name in lazypipe.__all__:
        assert getattr(lazypipe, name).__doc__


def test_public_names_are_where_type_checkers_find_them() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (told,) = (node for node in tree.body if isinstance(node, ast.If))
    found = {a.name: n.module for n in told.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert found == lazypipe._HOME
    assert set(found) == set(lazypipe.__all__)
    assert set(lazypipe.__all__) <= set(dir(lazypipe))
    with pytest.raises(AttributeError, match="module 'lazypipe' has no attribute 'nonsense'"):
        lazypipe.nonsense  # noqa: B018


# what a program must not import: names of modules, all that is in them
NEVER_FOR = {
    "import lazypipe": ["polars", "yaml", "jsonschema", "fsspec", "blake3", *(f"lazypipe.{r}" for r in FLOOR_OF)],
    "import lazypipe.__main__ as m; m._parser()": ["polars", "yaml", "jsonschema", "fsspec", "blake3"],
    "import lazypipe as lp; lp.load('pipelines/flights.yaml').compile().schema('hourly')": [
        "jsonschema", "fsspec", "lazypipe.contracts", "lazypipe.incremental", "lazypipe.records", "lazypipe.run",
        "lazypipe.storage.datasets.dataset", "lazypipe.storage.lake.table", "lazypipe.storage.optimizer.advise",
    ],
    "import lazypipe.run.executor, lazypipe.run.segment.attempt": [
        "jsonschema", "lazypipe.contracts", "lazypipe.incremental.diff", "lazypipe.records.endpoint",
        "lazypipe.records.openlineage", "lazypipe.run.segment.merge", "lazypipe.run.replay", "lazypipe.run.trace",
        "lazypipe.storage.external.scan", "lazypipe.storage.lake.table", "lazypipe.storage.optimizer.advise",
    ],
    "from lazypipe.__main__ import main; main(['run', 'small.yaml'])": [
        "jsonschema", "fsspec", "http", "urllib.request", "lazypipe.contracts", "lazypipe.incremental.diff",
        "lazypipe.records.endpoint", "lazypipe.records.openlineage", "lazypipe.run.segment.merge", "lazypipe.run.trace",
        "lazypipe.run.upkeep", "lazypipe.storage.lake", "lazypipe.storage.optimizer.advice",
    ],
    # the second finds nothing new
    "import subprocess as s; s.run([sys.executable, '-m', 'lazypipe', 'run', 'small.yaml'], check=True); "
    "from lazypipe.__main__ import main; main(['run', 'small.yaml'])": [
        "lazypipe.compile.changes.added_up", "lazypipe.compile.changes.declared", "lazypipe.compile.lineage",
        "lazypipe.plan.graph", "lazypipe.plan.places", "lazypipe.plan.steps", "lazypipe.plan.uses",
        "lazypipe.run.lake", "lazypipe.run.layouts", "lazypipe.run.panefeed", "lazypipe.run.segment.attempt",
        "lazypipe.run.segment.query", "lazypipe.run.upkeep", "lazypipe.storage.datasets.data_files",
        "lazypipe.storage.datasets.keyed", "lazypipe.storage.lake.fitting", "lazypipe.storage.lake.table",
        "lazypipe.storage.optimizer", "lazypipe.storage.sink",
    ],
}  # fmt: skip


@pytest.mark.parametrize("program", NEVER_FOR)
def test_what_few_programs_need_is_imported_late(program: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "pipelines").symlink_to(root / "pipelines")
    (tmp_path / "a.csv").write_text("a\n1\n")
    text = "{version: 1, name: p, sources: {a: {uri: a.csv}}, stages: {b: {from: a}}, outputs: {b: {to: out}}}"
    (tmp_path / "small.yaml").write_text(text)
    code = f"import sys; {program}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True)
    never = {n for n in NEVER_FOR[program] if n not in ("lazypipe.version", "lazypipe.__init__")}
    assert [m for m in done.stdout.split() if any(m == n or m.startswith(f"{n}.") for n in never)] == []


def test_exit_codes() -> None:
    assert lazypipe.GateError.exit_code == 1
    assert lazypipe.DefinitionError([]).exit_code == 2
    assert lazypipe.RunError("x").exit_code == 3


def test_tests_that_do_not_count_are_there(root: Path) -> None:
    names = [n for n in (root / "tests/uncounted.txt").read_text().splitlines() if not n.startswith("#")]
    assert names == sorted({*names})
    for name in names:
        path, _, test = name.partition("::")
        assert f"def {test.rpartition('::')[2]}(" in (root / path).read_text(), name


def test_pages_and_decisions_that_are_named_are_there(root: Path) -> None:
    pages = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    links = {(p.parent / link) for p in pages for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", p.read_text())}
    assert links
    assert [link for link in links if not link.exists()] == []
    decided = {path.name[:4] for path in (root / "docs/decisions").glob("*.md")}
    named = {
        (path.name, number)
        for path in (*pages, *MODULES)
        for number in re.findall(r"decisions/(\d{4})", path.read_text())
    }
    assert {(name, number) for name, number in named if number not in decided} == set()


def test_every_decision_is_in_the_index_once(root: Path) -> None:
    folder = root / "docs/decisions"
    listed = re.findall(r"^\| \[\d+\]\(([^)]+)\) \|", (folder / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(p.name for p in folder.glob("0*.md"))
