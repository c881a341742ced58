"""Broken rows at drawn places in drawn deliveries: every row is good or in quarantine, as a naive reader says, run by run."""

from __future__ import annotations

import csv
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp

CONTRACT = {"columns": {"id": "Int64", "k": "String"}, "on_type_change": "discard_row"}
NAMES = ("id", "k")
Piece = tuple[str, tuple[Any, ...] | None]
"""Some lines, and the row that they are: None if they are none."""


def csv_piece(kind: str, number: int) -> Piece:
    match kind:
        case "sound":
            return f"{number},a\n", (number, "a")
        case "quoted":
            return f'"{number}","b, ""b"""\n', (number, 'b, "b"')
        case "lines":
            return f'{number},"on\ntwo\r\nlines"\n', (number, "on\ntwo\r\nlines")
        case "null":
            return f"{number},\n", (number, None)
        case "short":
            return f"{number}\n", None
        case "long":
            return f"{number},a,b\n", None
        case "open":
            return f'{number},"open\n', None
        case "behind":
            return f'{number},"a"b\n', None
        case _:
            return "\n", None


def json_piece(kind: str, number: int) -> Piece:
    match kind:
        case "sound" | "quoted":
            return f'{{"id": {number}, "k": "a"}}\n', (number, "a")
        case "lines":
            return f'{{"k": "on\\ntwo", "id": {number}}}\r\n', (number, "on\ntwo")
        case "null":
            return f'{{"id": {number}}}\n', (number, None)
        case "short":
            return f'{{"id": {number}\n', None
        case "long":
            return f'{{"id": {number}}} {{\n', None
        case "open":
            return f'{{"id": {number}, "k": "open}}\n', None
        case _:
            return f"[{number}]\n", None


KINDS = ["sound", "sound", "quoted", "lines", "null", "short", "long", "open", "behind", "blank"]


@dataclass
class Files:
    """What has been delivered: pieces by file."""

    folder: Path
    kind: str
    held: dict[str, list[Piece]]

    def write(self) -> None:
        for path in self.folder.iterdir():
            if path.stem not in self.held:
                path.unlink()
        for name, pieces in self.held.items():
            head = "id,k\n" if self.kind == "csv" else ""
            text = (head + "".join(p for p, _ in pieces)).encode()
            path = self.folder / f"{name}.{self.kind}"
            if not path.exists() or path.read_bytes() != text:
                path.write_bytes(text)

    def wanted(self) -> tuple[list[tuple[Any, ...]], list[tuple[str, str, str]]]:
        """Return the rows that can be read, and the others by file, line and text."""
        rows, broken = [], []
        for name, pieces in self.held.items():
            line = 2 if self.kind == "csv" else 1
            for text, row in pieces:
                if row is None:
                    if text.strip() or self.kind == "csv":
                        broken.append((f"{name}.{self.kind}", str(line), text.rstrip("\r\n")))
                else:
                    rows.append(row)
                    assert naive(text, self.kind) == row
                line += text.count("\n")
        return sorted(rows), sorted(broken)


def naive(text: str, kind: str) -> tuple[Any, ...]:
    if kind == "csv":
        (cells,) = csv.reader([text]) if text.count("\n") == 1 else csv.reader(text.splitlines(keepends=True))
        return int(cells[0]), cells[1] or None
    value = json.loads(text)
    return value["id"], value.get("k")


def pipeline(base: Path, folder: Path, kind: str) -> lp.CompiledPipeline:
    made = lp.pipeline("p", base=str(base)).source("s", f"{folder}/*.{kind}", contract=CONTRACT)
    counts = [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "least": "min(id)"}}}]
    made = made.stage("c", "s", do=counts).output("s", "rows").output("c", "counts")
    return made.build().compile()


def published(base: Path) -> tuple[Any, ...]:
    rows = lp.scan(str(base / "rows")).collect().select(NAMES).rows()
    counts = lp.scan(str(base / "counts")).collect().rows()
    aside = []
    if (base / "rows__quarantine.commits").exists() or (base / "rows__quarantine").exists():
        for file, raw in (
            lp.scan(str(base / "rows__quarantine")).select("_lazypipe_file", "_lazypipe_raw").collect().rows()
        ):
            told = json.loads(raw)
            aside.append((Path(file).name, told["broken_row:line"], told["broken_row:text"]))
    return sorted(rows, key=repr), sorted(aside), sorted(counts, key=repr)


pieces = st.lists(st.sampled_from(KINDS), max_size=5)
steps = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "rewrite", "remove"]), st.sampled_from("ab"), pieces, st.integers(0, 3)
    ),
    min_size=1,
    max_size=4,
)


@given(st.sampled_from(["csv", "ndjson"]), pieces, steps)
def test_runs_step_by_step_find_what_one_run_finds(kind: str, first: list[str], drawn: list[Any]) -> None:
    piece, number = csv_piece if kind == "csv" else json_piece, iter(range(1, 1000))
    with tempfile.TemporaryDirectory() as made:
        base = Path(made)
        (base / "in").mkdir()
        sound = piece("sound", 0)
        files = Files(base / "in", kind, {"a": [piece(k, next(number)) for k in first], "z": [sound]})
        for change, name, kinds, at in [("append", "a", [], 0), *drawn]:
            new = [piece(k, next(number)) for k in kinds]
            held = files.held.get(name, [])
            match change:
                case "append":
                    files.held[name] = [*held, *new]
                case "rewrite":
                    files.held[name] = [*held[:at], *new, *held[at + 1 :]]
                case _:
                    files.held.pop(name, None)
            if kind == "ndjson":  # what has no bytes at all is another matter
                files.held = {n: ps for n, ps in files.held.items() if ps}
            files.write()
            pipeline(base / "step", base / "in", kind).run().raise_for_status()
            rows, broken = files.wanted()
            found = published(base / "step")
            assert found[0] == sorted(rows, key=repr)
            assert found[1] == broken
        pipeline(base / "once", base / "in", kind).run().raise_for_status()
        assert published(base / "once") == found
        frame = pl.DataFrame(rows, schema={"id": pl.Int64, "k": pl.String}, orient="row")
        counted = frame.group_by("k").agg(n=pl.len(), least=pl.min("id"))
        assert found[2] == sorted(counted.rows(), key=repr)
