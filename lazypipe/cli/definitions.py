"""Commands that read only the definition, not the data."""

from __future__ import annotations

import argparse
from typing import Any

import lazypipe as lp
from lazypipe.cli.commands import (
    SEVERAL,
    Commands,
    and_others,
    compiled,
    definitions,
    plans,
    say,
    tell_each,
    write_json,
)
from lazypipe.errors import LazypipeError

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the commands that read a definition, and no data."""
    explain = commands.over_plan(
        "explain", _explain, "Show the query plan of a source, stage or output. Reads no data."
    )
    explain.add_argument("name", help="the source, stage or output")
    explain.add_argument(
        "--kind", choices=["logical", "optimized", "physical"], default="optimized", help="Default: optimized"
    )
    commands.over_plan("check", _check, "Check pipeline definitions without running them.", file="+", what=SEVERAL)
    what = "Show the columns and types of a pipeline. Without a file, print the JSON Schema of definitions."
    schema = commands.over_plan("schema", _schema, what, file="?")
    schema.add_argument("name", nargs="?", help="the source, stage or output. Default: all")
    text = "Show where columns come from, or what depends on them. Reads no data."
    more = f"{SEVERAL}; then a column (stage.column), stage or rule. Default: everything"
    lineage = commands.over_plan("lineage", _lineage, text, file="+", what=more)
    lineage.add_argument("--format", choices=["text", "json", "dot", "mermaid"], default="text", help="Default: text")
    lineage.add_argument(
        "--downstream",
        action="store_true",
        help="show what depends on the column, stage or rule, instead of what it depends on",
    )
    lineage.add_argument(
        "--optimized",
        action="store_true",
        help="show only columns that are really read, as in the optimized query plan",
    )


def _explain(options: argparse.Namespace) -> int:
    text = compiled(options).explain(options.name, options.kind)
    write_json({"name": options.name, "kind": options.kind, "plan": text}) if options.json else print(text)
    return 0


def _check(options: argparse.Namespace) -> int:
    files = definitions(options.file)
    if len(files) == 1:
        options.file = files[0]
        told = _checked(files[0], compiled(options))
        if options.json:
            write_json(told)
        return 0
    return tell_each(options, files, plans(files, options), lambda n, plan: _checked(files[n], plan))


def _checked(file: str, plan: lp.Plan) -> dict[str, Any]:
    """Say that a definition is right; return the same as data."""
    counts = {
        "sources": len(plan.pipeline.sources),
        "stages": len(plan.pipeline.stages),
        "outputs": len(plan.pipeline.outputs),
    }
    told = (f"{n} {name if n != 1 else name.removesuffix('s')}" for name, n in counts.items())
    say(f"{file} is right: {', '.join(told)}")
    return {"status": "ok", **counts}


def _schema(options: argparse.Namespace) -> int:
    if options.file is None:
        write_json(lp.json_schema())
        return 0
    plan = compiled(options)
    own = {o.stage for o in plan.outputs.values()} - {*plan.pipeline.sources, *plan.pipeline.stages}
    names = [options.name] if options.name else [n for n in plan.nodes if n not in own]
    schemas = {n: {c: str(t) for c, t in plan.schema(n).items()} for n in names}
    if options.json:
        write_json(schemas)
        return 0
    for name, columns in schemas.items():
        print(name)
        width = max(map(len, columns), default=0)
        for column, dtype in columns.items():
            print(f"    {column:<{width}}  {dtype}")
    return 0


def _lineage(options: argparse.Namespace) -> int:
    files, names = and_others(options.file)
    if len(names) > 1:
        what = f"{names[0]!r} and {names[1]!r} are two columns, stages or rules"
        raise lp.LazypipeError(f"{what}; name one, and definitions by files that end in .yaml, .yml or .json")
    if len(files) == 1:
        options.file = files[0]
        whole = compiled(options).lineage(optimized=options.optimized)
    else:
        made = []
        for plan in plans(files, options):
            if isinstance(plan, LazypipeError):
                raise plan
            made.append(plan)
        whole = lp.catalog(made, optimized=options.optimized)
    found: lp.Lineage | lp.Reach = whole
    if names:
        found = whole.downstream(names[0]) if options.downstream else whole.upstream(names[0])
    elif options.downstream:
        raise lp.LazypipeError("--downstream needs a column, stage or rule; name one after the file")
    form = "json" if options.json else options.format
    texts = {"text": found.__str__, "json": found.to_json, "dot": found.to_dot, "mermaid": found.to_mermaid}
    print(texts[form]())
    return 0
