"""Reason codes: what they mean and what they are called."""

from __future__ import annotations

import pytest

from mqttbridge.errors import BrokerRefused, LinkLost, LoginRefused
from mqttbridge.mqtt.reasons import Verdict, connack_error, disconnect_error, reason, verdict


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0x00, Verdict.DELIVERED),
        (0x10, Verdict.DELIVERED),
        (0x87, Verdict.PARK),
        (0x90, Verdict.PARK),
        (0x95, Verdict.PARK),
        (0x99, Verdict.PARK),
        (0x97, Verdict.BACK_OFF),
        (0x80, Verdict.RETRY),
        (0x83, Verdict.RETRY),
        (0x91, Verdict.RETRY),
        (0xFF, Verdict.RETRY),
    ],
)
def test_an_acknowledgement_means_what_it_says(code: int, expected: Verdict) -> None:
    assert verdict(code) is expected


@pytest.mark.parametrize(
    ("code", "v5", "kind"),
    [
        (4, False, LoginRefused),
        (5, False, LoginRefused),
        (1, False, BrokerRefused),
        (2, False, BrokerRefused),
        (3, False, BrokerRefused),
        (99, False, BrokerRefused),
        (0x86, True, LoginRefused),
        (0x87, True, LoginRefused),
        (0x8C, True, LoginRefused),
        (0x88, True, BrokerRefused),
        (0x9F, True, BrokerRefused),
        (1, True, BrokerRefused),
        (5, True, LoginRefused),
    ],
)
def test_a_refused_login_is_told_from_other_refusals(code: int, v5: bool, kind: type[Exception]) -> None:
    error = connack_error("b.example:1883", code, v5=v5)
    assert type(error) is kind
    assert error.code == code
    assert str(error).startswith("b.example:1883: the broker refused the login: ")
    assert not str(error).endswith("."), "it stands in the middle of other sentences"


@pytest.mark.parametrize(("code", "v5"), [(4, False), (5, False), (5, True), (0x86, True), (0x87, True)])
def test_refused_credentials_say_what_to_check(code: int, v5: bool) -> None:
    assert str(connack_error("b:1", code, v5=v5, text="no")).endswith('it says "no"; check username and password')
    assert str(connack_error("b:1", code, v5=v5, named=False)).endswith("; no username is configured")


@pytest.mark.parametrize(("code", "v5"), [(1, False), (2, False), (3, False), (0x88, True), (0x8A, True)])
def test_other_refusals_do_not_blame_the_credentials(code: int, v5: bool) -> None:
    assert "username" not in str(connack_error("b:1", code, v5=v5, named=False))


def test_what_the_broker_says_is_quoted_without_control_characters_and_not_at_any_length() -> None:
    error = connack_error("b:1", 0x88, v5=True, text="come\nback\x1b[31m later" + "x" * 1000)
    assert 'it says "comeback[31m later' in str(error)
    assert len(str(error)) < 400


def test_a_disconnect_is_refused_or_lost() -> None:
    taken = disconnect_error("b:1", 0x8E)
    assert isinstance(taken, BrokerRefused)
    assert taken.code == 0x8E
    assert "same client id" in str(taken)
    assert isinstance(disconnect_error("b:1", 0), LinkLost)


def test_every_code_has_words() -> None:
    assert all(reason(code) for code in range(256))
    assert reason(0x97) == "quota exceeded (0x97)"
    assert "0xFE" in reason(0xFE)
