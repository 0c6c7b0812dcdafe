"""ChirpStack's events as ThingPark documents, and downlinks as its commands."""

from __future__ import annotations

import copy
import json
import os
import re
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.errors import DocumentError
from mqttbridge.formats import sample_chirpstack, thingpark
from mqttbridge.formats.chirpstack import (
    MAX_DEPTH,
    command,
    command_topic,
    parse,
    queue_item,
    refusal,
)
from mqttbridge.model import DocumentKind, Downlink, Uplink
from tests.formats import hostile_chirpstack
from tests.formats.chirpstack_samples import (
    APPLICATION,
    CID,
    DEV_EUI,
    DEVICE,
    EVENTS,
    HOSTILE,
    KEY,
    QUEUE_ITEM,
    TENANT,
    TIME_MS,
    body,
    device,
    event,
)

RECEIVED = 1_767_319_500_000
NAMES = "up, join, ack, txack, log, status, location, integration"


def read(document: object, hint: str = "", **options: Any) -> Uplink:  # noqa: ANN401  options of parse
    raw = document if isinstance(document, bytes) else body(document)
    return parse(raw, source="cs", received=RECEIVED, hint=hint, **options)


def content(document: object, hint: str = "") -> dict[str, Any]:
    found = read(document, hint)
    (root,) = json.loads(found.body).items()
    assert root[0] == found.kind
    return root[1]


def refused(document: object, hint: str = "") -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        read(document, hint)
    assert str(caught.value).isprintable()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    return caught.value


# --- the eight events


def test_an_up_becomes_an_uplink_with_every_field_that_has_a_counterpart() -> None:
    made = content(event("up"), "event=up")
    chirpstack = made.pop("ChirpStack")
    best = {"Lrrid": "0016C001F15004A7", "Chain": 1, "LrrRSSI": -83.0, "LrrSNR": 9.5, "LrrESP": -83.461836}
    other = {"Lrrid": "0016C001F1500812", "Chain": 0, "LrrRSSI": -110.0, "LrrSNR": -7.5, "LrrESP": -118.210819}
    assert made == {
        "Time": "2026-01-02T03:04:05.678+00:00",
        "DevEUI": DEV_EUI,
        "FPort": 10,
        "FCntUp": 1174,
        "ADRbit": 1,
        "MType": 4,
        "payload_hex": "9e1c4852512000220020e3831071",
        "LrrRSSI": -83.0,
        "LrrSNR": 9.5,
        "LrrESP": -83.461836,
        "DevLrrCnt": 2,
        "Lrrid": "0016C001F15004A7",
        "LrrLAT": 45.75,
        "LrrLON": 4.85,
        "Lrrs": {"Lrr": [best, other]},
        "SpFact": 9,
        "Frequency": 868.1,
        "DevAddr": "01E5F4A2",
        "AckRequested": 1,
        "DynamicClass": "C",
        "payload": {"level": 1.5, "note": "°C", "deep": {"a": [1, None]}},
        "CustomerID": TENANT,
        "CustomerData": {
            "tags": ["Site:Lyon", "Lyon", "TemperatureService", "critical"],
            "doms": [{"n": "Meters", "g": "application"}, {"n": "Meter M1", "g": "deviceProfile"}],
            "name": "Pump 4",
        },
    }
    assert chirpstack == {
        "event": "up",
        "deduplicationId": "3ac7e3c4-4401-4b8d-9386-a5c902f9202d",
        "tenantId": TENANT,
        "tenantName": "Waterworks",
        "applicationId": APPLICATION,
        "applicationName": "Meters",
        "deviceProfileId": DEVICE["deviceProfileId"],
        "deviceProfileName": "Meter M1",
        "tags": DEVICE["tags"],
        "regionConfigId": "eu868",
        "dr": 3,
        "modulation": {"lora": {"bandwidth": 125000, "spreadingFactor": 9, "codeRate": "CR_4_5"}},
        "relayRxInfo": {"devEui": "0018b20000000b21", "frequency": 867100000, "dr": 5, "rssi": -40},
        "sessionKeyId": "0102",
    }


def test_an_up_gives_the_uplink_what_routing_and_the_journal_need() -> None:
    found = read(event("up"), "event=up")
    assert msgspec.structs.replace(found, body=b"", fingerprint=0) == Uplink(
        source="cs",
        kind=DocumentKind.UPLINK,
        dev_eui=DEV_EUI,
        time=TIME_MS,
        received=RECEIVED,
        fcnt=1174,
        body=b"",
        tags=frozenset({"site:lyon", "lyon", "temperatureservice", "critical"}),
        way=APPLICATION,
    )


