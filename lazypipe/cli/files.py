"""Commands about the files of a dataset: layout, compaction, vacuum."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import lazypipe as lp
from lazypipe.cli.commands import (
    Commands,
    definitions,
    is_definition,
    loaded,
    plans,
    say,
    storage_options,
    take_params,
    take_storage_options,
    write_json,
)

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the commands about how a dataset's files are laid out."""
    optimize = commands.add("optimize", _optimize, "Rewrite a dataset's files in a layout chosen from its rows.")
    compact = commands.add("compact", _compact, "Merge a dataset's small files and remove dead rows.")
    for made in (optimize, compact):
        made.add_argument("dataset", help="the dataset's folder")
        made.add_argument("--dry-run", action="store_true", help="show what would be done, and change nothing")
    optimize.add_argument(
        "--goal",
        choices=["storage", "balanced", "read", "write"],
        default="balanced",
        help="what the layout should favour. Default: balanced",
    )
    optimize.add_argument(
        "--partition-by",
        action="append",
        metavar="COLUMN",
        help="partition by this column; may be repeated. Default: the current partitioning",
    )
    optimize.add_argument(
        "--budget", type=float, metavar="SECONDS", help="time limit for choosing the layout, in seconds. Default: none"
    )
    optimize.add_argument(
        "--pipeline",
        action="append",
        default=[],
        metavar="FILE",
        help="a pipeline that reads or writes the dataset, so that its queries count; may be repeated",
    )
    take_params(optimize)
    compact.add_argument(
        "--target", type=int, metavar="BYTES", help="target size of a file, in bytes. Default: 128 MiB"
    )
    compact.add_argument(
        "--dead",
        type=float,
        metavar="PART",
        help="rewrite files in which more than this fraction of the rows is dead. Default: 0.2",
    )
    vacuum = commands.add("vacuum", _vacuum, "Delete data files that no kept version uses.")
    vacuum.add_argument("target", help="a pipeline definition, a folder of definitions, or a dataset's folder")
    vacuum.add_argument(
        "--keep",
        type=int,
        default=1,
        metavar="N",
        help="number of versions to keep; earlier ones can no longer be read or rolled back to. Default: 1",
    )
    vacuum.add_argument(
        "--older-than",
        default="24h",
        metavar="AGE",
        help="keep uncommitted files younger than this, which may belong to a run in progress. Default: 24h",
    )
    vacuum.add_argument("--dry-run", action="store_true", help="show what would be deleted, and delete nothing")
    for made in (optimize, compact, vacuum):
        take_storage_options(made)


def _vacuum(options: argparse.Namespace) -> int:
    from lazypipe.spec.moment import age

    if options.keep < 1:
        raise lp.LazypipeError(f"--keep {options.keep} is less than 1; keep 1 or more: one must stay in force")
    older_than = age(options.older_than, "--older-than")
    targets, place = _targets(options.target), storage_options(options)
    from lazypipe.run.maintenance import outlook
    from lazypipe.storage.datasets.dataset import Dataset

    found = [o for t in targets for o in outlook(Dataset(t, place) if isinstance(t, str) else t, options.keep)]
    deleted = [
        path
        for target in targets
        for path in lp.vacuum(
            target, keep=options.keep, older_than=older_than, dry_run=options.dry_run, storage_options=place or None
        )
    ]
    if not deleted and isinstance(targets[0], str):
        Dataset(targets[0], place).read()  # which says so if there is no dataset
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
            say(f"{of.uri}: {_versions(of.held)} kept, because a change feed or the next run continues from there")
        if of.dead:
            rows, it = (
                ("1 removed row is still", "it") if of.dead == 1 else (f"{of.dead:,} removed rows are still", "them")
            )
            say(
                f"{of.uri}: {rows} in its data files, where readers that do not use its commit log see {it}; "
                f"lazypipe compact {of.uri} --dead 0, then vacuum again, removes {it}"
            )
    say(f"{len(deleted)} {'would be ' if options.dry_run else ''}deleted")
    return 0


def _targets(named: str) -> list[lp.Pipeline | str]:
    """Return the definitions that are named by a file or by their folder, or the dataset."""
    folder = Path(named)
    if is_definition(named) or (folder.is_dir() and any(is_definition(p.name) for p in folder.iterdir())):
        return [loaded(file) for file in definitions([named])]
    return [named]


def _versions(numbers: Sequence[int]) -> str:
    return f"version {numbers[0]}" if len(numbers) == 1 else f"versions {numbers[0]} to {numbers[-1]}"


def _optimize(options: argparse.Namespace) -> int:
    if (options.param or options.allow) and not options.pipeline:
        raise lp.LazypipeError("--param and --allow are for the pipelines that --pipeline names; name one")
    readers, place = list[lp.Plan](), storage_options(options)
    for plan in plans(options.pipeline, options):
        if isinstance(plan, lp.LazypipeError):
            raise plan
        readers.append(plan)
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
