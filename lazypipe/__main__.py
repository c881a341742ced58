"""The command line: a thin face over the API. Human text on stderr, results on stdout, JSON on stdout with ``--json``.

Exit codes: 0 done, 1 a gate failed, 2 the definition or the command line is wrong, 3 the run could not be completed.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import lazypipe as lp
from lazypipe.cli import definitions, files, past, rows, rules, runs
from lazypipe.cli.commands import Commands, Parser, Refused, prepare_streams, say, write_json, wrong
from lazypipe.errors import LazypipeError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    prepare_streams()
    parser = _parser()
    try:
        options = parser.parse(arguments)
    except Refused as refused:
        if "--json" in (sys.argv[1:] if arguments is None else arguments):
            write_json({"status": "error", "error": refused.why})
        raise
    try:
        code = int(options.command(options))
        sys.stdout.flush()
        return code
    except LazypipeError as error:
        if options.json:
            # a run that did not begin is told like one that did, for whoever reads its segments
            write_json({**wrong(error), **({"segments": []} if options.command is runs.run else {})})
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return 3
    except BrokenPipeError:  # the reader of our output has left: | head
        sys.stdout = None  # so that Python's own flush at exit does not fail again
        return 0
    except Exception as error:  # 1 would say that a gate failed
        if isinstance(error, OSError):
            # of our output, such as on a full disk, Python names no file
            ours = error.errno is not None and error.filename is None
            sys.stdout = None
            say(f"the result could not be written: {error}" if ours else str(error))
        else:
            say(traceback.format_exc().rstrip())
        return 3


def _parser() -> Parser:
    parser = Parser(
        prog="lazypipe",
        description="Data pipelines as Polars lazy plans.",
        epilog="To start with a new definition: 'check FILE' reports its mistakes, 'run FILE' writes its outputs, 'show FILE OUTPUT' shows "
        "the first rows of one. 'COMMAND --help' explains the options of a command. "
        "Exit codes: 0 success, 1 a gate failed, 2 wrong definition or command line, 3 the run could not be completed.",
    )
    parser.add_argument("--version", action="version", version=f"lazypipe {lp.__version__}")
    commands = Commands(parser)
    for about in (runs, definitions, rules, rows, past, files):
        about.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
