"""What is published of an uplink."""

from __future__ import annotations

import pytest

from mqttbridge.errors import DocumentError
from mqttbridge.formats.shape import shape
from mqttbridge.formats.thingpark import parse
from mqttbridge.model import DocumentKind, Uplink

BODY = b'{ "DevEUI_uplink" : {"DevEUI":"0018B20000000B20", "x": 1.0, "payload": {"t" : 2.50} } }'


def read(body: bytes) -> Uplink:
    return parse(body, source="lrc", received=1)


def stored(body: bytes) -> Uplink:
    return Uplink(
        source="lrc", kind=DocumentKind.UPLINK, dev_eui="0018B20000000B20", time=1, received=1, fcnt=1, body=body
    )


@pytest.mark.parametrize(
    ("metadata", "decoded", "expected"),
    [
        (False, False, BODY),
        (True, False, b'{"DevEUI":"0018B20000000B20", "x": 1.0, "payload": {"t" : 2.50} }'),
        (False, True, b'{"t" : 2.50}'),
        (True, True, b'{"t" : 2.50}'),
    ],
)
def test_a_slice_of_the_document_is_taken_and_not_written_anew(
    *, metadata: bool, decoded: bool, expected: bytes
) -> None:
    assert shape(read(BODY), send_metadata=metadata, send_raw_decoded=decoded) == expected


def test_the_document_itself_is_not_copied() -> None:
    uplink = read(BODY)
    assert shape(uplink, send_metadata=False, send_raw_decoded=False) is uplink.body


@pytest.mark.parametrize("payload", [b"", b',"payload":null'])
def test_without_a_decoded_payload_it_is_sent_as_otherwise(payload: bytes) -> None:
    content = b'{"DevEUI":"0018B20000000B20"' + payload + b"}"
    uplink = read(b'{"DevEUI_uplink":' + content + b"}")
    assert shape(uplink, send_metadata=False, send_raw_decoded=True) is uplink.body
    assert shape(uplink, send_metadata=True, send_raw_decoded=True) == content


@pytest.mark.parametrize("payload", [b'"text"', b"0", b"[]", b"false"])
def test_a_decoded_payload_may_be_any_json(payload: bytes) -> None:
    body = b'{"DevEUI_uplink":{"DevEUI":"0018B20000000B20","payload":' + payload + b"}}"
    assert shape(read(body), send_metadata=False, send_raw_decoded=True) == payload


def test_documents_of_other_kinds_stay_as_they_came() -> None:
    uplink = read(BODY.replace(b"DevEUI_uplink", b"DevEUI_location"))
    assert uplink.kind is DocumentKind.LOCATION
    assert shape(uplink, send_metadata=True, send_raw_decoded=True) is uplink.body


@pytest.mark.parametrize("body", [b'{"deviceInfo": {"devEui": "0018b20000000b20"}, "object": {"t": 2.50}}', b"{ }"])
def test_a_document_that_was_passed_through_stays_as_it_came(body: bytes) -> None:
    uplink = stored(body)
    for metadata, decoded in ((True, False), (False, True), (True, True)):
        assert shape(uplink, send_metadata=metadata, send_raw_decoded=decoded) is uplink.body


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"DevEUI_uplink":7', b"\xff", b'{"DevEUI_uplink":' + b"[" * 100_000])
def test_a_stored_document_that_cannot_be_read_is_an_error_of_ours(body: bytes) -> None:
    uplink = stored(body)
    for decoded in (False, True):
        with pytest.raises(DocumentError):
            shape(uplink, send_metadata=True, send_raw_decoded=decoded)
