"""The fields of a downlink, one by one: whatever stands there is a checked value, or a sentence about that field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.errors import DocumentError, DownlinkExpired
from mqttbridge.formats import downlink_fields as fields

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_767_319_445_678
EUI = "0018B20000000B20"
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-10, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.integers(-10, 300).map(str)
    | st.from_regex(r"[0-9A-Fa-f]{15,17}", fullmatch=True)
    | st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)


def hexadecimal(text: object, digits: str) -> bool:
    return isinstance(text, str) and re.fullmatch(f"[0-9A-Fa-f]{digits}", text, re.ASCII) is not None


READERS: dict[str, tuple[Callable[[object], object], Callable[[object], bool]]] = {
    "DevEUI": (lambda value: fields.dev_eui(value, ""), lambda found: hexadecimal(found, "{16}")),
    "FPort": (lambda value: fields.fport(value, None), lambda found: found in range(1, 225) and type(found) is int),
    "payload_hex": (fields.payload_hex, lambda found: hexadecimal(found, "{0,484}") and found == str(found).lower()),
    "Confirmed": (lambda value: fields.flag(value, "Confirmed"), lambda found: type(found) is bool),
    "CorrelationID": (fields.correlation_id, lambda found: found == "" or hexadecimal(found, "{16}")),
    "ValidityTime": (
        lambda value: fields.validity(value, NOW),
        lambda found: found is None or (type(found) is int and NOW < found <= fields.LAST_MOMENT),
    ),
}


@pytest.mark.parametrize("name", list(READERS))
@given(value=VALUES)
def test_any_value_is_read_or_refused_by_name(name: str, value: object) -> None:
    read, valid = READERS[name]
    try:
        found = read(value)
    except DocumentError as error:
        refused: DocumentError | None = error
    else:
        refused = None
        assert valid(found), found
    if refused is not None:
        assert refused.field == f"DevEUI_downlink.{name}"
        assert str(refused).startswith(refused.field)
        assert str(refused).isprintable()
        assert str(refused).isprintable()
        assert len(str(refused)) < 250
        assert name == "ValidityTime" or not isinstance(refused, DownlinkExpired)


def test_advice_ends_the_sentence_on_what_is_missing() -> None:
    with pytest.raises(DocumentError, match=r"; try this$"):
        fields.fport(None, None, "; try this")
    with pytest.raises(DocumentError, match=r"; try this$"):
        fields.dev_eui(None, "", "; try this")


def test_the_default_stands_in_only_for_what_is_not_given() -> None:
    assert fields.fport("", 7) == 7
    with pytest.raises(DocumentError):
        fields.fport(0, 7)
    assert fields.dev_eui("", EUI.lower()) == EUI
