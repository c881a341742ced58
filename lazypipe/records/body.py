"""The parts of a record: inputs, code, definition; and the separate object for what rarely changes."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
from blake3 import blake3

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.node import ancestors
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.errors import LazypipeError
from lazypipe.spec.loader import described
from lazypipe.spec.model import Pipeline
from lazypipe.spec.types import dtype_name
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.datasets.units import Units
from lazypipe.version import VERSION

if TYPE_CHECKING:
    from lazypipe.plan.places import Place

__all__ = [
    "FEED",
    "code",
    "commit_id",
    "data",
    "definition_key",
    "input_of",
    "object_content",
    "sources_of",
    "text_hash",
]


FEED = "feed"
"""As a mode: rows are added that tell what a version of an output changed."""


def code(version: str | None) -> dict[str, str | None]:
    """Return what ran: lazypipe, Polars, Python, and the version of the pipeline's own code."""
    return {"lazypipe": VERSION, "polars": pl.__version__, "python": platform.python_version(), "version": version}


def commit_id(folder: str) -> str | None:
    """Return the commit that is checked out in the Git work tree around a folder, None if there is none.

    Examples
    --------
    >>> commit_id("/") is None
    True
    """
    if not uris.is_local(folder):
        return None
    here = os.path.abspath(uris.local_path(folder))
    while not os.path.exists(f"{here}/.git"):
        above = os.path.dirname(here)
        if above == here:
            return None
        here = above
    try:
        return _head(f"{here}/.git")
    except (OSError, UnicodeDecodeError):
        return None


def _head(git: str) -> str | None:
    if os.path.isfile(git):  # a further work tree, or a submodule
        git = os.path.join(os.path.dirname(git), _text(git).partition("gitdir: ")[2])
    common = git
    if os.path.isfile(f"{git}/commondir"):
        common = os.path.join(git, _text(f"{git}/commondir"))
    head = _text(f"{git}/HEAD")
    name = head.partition("ref: ")[2]
    if not name:
        return head
    if os.path.isfile(f"{common}/{name}"):
        return _text(f"{common}/{name}")
    if not os.path.isfile(f"{common}/packed-refs"):
        return None  # nothing was committed yet
    packed = (line.partition(" ") for line in _text(f"{common}/packed-refs").splitlines())
    return next((commit for commit, _, ref in packed if ref == name), None)


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def input_of(
    source: BoundSource,
    snapshot: Snapshot,
    hashes: Mapping[str, str],
    reads: Sequence[tuple[Snapshot, Units | None]] = (),
) -> dict[str, Any]:
    """Return a record's entry about one source: what the run found there, and which files queries ``read``, if not all."""
    if whole := any(units is None and len(found.files) == len(snapshot.files) for found, units in reads):
        read = {f.uri: f for f in snapshot.files}
    else:
        corrupt = {c.uri for c in snapshot.corrupt}
        taken = (f for found, units in reads for f in found.chosen(units))
        read = {f.key: f for f in taken if not corrupt or source.redact(f.uri) not in corrupt}
        whole = len(read) == len(snapshot.files) and all(f.key in read for f in snapshot.files)
    sizes, named = [f.length for f in read.values()], dict.fromkeys(f.uri for f in read.values())
    size = None if None in sizes else sum(s for s in sizes if s is not None)
    some = {} if whole else {"uris": [source.redact(uri) for uri in named]}
    return {
        "uri": [source.redact(p) for p in source.patterns],
        "format": source.reader.format,
        "files": [
            {"uri": source.redact(f.uri), "size": f.size, "stamp": f.stamp, "blake3": hashes.get(f.uri)}
            for f in snapshot.files
        ],
        "version": snapshot.version,
        # a Delta table counts its own versions
        **({} if snapshot.table is None else {"commit": snapshot.table.tells}),
        "read": {"files": len(named), "bytes": size, **some},
    }


def data(files: Iterable[DataFile]) -> list[dict[str, Any]]:
    """Return what a record says of written files."""
    return [{"path": f.path, "rows": f.rows, "bytes": f.bytes, "blake3": f.blake3} for f in files]


def sources_of(plan: CompiledPipeline, node: str) -> list[str]:
    """Return the sources whose rows go into a source or stage; not those that its gate only looks rows up in."""
    return sorted(n for n in ancestors(plan.nodes, node) if plan.nodes[n].source is not None)


def text_hash(pipeline: Pipeline) -> str:
    """Return the hash of the definition's text; of one that was built in Python, of its JSON."""
    known = pipeline.origin.blake3
    return known or blake3(json.dumps(described(pipeline), sort_keys=True).encode()).hexdigest()


def definition_key(plan: CompiledPipeline) -> str:
    """Return a key for definition, parameters, schemas and versions; the same ones give the same lineage."""
    schemas = [(n, [(c, str(t)) for c, t in node.schema.items()]) for n, node in plan.nodes.items()]
    where = [plan.pipeline.name, plan.redact(plan.pipeline.base)]
    said = [text_hash(plan.pipeline), where, params(plan), schemas, VERSION, pl.__version__]
    return blake3(json.dumps(said).encode()).hexdigest()


def params(plan: CompiledPipeline) -> dict[str, str]:
    """Return the parameters as text, without the time of the run."""
    return {name: str(value) for name, value in plan.params.items() if name != "now"}


def object_content(plan: CompiledPipeline) -> dict[str, Any]:
    """Return what rarely changes: the definition, schemas, tags, rules, and where every column comes from."""
    try:
        places = [{**p.to_dict(), "texts": _texts(p)} for p in plan.lineage().places]
    except LazypipeError as error:  # an operator that cannot be read: all else can be said
        places = [{"error": str(error)}]
    tags = {n: {c: list(t) for c, t in plan.tags(n).items()} for n in plan.nodes}
    return {
        "format": 1,
        "pipeline": plan.pipeline.name,
        "definition": _without_secrets(described(plan.pipeline)),
        "params": params(plan),
        "schemas": {n: {c: dtype_name(t) for c, t in node.schema.items()} for n, node in plan.nodes.items()},
        "tags": {n: columns for n, columns in tags.items() if columns},
        "segments": {s.name: {"node": s.node, "nodes": list(s.nodes), "reads": list(s.reads)} for s in plan.segments},
        "places": places,
    }


def _texts(place: Place) -> dict[str, str]:
    return {c: t for c, t in place.lineage.texts.items() if c in place.columns}


def _without_secrets(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the definition without the values of credentials: only names of variables and plain switches are shown."""
    shown = dict(definition)
    for section in ("sources", "outputs"):
        shown[section] = {
            name: {**part, "storage_options": _hidden(part["storage_options"])} if "storage_options" in part else part
            for name, part in definition[section].items()
        }
    return shown


def _hidden(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _hidden(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_hidden(v) for v in value]
    return "***" if isinstance(value, str) and "${" not in value else value
