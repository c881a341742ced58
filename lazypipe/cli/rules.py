"""Commands that write rules: suggested from data, or imported from other tools."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import lazypipe as lp
from lazypipe.cli.commands import Commands, say, storage_options, take_storage_options, write_json
from lazypipe.errors import first_line

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the commands that write rules."""
    text = "Suggest rules that the rows of files or a dataset pass, as YAML for a gate."
    suggest = commands.add("suggest", _suggest, text)
    suggest.add_argument("data", help="a file, a glob pattern, or a dataset's folder")
    suggest.add_argument("--sample", type=int, metavar="N", help="read about N rows only. Default: all")
    take_storage_options(suggest)
    text = "Convert another tool's data contract to columns and rules, as YAML for sources."
    taken = commands.add("import", _import, text)
    taken.add_argument(
        "format", choices=["odcs", "dbt", "gx"], help="format of the contract: ODCS, dbt or Great Expectations"
    )
    taken.add_argument(
        "file", help="the ODCS data contract, the dbt properties (schema.yml), or the Great Expectations suite"
    )
    taken.add_argument("table", nargs="?", help="convert only this table. Default: all")


def _suggest(options: argparse.Namespace) -> int:
    import polars as pl

    from lazypipe.compile.sources.binding import scan_uri

    place = storage_options(options)
    try:
        found = lp.suggest_rules(scan_uri(options.data, place), sample=options.sample)
    except (OSError, pl.exceptions.PolarsError) as error:
        what = f"rows cannot be read: {first_line(error)}"
        raise lp.SourceError(what, uri=options.data, fix="fix the file, or choose others") from error
    write_json(list(found)) if options.json else print(found.to_yaml(), end="")
    return 0


def _import(options: argparse.Namespace) -> int:
    import os
    from functools import partial
    from pathlib import Path

    from lazypipe import contracts

    readers: dict[str, Callable[[Path], contracts.Contract]] = {
        "odcs": partial(contracts.from_odcs, variables=os.environ),
        "dbt": contracts.from_dbt,
        "gx": contracts.from_gx,
    }
    found = readers[options.format](Path(options.file))
    tables = found.tables if options.table is None else (options.table,)
    try:
        written = {table: found.source(table) for table in tables}
    except KeyError as error:
        raise lp.LazypipeError(f"{options.file}: {error.args[0]}") from None
    unmapped, notes = map(str, found.unmapped), map(str, found.notes)
    if options.json:
        write_json({"name": found.name, "tables": written, "unmapped": [*unmapped], "notes": [*notes]})
    else:
        print(found.to_yaml(options.table), end="")
    if found.unmapped:
        count = len(found.unmapped)
        say(
            f"{count} part{'s' * (count != 1)} of it {'is' if count == 1 else 'are'} not taken over; see what is written"
        )
    return 0
