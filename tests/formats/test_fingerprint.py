"""What tells copies of one uplink."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.formats.fingerprint import of_text, of_uplink

DEV_EUI = "0018B20000000B20"


@given(st.text(), st.integers(0, 2**32 - 1), st.text())
def test_it_has_63_bits_and_is_never_nothing(dev_eui: str, fcnt: int, payload: str) -> None:
    assert 0 < of_uplink(dev_eui, fcnt, payload) < 2**63


@given(st.binary())
def test_that_of_a_text_has_63_bits_and_is_never_nothing(text: bytes) -> None:
    assert 0 < of_text(text) < 2**63


def test_the_spelling_of_an_uplink_does_not_count() -> None:
    assert of_uplink(DEV_EUI.lower(), 1174, "9E1C") == of_uplink(DEV_EUI, 1174, "9e1c")


def test_device_counter_and_payload_count() -> None:
    found = {
        of_uplink(DEV_EUI, 1174, "9e1c"),
        of_uplink("0018B20000000B21", 1174, "9e1c"),
        of_uplink(DEV_EUI, 1175, "9e1c"),
        of_uplink(DEV_EUI, 1174, "9e1d"),
        of_uplink(DEV_EUI, 1174, ""),
        of_text(b"9e1c"),
    }
    assert len(found) == 6


def test_fingerprints_stay_the_same_between_versions_since_the_journal_remembers_them() -> None:
    assert of_uplink(DEV_EUI, 1174, "9e1c4852512000220020e3831071") == 2718552428430298663
    assert of_text(b"") == 7252660547403494068
