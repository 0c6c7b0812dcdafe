"""What the pages of all commands share."""

from __future__ import annotations

import pytest

from mqttbridge.ask.words import clean, many


def test_what_would_steer_the_terminal_is_a_question_mark_and_all_else_stays() -> None:
    assert clean("Müller \x1b[2J\r\n\u202e end") == "Müller ?[2J??? end"
    assert clean("plain") == "plain"


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("uplink",), "0 uplinks"),
        (1, ("uplink",), "1 uplink"),
        (12345, ("uplink",), "12,345 uplinks"),
        (1, ("property", "properties"), "1 property"),
        (2, ("property", "properties"), "2 properties"),
    ],
)
def test_one_and_several_have_their_words(count: int, words: tuple[str, ...], text: str) -> None:
    assert many(count, *words) == text
