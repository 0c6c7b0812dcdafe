"""What fills a passport: spellings of a device, documents that are read again, and why they go where they go."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.control.passages import (
    MAX_READ,
    Guide,
    delivered,
    device_in,
    ended_downlink,
    passage,
    pending_downlink,
    reread,
)
from mqttbridge.errors import DocumentError
from mqttbridge.formats import FORMATS
from mqttbridge.history.records import Ended, KeptEvent, Passed
from mqttbridge.journal.downlink_protocol import PendingDownlink
from mqttbridge.model import DocumentKind, Downlink, Outcome
from mqttbridge.routing import Router
from mqttbridge.settings.schema import (
    Configuration,
    Connection,
    Flow,
    HttpSource,
    KeyMatcher,
    MqttSource,
    Settings,
    ThingMatcher,
)
from tests.formats import chirpstack_samples as chirpstack
from tests.formats import tts_samples as tts
from tests.formats.tts_samples import message

DEVICE = "0018B20000000B20"
NOW = 1_700_000_000_000


def connection(*, active: bool = True, send_metadata: bool = False) -> Connection:
    return Connection(active=active, configuration=Configuration(host_name="h", send_metadata=send_metadata))


SETTINGS = Settings(
    sources={
        "lrc": HttpSource(),
        "cs": HttpSource(format="chirpstack"),
        "ns": MqttSource(host_name="h", topics=("t",)),
    },
    flows={"f": Flow(matchers=(ThingMatcher(tags=("Temperature",)),), connections=("acme",))},
    connections={"acme": connection(), "meta": connection(send_metadata=True)},
)


def document(kind: DocumentKind = DocumentKind.UPLINK, *, tags: tuple[str, ...] = (), **fields: object) -> bytes:
    content = {"DevEUI": DEVICE, "FCntUp": 7, "CustomerData": {"tags": list(tags)}, **fields}
    return json.dumps({kind: content}).encode()


def passed(body: bytes, kind: DocumentKind = DocumentKind.UPLINK, **changes: object) -> Passed:
    values = {
        "id": 1,
        "seq": 1,
        "received": NOW,
        "time": NOW,
        "source": "lrc",
        "kind": kind,
        "dev_eui": DEVICE,
        "fcnt": 7,
        "origin": "POST from 10.0.0.7",
        "connections": ("acme",),
        "body": body,
    }
    return Passed(**(values | changes))


# -- spellings


@pytest.mark.parametrize(
    "text",
    [
        DEVICE,
        DEVICE.lower(),
        "00-18-b2-00-00-00-0b-20",
        "00:18:B2:00:00:00:0B:20",
        " 0018 b200 0000 0b20 ",
        "lora:0018b20000000b20",
        "0x0018b20000000b20",
    ],
)
def test_a_device_is_read_in_any_spelling(text: str) -> None:
    assert device_in(text) == DEVICE


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "name a device by its DevEUI"),
        ("0018B20000000B2", "it has 15 hex digits"),
        ("0018B20000000B2O", "'O' is no hex digit"),
        ("0018B20000000B2\u0661", "is no hex digit"),
        ("0" * 10_000, "it has 10000 hex digits"),
    ],
)
def test_what_is_no_device_is_a_sentence(text: str, why: str) -> None:
    with pytest.raises(ValueError) as refused:
        device_in(text)
    assert why in str(refused.value)
    assert len(str(refused.value)) < 200
    assert str(refused.value).isprintable()


# -- reading again

CS_UP = chirpstack.body(chirpstack.event("up"))
EVENTS = [(name, chirpstack.body(chirpstack.event(name))) for name in ("up", "join", "ack", "status", "location")]


@pytest.mark.parametrize("pass_through", [False, True])
@pytest.mark.parametrize(("name", "body"), EVENTS, ids=[name for name, _ in EVENTS])
def test_documents_of_chirpstack_are_read_again_however_they_were_stored(
    name: str, body: bytes, *, pass_through: bool
) -> None:
    first = FORMATS["chirpstack"].parse(
        body, source="cs", received=NOW, hint=f"event={name}", pass_through=pass_through
    )
    again = reread(passed(first.body, first.kind, source="cs"), "chirpstack")
    assert (again.tags, again.kind, again.dev_eui) == (first.tags, first.kind, first.dev_eui)


@pytest.mark.parametrize("pass_through", [False, True])
@pytest.mark.parametrize("kind", list(tts.CONTENTS))
def test_documents_of_the_things_stack_are_read_again_however_they_were_stored(
    kind: str, *, pass_through: bool
) -> None:
    body = json.dumps(message(kind)).encode()
    first = FORMATS["tts"].parse(body, source="tts", received=NOW, pass_through=pass_through)
    for format_ in ("tts", None):
        again = reread(passed(first.body, first.kind, source="tts"), format_)
        assert (again.tags, again.kind, again.dev_eui) == (first.tags, first.kind, first.dev_eui)


def test_the_topic_that_a_document_came_on_tells_its_event() -> None:
    body = chirpstack.body(chirpstack.event("join"))
    origin = "topic application/1/device/0018b20000000b20/event/join"
    assert (
        reread(passed(body, DocumentKind.NOTIFICATION, origin=origin), "chirpstack").kind is DocumentKind.NOTIFICATION
    )


def test_what_is_too_large_is_not_read_again() -> None:
    with pytest.raises(DocumentError) as refused:
        reread(passed(document(x="x" * MAX_READ)), "thingpark")
    assert "too large" in str(refused.value)


@given(
    st.one_of(
        st.binary(max_size=200), st.recursive(st.none() | st.text(), st.lists).map(lambda x: json.dumps(x).encode())
    )
)
def test_whatever_is_stored_reading_it_again_raises_nothing_else(body: bytes) -> None:
    for format_ in (None, *FORMATS):
        with pytest.raises(DocumentError):
            reread(passed(body), format_)


# -- explaining


def told(body: bytes, kind: DocumentKind = DocumentKind.UPLINK, *, sender: str = "", **changes: object) -> object:
    one = passed(body, kind, **changes)
    guide = Guide(SETTINGS)
    return passage(one, guide, (), reread(one, guide.source(one.source)[1]), unread="", sender=sender)


def test_an_uplink_that_would_go_elsewhere_now_is_told() -> None:
    here = told(document(tags=("temperature",)))
    assert (here.now, here.now_differs, here.flows[0].matched) == (("acme",), False, True)
    gone = told(document(tags=("roof",)))
    assert (gone.now, gone.now_differs, gone.flows[0].matched) == ((), True, False)
    unrouted = told(document(tags=("temperature",)), seq=0, connections=())
    assert (unrouted.stored, unrouted.now, unrouted.now_differs) == (False, ("acme",), True)


@pytest.mark.parametrize(
    "origin", ["replay of the uplink received 2026-11-22T10:00:00Z", "retry of the parked uplink 12"]
)
def test_what_an_operator_queued_again_is_not_compared_with_the_flows(origin: str) -> None:
    again = told(document(Replayed=True), origin=origin)
    assert (again.now, again.now_differs) == (None, False)
    assert again.replayed is origin.startswith("replay")


def test_source_port_and_payload_are_shown() -> None:
    one = told(document(FPort="12", payload_hex="00AA"), source="ns")
    assert (one.transport, one.format, one.fport, one.size, one.payload_hex) == ("mqtt", "thingpark", 12, 2, "00AA")
    odd = told(document(FPort=[1], payload_hex="no hex"), source="gone")
    assert (odd.transport, odd.format, odd.fport, odd.size, odd.payload_hex) == (None, None, None, None, "")
    long = told(document(FPort=1, payload_hex="ab" * 242))
    assert (long.size, long.payload_hex, long.payload_cut) == (242, "ab" * 24, True)


def test_of_a_passed_through_document_port_and_payload_are_shown_too() -> None:
    one = told(CS_UP, source="cs")
    assert one.fport == chirpstack.event("up")["fPort"]
    assert one.payload_hex


def test_a_report_goes_to_who_sent_the_downlink_as_the_router_does_it() -> None:
    kind = DocumentKind.DOWNLINK_SENT
    router = Router(SETTINGS.flows, SETTINGS.connections)
    for sender in ("", "acme", "meta", "gone"):
        one = told(document(kind), kind, sender=sender, connections=router.with_sender((), sender))
        assert (one.now, one.now_differs) == (router.with_sender((), sender), False)
    why = told(document(kind), kind, sender="meta").flows[-1]
    assert why.why == "it is a report about a downlink of meta"
    assert "sendMetadata" in why.withheld[0].why


def test_of_many_flows_that_do_not_match_the_nearest_are_shown() -> None:
    flows = {f"k{i:03}": Flow(matchers=(KeyMatcher(key=f"lora:{i:016x}"),), connections=("acme",)) for i in range(400)}
    flows["near"] = Flow(matchers=(ThingMatcher(tags=("Temperature", "roof")),), connections=("acme",))
    flows["all"] = Flow(connections=("acme",))
    guide = Guide(Settings(flows=flows, connections=SETTINGS.connections))
    one = passed(document(tags=("temperature",)))
    shown = passage(one, guide, (), reread(one, None), unread="", sender="")
    assert [reason.flow for reason in shown.flows if reason.matched] == ["all"]
    assert "near" in [reason.flow for reason in shown.flows]
    assert len(shown.flows) + shown.flows_not_shown == 402
    assert len(shown.flows) == 21


def test_what_cannot_be_read_again_is_shown_without_its_flows() -> None:
    one = passage(passed(b"{"), Guide(SETTINGS), (), None, unread="it is damaged", sender="")
    assert (one.now, one.now_differs, one.flows, one.fcnt, one.unread) == (None, False, (), 7, "it is damaged")


# -- ends


@pytest.mark.parametrize(
    ("outcome", "sent", "at", "milliseconds"),
    [
        (Outcome.DELIVERED, NOW, NOW + 36, 36),
        (Outcome.DELIVERED, NOW + 5, NOW, 0),
        (Outcome.DELIVERED, 0, NOW, None),
        (Outcome.PARKED, NOW, NOW + 1, None),
        (Outcome.EXPIRED, 0, 0, None),
    ],
)
def test_an_end_has_its_moments(outcome: Outcome, sent: int, at: int, milliseconds: int | None) -> None:
    end = Ended(seq=1, connection="a", outcome=outcome, reason="r", topic="t", sent=sent, at=at)
    one = delivered(end, 1)
    assert (one.outcome, one.reason, one.topic, one.qos) == (outcome.name.lower(), "r", "t", 1)
    assert one.milliseconds == milliseconds
    assert (one.sent is None, one.ended is None) == (not sent, not at)


def test_a_downlink_that_waits_shows_what_it_is() -> None:
    one = Downlink(DEVICE, 5, payload_hex="ab" * 100, confirmed=True, expires=NOW + 1000)
    waits = PendingDownlink(1, "acme", "k" * 16, NOW, "lrc", "", one, b"")
    shown = pending_downlink(waits, "503")
    assert (shown.outcome, shown.fport, shown.confirmed, shown.reason) == ("pending", 5, True, "503")
    assert (shown.payload_hex, shown.payload_cut, shown.correlation_id) == ("ab" * 24, True, "k" * 16)


def test_of_the_events_of_a_downlink_its_ends_are_told() -> None:
    fields: dict[str, object] = {"connection": "acme", "source": "lrc", "key": "k", "attempts": 2, "dev_eui": DEVICE}
    one = ended_downlink(KeptEvent(id=1, at=NOW, level="info", name="downlink.queued", fields=fields))
    assert one is not None
    assert (one.outcome, one.connection, one.source, one.key, one.attempts) == ("queued", "acme", "lrc", "k", 2)
    assert ended_downlink(KeptEvent(id=1, at=NOW, level="info", name="downlink.retrying", fields=fields)) is None
