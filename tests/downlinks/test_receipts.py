"""What the sender of a downlink is told."""

from __future__ import annotations

import json
import time
from base64 import b64decode

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.downlinks.receipts import MAX_RECEIPT, Ended, few, is_receipt, listed, receipt, short
from mqttbridge.model import DownlinkOutcome
from tests.downlinks.memory import DEV_EUI, NOW

KEY = "0123456789abcdef"


def test_a_receipt_has_its_members_in_order() -> None:
    ended = Ended(
        "acme",
        KEY,
        DownlinkOutcome.REJECTED,
        NOW,
        dev_eui=DEV_EUI,
        source="lrc",
        correlation_id="00000000000000aa",
        topic="a/b",
        field="DevEUI_downlink.FPort",
        reason="FPort is 0; it must be 1 to 224",
        warnings=("the field FPrt is not known",),
        correlation=b"\x00\xff",
        attempts=3,
    )
    made = receipt(ended)
    assert made.dev_eui == DEV_EUI
    assert made.correlation == b"\x00\xff"
    assert made.body == (
        b'{"outcome":"rejected","DevEUI":"0018B20000000B20","reason":"FPort is 0; it must be 1 to 224",'
        b'"field":"DevEUI_downlink.FPort","CorrelationID":"00000000000000aa","key":"0123456789abcdef",'
        b'"correlationData":"AP8=","warnings":["the field FPrt is not known"],"Time":"2023-11-14T22:13:20.000+00:00"}'
    )


def test_what_is_empty_is_left_out_and_the_key_stands_for_the_correlation_id() -> None:
    made = receipt(Ended("acme", KEY, DownlinkOutcome.QUEUED, NOW + 7))
    assert json.loads(made.body) == {
        "outcome": "queued",
        "CorrelationID": KEY,
        "key": KEY,
        "Time": "2023-11-14T22:13:20.007+00:00",
    }


foreign = st.text(st.characters(), max_size=1000)


@given(foreign, foreign, foreign, st.binary(max_size=200), st.lists(foreign, max_size=30))
def test_a_receipt_is_short_printable_json_whatever_stands_in_it_and_known_as_a_receipt(
    reason: str, field: str, correlation_id: str, correlation: bytes, warnings: list[str]
) -> None:
    for outcome in DownlinkOutcome:
        ended = Ended(
            "acme",
            KEY,
            outcome,
            NOW,
            reason=reason,
            field=field,
            correlation_id=correlation_id,
            correlation=correlation,
            warnings=tuple(warnings),
        )
        body = receipt(ended).body
        assert is_receipt(body)
        read = json.loads(body)
        assert b64decode(read.get("correlationData", "")) == correlation
        for text in (read.get("reason", ""), read.get("field", ""), *read.get("warnings", ())):
            assert text.isprintable()


def test_the_longest_receipt_is_known_as_one() -> None:
    ended = Ended(
        "acme",
        KEY,
        DownlinkOutcome.REJECTED,
        NOW,
        reason="\ud800" * 10_000,
        field="\0" * 10_000,
        correlation_id="\U000e0001" * 10_000,
        correlation=b"x" * 65535,
        warnings=("\ud800" * 10_000,) * 100,
    )
    body = receipt(ended).body
    assert len(body) < MAX_RECEIPT
    assert is_receipt(body)


def test_a_downlink_is_no_receipt_and_neither_is_anything_hostile() -> None:
    good = json.loads(receipt(Ended("acme", KEY, DownlinkOutcome.QUEUED, NOW)).body)
    for other in (
        {**good, "DevEUI_downlink": {"FPort": 1}},
        {**good, "outcome": "sent"},
        {**good, "key": "x"},
        {name: value for name, value in good.items() if name != "Time"},
        {"DevEUI_downlink": good},
        [good],
        None,
    ):
        assert not is_receipt(json.dumps(other).encode())
    started = time.perf_counter()
    for body in (b"", b"\xff", b"[" * 100_000, b'{"a":' * 20_000, b'{"outcome":"queued","key":' + b"[" * 90_000):
        assert not is_receipt(body)
    assert time.perf_counter() - started < 0.1


def test_foreign_text_is_cut_and_escaped() -> None:
    assert short("käse") == "käse"
    assert short("a\nb\x00\x1b[0m") == "a\\nb\\x00\\x1b[0m"
    assert short("x" * 500) == "x" * 400 + "..."


def test_many_names_and_warnings_are_told_by_number() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert few([str(number) for number in range(12)])[-1] == "there are 2 more warnings"
