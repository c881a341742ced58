"""Commands about versions and records."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lazypipe as lp
from lazypipe.cli.commands import (
    SEVERAL,
    Commands,
    definitions,
    incomplete,
    is_definition,
    loaded,
    read_all,
    read_each,
    say,
    storage_options,
    take_storage_options,
    tell_each,
    write_json,
)
from lazypipe.errors import counted

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the commands about versions and records."""
    text = "Show the current version of each output, and what it was made from."
    commands.over_file("status", _status, text, file="+", what=SEVERAL)
    history = commands.over_file("history", _history, "List the versions of an output that can be read.")
    history.add_argument("output", help="the output")
    rollback = commands.over_file("rollback", _rollback, "Restore an earlier version of an output, as a new version.")
    rollback.add_argument("output", help="the output")
    rollback.add_argument("version", type=int, help="the version's number, as listed by history")
    ledger = commands.add(
        "ledger",
        _ledger,
        "List the recorded runs of a pipeline, verify its ledger, or find the outputs that hold a file's data.",
    )
    ledger.add_argument(
        "file", help="the pipeline definition, a folder of definitions that share a ledger, or the URI of a ledger"
    )
    ledger.add_argument(
        "--verify", action="store_true", help="check that no record was changed or removed; exit code 3 if one was"
    )
    ledger.add_argument(
        "--data",
        action="store_true",
        help="as --verify, and also check that the data files of all outputs hold what was written",
    )
    ledger.add_argument(
        "--head",
        metavar="NUMBER:HASH",
        help="check that the ledger still contains this record, noted down earlier as its last one",
    )
    ledger.add_argument(
        "--former-key",
        action="append",
        default=[],
        metavar="VARIABLE",
        help="as --verify; the environment variable with a key that signed earlier records. Repeat it, oldest first",
    )
    ledger.add_argument("--output", help="list only runs of this output")
    ledger.add_argument(
        "--containing", metavar="FILE", help="list the outputs that hold data from this file (URI, path or BLAKE3 hash)"
    )
    audit = commands.add(
        "audit", _audit, "Report everything known about a version of an output, from the raw sources on."
    )
    audit.add_argument(
        "file", help="the pipeline definition, a folder of definitions that share a ledger, or the URI of a ledger"
    )
    audit.add_argument("output", help="the output")
    audit.add_argument("--version", type=int, metavar="N", help="the version to report on. Default: the latest")
    for made in (ledger, audit):
        take_storage_options(made)


def _status(options: argparse.Namespace) -> int:
    files = definitions(options.file)
    if len(files) > 1:
        return tell_each(options, files, read_each(files), lambda _, pipe: pipe.status(), _print_status)
    found = loaded(files[0]).status()
    write_json(found) if options.json else _print_status(found)
    return 0


def _print_status(found: Sequence[Mapping[str, Any]]) -> None:
    for output in found:
        if "format" in output:
            size = "" if output["bytes"] is None else f", {output['bytes']:,} bytes"
            there = f"one {output['format']} file{size}" if output["files"] else "no file was written yet"
            print(f"{output['output']}: {there}")
            continue
        if output["version"] is None:
            print(f"{output['output']}: nothing was committed yet")
            continue
        aside = f", {output['quarantined']:,} in quarantine" if output["quarantined"] else ""
        print(
            f"{output['output']}: version {output['version']} of {output['time']}, {counted(output['rows'], 'row')}{aside}"
        )
        for name, of in output["consumed"].items():
            version = "" if of["version"] is None else f" of version {of['version']}"
            print(f"    made of {name}: {of['files']} file{'s' * (of['files'] != 1)}{version}, {of['bytes']:,} bytes")
        if "layout" in output:
            print(f"    laid out for {output['layout']['goal']}:")
            for reason in output["layout"]["reasons"]:
                print(f"        {reason}")
        for line in incomplete(output):
            print(line)
    # a prefix that several lines share is printed once
    ahead: dict[str, tuple[int, list[str]]] = {}
    for output in found:
        for name, rows in output.get("ahead", {}).items():
            ahead.setdefault(name, (rows, []))[1].append(output["output"])
    for name, (rows, outputs) in ahead.items():
        where = f"in {name}" if name.endswith("__late") else f"in {name}__quarantine"
        print(f"{rows:,} row{'s' * (rows != 1)} {where}, upstream of {', '.join(outputs)}")


