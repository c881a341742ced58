"""Refuses an output whose files a source of the same pipeline would read: each run would add the results of earlier runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lazypipe.compile.node import Node
from lazypipe.spec.model import Fault, Output
from lazypipe.storage import uri as uris
from lazypipe.storage.formats import FORMATS
from lazypipe.storage.local_files import covers, is_glob

__all__ = ["check_feedback", "would_find"]

_FILE = "run-001-00000.parquet"
"""The name of a file of a dataset, as far as it matters for whether a pattern matches."""


def check_feedback(outputs: Mapping[str, Output], nodes: Mapping[str, Node], faults: list[Fault]) -> None:
    """Add outputs whose files a source would find to ``faults``; who names a dataset, or one file, means it."""
    for name, output in outputs.items():
        for source in (n.source for n in nodes.values() if n.source is not None):
            form = FORMATS.get(source.reader.format)
            if form is not None and would_find(output, source.patterns, form.endings):
                what = f"source {source.name!r} would read the files of output {name!r}, and add them again in each run"
                fix = "write the output elsewhere, or narrow the pattern in uri"
                if any(p.rstrip("/") == output.to.rstrip("/") for p in source.patterns):
                    fix = f"read {output.stage!r} instead, or make the output in a definition of its own: lazypipe run takes several, in order"
                faults.append(Fault(what, fix, ("outputs", name, "to")))


def would_find(output: Output, patterns: Sequence[str], endings: tuple[str, ...]) -> bool:
    """Whether patterns find files of an output, as far as it and they are of this machine; its ``to`` and they are whole."""
    if not endings or not uris.is_local(output.to):
        return False
    place = uris.local_path(output.to).rstrip("/")
    file = "/".join([place, *(f"{c}=x" for c in output.partition_by), _FILE]) if output.format == "dataset" else place
    return any(_finds(p, file, endings) for p in patterns if uris.is_local(p))


def _finds(pattern: str, file: str, endings: tuple[str, ...]) -> bool:
    pattern = uris.local_path(pattern)
    if is_glob(pattern):
        return covers(pattern, file)
    start = f"{pattern.rstrip('/')}/"
    hidden = any(part.startswith((".", "_")) for part in file.removeprefix(start).split("/"))
    return file.startswith(start) and not hidden and file.lower().endswith(endings)
