"""Commands that run a pipeline, or say what a run would do."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict

import lazypipe as lp
from lazypipe.cli.commands import (
    SEVERAL,
    Commands,
    as_far_as_read,
    compiled,
    definitions,
    incomplete,
    loaded,
    pairs,
    plans,
    say,
    tell_each,
    write_json,
)
from lazypipe.errors import counted

__all__ = ["add", "run"]


def add(commands: Commands) -> None:
    """Add the commands that run a pipeline, or say what that would do."""
    what = "Run pipelines: write, audit and publish what has changed. Several run in the order of their dependencies."
    once = commands.over_plan("run", run, what, file="+", what=SEVERAL)
    once.add_argument(
        "--full", action="store_true", help="recompute all outputs, also those whose inputs have not changed"
    )
    once.add_argument(
        "--window",
        metavar="START..END",
        help="backfill: of the files not read before, take only those with event times in this range",
    )
    once.add_argument("--chunk", metavar="DURATION", help="process the window in pieces of this length, one run each")
    text = "Show what a run would do, and why. Reads no data."
    plan = commands.over_plan("plan", _plan, text, file="+", what=SEVERAL)
    for made in (once, plan):
        text = "only this output and what it is made from; may be repeated"
        made.add_argument("--output", action="append", default=[], metavar="NAME", help=text)
    plan.add_argument("--full", action="store_true", help="plan a run with --full")
    plan.add_argument("--window", metavar="START..END", help="plan a run with --window")
    stream = commands.over_plan(
        "stream",
        _stream,
        "Run continuously, in batches of newly arrived data. SIGINT or SIGTERM stops after the current batch.",
    )
    _stream_options(stream)
    for made in (once, stream):
        text = "pull rows from a Python object into the folder of a source that is not fed by files; may be repeated"
        made.add_argument("--pull", action="append", default=[], metavar="SOURCE=MODULE:OBJECT", help=text)
    for made, what in ((once, "run"), (plan, "run"), (stream, "batch")):
        _bound_options(made, what)
    replay = commands.over_plan(
        "replay", _replay, "Check an output's quarantined rows again, and publish those that now pass."
    )
    replay.add_argument("output", help="the output")


def _stream_options(stream: argparse.ArgumentParser) -> None:
    stream.add_argument("--every", default="10s", metavar="TIME", help="how often to look for new files. Default: 10s")
    stream.add_argument(
        "--files", type=int, metavar="N", help="start a batch once N new files have arrived. Default: 1"
    )
    stream.add_argument("--rows", type=int, metavar="N", help="start a batch once N new rows have arrived")
    stream.add_argument(
        "--or-after", metavar="TIME", help="with --files or --rows: start a batch after TIME even if fewer have arrived"
    )
    stream.add_argument("--once", action="store_true", help="process what has arrived, then stop")
    stream.add_argument(
        "--on-gate-failure",
        choices=["stop", "continue"],
        default="stop",
        help="whether a failed gate stops the stream. Default: stop",
    )


def _bound_options(made: argparse.ArgumentParser, what: str) -> None:
    for name in ("files", "rows", "bytes"):
        text = f"process at most N new {name} per {what}; the rest is left to the next one"
        made.add_argument(f"--max-{name}", type=int, metavar="N", help=text)
    for name, when in (("since", "at this time or later"), ("until", "before this time")):
        text = f"process only new files written {when}; the others are left to later runs"
        made.add_argument(f"--{name}", metavar="TIME", help=text)


def run(options: argparse.Namespace) -> int:
    """Run a pipeline, or a window of it piece by piece; or several, one after the other."""
    files = definitions(options.file)
    if len(files) > 1:
        return _run_all(options, files)
    options.file = files[0]
    try:
        return _run_one(options)
    except lp.RunError as error:
        if error.result is None:
            raise
        # what it had published until then is told, too
        return _told(options, error.result, _Progress())


def _run_one(options: argparse.Namespace) -> int:
    plan, now = _begun(options)
    from lazypipe.run.retry import TRIES

    progress = _Progress()
    if options.chunk is not None:
        if options.window is None or options.full:
            raise lp.LazypipeError("--chunk is for a run with --window, and without --full; write --window START..END")
        if options.since is not None or options.until is not None:
            what = "--chunk splits a range of event time, and --since and --until are about when files were written"
            raise lp.LazypipeError(f"{what}; leave one of them out")
        code = 0
        for piece in plan.backfill(options.window, chunk=options.chunk, observer=progress):
            code = _told(options, piece, progress)
        return code
    result, tries = _once(options, plan, now, progress), 1
    while result.overtaken and tries < TRIES:
        progress.close()
        say("another run committed in the meantime; running again, over what is there now")
        now, tries = datetime.now(UTC), tries + 1
        result = _once(options, compiled(options, now, options.output, skip_unreadable=True), now, progress)
    return _told(options, result, progress)


def _begun(options: argparse.Namespace) -> tuple[lp.Plan, datetime]:
    """Return the plan of a definition, and its time, after what is to be pulled for it; what is wrong is recorded."""
    try:
        for pulled in loaded(options.file).pull(_readers(options)) if options.pull else ():
            say(f"{pulled.source}: {counted(pulled.rows, 'row')} pulled → {pulled.uri}")
        now = datetime.now(UTC)
        return compiled(options, now, options.output, skip_unreadable=options.chunk is None), now
    except (lp.DefinitionError, lp.SourceError, lp.StorageError) as error:
        from lazypipe.api.together import not_begun

        for warning in not_begun(options.file, error, outputs=options.output):
            say(f"warning: {warning}")
        raise


def _run_all(options: argparse.Namespace, files: Sequence[str]) -> int:
    for name, given in (("--pull", options.pull), ("--chunk", options.chunk)):
        if given:
            raise lp.LazypipeError(f"{name} works with one definition only; run that one by itself")
    progress = _Progress()
    done: dict[str, lp.RunResult] = {}
    read = as_far_as_read(files)
    from lazypipe.api.together import run_each

    for number, result in run_each(
        read,
        params=pairs("--param", options.param),
        allow=options.allow,
        outputs=options.output,
        observer=progress,
        full=options.full,
        window=options.window,
        **_bound(options),
    ):
        progress.close()
        done[files[number]] = result
        say(f"{files[number]}:")
        _tell(result)
    found = lp.RunResults(done)
    if options.json:
        write_json({"status": found.status, "files": {file: result.to_dict() for file, result in done.items()}})
    return found.exit_code


def _once(options: argparse.Namespace, plan: lp.Plan, now: datetime, progress: _Progress) -> lp.RunResult:
    return plan.run(
        now=now,
        observer=progress,
        full=options.full,
        window=options.window,
        **_bound(options),
    )


def _told(options: argparse.Namespace, result: lp.RunResult, progress: _Progress) -> int:
    """Tell what a run did; return its exit code."""
    progress.close()
    if options.json:
        write_json(result.to_dict())
    _tell(result)
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
        say(_line(segment))
        if (why := _beside(segment)) is not None:
            say(f"    {why}")
        for gate in segment.gates:
            for check in gate.checks:
                if check.status != "pass" or check.repaired:
                    say(f"    {check.status}: {gate.node}: {check}")
        for line in incomplete(segment.to_dict()):
            say(line)
        if segment.error is not None:
            say(f"    {segment.error}")
    for line in _left_out(result):
        say(line)
    for warning in result.warnings:
        say(f"warning: {warning}")
    if result.error is not None:
        say(str(result.error))
    if result.record:
        say(f"{result.status.replace('_', ' ')} in {result.seconds:.2f} s; record: {result.record}")


def _left_out(result: lp.RunResult) -> Iterator[str]:
    """Say which files were not read, in a line each: also where nothing else has changed, their rows are in no output."""
    for file in result.corrupt[:10]:
        yield f"left out ({file.action}): {file}"
    if more := len(result.corrupt[10:]):
        yield f"left out: {more:,} more"


def _readers(options: argparse.Namespace) -> dict[str, Any]:
    """Return what is to pull for sources; a class is one that is made without arguments."""
    from pkgutil import resolve_name

    found: dict[str, Any] = {}
    for name, where in pairs("--pull", options.pull).items():
        try:
            if ":" not in where:
                raise ValueError("it names no object")
            made = resolve_name(where)
            found[name] = made() if isinstance(made, type) else made
        except Exception as error:  # whatever a module does when it is imported
            reason = str(error) or type(error).__name__
            raise lp.LazypipeError(f"--pull {name}={where}: {reason}; write --pull {name}=module:Object") from error
    return found


def _stream(options: argparse.Namespace) -> int:
    stream = lp.stream(
        loaded(options.file),
        lp.Trigger(options.every, options.files, options.rows, options.or_after, options.once),
        pull=_readers(options),
        **_bound(options),
        on_gate_failure=options.on_gate_failure,
        params=pairs("--param", options.param),
        allow=options.allow,
        on_retry=lambda error, wait: say(f"{error}; again in {max(1, round(wait))} s"),
    )
    code, told, batches = 0, list[str](), 0
    with stream.until_signalled():
        for result in stream:
            code, batches = result.exit_code, batches + 1
            if options.json:
                write_json(result.to_dict(), indent=None)
            else:
                print(_batch(result), flush=True)
            # what keeps failing is reported once
            failed = [f"{s.name}: {s.status}: {s.error}" for s in result.segments if s.error is not None]
            if code and (failed != told or not failed):
                _tell(result)
            told = failed
    if options.once and not batches:
        say("nothing new")
    return code


def _batch(result: lp.RunResult) -> str:
    """Return a batch in one line."""
    made = [s for s in result.segments if s.output is not None]
    told = [f"{s.name} +{s.written:,}" for s in made if s.status == "done"]
    told += [f"{s.name} {s.status.replace('_', ' ')}" for s in made if s.status in ("error", "blocked", "gate_failed")]
    left = f"; {result.left:,} left" if result.left else ""
    if out := len(result.corrupt):
        left += f"; {out:,} file{'s' * (out != 1)} left out"
    status = result.status.replace("_", " ")
    what = ", ".join([f"{result.started:%Y-%m-%d %H:%M:%S} {status} in {result.seconds:.2f} s", *told])
    return f"{what}{left}"


def _beside(segment: lp.SegmentResult) -> str | None:
    """Return why a segment did what it did, where it left out what somebody may wait for."""
    from lazypipe.incremental.feed import HOLDS

    why = segment.why or ""
    told = segment.status in ("done", "unchanged") and (HOLDS in why or "waiting for " in why)
    return why if told else None


def _line(segment: lp.SegmentResult) -> str:
    if segment.status == "unchanged":
        return f"{segment.name}: unchanged" + (f", version {segment.version}" if segment.version is not None else "")
    if segment.why and segment.status in ("waiting", "blocked"):
        return f"{segment.name}: {segment.why}"
    if segment.status != "done":
        return f"{segment.name}: {segment.status.replace('_', ' ')}"
    rows = f"{counted(segment.rows, 'row')}, {segment.bytes:,} bytes in {counted(segment.files, 'file')}"
    where = f" → {segment.uri}" if segment.uri else " (kept for this run only)"
    version = f" version {segment.version}" if segment.version is not None else ""
    aside = sum(g.quarantined for g in segment.gates), sum(g.dropped for g in segment.gates)
    apart = "".join(f", {n:,} {word}" for n, word in zip(aside, ("quarantined", "dropped"), strict=True) if n)
    return f"{segment.name}: {rows}{apart}{where}{version}"


def _plan(options: argparse.Namespace) -> int:
    files = definitions(options.file)
    if len(files) > 1:
        return _plan_all(options, files)
    options.file = files[0]
    steps = _preview(options, compiled(options, outputs=options.output, skip_unreadable=True))
    write_json(steps) if options.json else _print_steps(steps)
    return _code_of(steps)


def _code_of(steps: Sequence[Mapping[str, Any]]) -> int:
    """Return the exit code of a run that would take these steps: 3 if a source cannot be read."""
    return lp.SourceError.exit_code if any(s["how"] == "error" for s in steps) else 0


def _plan_all(options: argparse.Namespace, files: Sequence[str]) -> int:
    """Print what runs of several definitions would do, given what is there now: what an earlier one would write is not known to later ones."""
    read = as_far_as_read(files)
    from lazypipe.api.together import definitions, held_up_in, order_of

    pipes = definitions(read)
    order = order_of(read, options.output)
    some = [files[n] for n in order.numbers]
    asked = {pipes[n].name: names for n, names in order.asked.items()}
    found = plans(some, options, asked, skip_unreadable=True)
    written: set[tuple[int, str]] = set()
    lacking: dict[tuple[int, str], lp.LazypipeError] = {}
    for place, number in enumerate(order.numbers):
        one = found[place] = held_up_in(found[place], order.of_outputs(number, lacking), pipes, lacking)
        if isinstance(one, lp.LazypipeError):
            lacking |= {(number, name): one for name in pipes[number].outputs}
        else:
            lacking |= {(number, name): why.error for name, why in one.lacking.items()}

    def tell(number: int, plan: lp.Plan) -> list[dict[str, Any]]:
        fed = order.of_outputs(order.numbers[number], written)
        ahead = {f.source: f"{pipes[f.by].name}/{f.output}" for f in fed}
        steps = _preview(options, plan, ahead, is_fed=order.is_fed(order.numbers[number]))
        written.update(
            (order.numbers[number], s["name"])
            for s in steps
            if s["how"] not in ("none", "wait", "judge", "state", "error", "blocked")
        )
        return steps

    return tell_each(options, some, found, tell, _print_steps, _code_of)


def _preview(
    options: argparse.Namespace, plan: lp.Plan, ahead: Mapping[str, str] | None = None, *, is_fed: bool = False
) -> list[dict[str, Any]]:
    from lazypipe.api.plan import when_fed

    bound: dict[str, Any] = {"window": options.window, **_bound(options)}
    return plan.preview(full=options.full, ahead=ahead, **(when_fed(plan, bound) if is_fed else bound))


def _print_steps(steps: Sequence[Mapping[str, Any]]) -> None:
    for step in steps:
        print(f"{step['name']}: {step['why']}")
        for reason in step.get("against", []):
            print(f"    rebuilt in full, because {reason}")
        for reason in step.get("later", []):
            print(f"    later runs will rebuild it in full too, because {reason}")
        for source in step["reads"]:
            size = "unknown size" if source["bytes"] is None else f"{source['bytes']:,} bytes"
            some = "" if source["files"] == source["of"] else f" of {source['of']}"
            least = "at least " if source.get("at_least") else ""
            files = f"{least}{source['files']}{some} file{'s' * (source['of'] != 1)}"
            rows = "unknown rows" if source["rows"] is None else f"{source['rows']:,} row{'s' * (source['rows'] != 1)}"
            print(f"    reads {source['name']}: {files}, {size}, {rows}")
        for node, count in step.get("windows", {}).items():
            print(f"    touches {node}: {count:,} window{'s' * (count != 1)}")
        for node, rules in step["gates"].items():
            print(f"    checks {node}: {', '.join(rules)}")
        for line in incomplete(step):
            print(line)
        print(f"    writes {step['writes']}")


def _replay(options: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    found = compiled(options, now, [options.output]).replay(options.output, now=now)
    if options.json:
        counts = {"healed": found.healed, "superseded": found.superseded, "remaining": found.remaining}
        write_json({"output": found.output, **counts, "version": found.version, "elsewhere": found.elsewhere})
    version = f" in version {found.version}" if found.version is not None else ""
    say(
        f"{found.output}: {counted(found.healed, 'row')} healed{version}, {found.superseded:,} delivered again by their source"
    )
    say(f"{counted(found.remaining, 'row')} {'remains' if found.remaining == 1 else 'remain'} in quarantine")
    for name, count in found.elsewhere.items():
        say(_stays(name, count))
    for warning in found.warnings:
        say(f"warning: {warning}")
    return 0


def _stays(name: str, count: int) -> str:
    """Say what becomes of rows that no replay moves."""
    one = count == 1
    rows = counted(count, "row")
    stage = name.removesuffix("__late")
    if stage != name:
        them, their, windows = ("it", "its", "window") if one else ("them", "their", "windows")
        way = f"replay does not move {them}; with a longer allowed_lateness, the next run adds {them} to {their} {windows}"
        return f"{rows} came late to {stage}, and {'is' if one else 'are'} in {name}: {way}"
    return f"{rows} {'is' if one else 'are'} in {name}__quarantine, upstream of this gate: run with --full checks {'it' if one else 'them'} again"


class _Progress:
    """One updating line on a terminal that can do that; nothing elsewhere. Called from several threads."""

    def __init__(self) -> None:
        # a dumb terminal, such as an editor's, shows what moves the cursor as text
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._last = 0.0

    def __call__(self, segment: str, number: int, count: int, rows: int) -> None:
        """Show where the run is."""
        now = time.monotonic()
        if self._live and now - self._last > 0.1:
            self._last = now
            say(f"\r\x1b[K[{number}/{count}] {segment}: {rows:,} rows", end="")

    def close(self) -> None:
        """Take the line away."""
        if self._live:
            say("\r\x1b[K", end="")
