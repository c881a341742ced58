"""The command line: a thin face over the API. Human text on stderr, results on stdout, JSON on stdout with ``--json``.

Exit codes: 0 done, 1 a gate failed, 2 the definition or the command line is wrong, 3 the run could not be completed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, TypedDict

import lazypipe as lp
from lazypipe.errors import LazypipeError, first_line

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.command(options))
    except LazypipeError as error:
        if options.json:
            # a run that did not begin is told like one that did, for whoever reads its segments
            more: dict[str, Any] = {"segments": []} if options.command is _run else {}
            if isinstance(error, lp.DefinitionError):  # for whoever shows each where it stands
                more |= {"problems": [asdict(p) for p in error.problems]}
            _json({"status": "error", "error": str(error), **more})
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return 3
    except BrokenPipeError:  # the reader of our output has left: | head
        sys.stdout = None  # so that Python's own flush at exit does not fail again
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lazypipe", description="Data pipelines as Polars lazy plans.")
    parser.add_argument("--version", action="version", version=f"lazypipe {lp.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=function)
        made.add_argument("--json", action="store_true", help="write JSON to stdout")
        return made

    def with_plan(made: argparse.ArgumentParser, file: str | None = None) -> argparse.ArgumentParser:
        made.add_argument("file", nargs=file, help="the definition, YAML or JSON")
        made.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="set a parameter")
        made.add_argument(
            "--allow", action="append", default=[], metavar="MODULE", help="allow python operations of it"
        )
        return made

    _about_runs(command, with_plan)
    _about_definitions(command, with_plan)
    _about_rows(command, with_plan)
    _about_the_past(command, with_plan)
    _about_files(command)
    return parser


def _about_runs(command: Callable[..., Any], with_plan: Callable[..., Any]) -> None:
    """Add the commands that run a pipeline, or say what that would do."""
    run = with_plan(
        command("run", _run, "Run a pipeline: write, audit, publish; what has not changed is left as it is.")
    )
    run.add_argument("--output", action="append", default=[], metavar="NAME", help="only this, and what it is made of")
    run.add_argument(
        "--full", action="store_true", help="make all outputs anew, also those whose inputs did not change"
    )
    run.add_argument(
        "--window", metavar="START..END", help="of files never read, only those with event times in this range"
    )
    run.add_argument("--chunk", metavar="DURATION", help="work the window off in pieces of this length, a run each")
    plan = with_plan(command("plan", _plan, "Say what a run would do, and why; read no data."))
    plan.add_argument("--full", action="store_true", help="of a run with --full")
    plan.add_argument("--window", metavar="START..END", help="of a run with --window")
    stream = with_plan(
        command(
            "stream", _stream, "Run again and again, over what came since; SIGINT or SIGTERM stops after the batch."
        )
    )
    _stream_options(stream)
    for made, what in ((run, "run"), (plan, "run"), (stream, "batch")):
        _bound_options(made, what)
    replay = with_plan(command("replay", _replay, "Put an output's quarantined rows through its gate again."))
    replay.add_argument("output")


def _about_definitions(command: Callable[..., Any], with_plan: Callable[..., Any]) -> None:
    """Add the commands that read a definition, and no data."""
    explain = with_plan(command("explain", _explain, "Show the query plan of a source, stage or output."))
    explain.add_argument("name", help="source, stage or output")
    explain.add_argument("--kind", choices=["logical", "optimized", "physical"], default="optimized")
    with_plan(command("check", _check, "Check a definition; run nothing."))
    schema = command("schema", _schema, "Show columns and types; without a file, the JSON Schema of definitions.")
    with_plan(schema, file="?").add_argument("name", nargs="?", help="source, stage or output. Default: all")
    lineage = with_plan(command("lineage", _lineage, "Show where columns come from, or where one goes; read no data."))
    lineage.add_argument("name", nargs="?", help="a column (stage.column), stage or rule. Default: everything")
    lineage.add_argument("--format", choices=["text", "json", "dot", "mermaid"], default="text")
    lineage.add_argument("--downstream", action="store_true", help="what depends on it, instead of what it depends on")
    lineage.add_argument("--optimized", action="store_true", help="only columns that something needs")


def _about_rows(command: Callable[..., Any], with_plan: Callable[..., Any]) -> None:
    """Add the commands that show rows."""
    show = with_plan(command("show", _show, "Show the first rows of a published output."))
    show.add_argument("output")
    show.add_argument("-n", "--rows", type=_count, default=10, help="how many rows. Default: 10")
    trace = with_plan(command("trace", _trace, "Show which source rows, in which files, made a row of an output."))
    trace.add_argument("output", help="the output; or a source, of which all rows with the key are shown")
    trace.add_argument("--key", action="append", required=True, metavar="COLUMN=VALUE", help="the row's key")
    trace.add_argument("--version", type=int, metavar="N", help="of which version. Default: as the sources are now")
    diff = command("diff", _diff, "Show which rows make one table into another: inserted, updated, deleted.")
    diff.add_argument("a", help="a dataset's folder, of a version as FOLDER@VERSION, or files")
    diff.add_argument("b", help="the table to compare it with")
    diff.add_argument("--key", action="append", required=True, metavar="COLUMN", help="a column that identifies a row")
    diff.add_argument("-n", "--rows", type=_count, default=20, help="rows of each kind to show. Default: 20")


def _stream_options(stream: argparse.ArgumentParser) -> None:
    stream.add_argument("--every", default="10s", metavar="TIME", help="how often to look for files. Default: 10s")
    stream.add_argument("--files", type=int, metavar="N", help="begin a batch when N files came. Default: 1")
    stream.add_argument("--rows", type=int, metavar="N", help="begin a batch when N rows came")
    stream.add_argument("--or-after", metavar="TIME", help="with --files or --rows: begin it at the latest after TIME")
    stream.add_argument("--once", action="store_true", help="take in what is there, then stop")
    stream.add_argument(
        "--on-gate-failure", choices=["stop", "continue"], default="stop", help="what a failed gate does. Default: stop"
    )


def _bound_options(made: argparse.ArgumentParser, what: str) -> None:
    for name in ("files", "rows", "bytes"):
        text = f"take in at most N new {name} per {what}; the rest is for the next one"
        made.add_argument(f"--max-{name}", type=int, metavar="N", help=text)
    for name, when in (("since", "from then on"), ("until", "before then")):
        text = f"take in only new files that were written {when}; the rest is for later ones"
        made.add_argument(f"--{name}", metavar="TIME", help=text)


def _about_files(command: Callable[..., Any]) -> None:
    """Add the commands about how a dataset's files are laid out."""
    optimize = command("optimize", _optimize, "Write a dataset's files anew, in a layout that is chosen by its rows.")
    compact = command("compact", _compact, "Write a dataset's small files as fewer, and leave out dead rows.")
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
    optimize.add_argument("--pipeline", action="append", default=[], metavar="FILE", help="a definition that reads it")
    compact.add_argument("--target", type=int, metavar="BYTES", help="size of a file. Default: 128 MiB")
    compact.add_argument("--dead", type=float, metavar="PART", help="rows of a file that may be gone. Default: 0.2")
    vacuum = command("vacuum", _vacuum, "Delete files that no kept version uses.")
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


