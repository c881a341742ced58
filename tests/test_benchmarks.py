"""Benchmarks still run, each once, as a toy, in this process; and the README says what they found."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(p.name for p in BENCHMARKS.glob("*.py") if p.name not in ("common.py", "figures.py"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What several of them read: made once."""
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_toy_prints_a_table_and_writes_no_results(
    script: str, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / script), "--toy"])
    monkeypatch.setenv("LAZYPIPE_BENCHMARK_DATA", str(data))
    for module in ("common", "gate_pass"):  # they look at the command line when they are imported
        monkeypatch.delitem(sys.modules, module, raising=False)
    results = {p: p.stat().st_mtime_ns for p in BENCHMARKS.rglob("*.json")}
    runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    table = capsys.readouterr().out
    assert table.startswith("┌")
    assert table.count("\n│ ") > 3  # more than the head and one row
    assert {p: p.stat().st_mtime_ns for p in BENCHMARKS.rglob("*.json")} == results


def test_the_figures_of_the_readme_are_those_of_the_results(root: Path) -> None:
    module = runpy.run_path(str(BENCHMARKS / "figures.py"))
    readme = (root / "README.md").read_text()
    assert module["section"]() in readme
    assert module["with_section"](readme, module["section"]()) == readme
    assert module["with_section"](f"a\n{module['BEGIN']}\nold\n{module['END']}\nb", "new") == "a\nnew\nb"
