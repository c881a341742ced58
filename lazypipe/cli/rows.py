"""Commands that show rows."""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import TYPE_CHECKING

import lazypipe as lp
from lazypipe.cli.commands import Commands, compiled, pairs, say, storage_options, take_storage_options, write_json
from lazypipe.errors import first_line

if TYPE_CHECKING:
    import polars as pl

__all__ = ["add"]

_WHOLE, _CUT = 1_000_000, 30
"""Characters of a text that are shown: all, and at the least."""

_NARROW = 6
"""Characters that a column takes at the least."""


def add(commands: Commands) -> None:
    """Add the commands that show rows."""
    show = commands.over_plan("show", _show, "Show the first rows of a published output.")
    show.add_argument(
        "output",
        help="the output, or one of its side tables: OUTPUT__quarantine, OUTPUT__late, OUTPUT__changes, "
        "OUTPUT__panes; for the quarantine of a source or stage, NAME__quarantine",
    )
    show.add_argument("-n", "--rows", type=_count, default=10, help="number of rows to show. Default: 10")
    trace = commands.over_plan(
        "trace", _trace, "Show the source rows, and their files, that a row of an output was made from."
    )
    trace.add_argument("output", help="the output; or a source, to show all of its rows with the key")
    trace.add_argument(
        "--key",
        action="append",
        required=True,
        metavar="COLUMN=VALUE",
        help="the key of the row; repeat it for each column of the key. COLUMN=null is a row without a value (in a column of text, the text 'null')",
    )
    trace.add_argument(
        "--version",
        type=int,
        metavar="N",
        help="trace the row of this version. Default: the row that the sources give now",
    )
    trace.add_argument(
        "--as-of",
        metavar="TIME",
        help="trace the row of the version that was current at this time (UTC unless it has a zone)",
    )
    diff = commands.add("diff", _diff, "Compare two tables: show the rows inserted, updated and deleted between them.")
    diff.add_argument("a", help="a dataset's folder (FOLDER@VERSION for an earlier version), or files")
    diff.add_argument("b", help="the table to compare it with, given in the same way")
    diff.add_argument(
        "--key",
        action="append",
        required=True,
        metavar="COLUMN",
        help="a column of the key that identifies rows; may be repeated",
    )
    diff.add_argument("-n", "--rows", type=_count, default=20, help="number of rows of each kind to show. Default: 20")
    take_storage_options(diff)


def _count(text: str) -> int:
    """Return a number of rows."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rows; write 0 or more")
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
    if options.json:
        from lazypipe.storage.in_python import for_python

        write_json(for_python(rows).to_dicts())
        return 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    text, columns = _table(rows, width)
    print(text)
    if columns < rows.width:
        say(f"{columns} of {rows.width} columns, as many as the terminal has room for; --json writes all")
    return 0


def _table(rows: pl.DataFrame, width: int | None) -> tuple[str, int]:
    """Return all rows as a table, and how many columns that shows: whole, or no wider than a terminal.

    First text is cut, then columns in the middle go. Where two do not fit, lines wrap.

    Examples
    --------
    >>> import polars as pl
    >>> print(_table(pl.DataFrame({"one": [1], "two": ["long" * 9], "three": [3]}), 22)[0])
    shape: (1, 3)
    ┌─────┬───┬───────┐
    │ one ┆ … ┆ three │
    │ --- ┆   ┆ ---   │
    │ i64 ┆   ┆ i64   │
    ╞═════╪═══╪═══════╡
    │ 1   ┆ … ┆ 3     │
    └─────┴───┴───────┘
    """
    import polars as pl

    def shown(columns: int, length: int, width: int = -1) -> str:
        with pl.Config(tbl_rows=-1, tbl_cols=columns, tbl_width_chars=width, fmt_str_lengths=length):
            return str(rows)

    every = rows.width
    if width is None:
        return shown(-1, _WHOLE), every
    lengths = [_WHOLE, *(n for n in (width // 2, width // 4) if n > _CUT), _CUT]
    fewer = range(min(every - 1, width // _NARROW), 1, -1)  # more never fit
    for columns, length in (*((every, n) for n in lengths), *((n, _CUT) for n in fewer)):
        text = shown(columns, length)
        if max(map(len, text.splitlines())) <= width:
            return text, columns
    least = min(every, 2)
    return shown(least, _CUT, width), least


def _place(plan: lp.Plan, output: str) -> str:
    """Return where an output is, or else its name: what stands beside it has none of its own."""
    return plan.outputs[output].to if output in plan.outputs else output


def _trace(options: argparse.Namespace) -> int:
    found = compiled(options).trace(
        options.output, pairs("--key", options.key), version=options.version, as_of=options.as_of
    )
    write_json(found.to_dict()) if options.json else print(found.to_markdown())
    return 0


def _diff(options: argparse.Namespace) -> int:
    found = lp.diff(options.a, options.b, key=options.key, storage_options=storage_options(options))
    write_json(found.to_dict()) if options.json else print(found.to_markdown(options.rows))
    return 0