def _count(text: str) -> int:
    """Return a number of rows."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows; write 0 or more")
    return int(text)


def _about_the_past(command: Callable[..., Any], with_plan: Callable[..., Any]) -> None:
    """Add the commands about versions and records."""
    with_plan(command("status", _status, "Show which version each output has, and what it was made of."))
    history = with_plan(command("history", _history, "Show the versions of an output that can be read."))
    history.add_argument("output")
    rollback = with_plan(command("rollback", _rollback, "Make an earlier version of an output the one in force."))
    rollback.add_argument("output")
    rollback.add_argument("version", type=int)
    ledger = command(
        "ledger", _ledger, "List the recorded runs of a pipeline, check the ledger, or find where a file's data is."
    )
    ledger.add_argument("file", help="the definition, or the URI of a ledger")
    ledger.add_argument(
        "--verify", action="store_true", help="check that no record was touched; exit code 3 if one was"
    )
    ledger.add_argument(
        "--data",
        action="store_true",
        help="the same, and read the data files of all outputs: each must hold what was written",
    )
    ledger.add_argument(
        "--head", metavar="NUMBER:HASH", help="the end of the ledger as it was noted before; with --verify"
    )
    ledger.add_argument("--output", help="only runs of this output")
    ledger.add_argument(
        "--containing", metavar="FILE", help="which outputs hold data from this file (URI, path or BLAKE3)"
    )
    audit = command("audit", _audit, "Tell all that is known of a version of an output, from raw sources to it.")
    audit.add_argument("file", help="the definition, or the URI of a ledger")
    audit.add_argument("output")
    audit.add_argument("--version", type=int, metavar="N", help="Default: the last")


def _compiled(options: argparse.Namespace, now: datetime | None = None) -> lp.Plan:
    return lp.load(options.file).compile(now=now, allow=options.allow, params=_pairs("--param", options.param))


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise lp.LazypipeError(f"{option} {text!r} has no value; write {option} {name}=value")
        pairs[name] = value
    return pairs


def _run(options: argparse.Namespace) -> int:
    from lazypipe.run.retry import TRIES

    now = datetime.now(UTC)
    progress = _Progress()
    plan = _compiled(options, now)
    if options.chunk is not None:
        if options.window is None or options.full:
            raise lp.LazypipeError("--chunk is for a run with --window, and without --full; write --window START..END")
        if options.since is not None or options.until is not None:
            what = "--chunk works off when rows happened, and --since and --until are of when files were written"
            raise lp.LazypipeError(f"{what}; leave one of them out")
        code = 0
        for piece in plan.backfill(options.window, chunk=options.chunk, observer=progress, outputs=options.output):
            code = _told(options, piece, progress)
        return code
    result, tries = _once(options, plan, now, progress), 1
    while result.overtaken and tries < TRIES:
        progress.close()
        _say("another run has committed meanwhile; once more, over what is there now")
        now, tries = datetime.now(UTC), tries + 1
        result = _once(options, _compiled(options, now), now, progress)
    return _told(options, result, progress)


def _once(options: argparse.Namespace, plan: lp.Plan, now: datetime, progress: _Progress) -> lp.RunResult:
    return plan.run(
        now=now,
        observer=progress,
        full=options.full,
        outputs=options.output,
        window=options.window,
        **_bound(options),
    )


def _told(options: argparse.Namespace, result: lp.RunResult, progress: _Progress) -> int:
    """Tell what a run did; return its exit code."""
    progress.close()
    if options.json:
        _json(result.to_dict())
    _tell(result)
    _say(f"{result.status.replace('_', ' ')} in {result.seconds:.2f} s; record: {result.record}")
    return result.exit_code


class _Bound(TypedDict):
    max_files: int | None
    max_rows: int | None
    max_bytes: int | None
    since: str | None
    until: str | None


def _bound(options: argparse.Namespace) -> _Bound:
    return _Bound(
        max_files=options.max_files,
        max_rows=options.max_rows,
        max_bytes=options.max_bytes,
        since=options.since,
        until=options.until,
    )


def _tell(result: lp.RunResult) -> None:
    for segment in result.segments:
        _say(_line(segment))
        for gate in segment.gates:
            for check in gate.checks:
                if check.status != "pass":
                    _say(f"    {check.status}: {gate.node}: {check}")
        for line in _incomplete(segment.to_dict()):
            _say(line)
        if segment.error is not None:
            _say(f"    {segment.error}")
    for line in _left_out(result):
        _say(line)
    for warning in result.warnings:
        _say(f"warning: {warning}")
    if result.error is not None:
        _say(str(result.error))


def _left_out(result: lp.RunResult) -> Iterator[str]:
    """Say which files were not read, in a line each: also where nothing else has changed, their rows are in no output."""
    for file in result.corrupt[:10]:
        yield f"left out ({file.action}): {file}"
    if more := len(result.corrupt[10:]):
        yield f"left out: {more:,} more"


def _stream(options: argparse.Namespace) -> int:
    stream = lp.stream(
        lp.load(options.file),
        lp.Trigger(options.every, options.files, options.rows, options.or_after, options.once),
        **_bound(options),
        on_gate_failure=options.on_gate_failure,
        params=_pairs("--param", options.param),
        allow=options.allow,
    )
    code = 0
    with stream.until_signalled():
        for result in stream:
            code = result.exit_code
            if options.json:
                print(json.dumps(result.to_dict(), default=str, ensure_ascii=False), flush=True)
            else:
                print(_batch(result), flush=True)
            if code:
                _tell(result)
    return code


def _batch(result: lp.RunResult) -> str:
    """Return a batch in one line."""
    told = [f"{s.name} +{s.written:,}" for s in result.segments if s.output is not None and s.status == "done"]
    left = f"; {result.left:,} left" if result.left else ""
    if out := len(result.corrupt):
        left += f"; {out:,} file{'s' * (out != 1)} left out"
    status = result.status.replace("_", " ")
    what = ", ".join([f"{result.started:%Y-%m-%d %H:%M:%S} {status} in {result.seconds:.2f} s", *told])
    return f"{what}{left}"


def _line(segment: lp.SegmentResult) -> str:
    if segment.status == "unchanged":
        return f"{segment.name}: unchanged, version {segment.version}"
    if segment.status == "waiting":
        return f"{segment.name}: {segment.why}"
    if segment.status != "done":
        return f"{segment.name}: {segment.status.replace('_', ' ')}"
    rows = f"{segment.rows:,} rows, {segment.bytes:,} bytes in {segment.files} file{'s' * (segment.files != 1)}"
    where = f" → {segment.uri}" if segment.uri else " (kept for this run only)"
    version = f" version {segment.version}" if segment.version is not None else ""
    aside = sum(g.quarantined for g in segment.gates), sum(g.dropped for g in segment.gates)
    apart = "".join(f", {n:,} {word}" for n, word in zip(aside, ("quarantined", "dropped"), strict=True) if n)
    return f"{segment.name}: {rows}{apart}{where}{version}"


def _plan(options: argparse.Namespace) -> int:
    steps = _compiled(options).preview(full=options.full, window=options.window, **_bound(options))
    if options.json:
        _json(steps)
        return 0
    for step in steps:
        print(f"{step['name']}: {step['why']}")
        for reason in step.get("against", []):
            print(f"    all of it, for {reason}")
        for reason in step.get("later", []):
            print(f"    later runs will make all of it too, for {reason}")
        for source in step["reads"]:
            size = "unknown size" if source["bytes"] is None else f"{source['bytes']:,} bytes"
            some = "" if source["files"] == source["of"] else f" of {source['of']}"
            least = "at least " if source.get("at_least") else ""
            print(f"    reads {source['name']}: {least}{source['files']}{some} file{'s' * (source['of'] != 1)}, {size}")
        for node, count in step.get("windows", {}).items():
            print(f"    touches {node}: {count:,} window{'s' * (count != 1)}")
        for node, rules in step["gates"].items():
            print(f"    checks {node}: {', '.join(rules)}")
        for line in _incomplete(step):
            print(line)
        print(f"    writes {step['writes']}")
    return 0


def _incomplete(said: Mapping[str, Any]) -> Iterator[str]:
    """Say which closed windows lack something, in a line each."""
    windows = said.get("incomplete", [])
    for window in windows[:10]:
        held = "held back" if window["held"] else "given"
        lacks = ", ".join(window["lacks"])
        yield f"    incomplete: {window['start']}..{window['end']}, {held}, since {window['since']}: {lacks}"
    more = len(windows[10:]) + said.get("more_incomplete", 0)
    if more:
        yield f"    incomplete: {more:,} more"


def _status(options: argparse.Namespace) -> int:
    found = _compiled(options).status()
    if options.json:
        _json(found)
        return 0
    for output in found:
        if output["version"] is None:
            print(f"{output['output']}: nothing was committed yet")
            continue
        print(f"{output['output']}: version {output['version']} of {output['time']}, {output['rows']:,} rows")
        for name, of in output["consumed"].items():
            version = "" if of["version"] is None else f" of version {of['version']}"
            print(f"    made of {name}: {of['files']} file{'s' * (of['files'] != 1)}{version}, {of['bytes']:,} bytes")
        for line in _incomplete(output):
            print(line)
    return 0


def _history(options: argparse.Namespace) -> int:
    from lazypipe.records.record import Records
    from lazypipe.storage import uri as uris

    plan = _compiled(options)
    records = Records(uris.join(uris.resolve(plan.pipeline.state, plan.pipeline.base), "runs"))
    found = lp.history(plan, options.output).to_dicts()
    found = [{**one, "why": records.why(one["run"], options.output)} for one in found]
    if options.json:
        _json(found)
        return 0
    for one in found:
        why = f": {one['why']}" if one["why"] else ""
        at = f"{one['version']}: {one['time']:%Y-%m-%d %H:%M:%S}"
        print(f"{at} {one['mode']}, {one['rows']:,} rows, run {one['run']}{why}")
    if not found:
        _say(f"{options.output}: nothing was committed yet")
    return 0


def _rollback(options: argparse.Namespace) -> int:
    made = lp.rollback(_compiled(options), options.output, version=options.version)
    if options.json:
        _json({"output": options.output, "version": made})
    _say(f"{options.output}: version {options.version} is in force again, as version {made}")
    return 0


def _explain(options: argparse.Namespace) -> int:
    text = _compiled(options).explain(options.name, options.kind)
    _json({"name": options.name, "kind": options.kind, "plan": text}) if options.json else print(text)
    return 0


def _check(options: argparse.Namespace) -> int:
    plan = _compiled(options)
    counts = {
        "sources": len(plan.pipeline.sources),
        "stages": len(plan.pipeline.stages),
        "outputs": len(plan.pipeline.outputs),
    }
    if options.json:
        _json({"status": "ok", **counts})
    told = (f"{n} {name if n != 1 else name.removesuffix('s')}" for name, n in counts.items())
    _say(f"{options.file} is right: {', '.join(told)}")
    return 0


def _schema(options: argparse.Namespace) -> int:
    if options.file is None:
        _json(lp.json_schema())
        return 0
    plan = _compiled(options)
    names = [options.name] if options.name else list(plan.nodes)
    schemas = {n: {c: str(t) for c, t in plan.schema(n).items()} for n in names}
    if options.json:
        _json(schemas)
        return 0
    for name, columns in schemas.items():
        print(name)
        width = max(map(len, columns), default=0)
        for column, dtype in columns.items():
            print(f"    {column:<{width}}  {dtype}")
    return 0


def _lineage(options: argparse.Namespace) -> int:
    found: lp.Lineage | lp.Reach = _compiled(options).lineage(optimized=options.optimized)
    if options.name:
        assert isinstance(found, lp.Lineage)
        found = found.downstream(options.name) if options.downstream else found.upstream(options.name)
    elif options.downstream:
        raise lp.LazypipeError("--downstream needs a column, stage or rule; name one after the file")
    form = "json" if options.json else options.format
    texts = {"text": found.__str__, "json": found.to_json, "dot": found.to_dot, "mermaid": found.to_mermaid}
    print(texts[form]())
    return 0


def _show(options: argparse.Namespace) -> int:
    import polars as pl

    plan = _compiled(options)
    try:
        rows = plan.scan(options.output).head(options.rows).collect()
    except (OSError, pl.exceptions.PolarsError) as error:  # of files that were there when they were committed
        what, fix = (
            f"rows cannot be read: {first_line(error)}",
            "restore the file from a backup, roll back, or run in full",
        )
        raise lp.StorageError(what, uri=plan.redact(_place(plan, options.output)), fix=fix) from error
    with pl.Config(tbl_rows=-1, tbl_cols=-1):  # all that was asked for
        _json(rows.to_dicts()) if options.json else print(rows)
    return 0


def _place(plan: lp.Plan, output: str) -> str:
    """Return where an output is, or else its name: what stands beside it has none of its own."""
    return plan.outputs[output].to if output in plan.outputs else output


def _replay(options: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    found = _compiled(options, now).replay(options.output, now=now)
    if options.json:
        counts = {"healed": found.healed, "superseded": found.superseded, "remaining": found.remaining}
        _json({"output": found.output, **counts, "version": found.version})
    version = f" in version {found.version}" if found.version is not None else ""
    _say(f"{found.output}: {found.healed:,} rows healed{version}, {found.superseded:,} delivered anew by their source")
    _say("1 row remains in quarantine" if found.remaining == 1 else f"{found.remaining:,} rows remain in quarantine")
    for warning in found.warnings:
        _say(f"warning: {warning}")
    return 0


def _trace(options: argparse.Namespace) -> int:
    found = _compiled(options).trace(options.output, _pairs("--key", options.key), version=options.version)
    _json(found.to_dict()) if options.json else print(found.to_markdown())
    return 0


def _diff(options: argparse.Namespace) -> int:
    found = lp.diff(_table(options.a), _table(options.b), key=options.key)
    _json(found.to_dict()) if options.json else print(found.to_markdown(options.rows))
    return 0


def _table(text: str) -> str | tuple[str, int]:
    uri, at, version = text.rpartition("@")
    return (uri, int(version)) if at and version.isdecimal() else text


def _of(target: str) -> str | lp.Pipeline:
    return lp.load(target) if target.endswith((".yaml", ".yml", ".json")) else target


def _ledger(options: argparse.Namespace) -> int:
    ledger = lp.ledger(_of(options.file))
    if options.verify or options.data:
        found = ledger.verify(_head(options.head), data=options.data)
        _json(found.to_dict()) if options.json else print(found)
        return 0 if found.ok else 3
    told: Sequence[lp.Holding | lp.Entry]
    told = ledger.runs(options.output) if options.containing is None else ledger.containing(options.containing)
    if options.json:
        _json([one.to_dict() for one in told])
    else:
        for one in told:
            print(one)
    if not told:
        none = (
            f"no output holds data from {options.containing}" if options.containing else "there are no records of runs"
        )
        _say(f"{none} in {ledger.uri}")
    return 0


def _head(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    number, _, digest = text.partition(":")
    if not number.isdecimal() or not digest:
        raise lp.LazypipeError(f"--head {text!r} is no head of a ledger; write its number and hash: --head 12:af13…")
    return int(number), digest


def _audit(options: argparse.Namespace) -> int:
    report = lp.audit_report(_of(options.file), options.output, options.version)
    print(report.to_json() if options.json else report.to_markdown())
    return 0 if report.ok else 3


def _vacuum(options: argparse.Namespace) -> int:
    from lazypipe.run.maintenance import outlook
    from lazypipe.spec.model import Param

    is_definition = options.target.endswith((".yaml", ".yml", ".json"))
    try:
        age: timedelta = Param("duration").parse(options.older_than)
    except ValueError as error:
        raise lp.LazypipeError(f"--older-than: {error}") from None
    target = lp.load(options.target) if is_definition else options.target
    found = outlook(target, options.keep)
    deleted = lp.vacuum(target, keep=options.keep, older_than=age, dry_run=options.dry_run)
    if not deleted and not is_definition:
        lp.scan(options.target)  # which says so if there is no dataset
    if options.json:
        _json(
            {
                "deleted": deleted,
                "versions": {o.uri: o.ending for o in found if o.ending},
                "dead_rows": {o.uri: o.dead for o in found if o.dead},
            }
        )
    for path in deleted:
        _say(path)
    can = "can no longer be read or rolled back to"
    for of in found:
        if of.ending:
            _say(
                f"{of.uri}: {_versions(of.ending)} {can if not options.dry_run else f'{can} then; --keep N keeps the last N'}"
            )
        if of.held:
            _say(f"{of.uri}: {_versions(of.held)} kept, for a feed of changes, or the next run, to go on from there")
        if of.dead:
            rows, it = (
                ("1 row that is gone still stands", "it")
                if of.dead == 1
                else (f"{of.dead:,} rows that are gone still stand", "them")
            )
            _say(
                f"{of.uri}: {rows} in its files, where readers that do not know its log see {it}; "
                f"lazypipe compact {of.uri} --dead 0, and vacuum again, takes {it} out"
            )
    _say(f"{len(deleted)} {'would be ' if options.dry_run else ''}deleted")
    return 0


def _versions(numbers: Sequence[int]) -> str:
    return f"version {numbers[0]}" if len(numbers) == 1 else f"versions {numbers[0]} to {numbers[-1]}"


def _optimize(options: argparse.Namespace) -> int:
    readers = [lp.load(file).compile() for file in options.pipeline]
    made = lp.optimize.rewrite(
        options.dataset,
        options.goal,
        workload=lp.optimize.workload(options.dataset, readers),
        partition_by=options.partition_by,
        budget=options.budget,
        dry_run=options.dry_run,
    )
    return _rewritten(made, options)


def _compact(options: argparse.Namespace) -> int:
    return _rewritten(
        lp.optimize.compact(options.dataset, target=options.target, dead=options.dead, dry_run=options.dry_run), options
    )


def _rewritten(made: lp.optimize.Rewrite, options: argparse.Namespace) -> int:
    if options.json:
        _json(made.to_dict())
    elif made.tasks:
        print(made.to_markdown())
    _say(str(made))
    return 0


class _Progress:
    """One updating line on a terminal; nothing elsewhere. Called from several threads."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = 0.0

    def __call__(self, segment: str, number: int, count: int, rows: int) -> None:
        """Show where the run is."""
        now = time.monotonic()
        if self._live and now - self._last > 0.1:
            self._last = now
            print(f"\r\x1b[K[{number}/{count}] {segment}: {rows:,} rows", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the line away."""
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _json(value: Any) -> None:
    print(json.dumps(_finite(value), indent=1, default=str, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    """Return a value with text in the place of what JSON has no number for: NaN and infinities."""
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
