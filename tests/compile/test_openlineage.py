"""Where events go, as a definition says it: told wrong with the place, kept by a round trip, and without its secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lazypipe as lp

REST = """
sources: {a: {uri: a.csv, contract: {columns: {x: Int64}}}}
outputs: {b: {from: a, to: out}}
"""
HOST = "url: https://host, "
KEPT = (
    "events that cannot be sent are kept in a folder on this machine, and this is not one; write spool: a local folder"
)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("@openlineage: {}", "'openlineage' is empty; write at least one entry"),
        ("@openlineage: x", "'openlineage' must be a mapping, not 'x'; write openlineage: {url: …}"),
        ("openlineage: {@ulr: x}", "unknown key 'ulr' of 'openlineage'; did you mean 'url'?"),
        ("openlineage: {@url: 5}", "'url' must be text, not 5; put it in quotes: \"5\""),
        ("openlineage: {@attempts: 0}", "'attempts' is 0, less than 1; write 1 or more"),
        ("openlineage: {@timeout: 0}", "'timeout' is 0, less than 0.01; write 0.01 or more"),
        ("openlineage: {headers: {@X-A: 1}}", "'X-A' must be text, not 1; put it in quotes: \"1\""),
        (
            "openlineage: {@url: host}",
            "this is not the address of an endpoint; write http:// or https://, and the host",
        ),
        ("openlineage: {@url: '${NONE}'}", "environment variable NONE is not set; set it: export NONE=…"),
        ("openlineage: {headers: {X-A: '${NONE}'}}", "environment variable NONE is not set; set it: export NONE=…"),
        (
            f"openlineage: {{{HOST}headers: {{@X-A: '${{BAD}}'}}}}",
            "the value of header 'X-A' has characters that are not allowed in a header; use printable ASCII only",
        ),
        (
            f"openlineage: {{{HOST}@api_key: '${{BAD}}'}}",
            "the value of 'api_key' has characters that are not allowed in a header; use printable ASCII only",
        ),
        ("openlineage: {file: e, @spool: s}", "'spool' needs an endpoint, and there is none; add url"),
        ("openlineage: {@api_key: k}", "'api_key' needs an endpoint, and there is none; add url"),
        (f"openlineage: {{{HOST}@spool: 's3://b/s'}}", KEPT),
        (f"state: s3://b/s\n@openlineage: {{{HOST}timeout: 1}}", KEPT),
    ],
)
def test_wrong_settings_are_told_with_their_place(wrong: str, message: str) -> None:
    if "@" not in wrong:
        wrong = wrong.replace("headers", "@headers")
    before, after = wrong.split("@")
    text = "version: 1\nname: p\n" + before + after + REST
    line, column = (before.count("\n") + 3, len(before) - before.rfind("\n"))
    with pytest.raises(lp.DefinitionError) as caught:
        lp.Pipeline.from_yaml(text).compile(env={"BAD": "secret\nvalue"})
    assert str(caught.value) == f"<yaml>:{line}:{column}: {message}"


FULL: dict[str, Any] = {
    "url": "https://${HOST}:5000",
    "api_key": "${KEY}",
    "headers": {"X-Team": "data"},
    "namespace": "prod",
    "file": "events.ndjson",
    "spool": "waiting",
    "timeout": 1.5,
    "attempts": 2,
}


def test_settings_survive_a_round_trip(tmp_path: Path) -> None:
    pipe = lp.pipeline("p", base=str(tmp_path), openlineage=FULL)
    made = pipe.source("a", "a.csv", contract={"columns": {"x": "Int64"}}).output("b", "out", from_="a").build()
    for again in (lp.Pipeline.from_yaml(made.to_yaml()), lp.Pipeline.from_json(made.to_json())):
        assert again == made
        assert again.openlineage == FULL
    plan = made.compile(env={"HOST": "marquez", "KEY": "k3y"})
    assert plan.openlineage == {
        **FULL,
        "url": "https://marquez:5000",
        "api_key": "k3y",
        "file": f"{tmp_path}/events.ndjson",
        "spool": f"{tmp_path}/waiting",
    }
    assert plan.redact("k3y at marquez") == "${KEY} at ${HOST}"
    assert "k3y" not in repr(plan)


def test_a_namespace_alone_is_for_transports_that_are_passed() -> None:
    plan = lp.Pipeline.from_yaml("version: 1\nname: p\nopenlineage: {namespace: n}" + REST).compile()
    assert plan.openlineage == {"namespace": "n"}
