"""From a queued uplink to what is published."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.errors import PatternError
from mqttbridge.model import DocumentKind, Outcome, Queued, Settled, Uplink
from mqttbridge.mqtt import packets
from mqttbridge.mqtt.link import Publish
from mqttbridge.sessions.outgoing import outgoing, prepare
from mqttbridge.settings.schema import Configuration

NOW = 1_700_000_000_000
HOUR = 3_600_000
LIMIT = 268_435_460
DEV_EUI = "0018B20000000B20"
DOCUMENT = b'{"DevEUI_uplink": {"DevEUI": "0018b20000000b20", "FPort": 1, "payload": {"t": 21.5}, "site": "a/b"}}'


def queued(body: bytes = DOCUMENT, *, time: int = NOW, kind: DocumentKind = DocumentKind.UPLINK) -> Queued:
    return Queued(7, Uplink("lrc", kind, DEV_EUI, time, NOW, 3, body))


def ready(one: Queued, maximum_packet: int = LIMIT, now: int = NOW, **configuration: object) -> Publish | Settled:
    given = {"host_name": "localhost", "uplink_time_validity": HOUR, **configuration}
    return prepare(one, outgoing(Configuration(**given)), now=now, maximum_packet=maximum_packet)


def test_the_document_is_published_as_it_came_with_its_seq_as_token() -> None:
    assert ready(queued()) == Publish(7, f"mqtt/things/{DEV_EUI}/uplink", DOCUMENT)


@pytest.mark.parametrize(("age", "expires"), [(0, False), (HOUR, False), (HOUR + 1, True), (100 * HOUR, True)])
def test_an_uplink_expires_when_it_is_older_than_its_validity(*, age: int, expires: bool) -> None:
    found = ready(queued(time=NOW - age))
    assert isinstance(found, Settled) is expires
    if isinstance(found, Settled):
        assert found == Settled(7, Outcome.EXPIRED, found.reason, at=NOW)
        assert "uplinkTimeValidity" in found.reason


def test_an_uplink_from_the_future_does_not_expire() -> None:
    assert isinstance(ready(queued(time=NOW + 100 * HOUR)), Publish)


def test_age_goes_before_a_topic_that_cannot_be() -> None:
    found = ready(queued(time=0), uplink_topic_pattern="x/{DevEUI}/{missing}")
    assert isinstance(found, Settled)
    assert found.outcome is Outcome.EXPIRED


@pytest.mark.parametrize(("pattern", "word"), [("x/{DevEUI}/{missing}", "missing"), ("x/{DevEUI}/{site}", "site")])
def test_an_uplink_without_a_usable_topic_is_parked_with_the_reason(pattern: str, word: str) -> None:
    found = ready(queued(), uplink_topic_pattern=pattern)
    assert isinstance(found, Settled)
    assert found.outcome is Outcome.PARKED
    assert word in found.reason


def test_send_metadata_takes_the_root_off() -> None:
    found = ready(queued(), send_metadata=True)
    assert isinstance(found, Publish)
    assert json.loads(found.payload) == json.loads(DOCUMENT)["DevEUI_uplink"]


def test_send_raw_decoded_format_gives_the_payload_alone() -> None:
    found = ready(queued(), send_raw_decoded_format=True)
    assert isinstance(found, Publish)
    assert found.payload == b'{"t": 21.5}'


def test_documents_of_other_kinds_keep_their_shape() -> None:
    body = b'{"DevEUI_notification": {"DevEUI": "0018B20000000B20", "Type": "join"}}'
    found = ready(queued(body, kind=DocumentKind.NOTIFICATION), send_metadata=True)
    assert isinstance(found, Publish)
    assert found.payload == body


@given(
    device=st.text(alphabet="aé€😀", min_size=1, max_size=20),
    size=st.one_of(st.integers(0, 200), st.sampled_from([100, 127, 128, 16_300, 16_384, 2_097_100])),
)
def test_what_fits_the_brokers_limit_to_the_byte_is_sent_and_one_more_byte_is_parked(device: str, size: int) -> None:
    body = json.dumps({"DevEUI_uplink": {"name": device, "x": "x" * size}}).encode()
    topic = f"t/{device}/{DEV_EUI}".encode()
    packet = len(packets.publish(topic, body, qos=1, retain=False, mid=9, v5=True))
    pattern = "t/{name}/{DevEUI}"
    assert isinstance(ready(queued(body), packet, uplink_topic_pattern=pattern), Publish)
    found = ready(queued(body), packet - 1, uplink_topic_pattern=pattern)
    assert isinstance(found, Settled)
    assert found.outcome is Outcome.PARKED
    assert f"{packet} bytes" in found.reason
    assert f"{packet - 1} bytes" in found.reason


def test_a_pattern_that_cannot_work_is_refused() -> None:
    with pytest.raises(PatternError):
        outgoing(Configuration(host_name="localhost", uplink_topic_pattern="a/{"))
