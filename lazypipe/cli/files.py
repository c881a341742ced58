"""Commands about how a dataset's files are laid out, and which are kept."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import lazypipe as lp
from lazypipe.cli.commands import (
    Commands,
    is_definition,
    loaded,
    say,
    storage_options,
    take_storage_options,
    write_json,
)

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the commands about how a dataset's files are laid out."""
    optimize = commands.add(
        "optimize", _optimize, "Write a dataset's files anew, in a layout that is chosen by its rows."
    )
    compact = commands.add("compact", _compact, "Write a dataset's small files as fewer, and leave out dead rows.")
    for made in (optimize, compact):
        made.add_argument("dataset", help="the folder of a dataset")
        made.add_argument("--dry-run", action="store_true", help="only say what would be done")
    optimize.add_argument(
        "--goal", choices=["storage", "balanced", "read", "write"], default="balanced", help="Default: balanced"
    )
    optimize.add_argument(
        "--partition-by", action="append", metavar="COLUMN", help="have these folders. Default: those that there are"
    )
    optimize.add_argument("--budget", type=float, metavar="SECONDS", help="what choosing may take. Default: no end")
    optimize.add_argument(
        "--pipeline", action="append", default=[], metavar="FILE", help="a definition that reads it, or writes it"
    )
    compact.add_argument("--target", type=int, metavar="BYTES", help="size of a file. Default: 128 MiB")
    compact.add_argument("--dead", type=float, metavar="PART", help="rows of a file that may be gone. Default: 0.2")
    vacuum = commands.add("vacuum", _vacuum, "Delete files that no kept version uses.")
    vacuum.add_argument("target", help="a definition, or the folder of a dataset")
    vacuum.add_argument(
        "--keep",
        type=int,
        default=1,
        metavar="N",
        help="versions to keep; earlier ones cannot be read, or rolled back to, any more. Default: 1",
    )
    vacuum.add_argument(
        "--older-than", default="24h", metavar="AGE", help="leave younger unfinished files. Default: 24h"
    )
    vacuum.add_argument("--dry-run", action="store_true", help="say what would be deleted")
    for made in (optimize, compact, vacuum):
        take_storage_options(made)


def _vacuum(options: argparse.Namespace) -> int:
    from lazypipe.spec.moment import age

    if options.keep < 1:
        raise lp.LazypipeError(f"--keep {options.keep} is less than 1; keep 1 or more: one must stay in force")
    older_than = age(options.older_than, "--older-than")
    target = loaded(options.target) if is_definition(options.target) else options.target
    from lazypipe.run.maintenance import outlook
    from lazypipe.storage.datasets.dataset import Dataset

    place = storage_options(options)
    found = outlook(Dataset(target, place) if isinstance(target, str) else target, options.keep)
    deleted = lp.vacuum(
        target, keep=options.keep, older_than=older_than, dry_run=options.dry_run, storage_options=place or None
    )
    if not deleted and isinstance(target, str):
        Dataset(target, place).read()  # which says so if there is no dataset
    if options.json:
        write_json(
            {
                "deleted": deleted,
                "versions": {o.uri: o.ending for o in found if o.ending},
                "dead_rows": {o.uri: o.dead for o in found if o.dead},
            }
        )
    for path in deleted:
        say(path)
    can = "can no longer be read or rolled back to"
    for of in found:
        if of.ending:
            say(
                f"{of.uri}: {_versions(of.ending)} {can if not options.dry_run else f'{can} then; --keep N keeps the last N'}"
            )
        if of.held:
            say(f"{of.uri}: {_versions(of.held)} kept, for a feed of changes, or the next run, to go on from there")
        if of.dead:
            rows, it = (
                ("1 row that is gone still stands", "it")
                if of.dead == 1
                else (f"{of.dead:,} rows that are gone still stand", "them")
            )
            say(
                f"{of.uri}: {rows} in its files, where readers that do not know its log see {it}; "
                f"lazypipe compact {of.uri} --dead 0, and vacuum again, takes {it} out"
            )
    say(f"{len(deleted)} {'would be ' if options.dry_run else ''}deleted")
    return 0


def _versions(numbers: Sequence[int]) -> str:
    return f"version {numbers[0]}" if len(numbers) == 1 else f"versions {numbers[0]} to {numbers[-1]}"


def _optimize(options: argparse.Namespace) -> int:
    readers, place = [loaded(file).compile() for file in options.pipeline], storage_options(options)
    made = lp.optimize.rewrite(
        options.dataset,
        options.goal,
        workload=lp.optimize.workload(options.dataset, readers, storage_options=place),
        partition_by=options.partition_by,
        budget=options.budget,
        dry_run=options.dry_run,
        storage_options=place,
    )
    return _rewritten(made, options)


def _compact(options: argparse.Namespace) -> int:
    made = lp.optimize.compact(
        options.dataset,
        target=options.target,
        dead=options.dead,
        dry_run=options.dry_run,
        storage_options=storage_options(options),
    )
    return _rewritten(made, options)


def _rewritten(made: lp.optimize.Rewrite, options: argparse.Namespace) -> int:
    if options.json:
        write_json(made.to_dict())
    elif made.tasks:
        print(made.to_markdown())
    say(str(made))
    return 0
