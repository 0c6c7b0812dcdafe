"""ThingPark documents: what is taken, and what is said about the rest."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.errors import DocumentError
from mqttbridge.formats import FORMATS, sample
from mqttbridge.formats.fingerprint import of_uplink
from mqttbridge.formats.thingpark import MAX_DEPTH, parse
from mqttbridge.model import DocumentKind, Uplink

DEV_EUI = "0018B20000000B20"
RECEIVED = 1_767_319_500_000
SAMPLE = sample.uplink(DEV_EUI, fcnt=7, time_ms=1_767_319_445_678, tags=("First", "SECOND"))


def read(document: object) -> Uplink:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse(body, source="lrc", received=RECEIVED)


def uplink(**fields: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON value
    return {"DevEUI_uplink": {"DevEUI": DEV_EUI, **fields}}


def refusal(document: object) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        read(document)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    return caught.value


def test_an_enriched_uplink_is_read_and_its_bytes_are_kept() -> None:
    assert read(SAMPLE) == Uplink(
        source="lrc",
        kind=DocumentKind.UPLINK,
        dev_eui=DEV_EUI,
        time=1_767_319_445_678,
        received=RECEIVED,
        fcnt=7,
        body=SAMPLE,
        tags=frozenset({"first", "second"}),
        fingerprint=of_uplink(DEV_EUI, 7, msgspec.json.decode(SAMPLE)["DevEUI_uplink"]["payload_hex"]),
    )


def test_a_legacy_uplink_with_strings_for_numbers_is_read() -> None:
    document = uplink(
        FCntUp="1174", FPort="1", Time="2026-01-02T03:04:05.678+01:00", ModelCfg="1:TagA, 2:TagB", LrrSNR="-1.5"
    )
    found = read(document)
    assert (found.fcnt, found.time) == (1174, 1_767_319_445_678)
    assert found.tags == {"taga", "tagb"}


@pytest.mark.parametrize("kind", list(DocumentKind))
def test_every_kind_is_taken(kind: DocumentKind) -> None:
    found = read({kind.value: {"DevEUI": DEV_EUI, "FCntUp": 1, "FCntDn": "2"}})
    assert found.kind is kind
    expected = {DocumentKind.UPLINK: 1, DocumentKind.DOWNLINK_SENT: 2, DocumentKind.DOWNLINK_REJECTED: 2}
    assert found.fcnt == expected.get(kind)


@pytest.mark.parametrize(
    "text", ["0018b20000000b20", "00-18-B2-00-00-00-0B-20", "00:18:b2:00:00:00:0b:20", "0018B200-00000B20"]
)
def test_a_dev_eui_is_read_however_it_is_written(text: str) -> None:
    assert read(uplink(DevEUI=text)).dev_eui == DEV_EUI


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T02:04:05.678Z", 1_767_319_445_678),
        ("2026-01-02T02:04:05.678999999999Z", 1_767_319_445_678),
        ("2026-01-02T02:04:05.6+00:00", 1_767_319_445_600),
        ("2026-01-02T02:04:05Z", 1_767_319_445_000),
        ("2026-01-02T07:34:05.678+05:30", 1_767_319_445_678),
        ("2026-01-01T22:04:05.678-04:00", 1_767_319_445_678),
        ("1970-01-01T00:00:00.001+00:00", 1),
        ("1969-12-31T23:59:59.999Z", -1),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140_000),
        (None, RECEIVED),
    ],
)
def test_times_are_milliseconds_whatever_their_offset(text: str | None, expected: int) -> None:
    assert read(uplink(Time=text)).time == expected


def test_without_time_the_moment_of_receipt_counts() -> None:
    assert read(uplink()).time == RECEIVED


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        ({"CustomerData": {"tags": ["A", "b", "ß"]}}, {"a", "b", "ss"}),
        ({"CustomerData": {"tags": None}}, set()),
        ({"CustomerData": {}}, set()),
        ({"CustomerData": None}, set()),
        ({"CustomerData": []}, set()),
        ({"CustomerData": 7}, set()),
        ({"CustomerData": ""}, set()),
        ({"CustomerData": "not JSON"}, set()),
        ({"CustomerData": {"tags": {"a": 1}}}, set()),
        ({"CustomerData": {"tags": "One"}}, {"one"}),
        ({"CustomerData": {"tags": ["A", 1, None, ["b"]]}}, {"a"}),
        ({"CustomerData": '{"tags": ["A"], "loc": {"lat": "1"}}'}, {"a"}),
        ({"CustomerData": '{"alr":{"pro":"X","ver":"1"}}'}, set()),
        ({"CustomerData": "[" * 100_000}, set()),
        ({"CustomerData": {"tags": ["A"]}, "ModelCfg": "1:B,2: C ,3:,x"}, {"a", "b", "c"}),
        ({"ModelCfg": "0"}, set()),
        ({"ModelCfg": None}, set()),
        ({"ModelCfg": {"a": 1}}, set()),
    ],
)
def test_tags_are_found_where_they_are_and_odd_shapes_do_no_harm(fields: dict[str, Any], tags: set[str]) -> None:
    assert read(uplink(**fields)).tags == tags


@pytest.mark.parametrize("around", [(b"\n ", b" \r\n\t"), (b"\xef\xbb\xbf", b""), (b" \xef\xbb\xbf\n", b"\n")])
def test_whitespace_and_a_byte_order_mark_are_taken_off_and_nothing_else(around: tuple[bytes, bytes]) -> None:
    body = b'{ "DevEUI_uplink" : {"DevEUI":"0018b20000000b20", "x": 1.0} }'
    assert read(around[0] + body + around[1]).body == body


@pytest.mark.parametrize(
    ("document", "says", "field"),
    [
        (b"", "empty", ""),
        (b" \n", "empty", ""),
        (b"hello", "not JSON", ""),
        (b'{"DevEUI_uplink": {"DevEUI"', "not JSON", ""),
        (b'{"DevEUI_uplink": {}} {}', "not JSON", ""),
        (b'{"DevEUI_uplink": {"DevEUI": "\xff"}}', "UTF-8", ""),
        (b'{"DevEUI_uplink": {"x": "\xff"}}', "UTF-8", ""),
        (b'{"DevEUI_uplink": {"x": "a\x00b"}}', "0x00", ""),
        (b'{"DevEUI_uplink": {"x": "a\x1bb"}}', "0x1B", ""),
        (b"\x00", "0x00", ""),
        (b"[1]", "not a JSON object", ""),
        (b"null", "not a JSON object", ""),
        (b'"text"', "not a JSON object", ""),
        (b"7", "not a JSON object", ""),
        ({}, "empty object", ""),
        ({"DevEUI": DEV_EUI, "FCntUp": 1}, "no root key", ""),
        ({"DevEUI_downlink": {"DevEUI": DEV_EUI}}, "goes to a device", ""),
        ({"BS_alarm": {}}, "gateway", ""),
        ({"nonsense\x1b\n": {}}, "not known", ""),
        (uplink() | {"DevEUI_location": {"DevEUI": DEV_EUI}}, "2 root keys", ""),
        (uplink() | {"x": 1}, "2 root keys", ""),
        ({"DevEUI_uplink": None}, "must be an object", "DevEUI_uplink"),
        ({"DevEUI_location": [1]}, "is an array", "DevEUI_location"),
        ({"DevEUI_uplink": {}}, "missing", "DevEUI_uplink.DevEUI"),
        (uplink(DevEUI=None), "missing", "DevEUI_uplink.DevEUI"),
        (uplink(DevEUI=18), "must be a text", "DevEUI_uplink.DevEUI"),
        (uplink(DevEUI="0018B20000000B2"), "16 hex digits", "DevEUI_uplink.DevEUI"),
        (uplink(DevEUI="0018B20000000B20 "), "16 hex digits", "DevEUI_uplink.DevEUI"),
        (uplink(DevEUI="0018B20000000B2O"), "16 hex digits", "DevEUI_uplink.DevEUI"),
        (uplink(DevEUI="x" * 10_000 + "\n"), "16 hex digits", "DevEUI_uplink.DevEUI"),
        ({"DevEUI_location": {"DevEUI": ""}}, "16 hex digits", "DevEUI_location.DevEUI"),
        (uplink(Time="2026-01-02T03:04:05"), "no offset", "DevEUI_uplink.Time"),
        (uplink(Time="2026-01-02"), "no offset", "DevEUI_uplink.Time"),
        (uplink(Time="yesterday"), "not an ISO 8601 time", "DevEUI_uplink.Time"),
        (uplink(Time=""), "not an ISO 8601 time", "DevEUI_uplink.Time"),
        (uplink(Time="2026-13-02T03:04:05Z"), "not an ISO 8601 time", "DevEUI_uplink.Time"),
        (uplink(Time=1767319445), "must be a text", "DevEUI_uplink.Time"),
        (uplink(FCntUp="x"), "whole number", "DevEUI_uplink.FCntUp"),
        (uplink(FCntUp="-1"), "whole number", "DevEUI_uplink.FCntUp"),
        (uplink(FCntUp="\u0661"), "whole number", "DevEUI_uplink.FCntUp"),
        (uplink(FCntUp="9" * 5000), "whole number", "DevEUI_uplink.FCntUp"),
        (uplink(FCntUp=-1), "whole number", "DevEUI_uplink.FCntUp"),
        (uplink(FCntUp=2**32), "whole number", "DevEUI_uplink.FCntUp"),
        (uplink(FCntUp=10**30), "whole number", "DevEUI_uplink.FCntUp"),
        (uplink(FCntUp=1.5), "whole number", "DevEUI_uplink.FCntUp"),
        (uplink(FCntUp=True), "true or false", "DevEUI_uplink.FCntUp"),
        (uplink(FCntUp=[]), "an array", "DevEUI_uplink.FCntUp"),
        ({"DevEUI_downlink_Sent": {"DevEUI": DEV_EUI, "FCntDn": "x"}}, "whole", "DevEUI_downlink_Sent.FCntDn"),
    ],
)
def test_what_is_not_a_document_is_refused_with_a_sentence_and_the_field(
    document: object, says: str, field: str
) -> None:
    error = refusal(document)
    assert says in str(error)
    assert error.field == field
    assert error.field in str(error)
    assert error.index is None


def test_a_document_may_nest_and_a_deep_one_is_refused() -> None:
    def nested(depth: int) -> bytes:
        return b'{"DevEUI_uplink":{"DevEUI":"%s","x":%s%s}}' % (DEV_EUI.encode(), b"[" * depth, b"]" * depth)

    assert read(nested(MAX_DEPTH - 2)).dev_eui == DEV_EUI
    for depth in (MAX_DEPTH - 1, 500, 100_000):
        assert "deeper" in str(refusal(nested(depth)))


def test_many_brackets_are_not_deep() -> None:
    assert read(uplink(x=[[], {}] * 500, y='[[[["{{{' * 50)).dev_eui == DEV_EUI


def test_a_large_document_does_not_take_long() -> None:
    document = uplink(x=[{"a": '\\"['}] * 40_000)
    started = time.perf_counter()
    read(document)
    assert time.perf_counter() - started < 2


def test_an_empty_counter_is_none() -> None:
    assert read(uplink(FCntUp="")).fcnt is None
    assert read(uplink(FCntUp=None)).fcnt is None
    assert read(uplink()).fcnt is None


def test_the_format_is_found_by_its_name_in_the_settings() -> None:
    assert FORMATS["thingpark"].parse(SAMPLE, source="lrc", received=1).fcnt == 7


def test_a_hint_and_passing_through_change_nothing() -> None:
    found = FORMATS["thingpark"].parse(SAMPLE, source="lrc", received=RECEIVED, hint="event=join", pass_through=True)
    assert found == read(SAMPLE)


def test_an_enriched_and_a_legacy_spelling_of_one_uplink_are_copies() -> None:
    enriched = uplink(FCntUp=1174, FPort=1, payload_hex="9e1c4852", Time="2026-01-02T03:04:05.678+01:00")
    legacy = uplink(FCntUp="1174", FPort="1", payload_hex="9E1C4852", Lrrid="another", Time="2026-01-02T02:04:05Z")
    legacy["DevEUI_uplink"]["DevEUI"] = "00-18-b2-00-00-00-0b-20"
    spaced = json.dumps(enriched, indent=3).encode()
    assert read(enriched).fingerprint == read(legacy).fingerprint == read(spaced).fingerprint > 0
    assert read(enriched).fingerprint == of_uplink(DEV_EUI, 1174, "9e1c4852")


@pytest.mark.parametrize(
    "fields",
    [
        {"FCntUp": 1, "payload_hex": "01"},
        {"FCntUp": 2, "payload_hex": "01"},
        {"FCntUp": 1, "payload_hex": "02"},
        {"FCntUp": 1, "payload_hex": "", "rawJoinRequest": "0a"},
        {"FCntUp": 1, "payload_hex": None, "rawJoinRequest": "0b"},
        {"FCntUp": 1},
        {"FCntUp": 1, "payload_hex": {"odd": 1}},
        {"Time": "2026-01-02T03:04:05.678+01:00", "payload_hex": "01"},
        {"Time": "2026-01-02T03:04:05.679+01:00", "payload_hex": "01"},
    ],
)
def test_different_uplinks_have_different_fingerprints(fields: dict[str, Any]) -> None:
    others = [
        uplink(FCntUp=0, payload_hex="01"),
        uplink(FCntUp=1, payload_hex="03"),
        uplink(FCntUp=1, rawJoinRequest="0c"),
        uplink(Time="2026-01-02T03:04:05.677+01:00", payload_hex="01"),
        {"DevEUI_location": {"DevEUI": DEV_EUI, **fields}},
        {"DevEUI_uplink": {"DevEUI": DEV_EUI.replace("B", "C"), **fields}},
    ]
    assert read(uplink(**fields)).fingerprint > 0
    assert read(uplink(**fields)).fingerprint not in {read(other).fingerprint for other in others}


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_join_is_told_by_its_raw_request_when_it_has_no_payload(nothing: str | None) -> None:
    assert (
        read(uplink(FCntUp=1, payload_hex=nothing, rawJoinRequest="0A")).fingerprint
        == read(uplink(FCntUp=1, rawJoinRequest="0a")).fingerprint
    )


def test_what_has_neither_a_counter_nor_a_time_of_its_own_is_no_copy() -> None:
    assert read(uplink(payload_hex="01")).fingerprint == 0
    assert read({"DevEUI_notification": {"DevEUI": DEV_EUI, "Type": "join"}}).fingerprint == 0


def test_a_report_is_told_by_its_kind_and_all_its_bytes() -> None:
    report = {"DevEUI": DEV_EUI, "FCntDn": 4, "Time": "2026-01-02T03:04:05.678+01:00"}
    sent, rejected = read({"DevEUI_downlink_Sent": report}), read({"DevEUI_downlink_Rejected": report})
    assert sent.fingerprint == read({"DevEUI_downlink_Sent": report}).fingerprint > 0
    assert (
        len({sent.fingerprint, rejected.fingerprint, read({"DevEUI_downlink_Sent": report | {"x": 1}}).fingerprint})
        == 3
    )


FIELDS = st.sampled_from(["DevEUI", "Time", "FCntUp", "FCntDn", "CustomerData", "ModelCfg", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(DEV_EUI),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("tags") | st.text(max_size=3), inner),
    max_leaves=8,
)


@given(
    st.sampled_from([*DocumentKind, "BS_alarm", "x"]),
    st.dictionaries(FIELDS, VALUES, max_size=4) | VALUES,
    st.booleans(),
)
def test_any_json_is_read_or_refused(root: str, content: object, good: bool) -> None:
    if good and isinstance(content, dict):
        content = {"DevEUI": DEV_EUI, **content}
    check(json.dumps({root: content}).encode())


@settings(max_examples=300)
@given(st.data())
def test_mutated_bytes_are_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        size = data.draw(st.integers(0, 3))
        body[place : place + size] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b'"', b"{", b"\\ud800", b"1e999"])
        )
    check(bytes(body))


@given(st.binary(max_size=60))
def test_random_bytes_are_read_or_refused(body: bytes) -> None:
    check(body)
    check(b'{"DevEUI_uplink":{"DevEUI":"0018B20000000B20","Time":"' + body + b'"}}')


def check(body: bytes) -> None:
    try:
        found = read(body)
    except DocumentError as error:
        if not str(error).isprintable():
            raise AssertionError(str(error)) from error
        return
    assert len(found.dev_eui) == 16
    assert found.dev_eui == found.dev_eui.upper()
    assert found.body in body
    assert 0 <= found.fingerprint < 2**63
    assert found.body.decode()
    assert -(2**63) <= found.time < 2**63
    assert msgspec.json.decode(found.body, type=dict[str, msgspec.Raw]).keys() == {found.kind.value}