def test_what_is_absent_from_an_up_is_zero_or_left_out() -> None:
    made = content({"deviceInfo": {"devEui": "0018b20000000b20"}}, "event=up")
    made.pop("ChirpStack")
    assert made == {
        "Time": "2026-01-02T02:05:00.000+00:00",
        "DevEUI": DEV_EUI,
        "FCntUp": 0,
        "ADRbit": 0,
        "MType": 2,
        "payload_hex": "",
        "AckRequested": 0,
        "CustomerData": {"tags": [], "doms": []},
    }


def test_a_join_becomes_a_notification() -> None:
    made = content(event("join"), "event=join")
    assert read(event("join"), "event=join").kind is DocumentKind.NOTIFICATION
    assert (made["Type"], made["DevAddr"], made["DynamicClass"]) == ("join", "01E5F4A2", "C")
    assert made["CustomerData"]["name"] == "Pump 4"


@pytest.mark.parametrize(
    ("members", "battery"),
    [
        ({"batteryLevel": 50.0}, 127),
        ({"batteryLevel": 100}, 254),
        ({"batteryLevel": 0.39}, 1),
        ({"batteryLevel": None}, 1),
        ({"batteryLevel": None, "batteryLevelUnavailable": True}, 255),
        ({"batteryLevel": "NaN"}, 255),
        ({"batteryLevel": None, "externalPowerSource": True}, 0),
    ],
)
def test_a_status_becomes_a_notification_with_battery_and_margin(members: dict[str, Any], battery: int) -> None:
    made = content(event("status", **members), "event=status")
    assert (made["Type"], made["Var1"], made["Var2"]) == ("devstatusans", battery, -5)


def test_a_txack_becomes_downlink_sent_with_our_correlation_id() -> None:
    found = read(event("txack"), "event=txack")
    made = content(event("txack"), "event=txack")
    assert (found.kind, found.fcnt) == (DocumentKind.DOWNLINK_SENT, 13)
    assert (made["DeliveryStatus"], made["FCntDn"], made["CorrelationID"]) == (1, 13, CID)
    assert (made["Lrrid"], made["SpFact"], made["Frequency"], made["TxPower"]) == (
        "0016C001F15004A7",
        9,
        869.525,
        27.0,
    )
    assert made["ChirpStack"]["queueItemId"] == QUEUE_ITEM


@pytest.mark.parametrize(("acknowledged", "expected"), [(True, 1), (False, 0), (None, 0)])
def test_an_ack_becomes_a_notification_with_our_correlation_id(acknowledged: bool | None, expected: int) -> None:
    document = event("ack", acknowledged=acknowledged)
    made = content(document, "event=ack")
    assert read(document, "event=ack").kind is DocumentKind.NOTIFICATION
    assert (made["Type"], made["Acknowledged"], made["FCntDn"], made["CorrelationID"]) == ("ack", expected, 13, CID)


@pytest.mark.parametrize(
    "code", ["DOWNLINK_PAYLOAD_SIZE", "DOWNLINK_CODEC", "DOWNLINK_GATEWAY", "F_CNT_DOWN", "EXPIRED", 1, 11]
)
def test_a_log_of_a_lost_downlink_becomes_downlink_rejected(code: str | int) -> None:
    found = read(event("log", code=code), "event=log")
    made = content(event("log", code=code), "event=log")
    assert found.kind is DocumentKind.DOWNLINK_REJECTED
    name = {1: "DOWNLINK_PAYLOAD_SIZE", 11: "EXPIRED"}.get(code, code)
    assert made["DownlinkRejectionCause"] == f"{name}: Item discarded: larger than the max. payload size"
    assert made["CorrelationID"] == CID
    assert made["ChirpStack"]["context"]["item_size"] == "60"
    assert made["ChirpStack"]["level"] == "ERROR"
    assert made["DeliveryStatus"] == 0


def test_the_counter_of_a_lost_downlink_is_taken_from_the_context() -> None:
    document = event("log", code="F_CNT_DOWN", context={"queue_item_f_cnt_down": "12", "device_f_cnt_down": "15"})
    assert read(document).fcnt == 12
    assert content(document)["FCntDn"] == 12
    assert read(event("log")).fcnt is None


