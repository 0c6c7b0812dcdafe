"""Messages of The Things Stack: what becomes of each kind, and what is said about the rest."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.errors import DocumentError
from mqttbridge.formats import fingerprint, thingpark, tts
from mqttbridge.formats.tts_messages import MAX_DEPTH
from mqttbridge.model import DocumentKind, Uplink
from tests.formats import hostile_tts
from tests.formats.tts_samples import ABOUT, CID, CONTENTS, DEV_EUI, DOWNLINK, GATEWAYS, OURS, message

RECEIVED = 1_767_319_500_000
HOW_MANY = int(os.environ.get("HOSTILE", "300"))
TAGS = [
    *("application_id:climate-app", "climate-app", "device_id:cellar-1", "cellar-1"),
    *("service:Temperature", "Temperature", "floor:-1", "-1", "indoor"),
]
CUSTOMER = {"loc": {"lat": "52.5", "lon": "13.25"}, "tags": TAGS, "name": "cellar-1"}
MODEL = {"mod": {"pId": "acme", "mId": "th-2", "ver": "1.4"}}
OWNER = {"CustomerID": "example", "CustomerData": CUSTOMER, "DriverCfg": MODEL, "DevAddr": "260B1234"}


def read(document: object, hint: str = "", *, pass_through: bool = False) -> Uplink:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return tts.parse(body, source="ns", received=RECEIVED, hint=hint, pass_through=pass_through)


def content(document: object, hint: str = "") -> dict[str, Any]:
    found = read(document, hint)
    ((kind, inner),) = json.loads(found.body).items()
    assert kind == found.kind.value
    return inner


def refusal(document: object) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        read(document)
    assert str(caught.value).isprintable()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    return caught.value


# --- each kind


def test_an_uplink_becomes_an_uplink_with_all_that_has_a_counterpart() -> None:
    found = content(message("uplink_message"))
    extra = found.pop("TheThingsStack")
    assert found == {
        "Time": "2026-01-02T02:04:05.678+00:00",
        "DevEUI": DEV_EUI,
        "FPort": 2,
        "FCntUp": 1174,
        "MType": 4,
        "payload_hex": "00ef25",
        "LrrRSSI": -70.0,
        "LrrSNR": 9.25,
        "LrrESP": -70.49,
        "SpFact": 9,
        "Frequency": 867.7,
        "DevLrrCnt": 3,
        "Lrrid": "AA555A0000000001",
        "LrrLAT": 52.51,
        "LrrLON": 0.0,
        "Lrrs": {
            "Lrr": [
                {"Lrrid": "AA555A0000000001", "Chain": 1, "LrrRSSI": -70.0, "LrrSNR": 9.25, "LrrESP": -70.49},
                {"Lrrid": "AA555A0000000002", "Chain": 0, "LrrRSSI": -110.0, "LrrSNR": -7.5, "LrrESP": -118.21},
                {"Lrrid": "neighbour", "Chain": 0, "LrrRSSI": -120.0, "LrrSNR": 0.0, "LrrESP": -123.01},
            ]
        },
        "MeanPER": 0.0625,
        "AckRequested": 1,
        "payload": {"temperature": 23.9, "humidity": 37},
        **OWNER,
    }
    assert extra["message"] == "uplink_message"
    assert (extra["application_id"], extra["device_id"]) == ("climate-app", "cellar-1")
    assert extra["join_eui"] == "70B3D57ED0000001"
    assert extra["correlation_ids"] == ["as:up:01ABC", "gs:uplink:01DEF"]
    assert extra["settings"] == CONTENTS["uplink_message"]["settings"]
    assert extra["consumed_airtime"] == "0.164864s"
    assert extra["decoded_payload_warnings"] == ["sensor is old"]
    assert extra["normalized_payload"] == [{"air": {"temperature": 23.9}}]
    assert extra["last_battery_percentage"] == {"f_cnt": 1100, "value": 90.5}
    assert [gateway["gateway_id"] for gateway in extra["rx_metadata"]] == ["near", "far", "packetbroker"]
    assert extra["rx_metadata"][0]["fine_timestamp"] == "123456789"
    assert {name: extra[name] for name in ABOUT} == ABOUT
    assert "uplink_token" not in json.dumps(extra)


def test_what_is_known_of_an_uplink_beside_its_document() -> None:
    found = read(message("uplink_message"))
    assert found.kind is DocumentKind.UPLINK
    assert (found.source, found.dev_eui, found.fcnt, found.received) == ("ns", DEV_EUI, 1174, RECEIVED)
    assert found.time == 1_767_319_445_678
    assert found.tags == {tag.casefold() for tag in TAGS}
    assert found.way == "climate-app/cellar-1"
    assert found.fingerprint == fingerprint.of_uplink(DEV_EUI, 1174, "00ef25")


def test_zeros_and_empty_values_that_are_left_out_are_zero() -> None:
    bare = {"end_device_ids": {"device_id": "d1", "dev_eui": DEV_EUI.lower()}, "uplink_message": {}}
    assert content(bare) == {
        "Time": "2026-01-02T02:05:00.000+00:00",
        "DevEUI": DEV_EUI,
        "FPort": 0,
        "FCntUp": 0,
        "MType": 2,
        "payload_hex": "",
        "CustomerData": {"tags": ["device_id:d1", "d1"], "name": "d1"},
        "AckRequested": 0,
        "TheThingsStack": {"message": "uplink_message", "device_id": "d1"},
    }
    assert (read(bare).fcnt, read(bare).time, read(bare).way) == (0, RECEIVED, "")


def test_a_normalized_uplink_is_an_uplink_that_carries_the_measurement() -> None:
    found = content(message("uplink_normalized"))
    assert found["payload"] == {"air": {"temperature": 23.9}, "time": "2026-01-02T02:04:00Z"}
    assert (found["FCntUp"], found["FPort"], found["payload_hex"]) == (1174, 2, "00ef25")
    assert found["TheThingsStack"]["message"] == "uplink_normalized"


def test_a_normalized_uplink_is_no_copy_of_its_uplink_nor_of_another_measurement() -> None:
    first = read(message("uplink_normalized"))
    again = message(
        "uplink_normalized",
        normalized_payload=dict(reversed(CONTENTS["uplink_normalized"]["normalized_payload"].items())),
    )
    second = read(message("uplink_normalized", normalized_payload={"air": {"temperature": 24}}))
    assert read(again).fingerprint == first.fingerprint
    assert len({first.fingerprint, second.fingerprint, read(message("uplink_message")).fingerprint}) == 3


def test_a_join_becomes_a_notification_without_the_key() -> None:
    document = message("join_accept")
    found = content(document)
    extra = found.pop("TheThingsStack")
    assert found == {"Time": "2026-01-02T02:04:05.700+00:00", "DevEUI": DEV_EUI, "Type": "join", **OWNER}
    assert extra["invalidated_downlinks"] == [{"f_port": 1, "frm_payload": "AQ=="}]
    assert b"00112233445566778899AABBCCDDEEFF" not in read(document).body
    assert read(document).kind is DocumentKind.NOTIFICATION
    assert read(document).fcnt is None


def test_a_sent_downlink_is_reported_as_sent() -> None:
    found = content(message("downlink_sent"))
    extra = found.pop("TheThingsStack")
    assert found == {
        "Time": "2026-01-02T02:04:06.014+00:00",
        "DevEUI": DEV_EUI,
        "FPort": 15,
        "FCntDn": 47,
        "payload_hex": "0103ff",
        "Confirmed": 1,
        "CorrelationID": CID,
        "DeliveryStatus": 1,
        "DeliveryFailedCause1": "00",
        "DeliveryFailedCause2": "00",
        "DeliveryFailedCause3": "00",
        **OWNER,
    }
    assert extra["priority"] == "NORMAL"
    assert extra["downlink_correlation_ids"] == ["as:downlink:01ABC", *OURS]
    assert read(message("downlink_sent")).kind is DocumentKind.DOWNLINK_SENT
    assert read(message("downlink_sent", f_cnt=None)).fcnt == 0


@pytest.mark.parametrize(
    ("kind", "news"),
    [
        ("downlink_queued", {"Type": "queued"}),
        ("downlink_ack", {"Type": "ack", "Acknowledged": 1}),
        ("downlink_nack", {"Type": "ack", "Acknowledged": 0}),
    ],
)
def test_other_news_of_a_downlink_are_notifications(kind: str, news: dict[str, Any]) -> None:
    found = content(message(kind))
    assert read(message(kind)).kind is DocumentKind.NOTIFICATION
    assert found.items() >= {**news, "FCntDn": 47, "FPort": 15, "CorrelationID": CID}.items()


def test_a_failed_downlink_is_rejected_with_the_reason() -> None:
    found = content(message("downlink_failed"))
    assert read(message("downlink_failed")).kind is DocumentKind.DOWNLINK_REJECTED
    assert found["DownlinkRejectionCause"] == (
        "application downlink payload length `200` exceeds maximum '51': data rate is 0"
    )
    assert (found["DeliveryStatus"], found["CorrelationID"], found["FPort"]) == (0, CID, 15)
    assert "FCntDn" not in found
    assert read(message("downlink_failed")).fcnt is None
    assert read(message("downlink_failed", downlink=DOWNLINK)).fcnt == 47


def test_an_invalidated_queue_is_a_notification() -> None:
    found = content(message("downlink_queue_invalidated"))
    assert found["Type"] == "invalidated"
    assert found["TheThingsStack"]["downlinks"] == [DOWNLINK]
    assert found["TheThingsStack"]["last_f_cnt_down"] == 46


def test_a_solved_location_becomes_a_location() -> None:
    found = content(message("location_solved"))
    extra = found.pop("TheThingsStack")
    assert found == {
        "Time": "2026-01-02T02:04:06.014+00:00",
        "DevEUI": DEV_EUI,
        "DevLAT": 51.455,
        "DevLON": 5.458,
        "DevAlt": 12.0,
        "DevLocRadius": 15.0,
        "CustomerData": {"tags": TAGS[:4], "name": "cellar-1"},
        "DevAddr": "260B1234",
    }
    assert extra["service"] == "lora-cloud-geolocation-v3"
    assert extra["source"] == "SOURCE_WIFI_RSSI_GEOLOCATION"
    assert extra["attributes"] == {"algorithm": "wifi"}
    equator = content(message("location_solved", location={"longitude": 1}))
    assert (equator["DevLAT"], equator["DevLON"]) == (0.0, 1.0)


def test_service_data_becomes_a_notification() -> None:
    found = content(message("service_data"))
    assert (found["Type"], found["Service"]) == ("service", "lora-cloud-device-management-v1")
    assert found["payload"] == {"request": {"type": "modem"}}


@pytest.mark.parametrize("kind", list(CONTENTS))
def test_simulated_messages_are_marked(kind: str) -> None:
    assert content({**message(kind), "simulated": True})["TheThingsStack"]["simulated"] is True
    assert "simulated" not in content(message(kind))["TheThingsStack"]


@pytest.mark.parametrize("kind", list(CONTENTS))
def test_what_passes_through_is_the_message_as_it_came_and_all_else_is_equal(kind: str) -> None:
    body = json.dumps(message(kind), indent=1).encode()
    mapped, kept = read(body), read(b"\xef\xbb\xbf " + body + b"\n", pass_through=True)
    assert kept.body == body
    for name in ("source", "kind", "dev_eui", "time", "received", "fcnt", "tags", "fingerprint", "way"):
        assert getattr(kept, name) == getattr(mapped, name)


@pytest.mark.parametrize("kind", list(CONTENTS))
def test_the_document_says_the_same_to_whoever_reads_thingpark(kind: str) -> None:
    found = read(message(kind))
    again = thingpark.parse(found.body, source="ns", received=RECEIVED)
    assert (again.kind, again.dev_eui, again.time) == (found.kind, found.dev_eui, found.time)
    assert (again.fcnt, again.tags) == (found.fcnt, found.tags)


# --- times, numbers, gateways


@pytest.mark.parametrize(
    ("heard", "inner", "outer", "expected"),
    [
        ("2026-01-02T02:04:05.678901234Z", "2026-01-02T02:04:06Z", "2026-01-02T02:04:07Z", 1_767_319_445_678),
        ("2026-01-02T03:04:05.678+01:00", "2026-01-02T02:05:05Z", None, 1_767_319_445_678),
        ("1980-01-06T00:00:10Z", "2026-01-02T02:04:06Z", "2026-01-02T02:04:07Z", 1_767_319_446_000),
        (None, None, "2026-01-02T02:04:07Z", 1_767_319_447_000),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2026-01-02T02:04:07Z", 1_767_319_447_000),
        ("2026-01-02T02:04:05Z", None, None, 1_767_319_445_000),
        (None, None, None, RECEIVED),
    ],
)
def test_the_time_is_that_of_the_reception(
    heard: str | None, inner: str | None, outer: str | None, expected: int
) -> None:
    document = message("uplink_message", settings={"time": heard}, received_at=inner)
    document["received_at"] = outer
    assert read(document).time == expected


def test_floats_that_are_no_numbers_are_left_out() -> None:
    gateway = {"gateway_ids": {"gateway_id": "g1"}, "rssi": "-Infinity", "snr": "NaN"}
    found = content(message("uplink_message", rx_metadata=[gateway]))
    assert found["Lrrs"] == {"Lrr": [{"Lrrid": "g1", "Chain": 0}]}
    assert "LrrRSSI" not in found


def test_an_absurd_snr_breaks_nothing() -> None:
    gateways = [{"rssi": -50, "snr": 1e300}, {"rssi": -60, "snr": 5}]
    assert [lrr["LrrRSSI"] for lrr in content(message("uplink_message", rx_metadata=gateways))["Lrrs"]["Lrr"]] == [
        -50,
        -60,
    ]


def test_antennas_of_one_gateway_count_as_one() -> None:
    assert (
        content(message("uplink_message", rx_metadata=[GATEWAYS[1], {**GATEWAYS[1], "antenna_index": 2}]))["DevLrrCnt"]
        == 1
    )


def test_a_payload_that_nobody_could_decode_says_so() -> None:
    warned = message("uplink_message", decoded_payload=None, decoded_payload_warnings=["a", "b"])
    assert content(warned)["payloadDecodedError"] == {"code": "warnings", "message": "a; b"}
    assert "payloadDecodedError" not in content(message("uplink_message"))


def test_a_payload_that_is_still_encrypted_is_marked_and_its_key_is_not_passed_on() -> None:
    document = message("uplink_message", app_s_key={"encrypted_key": "c2VjcmV0LWtleQ=="})
    assert content(document)["TheThingsStack"]["frm_payload_encrypted"] is True
    assert b"c2VjcmV0LWtleQ==" not in read(document).body


# --- who it is


def test_a_simulated_uplink_is_a_copy_only_of_itself() -> None:
    first = {**message("uplink_message"), "simulated": True}
    later = {**first, "received_at": "2026-01-02T02:04:09Z"}
    assert read(first).fingerprint == read(first).fingerprint != read(later).fingerprint


def test_what_has_no_time_of_its_own_cannot_be_told_from_a_copy() -> None:
    with_time, without = message("downlink_ack"), message("downlink_ack")
    del without["received_at"]
    assert read(with_time).fingerprint > 0
    assert read(without).fingerprint == 0


def test_ids_that_the_message_does_not_have_come_from_the_topic() -> None:
    document = message("uplink_message")
    document["end_device_ids"] = {"dev_eui": DEV_EUI}
    assert read(document).way == ""
    assert read(document, "v3/app-1@tenant/devices/dev-1/up").way == "app-1/dev-1"
    assert read(document, "v3/app-1/devices/dev-1/down/sent").way == "app-1/dev-1"
    assert read(message("uplink_message"), "v3/app-1@tenant/devices/dev-1/up").way == "climate-app/cellar-1"


@pytest.mark.parametrize(
    "bad", ["../x", "a/b", "+", "#", "A", "a--b", "-a", "a-", "a" * 37, "a\x00", "a b", "é", "a\n", "a"]
)
def test_ids_that_cannot_be_ids_lead_nowhere(bad: str) -> None:
    document = message("uplink_message")
    document["end_device_ids"]["device_id"] = bad
    assert read(document).way == ""
    document = message("uplink_message")
    document["end_device_ids"]["application_ids"]["application_id"] = bad
    assert read(document).way == ""


def test_without_a_dev_eui_the_error_says_what_to_do() -> None:
    document = message("uplink_message")
    del document["end_device_ids"]["dev_eui"]
    error = refusal(document)
    assert error.field == "end_device_ids.dev_eui"
    assert "give the device a DevEUI in The Things Stack" in str(error)
    assert "'cellar-1'" in str(error)


@pytest.mark.parametrize("kind", ["downlink_queued", "downlink_failed"])
def test_reports_on_our_downlinks_need_no_dev_eui(kind: str) -> None:
    document = message(kind)
    document["end_device_ids"] = {"device_id": "cellar-1", "application_ids": {"application_id": "climate-app"}}
    assert read(document).dev_eui == DEV_EUI
    inner = document[kind].get("downlink", document[kind])
    inner["correlation_ids"] = ["as:downlink:01ABC"]
    assert refusal(document).field == "end_device_ids.dev_eui"
    document["correlation_ids"] = OURS
    assert read(document).dev_eui == DEV_EUI
    assert content(document)["CorrelationID"] == CID


def test_a_device_that_is_named_by_its_dev_eui_needs_no_other() -> None:
    document = message("downlink_queued", correlation_ids=None)
    document["end_device_ids"] = {"device_id": "eui-70b3d57ed0001234"}
    assert read(document).dev_eui == DEV_EUI


def test_only_our_correlation_ids_are_taken_for_one() -> None:
    odd = ["mqttbridge:cid:xyz", "x mqttbridge:cid:0123456789abcdef", "mqttbridge:cid:0123456789abcdef0"]
    assert "CorrelationID" not in content(message("downlink_sent", correlation_ids=odd))


# --- refusals


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"{", "not JSON"),
        (b"\xff{}", "not UTF-8"),
        (b"[]", "the message is an array; it must be an object"),
        (b"{}", "uplink_message"),
        (b'{"uplink_message": null}', "needs one of"),
        (b'{"uplink_message": {}, "join_accept": {}}', "2 kinds, uplink_message, join_accept"),
        (b'{"a": ' * 500 + b"1" + b"}" * 500, "deeper than"),
        (b'{"a": ' * 100_000, ""),
    ],
)
def test_what_is_no_message_is_refused(body: bytes, says: str) -> None:
    assert says in str(refusal(body))


@pytest.mark.parametrize(
    ("changed", "field", "says"),
    [
        ({"f_port": "2"}, "uplink_message.f_port", "is a text; it must be a whole number"),
        ({"f_cnt": -1}, "uplink_message.f_cnt", "must be at least 0"),
        ({"f_cnt": 2**32}, "uplink_message.f_cnt", "must be at most 4294967295"),
        ({"frm_payload": "AQP"}, "uplink_message.frm_payload", "not base64"),
        ({"frm_payload": "\u202eAQP="}, "uplink_message.frm_payload", "'\\u202eAQP='"),
        ({"settings": []}, "uplink_message.settings", "is an array; it must be an object"),
        ({"settings": {"frequency": "868 MHz"}}, "uplink_message.settings.frequency", "must be a number"),
        ({"settings": {"time": "noon"}}, "uplink_message.settings.time", "not an RFC 3339 time"),
        ({"received_at": "2026-01-02T02:04:05"}, "uplink_message.received_at", "not an RFC 3339 time"),
        ({"received_at": "9999-12-31T23:59:59-23:59"}, "uplink_message.received_at", "out of range"),
        ({"rx_metadata": [{}, {"rssi": []}]}, "uplink_message.rx_metadata[1].rssi", "is an array"),
        ({"rx_metadata": [{}] * 1001}, "uplink_message.rx_metadata", "1001 entries; at most 1000"),
        ({"rx_metadata": [{"location": 5}]}, "uplink_message.rx_metadata[0].location", "is a whole number"),
        ({"attributes": {"x": 1}}, "uplink_message.attributes[...]", "must be a text"),
        ({"locations": {"user": 1}}, "uplink_message.locations[...]", "must be an object"),
        ({"network_ids": {"tenant_id": 5}}, "uplink_message.network_ids.tenant_id", "must be a text"),
    ],
)
def test_a_field_that_is_wrong_is_named(changed: dict[str, Any], field: str, says: str) -> None:
    error = refusal(message("uplink_message", **changed))
    assert error.field == field
    assert says in str(error)
    assert field in str(error)


def test_a_dev_eui_that_is_none_is_refused() -> None:
    document = message("uplink_message")
    document["end_device_ids"]["dev_eui"] = "\x1b[31m" + "x" * 1000
    assert refusal(document).field == "end_device_ids.dev_eui"


def test_a_location_without_a_place_is_refused() -> None:
    assert refusal(message("location_solved", location=None)).field == "location_solved.location"


def test_the_deepest_message_that_is_taken_gives_a_document_that_is_taken() -> None:
    def nested(depth: int) -> Any:  # noqa: ANN401  any JSON value
        return [] if depth == 1 else [nested(depth - 1)]

    # Below the root, the kind, rx_metadata and its element.
    body = message("uplink_message", rx_metadata=[{"packet_broker": None, "relay": nested(MAX_DEPTH - 4)}])
    thingpark.parse(read(body).body, source="ns", received=1)
    assert "deeper" in str(refusal(message("uplink_message", rx_metadata=[{"relay": nested(MAX_DEPTH - 3)}])))


# --- hostile input


def test_hostile_messages_end_in_an_uplink_or_a_refusal() -> None:
    outcomes, longest = hostile_tts.run(HOW_MANY, seed=7)
    assert sum(outcomes.values()) == HOW_MANY
    assert outcomes["refused"] < HOW_MANY
    assert longest < 0.1


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=50))
def test_any_bytes_end_in_a_refusal_or_an_uplink(body: bytes, hint: str) -> None:
    hostile_tts.judge(body, hint)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(CONTENTS)), st.data())
def test_any_value_in_any_place_agrees_with_thingpark_or_is_refused(kind: str, data: st.DataObject) -> None:
    document = message(kind)
    node: Any = document
    key: Any = data.draw(st.sampled_from(sorted(node)))
    while isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
        node = node[key]
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
    node[key] = data.draw(JSON)
    hostile_tts.judge(json.dumps(document).encode("utf-8", "surrogatepass"), "")


@pytest.mark.parametrize(
    "content_",
    [
        {"rx_metadata": [{"rssi": -1, "snr": 1}] * 1000},
        {"rx_metadata": [{}] * 16_000},
        {"attributes": {str(place): "x" for place in range(4500)}},
        {"locations": {str(place): {"latitude": 1} for place in range(2500)}},
        {"decoded_payload": [[1.5]] * 9000},
        {"frm_payload": "A" * 60_000},
        {"settings": {"frequency": "9" * 60_000}},
        {"f_port": math.nan},
    ],
)
def test_a_large_message_is_read_within_100_ms(content_: dict[str, Any]) -> None:
    body = json.dumps(message("uplink_message", **content_)).encode()
    assert len(body) < 80_000
    best = 1.0
    for _ in range(3):
        start = time.process_time()
        with contextlib.suppress(DocumentError):
            read(body)
        best = min(best, time.process_time() - start)
    assert best < 0.1
