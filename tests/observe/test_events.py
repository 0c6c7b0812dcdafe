"""The table of events, the page for operators and the calls in the code say the same."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from mqttbridge.observe.events import EVENTS
from tests.observe.events_page import PAGE, page

PACKAGE = Path(__file__).parents[2] / "mqttbridge"
LEVELS = ("debug", "info", "warning", "error", "critical")
NAME = re.compile(r"[a-z]+(\.[a-z_]+)+")
PYTHON_ONLY = {"exc_info", "burst"}
"""Arguments that turn into other fields, or are the throttle's own."""
UNIVERSAL = {"error", "exception"}


FILES = {"journal.db"}
"""What only looks like an event."""


class Call(NamedTuple):
    """One call of a logger, as it stands in the code."""

    where: str
    level: str
    name: str
    fields: frozenset[str]


def strings(node: ast.expr) -> list[str]:
    """Give the literal strings that an argument may be: one, or both sides of `a if … else b`."""
    if isinstance(node, ast.IfExp):
        return strings(node.body) + strings(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def methods(node: ast.expr) -> set[str]:
    """Give the methods that a call may go to: `log.info`, or `(log.debug if … else log.warning)`."""
    if isinstance(node, ast.IfExp):
        return methods(node.body) | methods(node.orelse)
    return {node.attr} if isinstance(node, ast.Attribute) else set()


def level_of(call: ast.Call) -> str:
    """Give the level of a call: that of its method, or its own first argument; `*` if it is computed.

    Of two, the higher: what a throttle leaves out is told at debug.
    """
    found = {{"exception": "error"}.get(name, name) for name in methods(call.func)} & set(LEVELS)
    first = {*strings(call.args[0])} & set(LEVELS)
    return max(found or first or {"*"}, key=("*", *LEVELS).index)


def calls_in(source: str, where: str) -> list[Call]:
    """Find every call with the literal name of an event among its first two arguments."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args:
            level = level_of(node)
            second = node.args[1:2] if level == "*" or not {*strings(node.args[0])}.isdisjoint(LEVELS) else []
            names = [name for argument in (node.args[0], *second) for name in strings(argument)]
            fields = frozenset(word.arg for word in node.keywords if word.arg)
            found += [Call(f"{where}:{node.lineno}", level, name, fields) for name in names if is_event(name, level)]
    return found


def is_event(text: str, level: str) -> bool:
    """Tell the name of an event from other text: whatever a log method gets, elsewhere by its first word."""
    known = {name.partition(".")[0] for name in EVENTS}
    return bool(NAME.fullmatch(text)) and (level != "*" or (text.partition(".")[0] in known and text not in FILES))


@cache
def calls() -> list[Call]:
    """Every call in the package."""
    return [
        call
        for path in sorted(PACKAGE.rglob("*.py"))
        for call in calls_in(path.read_text(encoding="utf-8"), str(path.relative_to(PACKAGE.parent)))
    ]


def test_the_scan_finds_calls_of_each_kind() -> None:
    source = """
log.info("a.b", x=1)
self._log.warning("c.d")
log.bind(y=2).exception("e.f", **more)
log.log(level, "uplink.g")
log.error("i.j" if lost else "k.l")
(log.debug if left_out is None else log.warning)("m.n", z=3)
tell("uplink.o")
Announcement("error", "connection.p", fields)
path.log("not an event")
open("config.yaml.txt.Not")
math.log(2)
"""
    found = {(call.level, call.name, call.fields) for call in calls_in(source, "x")}
    nothing = frozenset[str]()
    assert found == {
        ("info", "a.b", frozenset({"x"})),
        ("warning", "c.d", nothing),
        ("error", "e.f", nothing),
        ("*", "uplink.g", nothing),
        ("error", "i.j", nothing),
        ("error", "k.l", nothing),
        ("warning", "m.n", frozenset({"z"})),
        ("*", "uplink.o", nothing),
        ("error", "connection.p", nothing),
    }


def test_every_event_in_the_code_is_in_the_table_with_its_level() -> None:
    wrong = [
        f"{call.where}: {call.name} at {call.level}: "
        + (f"the table says {EVENTS[call.name].level}" if call.name in EVENTS else "not in the table")
        for call in calls()
        if call.name not in EVENTS or call.level not in {EVENTS[call.name].level, "*"}
    ]
    assert not wrong, "\n".join(wrong)


def test_every_field_in_the_code_is_in_the_table() -> None:
    wrong = [
        f"{call.where}: {call.name}: {', '.join(sorted(more))}"
        for call in calls()
        if call.name in EVENTS and (more := call.fields - {*EVENTS[call.name].fields} - PYTHON_ONLY - UNIVERSAL)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_event_in_the_table_is_logged_somewhere() -> None:
    # The other half: a name that no code uses is a promise that nobody keeps. Use it, or take it off the table.
    # (A name that reaches the logger by way of a constant or a table in the code counts, wherever it stands.)
    text = "\n".join(
        path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path != PACKAGE / "observe" / "events.py"
    )
    unused = [name for name in EVENTS if f'"{name}"' not in text]
    assert not unused, f"nothing logs {', '.join(unused)}"


def test_the_page_for_operators_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.observe.events_page"


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_dotted_and_explained_in_sentences(name: str) -> None:
    event = EVENTS[name]
    assert NAME.fullmatch(name)
    assert event.meaning.endswith(".")
    assert event.then.endswith(".")
    assert len(set(event.fields)) == len(event.fields)
