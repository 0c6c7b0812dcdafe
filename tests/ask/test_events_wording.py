"""The lines of `mqttbridge events`."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.ask.events_wording import lines_of

AT = "2026-11-22T14:03:07.123000Z"


def event(name: str, level: str = "info", **fields: Any) -> dict[str, Any]:  # noqa: ANN401 (fields of any kind)
    return {"id": 1, "at": AT, "level": level, "event": name, **fields}


def text(name: str, level: str = "info", **fields: Any) -> str:  # noqa: ANN401 (likewise)
    return "\n".join(line.text for line in lines_of(event(name, level, **fields), UTC))


def test_an_event_tells_what_happened_to_what_and_why() -> None:
    assert text("connection.lost", "warning", reason="the broker went", retry_in=5.0, connection="acme") == (
        "2026-11-22 14:03:07 WARNING connection.lost acme: the broker went; retry_in=5"
    )
    assert text("source.opened", source="ns", topics=["a/#", "b"]) == (
        "2026-11-22 14:03:07 source.opened ns topics=a/#, b"
    )
    assert text("daemon.stopped") == "2026-11-22 14:03:07 daemon.stopped"
    assert text("uplink.missing", dev_eui="0018B20000000B20", source="lrc", fcnt=7, count=2) == (
        "2026-11-22 14:03:07 uplink.missing source lrc 0018B20000000B20 fcnt=7 count=2"
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"flow": "roof", "change": "change", "properties": ["matchers"]}, "flow roof changes: matchers"),
        ({"flow": "roof", "change": "start: new"}, "flow roof starts: new"),
        (
            {"connection": "a", "change": "restart: password changed", "properties": ["password", "name"]},
            "connection a restarts: password changed (password, name)",
        ),
        ({"connection": "a", "change": "stop: removed", "queued": 3}, "connection a stops: removed; queued=3"),
        ({"change": "change", "properties": ["watch"]}, "the daemon changes: watch"),
        ({"source": "lrc", "change": None, "properties": 5}, "source lrc changes: 5"),
    ],
)
def test_what_a_reload_did_is_told_in_words(fields: dict[str, Any], said: str) -> None:
    assert " ".join(text("config.applied", **fields).split()) == f"2026-11-22 14:03:07 config.applied {said}"


def test_a_long_one_goes_on_indented() -> None:
    lines = text("connection.lost", "error", connection="acme", reason="word " * 40, attempts=3).splitlines()
    assert len(lines) > 2
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith("    word") for line in lines[1:])
    assert lines[-1].endswith("word; attempts=3")


def test_many_values_of_a_field_are_broken_between_them() -> None:
    properties = [f"configuration.downlinkTopicPattern{number}" for number in range(9)]
    lines = text("config.applied", connection="acme", change="change", properties=properties).splitlines()
    assert all(len(line) <= 80 for line in lines)


def test_each_error_of_a_configuration_has_its_line() -> None:
    assert text("config.rejected", "error", reason="a.yaml:1:1: wrong\na.yaml:2:2: wrong too") == (
        "2026-11-22 14:03:07 ERROR config.rejected: a.yaml:1:1: wrong\n    a.yaml:2:2: wrong too"
    )


def test_the_time_is_that_of_the_reader() -> None:
    (line,) = lines_of(event("daemon.stopped"), timezone(timedelta(hours=10)))
    assert line.text.startswith("2026-11-23 00:03:07 ")


@pytest.mark.parametrize(("level", "style"), [("info", "plain"), ("warning", "head"), ("error", "bad")])
def test_the_level_is_the_style(level: str, style: str) -> None:
    assert {line.style for line in lines_of(event("connection.lost", level), UTC)} == {style}


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60) | st.lists(st.text(max_size=9))


@given(st.dictionaries(st.sampled_from(["connection", "reason", "dev_eui", "topic", "error", "x"]), VALUES))
def test_lines_fit_and_steer_no_terminal(fields: dict[str, Any]) -> None:
    for line in lines_of(event("connection.lost", **fields), UTC):
        assert line.text.isprintable()
        assert len(line.text) <= 80 or max(map(len, line.text.split())) > 40
