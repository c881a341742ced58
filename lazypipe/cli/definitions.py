"""Commands that read a definition, and no data."""

from __future__ import annotations

import argparse

import lazypipe as lp
from lazypipe.cli.commands import Commands, compiled, say, write_json

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add the commands that read a definition, and no data."""
    explain = commands.over_plan("explain", _explain, "Show the query plan of a source, stage or output.")
    explain.add_argument("name", help="source, stage or output")
    explain.add_argument("--kind", choices=["logical", "optimized", "physical"], default="optimized")
    commands.over_plan("check", _check, "Check a definition; run nothing.")
    what = "Show columns and types; without a file, the JSON Schema of definitions."
    schema = commands.over_plan("schema", _schema, what, file="?")
    schema.add_argument("name", nargs="?", help="source, stage or output. Default: all")
    lineage = commands.over_plan("lineage", _lineage, "Show where columns come from, or where one goes; read no data.")
    lineage.add_argument("name", nargs="?", help="a column (stage.column), stage or rule. Default: everything")
    lineage.add_argument("--format", choices=["text", "json", "dot", "mermaid"], default="text")
    lineage.add_argument("--downstream", action="store_true", help="what depends on it, instead of what it depends on")
    lineage.add_argument("--optimized", action="store_true", help="only columns that something needs")


def _explain(options: argparse.Namespace) -> int:
    text = compiled(options).explain(options.name, options.kind)
    write_json({"name": options.name, "kind": options.kind, "plan": text}) if options.json else print(text)
    return 0


def _check(options: argparse.Namespace) -> int:
    plan = compiled(options)
    counts = {
        "sources": len(plan.pipeline.sources),
        "stages": len(plan.pipeline.stages),
        "outputs": len(plan.pipeline.outputs),
    }
    if options.json:
        write_json({"status": "ok", **counts})
    told = (f"{n} {name if n != 1 else name.removesuffix('s')}" for name, n in counts.items())
    say(f"{options.file} is right: {', '.join(told)}")
    return 0


def _schema(options: argparse.Namespace) -> int:
    if options.file is None:
        write_json(lp.json_schema())
        return 0
    plan = compiled(options)
    names = [options.name] if options.name else list(plan.nodes)
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
    found: lp.Lineage | lp.Reach = compiled(options).lineage(optimized=options.optimized)
    if options.name:
        assert isinstance(found, lp.Lineage)
        found = found.downstream(options.name) if options.downstream else found.upstream(options.name)
    elif options.downstream:
        raise lp.LazypipeError("--downstream needs a column, stage or rule; name one after the file")
    form = "json" if options.json else options.format
    texts = {"text": found.__str__, "json": found.to_json, "dot": found.to_dot, "mermaid": found.to_mermaid}
    print(texts[form]())
    return 0