def test_another_log_becomes_a_notification() -> None:
    made = content(event("log", level=None, code="OTAA", description="DevNonce has been used"), "event=log")
    assert {name: made[name] for name in ("Type", "Level", "Code", "Description")} == {
        "Type": "log",
        "Level": "INFO",
        "Code": "OTAA",
        "Description": "DevNonce has been used",
    }
    assert "CorrelationID" not in made


def test_a_location_becomes_a_location() -> None:
    found = read(event("location"), "event=location")
    made = content(event("location"), "event=location")
    assert found.kind is DocumentKind.LOCATION
    assert (made["DevLAT"], made["DevLON"], made["DevAlt"], made["DevLocRadius"]) == (45.75, 4.85, 180.5, 12.0)
    assert made["ChirpStack"]["source"] == "GEO_RESOLVER_TDOA"


def test_an_integration_becomes_a_notification_with_its_object() -> None:
    made = content(event("integration"), "event=integration")
    assert (made["Type"], made["payload"]) == ("integration", {"fix": [45.75, 4.85]})
    assert made["ChirpStack"]["integrationName"] == "loracloud"
    assert made["ChirpStack"]["eventType"] == "ModemUpResponse"


def test_no_key_is_passed_on() -> None:
    assert b"appSKey" not in read(event("up"), "event=up").body
    assert b"c2VjcmV0" not in read(event("up"), "event=up").body


# --- which event


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize(
    "hint",
    [
        "event={}",
        "a=b&event={}&c=/event/x",
        "application/1/device/2/event/{}",
        "eu/868/application/1/device/2/event/{}",
        "mine/{}",
    ],
)
def test_query_and_topic_name_the_event(name: str, hint: str) -> None:
    document = {"deviceInfo": DEVICE, "location": {}}
    assert content(document, hint.format(name))["ChirpStack"]["event"] == name


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("hint", ["", "a=b", "event=", "some/topic"])
def test_without_a_hint_the_document_tells(name: str, hint: str) -> None:
    assert content(event(name), hint)["ChirpStack"]["event"] == name


@pytest.mark.parametrize("hint", ["event=uplink", "application/1/device/2/event/stats", "event=%1b%5b31m"])
def test_an_unknown_event_is_refused_with_the_eight_that_are_known(hint: str) -> None:
    assert NAMES in str(refused(event("up"), hint))


@pytest.mark.parametrize("document", [{"deviceInfo": DEVICE}, event("up", margin=3), event("log", gatewayId="00")])
def test_what_could_be_several_events_is_refused_with_advice(document: dict[str, Any]) -> None:
    assert "?event=up" in str(refused(document))


# --- the page of tables


@pytest.mark.parametrize("name", EVENTS)
def test_the_tables_name_every_field_that_an_event_gives(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats-chirpstack.md").read_text(encoding="utf-8")
    general, own = (
        page.partition("## Which")[2].partition("## up ")[0],
        page.partition(f"## {name} ")[2].partition("\n## ")[0],
    )
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", general + own))))
    made = content(event(name), f"event={name}")
    assert own
    assert not made.keys() - named
    assert not made["ChirpStack"].keys() - named


# --- details


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, []),
        ({"A": ""}, ["A"]),
        ({"A": "True"}, ["A"]),
        ({"A": "false"}, ["A:false", "false"]),
        ({"b": "x", "A": "y:z"}, ["A:y:z", "y:z", "b:x", "x"]),
        ({"": ""}, []),
        ({"": "x"}, [":x", "x"]),
        ({"a": "x", "b": "x"}, ["a:x", "x", "b:x"]),
        ({"true": "true"}, ["true"]),
    ],
)
def test_a_tag_that_is_just_there_is_its_key_and_any_other_is_named_with_and_without_its_key(
    tags: dict[str, str], expected: list[str]
) -> None:
    document = device("up", tags=tags)
    assert content(document)["CustomerData"]["tags"] == expected
    assert read(document).tags == {tag.casefold() for tag in expected}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("AQI=", "0102"), ("AQI", "0102"), ("-_8=", "fbff"), ("+/8", "fbff"), ("", ""), (None, "")],
)
def test_data_is_base64_of_either_alphabet(text: str | None, expected: str) -> None:
    assert content(event("up", data=text), "event=up")["payload_hex"] == expected


