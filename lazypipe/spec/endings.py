"""File name endings, and the formats that they mean, of sources and of exports."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ENDINGS", "format_of"]

ENDINGS: Mapping[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".csv.gz", ".csv.zst"),
    "ndjson": (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz", ".ndjson.zst", ".jsonl.zst"),
    "ipc": (".arrow", ".ipc", ".feather"),
}


def format_of(name: str) -> str | None:
    """Return the format that a file name means; None if its ending is unknown.

    Examples
    --------
    >>> format_of("flights-*.csv.gz"), format_of("x.txt"), format_of("simplecache::https://example.org/x.csv")
    ('csv', None, 'csv')
    """
    links = name.lower().split("::")
    # what only wraps another one has no path of its own
    plain = next((link for link in links if not link.isidentifier()), "")
    return next((form for form, endings in ENDINGS.items() if plain.endswith(endings)), None)
