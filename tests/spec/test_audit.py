"""``audit``: a word or a mapping, the same in YAML, JSON and Python, and every mistake with its place."""

from __future__ import annotations

from typing import Any

import pytest

import lazypipe as lp
from lazypipe.spec.model import Audit

TEXT = "version: 1\nname: p\naudit: {}\nsources: {{a: {{uri: a.csv}}}}\noutputs: {{a: {{to: out}}}}\n"

WRITTEN: dict[str, tuple[Any, Audit]] = {
    "off": ("off", Audit("off")),
    "required": ("required", Audit("required")),
    "recorded": ("recorded", Audit()),
    "{mode: off}": ({"mode": "off"}, Audit("off")),
    "{}": ({}, Audit()),
    "{ledger: books, key: '${K}', actor: me, hash: all}": (
        {"ledger": "books", "key": "${K}", "actor": "me", "hash": "all"},
        Audit("recorded", "books", "${K}", "me", "all"),
    ),
    "{mode: required, hash: local}": ({"mode": "required", "hash": "local"}, Audit("required")),
}


@pytest.mark.parametrize("written", WRITTEN)
def test_yaml_and_python_say_the_same_and_round_trip(written: str) -> None:
    plain, expected = WRITTEN[written]
    pipe = lp.Pipeline.from_yaml(TEXT.format(written))
    assert pipe.audit == expected
    assert lp.pipeline("p", audit=plain).source("a", "a.csv").output("a", "out").build() == pipe
    assert lp.Pipeline.from_yaml(pipe.to_yaml()) == pipe
    assert lp.Pipeline.from_json(pipe.to_json()) == pipe
    assert ("audit" in pipe.to_yaml()) == (expected != Audit())


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("requird", "<yaml>:3:1: 'audit' cannot be 'requird'; did you mean 'required'?"),
        ("true", "<yaml>:3:1: 'audit' cannot be true; known values: off, recorded, required"),
        ("[]", "<yaml>:3:1: 'audit' cannot be a list; known values: off, recorded, required"),
        ("{mode: on}", "<yaml>:3:9: 'mode' cannot be 'on'; known values: off, recorded, required"),
        ("{ledgr: x}", "<yaml>:3:9: unknown key 'ledgr' of 'audit'; did you mean 'ledger'?"),
        ("{ledger: 3}", "<yaml>:3:9: 'ledger' must be text, not 3; put it in quotes: \"3\""),
        ("{actor: ''}", "<yaml>:3:9: 'actor' is empty; write who runs it"),
        ("{hash: none}", "<yaml>:3:9: 'hash' cannot be 'none'; known values: all, local"),
    ],
)
def test_a_mistake_is_told_with_its_place(written: str, message: str) -> None:
    with pytest.raises(lp.DefinitionError) as caught:
        lp.Pipeline.from_yaml(TEXT.format(written))
    assert str(caught.value) == message