@pytest.mark.parametrize("text", ["A", "AQ=I", "AQI=AQI=", "A Q I", "é", "!!!!", "====", "AQI=\n"])
def test_data_that_is_no_base64_is_refused(text: str) -> None:
    assert refused(event("up", data=text)).field == "data"


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2026-01-02T03:04:05.678901234Z", TIME_MS),
        ("2026-01-02T03:04:05.678999999+00:00", TIME_MS),
        ("2026-01-02T04:04:05.678+01:00", TIME_MS),
        ("2026-01-02T03:04:05Z", TIME_MS - 678),
        ("1969-12-31T23:59:59.9999Z", -1),
    ],
)
def test_times_are_read_to_the_millisecond(text: str, milliseconds: int) -> None:
    found = read(event("up", time=text))
    assert found.time == milliseconds
    assert thingpark.parse(found.body, source="cs", received=1).time == milliseconds


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-01-02", "2026-01-02T03:04:05", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
)
def test_a_time_that_is_none_is_refused(text: str) -> None:
    assert refused(event("up", time=text)).field == "time"


@pytest.mark.parametrize("text", ["0018B20000000B20", "00-18-b2-00-00-00-0b-20"])
def test_a_dev_eui_is_read_however_it_is_written(text: str) -> None:
    assert read(device("up", devEui=text)).dev_eui == DEV_EUI


@pytest.mark.parametrize("text", ["", None, "0018b20000000b2", "0018b20000000b2g", "ABiyAAAACyA=", "\u0660" * 16])
def test_a_dev_eui_that_is_none_is_refused(text: str | None) -> None:
    assert refused(device("up", devEui=text)).field == "deviceInfo.devEui"


def test_numbers_may_be_texts() -> None:
    document = event("up", fCnt="4294967295", fPort="224", rxInfo=[{"gatewayId": "aa", "rssi": "-12.5", "snr": "NaN"}])
    made = content(document)
    assert (made["FCntUp"], made["FPort"], made["LrrRSSI"], made["LrrESP"]) == (4294967295, 224, -12.5, -12.5)
    assert "LrrSNR" not in made


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"fCnt": -1}, "fCnt"),
        ({"fCnt": 2**32}, "fCnt"),
        ({"fCnt": "x"}, "fCnt"),
        ({"fCnt": 1.5}, "fCnt"),
        ({"fCnt": "1" * 5000}, "fCnt"),
        ({"fCnt": 10**400}, "fCnt"),
        ({"fPort": 256}, "fPort"),
        ({"adr": "yes"}, "adr"),
        ({"data": 5}, "data"),
        ({"object": [1]}, "object"),
        ({"object": "x"}, "object"),
        ({"rxInfo": {}}, "rxInfo"),
        ({"rxInfo": [{}] * 1001}, "rxInfo"),
        ({"rxInfo": [{}, {"rssi": "x"}]}, "rxInfo[1].rssi"),
        ({"rxInfo": [{"snr": 1e300}]}, "rxInfo[0].snr"),
        ({"rxInfo": [{"rssi": 10**400}]}, "rxInfo[0].rssi"),
        ({"rxInfo": [{"location": {"latitude": []}}]}, "rxInfo[0].location.latitude"),
        ({"txInfo": {"frequency": -5}}, "txInfo.frequency"),
        ({"deviceInfo": DEVICE | {"tags": {"a": 1}}}, "deviceInfo.tags[...]"),
        ({"deviceInfo": DEVICE | {"tags": ["a"]}}, "deviceInfo.tags"),
        ({"deviceInfo": DEVICE | {"applicationId": "a/b"}}, "deviceInfo.applicationId"),
        ({"deviceInfo": DEVICE | {"applicationId": "a" * 129}}, "deviceInfo.applicationId"),
        ({"deviceInfo": None}, "deviceInfo"),
        ({"time": 5}, "time"),
    ],
)
def test_what_is_of_a_wrong_type_or_out_of_range_is_refused_by_name(members: dict[str, Any], field: str) -> None:
    found = refused(event("up", **members), "event=up")
    assert found.field == field
    assert field in str(found)


