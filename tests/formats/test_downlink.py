"""Downlinks as customers publish them: what is taken, and what is said about the rest."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.errors import DocumentError, DownlinkExpired
from mqttbridge.formats.downlink import MAX_BODY, Glimpse, Parsed, glimpse, parse
from mqttbridge.model import Downlink
from tests.formats import hostile_downlink as hostile

DEV_EUI = "0018B20000000B20"
OTHER = "0018B20000000B21"
NOW = 1_767_319_445_678
"""2026-01-02T02:04:05.678Z"""
SECRET = hostile.SECRET


def read(document: object, *, dev_eui: str = "", default_fport: int | None = None) -> Parsed:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse(body, dev_eui=dev_eui, default_fport=default_fport, now=NOW)


def downlink(**fields: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON value
    return {"DevEUI_downlink": {"DevEUI": DEV_EUI, "FPort": 15, "payload_hex": "0103", **fields}}


def refusal(document: object, *, field: str = "", says: str = "", dev_eui: str = "") -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        read(document, dev_eui=dev_eui)
    text = str(caught.value)
    assert text.isprintable()
    assert text.isprintable()
    assert len(text) < 400
    assert says in text
    if field:
        assert caught.value.field == f"DevEUI_downlink.{field}"
    return caught.value


def test_a_plain_downlink_is_read() -> None:
    assert read(downlink()) == Parsed(Downlink(dev_eui=DEV_EUI, fport=15, payload_hex="0103"), ())


def test_every_field_is_read() -> None:
    document = downlink(
        Time="2026-01-02T03:04:05.678+01:00",
        Confirmed=1,
        FlushDownlinkQueue="1",
        ValidityTime=60,
        CorrelationID="0123456789aBcDeF",
    )
    expected = Downlink(
        dev_eui=DEV_EUI,
        fport=15,
        payload_hex="0103",
        confirmed=True,
        flush=True,
        expires=NOW + 60_000,
        correlation_id="0123456789aBcDeF",
    )
    assert read(document) == Parsed(expected, ())


def test_whitespace_and_a_byte_order_mark_are_taken_off() -> None:
    body = b"\xef\xbb\xbf \r\n" + json.dumps(downlink(), indent=2).encode() + b"\n"
    assert read(body).downlink.payload_hex == "0103"


# --- DevEUI


@pytest.mark.parametrize(
    "text", ["0018b20000000b20", "00-18-B2-00-00-00-0b-20", "00:18:b2:00:00:00:0b:20", "0018B200-00000B20"]
)
def test_a_dev_eui_is_read_however_it_is_written(text: str) -> None:
    assert read(downlink(DevEUI=text)).downlink.dev_eui == DEV_EUI
    assert read(downlink(DevEUI=text), dev_eui=DEV_EUI).downlink.dev_eui == DEV_EUI
    assert read(downlink(DevEUI=None), dev_eui=text).downlink.dev_eui == DEV_EUI


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_dev_eui_that_of_the_topic_counts(value: object) -> None:
    assert read(downlink(DevEUI=value), dev_eui=DEV_EUI).downlink.dev_eui == DEV_EUI
    assert read({"DevEUI_downlink": {"FPort": 1, "payload_hex": ""}}, dev_eui=DEV_EUI).downlink.dev_eui == DEV_EUI
    refusal(downlink(DevEUI=value), field="DevEUI", says="16 hex digits")


def test_topic_and_document_must_agree() -> None:
    error = refusal(downlink(), dev_eui=OTHER, field="DevEUI", says="must agree")
    assert DEV_EUI in str(error)
    assert OTHER in str(error)


@pytest.mark.parametrize("value", ["0018B20000000B2", "0018B20000000B200", "x" * 5000, 18, 1.5, True, [], {}, " "])
def test_what_is_no_dev_eui_is_refused(value: object) -> None:
    refusal(downlink(DevEUI=value), field="DevEUI", says="16 hex digits")
    refusal(downlink(DevEUI=value), dev_eui=DEV_EUI, field="DevEUI", says="16 hex digits")


def test_a_topic_with_no_dev_eui_in_its_place_is_refused() -> None:
    refusal(downlink(), dev_eui="gate\x07way", field="DevEUI", says="topic")


# --- FPort


@pytest.mark.parametrize(("value", "expected"), [(15, 15), ("15", 15), (15.0, 15), ("015", 15), (1, 1), (224, 224)])
def test_an_fport_is_a_number_or_its_digits(value: object, expected: int) -> None:
    found = read(downlink(FPort=value)).downlink.fport
    assert found == expected
    assert type(found) is int


@pytest.mark.parametrize("value", [None, ""])
def test_without_an_fport_that_of_the_connection_counts(value: object) -> None:
    assert read(downlink(FPort=value), default_fport=5).downlink.fport == 5
    error = refusal(downlink(FPort=value), field="FPort", says="give it")
    assert "downlinkPort" in str(error)
    assert read({"DevEUI_downlink": {"payload_hex": ""}}, dev_eui=DEV_EUI, default_fport=5).downlink.fport == 5


@pytest.mark.parametrize(
    "value",
    [0, 225, -1, "0", "225", "15 ", "+15", "\u0661\u0665", "x", 1.5, True, False, [], {}, 10**400, 1e300, "9" * 5000],
)
def test_another_fport_is_refused_also_where_the_connection_has_one(value: object) -> None:
    for default in (None, 5):
        with pytest.raises(DocumentError, match="whole number from 1 to 224") as caught:
            read(downlink(FPort=value), default_fport=default)
        assert caught.value.field == "DevEUI_downlink.FPort"
        assert len(str(caught.value)) < 200


# --- the payload


@pytest.mark.parametrize("digits", ["00", "aB", "ab" * 242])
def test_hex_digits_are_taken_in_any_case(digits: str) -> None:
    found = read(downlink(payload_hex=digits)).downlink
    assert (found.payload_hex, found.payload) == (digits.lower(), b"")


def test_a_payload_of_no_bytes_is_sent_and_warned_about() -> None:
    found = read(downlink(payload_hex=""))
    assert found.downlink.payload_hex == ""
    assert [text for text in found.warnings if "empty" in text]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("010", "3 digits"),
        ("ab" * 243, "243 bytes"),
        ("ab" * 30_000, "30000 bytes"),
        ("01 03", "without blanks"),
        ("0x0103", "0x"),
        ("01-03", "dashes"),
        ("0103\n", "hex digits only"),
        ("\u0661\u0662", "hex digits only"),
        (103, "in quotes"),
        (True, "in quotes"),
        (["01"], "in quotes"),
        ({}, "in quotes"),
    ],
)
def test_what_is_no_payload_hex_is_refused(value: object, says: str) -> None:
    refusal(downlink(payload_hex=value), field="payload_hex", says=says)


def test_a_payload_object_is_kept_as_compact_json() -> None:
    body = b'{"DevEUI_downlink":{"FPort":1,"payload": { "t" : 2.50, "name":"\xc3\xbc \\u00fc" ,"l":[ 1, 2 ]}}}'
    found = read(body, dev_eui=DEV_EUI).downlink
    assert (found.payload_hex, found.payload) == (None, b'{"t":2.50,"name":"\xc3\xbc \\u00fc","l":[1,2]}')
    assert read(downlink(payload_hex=None, payload={})).downlink.payload == b"{}"


@pytest.mark.parametrize("value", [[], [{}], "{}", 7, True, ""])
def test_a_payload_that_is_no_object_is_refused(value: object) -> None:
    refusal(downlink(payload_hex=None, payload=value), field="payload", says="object")


def test_a_payload_object_is_bounded() -> None:
    refusal(downlink(payload_hex=None, payload={"x": "y" * 20_000}), field="payload", says="bytes")
    body = json.dumps(downlink(payload_hex=None, payload={"x": 0})).replace(": 0}", ": 1e999}").encode()
    refusal(body, field="payload", says="out of range")


def test_exactly_one_payload_must_be_there() -> None:
    refusal(downlink(payload={}), field="payload", says="both")
    refusal(downlink(payload_hex="", payload={"t": 1}), field="payload", says="both")
    refusal(downlink(payload_hex=None), field="payload_hex", says="neither")
    refusal(downlink(payload_hex=None, payload=None), field="payload_hex", says="neither")
    assert read(downlink(payload=None)).downlink.payload_hex == "0103"


# --- flags, CorrelationID


@pytest.mark.parametrize("name", ["Confirmed", "FlushDownlinkQueue"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, False), (1, True), ("0", False), ("1", True), (True, True), (False, False), (None, False), ("", False)],
)
def test_flags_are_read_however_they_are_written(name: str, value: object, *, expected: bool) -> None:
    found = read(downlink(**{name: value})).downlink
    assert (found.confirmed, found.flush) == ((expected, False) if name == "Confirmed" else (False, expected))


@pytest.mark.parametrize("name", ["Confirmed", "FlushDownlinkQueue"])
@pytest.mark.parametrize("value", [2, -1, "2", "yes", "true", [], [1], {}, 0.5, 10**400])
def test_another_flag_is_refused(name: str, value: object) -> None:
    refusal(downlink(**{name: value}), field=name, says="0 or 1")


def test_a_correlation_id_is_kept_as_it_was_given() -> None:
    assert read(downlink(CorrelationID="0123456789aBcDeF")).downlink.correlation_id == "0123456789aBcDeF"
    assert read(downlink(CorrelationID=None)).downlink.correlation_id == ""
    assert read(downlink(CorrelationID="")).downlink.correlation_id == ""


@pytest.mark.parametrize("value", ["0123456789abcde", "0123456789abcdef0", "0123456789abcdeg", 7, [], {}, True])
def test_another_correlation_id_is_refused(value: object) -> None:
    refusal(downlink(CorrelationID=value), field="CorrelationID", says="16 hex digits")


# --- ValidityTime


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (60, NOW + 60_000),
        ("60", NOW + 60_000),
        (0.5, NOW + 500),
        ("1.5", NOW + 1_500),
        ("2026-01-02T02:04:05.679Z", NOW + 1),
        ("2026-01-02T03:04:06.678+01:00", NOW + 1_000),
        ("2026-01-02T03:04:06+01:00", NOW + 322),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        (None, None),
        ("", None),
    ],
)
def test_a_validity_time_is_a_moment_or_seconds(value: object, expected: int | None) -> None:
    assert read(downlink(ValidityTime=value)).downlink.expires == expected


@pytest.mark.parametrize(
    ("value", "ago"),
    [
        ("2026-01-02T02:04:05.677Z", "1 ms ago"),
        ("2026-01-02T02:03:55Z", "10 s ago"),
        ("2026-01-02T03:00:05.678+01:00", "4 min ago"),
        ("2026-01-01T02:04:05.678Z", "24 h ago"),
        ("2025-01-02T02:04:05.678Z", "365 days ago"),
        ("0001-01-01T00:00:00+23:59", "days ago"),
        (-5, "5 s ago"),
        ("-5", "5 s ago"),
        (0, "0 ms ago"),
    ],
)
def test_a_validity_time_that_has_passed_expires_the_downlink(value: object, ago: str) -> None:
    error = refusal(downlink(ValidityTime=value), field="ValidityTime", says=ago)
    assert isinstance(error, DownlinkExpired)


@pytest.mark.parametrize(
    "value",
    [
        "tomorrow",
        "2026-01-02T02:04:05",
        "2026-13-02T02:04:05Z",
        "9999-12-31T23:59:59-23:59",
        10**9,
        "1767319445678",
        1e300,
        -(10**400),
        True,
        [],
        {},
        "x" * 10_000,
    ],
)
def test_another_validity_time_is_refused(value: object) -> None:
    error = refusal(downlink(ValidityTime=value), field="ValidityTime")
    assert not isinstance(error, DownlinkExpired)


def test_what_is_not_valid_is_refused_for_that_also_when_it_comes_too_late() -> None:
    refusal(downlink(ValidityTime=-5, FPort=0), field="FPort")
    refusal(downlink(ValidityTime=-5, Confirmed=7), field="Confirmed")


# --- what is not heeded


@pytest.mark.parametrize(
    "name", ["AS_ID", "AS_KEY", "Token", "FCntDn", "AFCntDn", "RetryIneligibleGateways", "DriverCfg"]
)
def test_a_field_that_is_not_passed_on_is_warned_about_without_its_value(name: str) -> None:
    found = read(downlink(**{name: SECRET}))
    assert found.downlink == read(downlink()).downlink
    assert len(found.warnings) == 1
    assert f"DevEUI_downlink.{name} is not passed on" in found.warnings[0]
    assert SECRET not in found.warnings[0]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Fport", "FPort"),
        ("fPort", "FPort"),
        ("port", "FPort"),
        ("payloadHex", "payload_hex"),
        ("PayloadHex", "payload_hex"),
        ("confirmed", "Confirmed"),
        ("flushDownlinkQueue", "FlushDownlinkQueue"),
        ("validity_time", "ValidityTime"),
        ("CorrelationId", "CorrelationID"),
        ("devEui", "DevEUI"),
        ("as_key", "AS_KEY"),
    ],
)
def test_a_near_miss_is_told(name: str, meant: str) -> None:
    found = read(downlink(**{name: SECRET}))
    assert found.warnings == (
        f"the field {name!r} of DevEUI_downlink is not known, and not heeded; did you mean {meant}?",
    )


@pytest.mark.parametrize("name", ["color", "x" * 50_000, "", "\u202e\x1b[31m"])
def test_an_unknown_field_is_warned_about_short_and_escaped(name: str) -> None:
    (warning,) = read(downlink(**{name: 1})).warnings
    assert "not known" in warning
    assert "did you mean" not in warning
    assert warning.isprintable()
    assert warning.isprintable()
    assert len(warning) < 150


def test_a_missing_field_names_the_one_that_was_perhaps_meant() -> None:
    refusal({"DevEUI_downlink": {"devEui": DEV_EUI}}, field="DevEUI", says="did you mean DevEUI?")
    refusal(downlink(FPort=None, Fport=1), field="FPort", says="did you mean FPort?")
    refusal(downlink(payload_hex=None, payloadHex="01"), field="payload_hex", says="did you mean payload_hex?")


def test_warnings_are_bounded() -> None:
    found = read(downlink(**{f"x{number}": 1 for number in range(1000)}) | {f"y{number}": 1 for number in range(1000)})
    assert len(found.warnings) == 10
    assert "more" in found.warnings[-1]
    assert len(read(downlink(**{f"x{number}": 1 for number in range(10)})).warnings) == 10


def test_what_stands_beside_the_root_is_warned_about() -> None:
    (warning,) = read(downlink() | {"Confirmed": 1}).warnings
    assert "'Confirmed' stands beside DevEUI_downlink" in warning


# --- what is no downlink


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"turn on", "not JSON"),
        (b"0103", 'it must be {"DevEUI_downlink": {'),
        (b'{"DevEUI_downlink":', "not JSON"),
        (b'{"DevEUI_downlink":{"FPort":NaN}}', "not JSON"),
        (b'{"DevEUI_downlink":{"FPort":-Infinity}}', "not JSON"),
        (b'{"DevEUI_downlink":{"DevEUI":"\\ud800"}}', "not JSON"),
        (b'{"DevEUI_downlink":{}}\x00', "control character, 0x00"),
        (b'{"DevEUI_downlink":{"x":"\x1b"}}', "control character, 0x1B"),
        (b'{"DevEUI_downlink":{"x":"\xff"}}', "UTF-8"),
        (b'{"DevEUI_downlink":{"x":"\xed\xa0\x80"}}', "UTF-8"),
        (b"[]", "an array"),
        (b'[{"DevEUI_downlink":{}}]', "an array"),
        (b"7", "no JSON object"),
        (b"null", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b"{}", "empty object"),
        (b'{"DevEUI_downlink":null}', "no object"),
        (b'{"DevEUI_downlink":[]}', "no object"),
        (b'{"DevEUI_downlink":"x"}', "no object"),
        (b'{"a":' * 10_000, "deeper than 64"),
        (b'{"DevEUI_downlink":{"x":' + b"[" * 63 + b"]" * 63 + b"}}", "deeper than 64"),
        (b'{"DevEUI_downlink":{"x":' + b"[" * 5000 + b"]" * 5000 + b"}}", "deeper than 64"),
        (b'{"DevEUI_downlink":{"DevEUI":' + b"9" * 6000 + b"}}", "out of range"),
        (b'{"DevEUI_downlink":{"FPort":1e999}}', "out of range"),
        (b"x" * (MAX_BODY + 1), "65537 bytes"),
        (b'{"DevEUI_downlink":{}}' + b" " * MAX_BODY, "may have 65536"),
    ],
)
def test_what_is_no_document_is_refused(body: bytes, says: str) -> None:
    refusal(body, says=says)


@pytest.mark.parametrize(
    "document",
    [
        {"DevEUI": DEV_EUI, "FPort": 1, "payload_hex": "01"},
        {"fport": 1, "x": 2},
        {"DevEUI_uplink": {"DevEUI": DEV_EUI}},
        {"DevEUI_Downlink": {"DevEUI": DEV_EUI}},
        {"\x1b" * 5000: 1},
    ],
)
def test_without_the_root_it_says_where_the_fields_go(document: object) -> None:
    assert refusal(document, says="inside DevEUI_downlink").field == "DevEUI_downlink"


def test_a_body_of_the_largest_size_is_read() -> None:
    body = json.dumps(downlink()).encode()
    assert read(body[:-1] + b" " * (MAX_BODY - len(body)) + b"}").downlink.fport == 15


# --- a glimpse


@pytest.mark.parametrize(
    "body",
    [
        b'{"DevEUI_downlink":{"DevEUI":"00-18-b2-00-00-00-0b-20","CorrelationID":"0123456789abcDEF","FPort":0}}',
        b'{"DevEUI":"0018b20000000b20","CorrelationID":"0123456789abcDEF"}',
        b'{"DevEUI_uplink":{"DevEUI":"0018b20000000b20","CorrelationID":"0123456789abcDEF"}}',
        b'{"x":1,"y":{"DevEUI":"0018b20000000b20","CorrelationID":"0123456789abcDEF"}}',
        b'{"DevEUI_downlink":{"DevEUI":"0018B20000000B20","CorrelationID":"0123456789abcDEF","FPort":',
        b'[{"DevEUI_downlink": {"DevEUI" : "0018B20000000B20", "CorrelationID" : "0123456789abcDEF"}}]',
        b"{'DevEUI_downlink': {'DevEUI': '0018B20000000B20', 'CorrelationID': '0123456789abcDEF'}}",
        b'"{\\"DevEUI_downlink\\":{\\"DevEUI\\":\\"0018B20000000B20\\",\\"CorrelationID\\":\\"0123456789abcDEF\\"}}"',
        b"\xff DevEUI=0018B20000000B20&CorrelationID=0123456789abcDEF",
        b'{"DevEUI":"0018B20000000B20","CorrelationID":"0123456789abcDEF"' + b" " * MAX_BODY,
    ],
)
def test_a_glimpse_finds_whose_it_is(body: bytes) -> None:
    assert glimpse(body) == Glimpse(DEV_EUI, "0123456789abcDEF")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b'{"DevEUI_downlink":{"DevEUI":7,"CorrelationID":[]}}',
        b'{"DevEUI_downlink":{"DevEUI":"x","CorrelationID":"DevEUI=0018B20000000B20"}}',
        b'{"DevEUI":"0018B20000000B201","CorrelationID":"0123456789abcdef0",',
        b'{"AS_KEY":"00112233445566778899AABBCCDDEEFF","LrnDevEUI":"0018B20000000B20"',
        b" " * MAX_BODY + b'"DevEUI":"0018B20000000B20"',
    ],
)
def test_a_glimpse_finds_nothing_that_is_not_there(body: bytes) -> None:
    assert glimpse(body) == Glimpse("", "")


# --- anything


def spelled_eui(raw: bytes) -> st.SearchStrategy[str]:
    return st.sampled_from([raw.hex(), raw.hex().upper(), raw.hex("-"), raw.hex(":").upper()])


def spelled_flag(*, on: bool) -> st.SearchStrategy[object]:
    return st.sampled_from([1, "1", True] if on else [0, "0", False, None, "", ...])


def spelled_moment(moment: int) -> st.SearchStrategy[object]:
    zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
    stamp = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=moment)
    texts = zones.map(lambda zone: stamp.astimezone(zone).isoformat(timespec="milliseconds"))
    if (moment - NOW) % 1000:
        return texts
    seconds = (moment - NOW) // 1000
    return texts | st.sampled_from([seconds, str(seconds), float(seconds)])


@st.composite
def spelled(draw: st.DrawFn) -> tuple[Downlink, bytes]:
    """Give a downlink, and one of the documents that mean it."""
    raw = draw(st.binary(min_size=8, max_size=8))
    fport = draw(st.integers(1, 224))
    objects = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3)
    payload = draw(st.none() | objects)
    data = draw(st.binary(max_size=242))
    confirmed, flush = draw(st.booleans()), draw(st.booleans())
    expires = draw(st.none() | (st.integers(1, 10**8) | st.integers(1, 10**5).map(lambda s: s * 1000)).map(NOW.__add__))
    correlation = draw(st.sampled_from(["", "0123456789abcDEF"]))
    compact = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    fields = {
        "DevEUI": draw(spelled_eui(raw)),
        "FPort": draw(st.sampled_from([fport, str(fport), float(fport)])),
        "payload_hex": draw(st.sampled_from([data.hex(), data.hex().upper()])) if payload is None else None,
        "payload": payload,
        "Confirmed": draw(spelled_flag(on=confirmed)),
        "FlushDownlinkQueue": draw(spelled_flag(on=flush)),
        "ValidityTime": draw(spelled_moment(expires)) if expires else draw(st.sampled_from([None, "", ...])),
        "CorrelationID": correlation or draw(st.sampled_from([None, "", ...])),
    }
    order = draw(st.permutations([name for name in fields if fields[name] is not ...]))
    document = {"DevEUI_downlink": {name: fields[name] for name in order}}
    meant = Downlink(
        dev_eui=raw.hex().upper(),
        fport=fport,
        payload_hex=data.hex() if payload is None else None,
        payload=b"" if payload is None else compact,
        confirmed=confirmed,
        flush=flush,
        expires=expires,
        correlation_id=correlation,
    )
    return meant, json.dumps(document, ensure_ascii=False, indent=draw(st.sampled_from([None, 2]))).encode()


@settings(max_examples=300, deadline=None)
@given(spelled())
def test_a_valid_downlink_is_read_in_every_spelling(example: tuple[Downlink, bytes]) -> None:
    meant, body = example
    found = read(body)
    assert found.downlink == meant
    assert len(found.warnings) == (1 if meant.payload_hex == "" else 0)
    assert glimpse(body) == Glimpse(meant.dev_eui, meant.correlation_id)


@settings(max_examples=300, deadline=None)
@given(spelled(), st.data())
def test_mutated_bytes_are_read_or_refused(example: tuple[Downlink, bytes], data: st.DataObject) -> None:
    body = bytearray(example[1])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body)))
        size = data.draw(st.integers(0, 3))
        body[place : place + size] = data.draw(st.binary(max_size=4) | st.sampled_from(hostile.PIECES))
    hostile.check(bytes(body), dev_eui="", default_fport=None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | st.just(DEV_EUI),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*hostile.FIELDS, "DevEUI_downlink"]) | st.text(max_size=5), JSON, max_size=6))
def test_any_json_is_read_or_refused(fields: dict[str, Any]) -> None:
    hostile.check(json.dumps({"DevEUI_downlink": fields}).encode())
    hostile.check(json.dumps(fields).encode())


@given(st.binary(max_size=100))
def test_random_bytes_are_refused(body: bytes) -> None:
    assert hostile.check(body) == "DocumentError"


def test_hostile_documents_are_read_or_refused_and_take_no_time() -> None:
    slowest = 0.0
    for body in hostile.documents(300):
        started = time.process_time()
        hostile.check(body)
        slowest = max(slowest, time.process_time() - started)
    assert slowest < 0.1
