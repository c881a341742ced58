"""Whatever is changed in a definition that has run: the next run gives what one in a new place gives, and the one after it does nothing."""

from __future__ import annotations

import copy
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.properties.scale import at_scale
from tests.properties.test_incremental import (
    ACTIONS,
    EACH,
    RULES,
    World,
    called,
    counts,
    ended,
    exports,
    made_again,
    pipelines,
)

# of each row, what may stand in the place of the others
WORDS = [
    ["inner", "left", "semi", "anti"],
    ["left", "full", "right"],
    ["any", "none", "first", "last"],
    ["quarantine", "drop", "warn", "fail"],
    ["dense", "ordinal", "min", "max", "average"],
    ["backward", "forward", "nearest"],
    ["sum", "len", "max", "mean", "median", "min"],
    ["1d", "12h", "6h", "1mo"],
    ["2h", "6h", "8h"],
    ["-4h", "-2h", "0h", "2h"],
    ["left", "right", "both", "neither", "none"],
    ["m:1", "1:m", "1:1"],
    ["a", "b", "c"],
]
# what is made of SQL that holds some words
TEXT = [
    (r"\bsum\(", "max("),
    (r"\bmax\(", "min("),
    (r"\bmin\(", "max("),
    (r"\bavg\(", "sum("),
    (r"\bmedian\(", "max("),
    (r"\bcount\(\*\)", "sum(1)"),
    (r"count\(DISTINCT", "count("),
    (r"\bcount\((\w+)\)", r"count(DISTINCT \1)"),
    (r" DESC", ""),
    (r" > ", " >= "),
    (r" < ", " <= "),
    (r"\bOR\b", "AND"),
    (r"\bAND\b", "OR"),
    (r"IS NULL", "IS NOT NULL"),
    (r"IS NOT NULL", "IS NULL"),
    (r"UNION ALL", "UNION"),
    (r"LEFT JOIN", "JOIN"),
    (r"EXCEPT", "INTERSECT"),
    (r"rank\(\)", "dense_rank()"),
    (r"SELECT DISTINCT", "SELECT"),
    (r" \* ", " + "),
    (r" \+ ", " - "),
    (r"NULLS FIRST", "NULLS LAST"),
]


Place = tuple[Any, ...]


def places(node: Any, path: Place = ()) -> Iterator[Place]:
    """Yield where something can be changed."""
    if path:
        yield path
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(child, (*path, key))


def worded(text: str, how: int) -> str:
    """Return a word of the same kind, or SQL that means something else; the same text where there is none."""
    ways = [w for words in WORDS if text in words for w in words if w != text]
    ways += [re.sub(old, new, text, count=1) for old, new in TEXT if re.search(old, text)]
    numbers = re.finditer(r"(?<![\w.'])\d+(?![\w.'])", text)
    ways += [text[: m.start()] + str(int(m[0]) + 1 + how % 2) + text[m.end() :] for m in numbers]
    return ways[how % len(ways)] if ways else text


def changed(data: dict[str, Any], place: int, how: int, names: dict[str, str]) -> dict[str, Any]:
    """Return a definition of which one word, number, step or rule is another, is gone, or has come."""
    data = copy.deepcopy(data)
    tree = {"stages": data["stages"], "gates": {n: s["gate"] for n, s in data["sources"].items() if "gate" in s}}
    spots = [p for p in places(tree) if len(p) > 2 and "from" not in (p[2], p[-1])]
    if not spots:
        return data
    *above, key = spots[place % len(spots)]
    holder: Any = tree
    for part in above:
        holder = holder[part]
    value = holder[key]
    match value:
        case bool():
            holder[key] = not value
        case int():
            holder[key] = value + (1, -1, 5)[how % 3]
        case str():
            holder[key] = worded(value, how)
        case list() if key in ("do", "gate"):
            new = called(EACH[how % len(EACH)] if key == "do" else [RULES[how % len(RULES)]], names)
            where = how % (len(value) + 1)
            holder[key] = [*value[:where], *json.loads(json.dumps(new).replace("{}", f"_new{how}")), *value[where:]]
        case list() if value:
            holder[key] = value[1:] if how % 3 else [*value[1:], value[0]]
        case dict() if isinstance(holder, list) and (how % 2 or len(holder) < 2):
            del holder[key]
        case dict() if isinstance(holder, list):
            other = (key + 1) % len(holder)
            holder[key], holder[other] = holder[other], holder[key]
        case dict() if len(value) > 1:
            del value[[*value][how % len(value)]]
    return data


def compiles(world: World) -> bool:
    try:
        world.compiled("kept")
    except lp.LazypipeError:
        return False
    return True


@given(
    data=pipelines(),
    actions=ACTIONS,
    edits=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500), st.booleans()), min_size=2, max_size=6),
)
@settings(max_examples=settings().max_examples // 2)
def test_the_next_run_is_one_of_the_new_definition(
    data: dict[str, Any], actions: list[tuple[str, int, Any, bool]], edits: list[tuple[int, int, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(data["scale"]):
        world = World(Path(folder), data)
        world.run("kept")
        for number, (place, how, also) in enumerate(edits):
            old = world.data
            world.data = changed(old, place, how, world.called)
            if world.data == old or not compiles(world):
                world.data = old
                continue
            action, index, rows, _ = actions[number % len(actions)]
            if also and action not in ("edit", "lay"):
                world.act(action, index, rows)
            result, fresh = world.run("kept"), world.run(f"fresh{number}")
            assert ended(result) == ended(fresh), (old, world.data, result.segments, fresh.segments)
            if fresh.status != "done":
                continue
            kept, anew = world.held("kept"), world.held(f"fresh{number}")
            for name in ended(fresh):
                file = f"{name}.{data['outputs'][name]['format']}" if name in exports(data) else name
                assert kept.get(file) == anew.get(file), (old, world.data, result.segments)
                assert kept.get(f"{name}__quarantine") == anew.get(f"{name}__quarantine"), (old, world.data)
            expected = counts(fresh)
            assert counts(result) == {n: expected[n] for n in counts(result)}
            again = world.run("kept")
            assert {s.status for s in again.segments if s.output not in made_again(world.data)} <= {"unchanged"}
            assert world.held("kept") == kept