def test_a_location_event_without_a_location_is_refused() -> None:
    assert refused(event("location", location=None), "event=location").field == "location"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"\xff", "UTF-8"),
        (b"[]", "must be an object"),
        (b"nonsense", "not JSON"),
        (b'{"a": "\x01"}', "0x01"),
        (b"\n\x24" + b"\x01\x02abc", "must send JSON"),
        (b'{"applicationID": "1", "devEUI": "AgICAgICAgI=", "fCnt": 1, "data": ""}', "v3"),
        (b'{"devEUI": "0202020202020202", "txInfo": {"modulation": "LORA"}}', "v3"),
        (b'{"a":' * 40_000, "deeper"),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(raw: bytes, words: str) -> None:
    assert words in str(refused(raw, "event=up"))


def test_the_deepest_object_still_makes_a_document_that_can_be_read() -> None:
    def nested(levels: int) -> bytes:
        inner = b'{"a":' * levels + b"1" + b"}" * levels
        return b'{"deviceInfo":{"devEui":"0018b20000000b20"},"object":' + inner + b"}"

    found = read(nested(MAX_DEPTH - 1), "event=up")
    assert thingpark.parse(found.body, source="cs", received=1).dev_eui == DEV_EUI
    assert "deeper" in str(refused(nested(MAX_DEPTH), "event=up"))


def test_a_gateway_that_was_never_placed_has_no_place() -> None:
    made = content(event("up", rxInfo=[{"gatewayId": "aa", "location": {"altitude": 3}}]))
    assert "LrrLAT" not in made
    assert made["DevLrrCnt"] == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [("CLASS_A", "A"), ("CLASS_B", "B"), (2, "C"), (None, None), ("CLASS_X", None), (-1, None), (77, None)],
)
def test_a_class_is_said_if_it_is_known(value: str | int | None, expected: str | None) -> None:
    assert content(device("up", deviceClassEnabled=value)).get("DynamicClass") == expected


def test_an_object_keeps_its_very_bytes() -> None:
    raw = body(event("up")).replace(b'"level": 1.5', b'"level":   1.500e0')
    assert b'"level":   1.500e0' in read(raw).body


def test_a_queue_item_of_somebody_else_gives_no_correlation_id() -> None:
    for item in (str(uuid.UUID(int=0)), "6f7c0bd1-3d7e-4c4a-8d7a-1d2e5a2f6b0c", "x", ""):
        assert "CorrelationID" not in content(event("txack", queueItemId=item))


# --- pass-through, fingerprints


@pytest.mark.parametrize("name", EVENTS)
def test_passed_through_a_document_stays_and_all_else_is_equal(name: str) -> None:
    raw = body(event(name))
    passed = read(b"\xef\xbb\xbf \n" + raw + b"\r\n", f"event={name}", pass_through=True)
    assert passed.body == raw
    assert msgspec.structs.replace(passed, body=b"") == msgspec.structs.replace(read(raw, f"event={name}"), body=b"")


def test_copies_of_an_uplink_are_told_by_the_deduplication_id() -> None:
    copies = {read(event("up", **more)).fingerprint for more in ({}, {"rxInfo": []}, {"dr": 4})}
    assert len(copies) == 1
    others = [
        event("up", deduplicationId="3ac7e3c4-4401-4b8d-9386-a5c902f9202e"),
        device("up", devEui="0018b20000000b21"),
    ]
    assert not copies & {read(other).fingerprint for other in others}


def test_without_a_deduplication_id_counter_and_payload_tell() -> None:
    found = read(event("up", deduplicationId=None))
    thing = {"DevEUI_uplink": {"DevEUI": DEV_EUI, "FCntUp": 1174, "payload_hex": "9E1C4852512000220020E3831071"}}
    assert found.fingerprint == thingpark.parse(body(thing), source="lrc", received=1).fingerprint
    assert found.fingerprint != read(event("up", deduplicationId=None, fCnt=1175)).fingerprint


@pytest.mark.parametrize("name", [name for name in EVENTS if name != "up"])
def test_other_events_of_one_uplink_are_not_copies_of_each_other(name: str) -> None:
    found = read(event(name)).fingerprint
    assert 0 < found < 2**63
    assert found == read(event(name)).fingerprint
    assert found != read(device(name, deviceName="Pump 5")).fingerprint
    assert found != read(event("up")).fingerprint
    assert read(event(name, time=None), f"event={name}").fingerprint == 0


# --- downlinks


def downlink(**members: Any) -> Downlink:  # noqa: ANN401  fields of any type
    return Downlink(**({"dev_eui": DEV_EUI, "fport": 10, "payload_hex": "0103ff"} | members))


