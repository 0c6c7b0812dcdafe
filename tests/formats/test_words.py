"""Foreign text in our sentences."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.formats.words import not_json, shown


@given(st.text() | st.text(alphabet=st.characters(categories=["Cs", "Cc", "Cf"])))
def test_foreign_text_is_shown_printable_and_on_one_line(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) < 100


def test_foreign_text_that_is_printable_is_shown_as_it_is() -> None:
    assert shown("Zürich\u202e\x1b\ud800") == r"'Zürich\u202e\x1b\ud800'"


def test_foreign_text_is_shown_short() -> None:
    assert shown("x" * 40) == "'" + "x" * 40 + "'"
    assert shown("x" * 100_000) == "'" + "x" * 40 + "...'"
    assert shown("\U000e0001" * 100_000) == "'" + r"\U000e0001" * 8 + "...'"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the body is empty"),
        (b'{"a":"\x07"}', "0x07 (byte 6)"),
        (b"secret", "the document is not JSON: invalid character (byte 0)"),
        (b'{"a":', "the document is not JSON: it ends too early"),
        (b"{'a': 1}", "(byte 1); texts and names stand in double quotes"),
        (b"{a: 1}", "(byte 1); texts and names stand in double quotes"),
        (b"{\"a\": 'b'}", "(byte 6); texts and names stand in double quotes"),
        (b'{"a": 1, // one\n"b": 2}', "(byte 9); JSON has no comments"),
        (b'{"a": 1, # one\n"b": 2}', "(byte 9); JSON has no comments"),
        (b'{"a": True}', "(byte 6); true, false and null have lower case"),
        (b'{"a": None}', "(byte 6); true, false and null have lower case"),
        (b'{"a": 1,}', "trailing comma in object (byte 8)"),
    ],
)
def test_what_is_no_json_is_said_without_showing_it(body: bytes, says: str) -> None:
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(body)
    text = str(not_json(body, caught.value))
    assert says in text
    assert "secret" not in text
