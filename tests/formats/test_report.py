"""A report about a downlink gets the CorrelationID of the downlink's sender, and nothing else of it changes."""

from __future__ import annotations

import pytest

from mqttbridge.formats.report import correlated
from mqttbridge.formats.thingpark import parse
from mqttbridge.model import DocumentKind, Uplink

DEV_EUI = "0018B20000000B20"


def report(body: bytes) -> Uplink:
    return Uplink("lrc", DocumentKind.DOWNLINK_SENT, DEV_EUI, 1, 1, None, body, correlation_id="00000000000000AA")


@pytest.mark.parametrize("value", [b"1e999", b"123456789012345678901234567890", b"1.50", b'"\\u00e9"', b'{"a":[1e5]}'])
def test_all_else_stays_as_it_was_written_numbers_out_of_range_too(value: bytes) -> None:
    body = b'{"DevEUI_downlink_Sent":{"DevEUI":"%s","CorrelationID":"%s","x":%s}}'
    written = parse(body % (DEV_EUI.encode(), b"00000000000000AA", value), source="lrc", received=1)
    changed = correlated(written, "00000000000000aa")
    assert changed.body == body % (DEV_EUI.encode(), b"00000000000000aa", value)
    assert changed.correlation_id == "00000000000000aa"
    assert correlated(changed, "00000000000000aa") is changed


def test_a_report_without_one_gets_one() -> None:
    changed = correlated(report(b'{"DevEUI_downlink_Sent":{"a":1}}'), "00000000000000aa")
    assert changed.body == b'{"DevEUI_downlink_Sent":{"a":1,"CorrelationID":"00000000000000aa"}}'


@pytest.mark.parametrize("body", [b'{"deviceInfo":{"devEui":"x"},"fCntDown":3}', b"{}", b"[]", b"\xff", b'{"a":{}}'])
def test_what_goes_out_as_its_network_server_wrote_it_stays_whole(body: bytes) -> None:
    written = report(body)
    assert correlated(written, "00000000000000aa") is written
