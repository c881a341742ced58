"""SQL in files of its own: read together with the definition and part of it, even if the files change later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

from blake3 import blake3

from lazypipe.errors import reason_of
from lazypipe.spec.model import Fault, Path, Pipeline, Step, freeze

__all__ = ["read_query", "with_queries", "without_queries"]


def with_queries(pipeline: Pipeline, faults: list[Fault]) -> Pipeline:
    """Return the pipeline with the texts of files in its ``sql`` operations, beside their names; files that cannot be read are faults."""
    files: dict[Path, str] = {}
    texts: list[str] = []

    def read(step: Step) -> Step:
        try:
            found, file = read_query(step, pipeline.base)
        except Fault as fault:
            faults.append(fault)
            return step
        if file is not None:
            files[*step.path, step.name] = file
            texts.append(found.arguments["query"])
        return found

    stages = {name: replace(s, do=tuple(map(read, s.do))) for name, s in pipeline.stages.items()}
    if not files:
        return pipeline
    known = pipeline.origin.blake3
    digest = None if known is None else blake3("\0".join([known, *texts]).encode("utf-8", "surrogatepass")).hexdigest()
    return replace(pipeline, stages=freeze(stages), origin=replace(pipeline.origin, files=files, blake3=digest))


def read_query(step: Step, base: str) -> tuple[Step, str | None]:
    """Return a step with the query read from its file, and the file; the step itself if it names no file. Raises Fault if the file cannot be read."""
    written = step.arguments
    if step.name != "sql" or not isinstance(written, Mapping) or "file" not in written:
        return step, None
    at = (*step.path, step.name)
    if "query" in written:
        raise Fault("sql has both a query and a file", "keep one of them", (*at, "query"))
    file = _joined(base, str(written["file"]))
    try:
        text = _read(file)
    except (OSError, ValueError) as error:  # of text that is no UTF-8, too
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else reason_of(error)
        fix = "write a path that starts from the folder of the definition"
        raise Fault(f"cannot read {file}: {reason}", fix, (*at, "file")) from None
    if not text.strip():
        raise Fault(f"{file} is empty", "write one SELECT statement there", (*at, "file"))
    return replace(step, arguments=freeze({**written, "query": text})), file


def without_queries(stages: Mapping[str, Any]) -> None:
    """Take out of stages, as a definition writes them, the queries that stand in files."""
    for stage in stages.values():
        for step in stage.get("do", ()):
            if isinstance(step.get("sql"), dict) and "file" in step["sql"]:
                step["sql"].pop("query", None)


def _joined(base: str, file: str) -> str:
    if "://" in file:
        return file
    return f"{base.rstrip('/')}/{file}" if "://" in base and not file.startswith("/") else str(FilePath(base, file))


def _read(file: str) -> str:
    if "://" not in file:
        return FilePath(file).read_text(encoding="utf-8-sig")
    import fsspec

    with fsspec.open(file, encoding="utf-8-sig", mode="rt") as opened:
        return str(opened.read())