def _history(options: argparse.Namespace) -> int:
    pipe = loaded(options.file)

    from lazypipe.compile.state import state_of
    from lazypipe.records.record import Records

    state = state_of(pipe)
    records = Records(state.join("runs"), state.storage_options)
    found = lp.history(pipe, options.output).to_dicts()
    found = [{**one, "why": records.why(one["run"], options.output)} for one in found]
    if options.json:
        write_json(found)
        return 0
    for one in found:
        why = f": {one['why']}" if one["why"] else ""
        at = f"{one['version']}: {one['time']:%Y-%m-%d %H:%M:%S}"
        print(f"{at} {one['mode']}, {counted(one['rows'], 'row')}, run {one['run']}{why}")
    if not found:
        say(f"{options.output}: nothing was committed yet")
    return 0


def _rollback(options: argparse.Namespace) -> int:
    made = lp.rollback(loaded(options.file), options.output, version=options.version)
    if options.json:
        write_json({"output": options.output, "version": made})
    say(f"{options.output}: version {options.version} is in force again, as version {made}")
    return 0


def _of(target: str) -> str | lp.Pipeline:
    """Return whose ledger is asked for: a definition's, the one that all definitions of a folder share, or the one at a URI."""
    there = sorted(p for p in Path(target).iterdir() if is_definition(p.name)) if Path(target).is_dir() else []
    if not there or any(p.stem.isdecimal() for p in there):  # such are records
        return loaded(target) if is_definition(target) else target
    files = [str(p) for p in there]
    found = {lp.ledger(pipe).uri: pipe for pipe in reversed(read_all(files)) if pipe.audit.mode != "off"}
    if len(found) > 1:
        raise lp.LazypipeError(
            f"the definitions in {target} have several ledgers; name one of them: {', '.join(sorted(found))}"
        )
    if not found:
        raise lp.LazypipeError(f"no runs of the definitions in {target} are recorded; remove audit: off from them")
    return next(iter(found.values()))


def _variable(name: str) -> str:
    """Return the value of an environment variable."""
    if name not in os.environ:
        raise lp.LazypipeError(f"--former-key {name}: there is no environment variable {name}; set it to the key")
    return os.environ[name]


def _ledger(options: argparse.Namespace) -> int:
    ledger = lp.ledger(_of(options.file), storage_options=storage_options(options))
    checks = options.verify or options.data or options.head is not None or bool(options.former_key)
    asked = {
        "--verify": checks,
        "--output": options.output is not None,
        "--containing": options.containing is not None,
    }
    if len(several := [flag for flag, given in asked.items() if given]) > 1:
        raise lp.LazypipeError(f"{' and '.join(several)} ask for different things; give one of them")
    if checks:
        former = [_variable(name) for name in options.former_key]
        found = ledger.verify(options.head, data=options.data, former_keys=former)
        write_json(found.to_dict()) if options.json else print(found)
        return 0 if found.ok else 3
    told: Sequence[lp.Holding | lp.Entry]
    told = ledger.runs(options.output) if options.containing is None else ledger.containing(options.containing)
    if options.json:
        write_json([one.to_dict() for one in told])
    else:
        for one in told:
            print(one)
    if not told:
        none = "there are no records of runs"
        if options.containing is not None:
            none = f"no output holds data from {options.containing}"
        elif options.output is not None:
            none = f"there are no records of runs of output {options.output!r}"
        say(f"{none} in {ledger.uri}")
    return 0


def _audit(options: argparse.Namespace) -> int:
    target, place = _of(options.file), storage_options(options)
    known = lp.ledger(target, storage_options=place) if place else target
    report = lp.audit_report(known, options.output, options.version)
    print(report.to_json() if options.json else report.to_markdown())
    return 0 if report.ok else 3
