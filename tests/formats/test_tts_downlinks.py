"""Downlinks for The Things Stack, and what it says no with."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.errors import DocumentError
from mqttbridge.formats import tts
from mqttbridge.model import Downlink
from tests.formats.tts_samples import CID, DEV_EUI, message

KEY = "fedcba9876543210"
IDS = [f"mqttbridge:cid:{CID}", f"mqttbridge:key:{KEY}", f"mqttbridge:dev:{DEV_EUI}"]

FAILURE = {"message_format": "p {a} of {b}", "attributes": {"a": 3, "b": []}, "cause": {"name": "n"}}
ENCODE_FAILED = json.dumps({"message": "error:pkg/x:encode (encode)", "details": [{"cause": FAILURE}]}).encode()


def pushed(downlink: Downlink) -> object:
    return json.loads(tts.push(downlink, correlation_id=CID, key=KEY))


def test_a_downlink_of_bytes_is_pushed_in_base64() -> None:
    downlink = Downlink(dev_eui=DEV_EUI, fport=15, payload_hex="0103ff", confirmed=True)
    item = {"f_port": 15, "frm_payload": "AQP/", "confirmed": True, "priority": "NORMAL", "correlation_ids": IDS}
    assert pushed(downlink) == {"downlinks": [item]}


def test_a_downlink_of_an_object_is_pushed_for_the_network_server_to_encode() -> None:
    downlink = Downlink(dev_eui=DEV_EUI, fport=1, payload=b'{"led": [1.50, true]}')
    item = {"f_port": 1, "decoded_payload": {"led": [1.5, True]}, "confirmed": False, "priority": "NORMAL"}
    assert pushed(downlink) == {"downlinks": [{**item, "correlation_ids": IDS}]}


def test_an_empty_payload_is_a_payload() -> None:
    assert (
        '"frm_payload":""'
        in tts.push(Downlink(dev_eui=DEV_EUI, fport=1, payload_hex=""), correlation_id=CID, key=KEY).decode()
    )


def test_correlation_ids_are_short_enough_for_the_things_stack() -> None:
    assert max(map(len, IDS)) <= 100


def test_what_is_pushed_is_known_again_in_a_report() -> None:
    body = json.loads(tts.push(Downlink(dev_eui=DEV_EUI, fport=1, payload_hex="00"), correlation_id=CID, key=KEY))
    report = message("downlink_sent", **body["downlinks"][0])
    del report["end_device_ids"]["dev_eui"]
    found = tts.parse(json.dumps(report).encode(), source="ns", received=1)
    assert found.dev_eui == DEV_EUI
    assert json.loads(found.body)["DevEUI_downlink_Sent"]["CorrelationID"] == CID


def test_topics_and_paths() -> None:
    assert tts.topic("app-1@tenant", "dev-1", replace=False) == "v3/app-1@tenant/devices/dev-1/down/push"
    assert tts.topic("app-1", "dev-1", replace=True) == "v3/app-1/devices/dev-1/down/replace"
    start = "/api/v3/as/applications/app-1/webhooks/hook-1/devices/dev-1/down/"
    assert tts.path("app-1", "hook-1", "dev-1", replace=False) == f"{start}push"
    assert tts.path("app-1", "hook-1", "dev-1", replace=True) == f"{start}replace"


@given(st.text(max_size=40))
def test_nothing_but_an_id_reaches_a_topic_or_a_path(text: str) -> None:
    safe = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    for make in (
        lambda: tts.topic("app-1@tenant", text, replace=False),
        lambda: tts.topic(text, "dev-1", replace=False),
        lambda: tts.path(text, "hook-1", "dev-1", replace=False),
        lambda: tts.path("app-1", text, "dev-1", replace=False),
        lambda: tts.path("app-1", "hook-1", text, replace=False),
    ):
        try:
            made = make()
        except DocumentError:
            continue
        assert set(text) <= safe | {"@"}
        assert made.count("/") in {5, 11}


@pytest.mark.parametrize("bad", ["", "a@b@c", "app@", "@tenant", "app/1", "+", "#", "App", "app@t/#"])
def test_a_user_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(DocumentError, match="user of an application"):
        tts.topic(bad, "dev-1", replace=False)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            b'{"message":"error:pkg/auth/rights:no_user_rights (no rights for user `admin@x`)","details":[{}]}',
            "no rights for user `admin@x`",
        ),
        (
            ENCODE_FAILED,
            "encode: p 3 of {b}: n",
        ),
        (b'{"code":16,"message":"error:pkg/auth:token (a (b)\\n c)","details":[]}', "a (b) c"),
        (b'{"message":"plain"}', "plain"),
        (b"{}", ""),
        (b"", ""),
        (b"[1]", "the answer is not one of The Things Stack: '[1]'"),
        (
            b"<html>\n<b>502</b>\x1b</html>",
            "the answer is not one of The Things Stack: '<html> <b>502</b>\\x1b</html>'",
        ),
        ('{"message":"ä\u202e"}'.encode(), "ä\\u202e"),
    ],
)
def test_a_refusal_is_one_short_sentence(body: bytes, says: str) -> None:
    assert tts.refusal(body) == says


@given(st.binary(max_size=300))
def test_any_refusal_gives_a_safe_text(body: bytes) -> None:
    said = tts.refusal(body)
    assert said.isprintable()
    assert said.isprintable()
    assert len(said) < 300


def test_a_long_refusal_is_cut() -> None:
    assert len(tts.refusal(json.dumps({"message": "x" * 60_000}).encode())) < 250