def test_a_command_is_a_queue_item_that_names_the_device_as_the_topic_does() -> None:
    made = json.loads(command(downlink(confirmed=True), correlation_id=CID, key=KEY))
    assert made == {
        "id": QUEUE_ITEM,
        "devEui": "0018b20000000b20",
        "confirmed": True,
        "fPort": 10,
        "data": "AQP/",
    }
    assert command_topic(APPLICATION, DEV_EUI) == f"application/{APPLICATION}/device/{made['devEui']}/command/down"


def test_a_request_can_flush_the_queue_and_a_command_cannot() -> None:
    asked = downlink(flush=True)
    made = json.loads(queue_item(asked, correlation_id=CID, key=KEY))
    assert made == {"queueItem": json.loads(command(asked, correlation_id=CID, key=KEY)), "flushQueue": True}
    assert json.loads(queue_item(downlink(), correlation_id=CID, key=KEY))["flushQueue"] is False


def test_a_decoded_payload_goes_as_object() -> None:
    made = json.loads(command(downlink(payload_hex=None, payload=b'{"led": "on"}'), correlation_id=CID, key=KEY))
    assert made["object"] == {"led": "on"}
    assert "data" not in made


def test_an_empty_payload_is_empty_data() -> None:
    assert json.loads(command(downlink(payload_hex=""), correlation_id=CID, key=KEY))["data"] == ""


@pytest.mark.parametrize(
    ("expires", "text"), [(TIME_MS, "2026-01-02T03:04:05.678Z"), (10**18, "9999-12-31T23:59:59.999Z")]
)
def test_a_validity_time_goes_as_expires_at(expires: int, text: str) -> None:
    assert json.loads(command(downlink(expires=expires), correlation_id=CID, key=KEY))["expiresAt"] == text


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8))
def test_the_id_is_a_uuid_of_version_8_that_leads_back_to_the_correlation_id(cid: bytes, key: bytes) -> None:
    made = json.loads(command(downlink(), correlation_id=cid.hex().upper(), key=key.hex()))
    identity = uuid.UUID(made["id"])
    assert (identity.version, identity.variant, str(identity)) == (8, uuid.RFC_4122, made["id"])
    assert content(event("ack", queueItemId=made["id"]))["CorrelationID"] == cid.hex()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b'{"code":3,"message":"invalid length: expected 16","details":[]}', "invalid length: expected 16"),
        (b'{"error":"object does not exist"}', "object does not exist"),
        (b'{"message":"two\\nlines \\u001b[31m\\u202e"}', "two lines \\x1b[31m\\u202e"),
        (b"<html><body><h1>502 Bad\nGateway</h1></body></html>", "502 Bad Gateway"),
        (b"", "it gives no reason"),
        (b"{}", "it gives no reason"),
        (b"\xff", "\ufffd"),
        ('{"message":"für"}'.encode(), "für"),
    ],
)
def test_a_refusal_is_one_line_that_is_safe_in_a_log(answer: bytes, text: str) -> None:
    assert refusal(answer) == text


@given(st.binary(max_size=300) | st.text().map(lambda text: json.dumps({"message": text}).encode()))
def test_any_refusal_is_short(answer: bytes) -> None:
    said = refusal(answer)
    assert said
    assert said.isprintable()
    assert said.isprintable()
    assert refusal(answer * 1000)


def test_a_long_refusal_is_cut() -> None:
    assert len(refusal(b"<" * 100_000)) < 300


# --- any input


