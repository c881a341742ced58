"""Commands that show rows."""

from __future__ import annotations

import argparse

import lazypipe as lp
from lazypipe.cli.commands import Commands, compiled, pairs, storage_options, take_storage_options, write_json
from lazypipe.errors import first_line

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the commands that show rows."""
    show = commands.over_plan("show", _show, "Show the first rows of a published output.")
    show.add_argument("output")
    show.add_argument("-n", "--rows", type=_count, default=10, help="how many rows. Default: 10")
    trace = commands.over_plan("trace", _trace, "Show which source rows, in which files, made a row of an output.")
    trace.add_argument("output", help="the output; or a source, of which all rows with the key are shown")
    trace.add_argument("--key", action="append", required=True, metavar="COLUMN=VALUE", help="the row's key")
    trace.add_argument("--version", type=int, metavar="N", help="of which version. Default: as the sources are now")
    diff = commands.add("diff", _diff, "Show which rows make one table into another: inserted, updated, deleted.")
    diff.add_argument("a", help="a dataset's folder, of a version as FOLDER@VERSION, or files")
    diff.add_argument("b", help="the table to compare it with")
    diff.add_argument("--key", action="append", required=True, metavar="COLUMN", help="a column that identifies a row")
    diff.add_argument("-n", "--rows", type=_count, default=20, help="rows of each kind to show. Default: 20")
    take_storage_options(diff)


def _count(text: str) -> int:
    """Return a number of rows."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows; write 0 or more")
    return int(text)


def _show(options: argparse.Namespace) -> int:
    import polars as pl

    plan = compiled(options)
    try:
        rows = plan.scan(options.output).head(options.rows).collect()
    except (OSError, pl.exceptions.PolarsError) as error:  # of files that were there when they were committed
        what, fix = (
            f"rows cannot be read: {first_line(error)}",
            "restore the file from a backup, roll back, or run in full",
        )
        raise lp.StorageError(what, uri=plan.redact(_place(plan, options.output)), fix=fix) from error
    with pl.Config(tbl_rows=-1, tbl_cols=-1):  # all that was asked for
        write_json(rows.to_dicts()) if options.json else print(rows)
    return 0


def _place(plan: lp.Plan, output: str) -> str:
    """Return where an output is, or else its name: what stands beside it has none of its own."""
    return plan.outputs[output].to if output in plan.outputs else output


def _trace(options: argparse.Namespace) -> int:
    found = compiled(options).trace(options.output, pairs("--key", options.key), version=options.version)
    write_json(found.to_dict()) if options.json else print(found.to_markdown())
    return 0


def _diff(options: argparse.Namespace) -> int:
    found = lp.diff(_table(options.a), _table(options.b), key=options.key, storage_options=storage_options(options))
    write_json(found.to_dict()) if options.json else print(found.to_markdown(options.rows))
    return 0


def _table(text: str) -> str | tuple[str, int]:
    uri, at, version = text.rpartition("@")
    return (uri, int(version)) if at and version.isdecimal() else text