def holds(raw: bytes, hint: str) -> None:
    """Whatever comes: refused with a sentence, or a document that the ThingPark format reads alike."""
    hostile_chirpstack.check(hint, raw)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(HOSTILE[:20]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(document: object, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give the path of every value in a document."""
    members = document.items() if isinstance(document, dict) else enumerate(document)
    found = []
    for key, value in members:
        found.append((*above, key))
        if isinstance(value, dict | list):
            found += places(value, (*above, key))
    return found


def with_value(document: object, path: tuple[Any, ...], value: object) -> object:
    """Give the document with another value at that place."""
    changed = place = copy.deepcopy(document)
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_value_at_any_place_is_refused_or_makes_a_document_that_thingpark_agrees_with(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(EVENTS)))
    path = data.draw(st.sampled_from(places(EVENTS[name])))
    document = with_value(EVENTS[name], path, data.draw(values))
    holds(json.dumps(document).encode(), data.draw(st.sampled_from([f"event={name}", "", f"a/event/{name}"])))


@settings(max_examples=200, deadline=None)
@given(
    raw=st.binary(max_size=200) | st.text(max_size=100).map(str.encode),
    hint=st.text(max_size=20) | st.sampled_from(["event=up", "event=log", "x/event/join"]),
)
def test_any_bytes_are_refused_or_taken(raw: bytes, hint: str) -> None:
    holds(raw, hint)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.text(max_size=5), st.sampled_from(["", "true", "x"]) | st.text(max_size=5), max_size=5),
    st.integers(0, 2**32 - 1),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
)
def test_tags_counter_and_time_are_the_same_in_the_document(tags: dict[str, str], fcnt: int, moment: str) -> None:
    document = device("up", tags=tags)
    document |= {"fCnt": fcnt, "time": moment}
    found = read(document)
    again = thingpark.parse(found.body, source="cs", received=RECEIVED)
    assert (again.dev_eui, again.fcnt, again.time, again.tags) == (DEV_EUI, fcnt, found.time, found.tags)


def test_hostile_inputs_are_refused_or_taken() -> None:
    """MQTTBRIDGE_HOSTILE sets how many; `python -m tests.formats.hostile_chirpstack` also says how long they took."""
    taken, _ = hostile_chirpstack.run(int(os.environ.get("MQTTBRIDGE_HOSTILE", "300")), seed=3)
    assert taken


@pytest.mark.parametrize(
    "member",
    [
        b'"object":{' + b",".join(b'"%d":0' % place for place in range(6000)) + b"}",
        b'"rxInfo":[' + b",".join([b"{}"] * 1000) + b"]",
        b'"rxInfo":[' + b",".join([b"{}"] * 20_000) + b"]",
        b'"data":"' + b"A" * 60_000 + b'"',
        b'"fCnt":"' + b"9" * 60_000 + b'"',
        b'"fCnt":' + b"9" * 60_000,
        b'"devAddr":"' + b"\\u00e9" * 10_000 + b'"',
        b'"time":"' + b"0" * 60_000 + b'"',
        b'"x":' + b"[" * 60_000,
        b'"x":"' + b"\\\\" * 30_000 + b'"',
    ],
)
def test_up_to_64_kib_take_less_than_100_ms(member: bytes) -> None:
    tags = b",".join(b'"%d":""' % place for place in range(200))
    raw = b'{"deviceInfo":{"devEui":"0018b20000000b20","tags":{' + tags + b"}}," + member + b"}"
    assert min(hostile_chirpstack.check("event=up", raw)[1] for _ in range(3)) < 0.1


# --- the sample


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 4_000_000_000_000),
    st.lists(st.text("ab", min_size=1)),
)
def test_the_sample_is_always_taken(number: int, fcnt: int, time_ms: int, tags: list[str]) -> None:
    found = read(sample_chirpstack.uplink(f"{number:016X}", fcnt=fcnt, time_ms=time_ms, tags=tags), "event=up")
    assert (found.dev_eui, found.fcnt, found.time) == (f"{number:016X}", fcnt, time_ms)
    assert found.tags == set(tags)
    assert found.way == sample_chirpstack.APPLICATION


def test_the_sample_follows_from_its_arguments_alone() -> None:
    assert sample_chirpstack.uplink("0018B20000000B20", fcnt=1) == sample_chirpstack.uplink("0018b20000000b20", fcnt=1)
    first, second = (read(sample_chirpstack.uplink(DEV_EUI, fcnt=fcnt)).fingerprint for fcnt in (1, 2))
    assert first != second


def test_the_sample_says_what_it_was_asked_to() -> None:
    made = content(sample_chirpstack.uplink(DEV_EUI, fcnt=3, fport=9, payload_hex="0102", tags=("A",), name="Mine"))
    assert (made["FPort"], made["payload_hex"]) == (9, "0102")
    assert (made["CustomerData"]["name"], made["CustomerData"]["tags"]) == ("Mine", ["A"])
    raw = bytes.fromhex(content(sample_chirpstack.uplink(DEV_EUI, fcnt=5))["payload_hex"])
    payload = content(sample_chirpstack.uplink(DEV_EUI, fcnt=5))["payload"]
    assert int.from_bytes(raw[:2], "big") / 10 == payload["temperature"]
    assert raw[2] == payload["humidity"]
