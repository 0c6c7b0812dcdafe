"""The Token of ThingPark's LRC, against published vectors."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.errors import DocumentError, TokenError
from mqttbridge.formats import sample
from mqttbridge.formats.token import sign, verify
from mqttbridge.settings.secret import Secret

KEY = "00112233445566778899aabbccddeeff"
QUERY = (
    b"LrnDevEui=0018B20000000B20&LrnFPort=1&LrnInfos=TWA_1.2.AS-1-7&AS_ID=TWA_1.2.AS&Time=2026-01-02T03:04:05.678+01:00"
)
TOKEN = b"f7e3eee76beb066a05ce55fcb153efbff47c375b9ca6409db713d9ef5c205d1f"
FIELDS = {
    "CustomerID": "100000001",
    "DevEUI": "0018B20000000B20",
    "FPort": 1,
    "FCntUp": 1174,
    "payload_hex": "9e1c4852512000220020e3831071",
}
SIGNED = QUERY + b"&Token=" + TOKEN


def document(kind: str = "DevEUI_uplink", **fields: Any) -> bytes:  # noqa: ANN401  any JSON value
    return json.dumps({kind: FIELDS | fields}).encode()


def refusal(query: bytes, body: bytes, key: str = KEY) -> str:
    with pytest.raises(TokenError) as caught:
        verify(query, body, key)
    assert str(caught.value).isprintable()
    return str(caught.value)


def with_token(*parts: str, query: bytes = QUERY) -> bytes:
    """Sign by the book: the parts of the body, then the query."""
    token = hashlib.sha256("".join(parts).encode() + query + KEY.encode()).hexdigest()
    return query + b"&Token=" + token.encode()


def test_the_vector_of_the_reference_is_accepted() -> None:
    verify(SIGNED, document(), KEY)


def test_the_published_vector_is_accepted() -> None:
    body = json.dumps(
        {
            "DevEUI_uplink": {
                "CustomerID": "100002167",
                "DevEUI": "20635F0108000496",
                "FPort": "17",
                "FCntUp": "18",
                "payload_hex": "032ce4850919d85d4c9f793ad148d24f32f3c6b5488f5a087cbeb1488f5a998c83ab",
            }
        }
    ).encode()
    query = (
        b"LrnDevEui=20635F0108000496&LrnFPort=17&LrnInfos=TWA_100002167.1111.AS-1-111974&AS_ID=TWA_100002167.1111.AS"
        b"&Time=2021-04-07T08:49:51.551+00:00"
        b"&Token=196c22898bf95fcf48b72be198c89256410660b9b514539651344baa594ad74f"
    )
    verify(query, body, "f3203a20a2e8dfaf6686b621f56d05e3")


@pytest.mark.parametrize(
    "query",
    [
        SIGNED.replace(b":", b"%3A").replace(b"+", b"%2B"),
        b"&".join(reversed(SIGNED.split(b"&"))),
        SIGNED.replace(TOKEN, TOKEN.upper()),
        b"mine=1&" + SIGNED + b"&mine=2",
    ],
)
def test_encoding_order_case_and_other_parameters_do_not_matter(query: bytes) -> None:
    verify(query, document(), KEY)


def test_numbers_and_texts_count_as_they_stand() -> None:
    verify(SIGNED, document(FPort="1", FCntUp="1174"), KEY)
    raw = document().replace(b'"FCntUp": 1174', b'"FCntUp": 1174.0')
    refusal(SIGNED, raw)
    verify(with_token("100000001", "0018B20000000B20", "1", "1174.0", str(FIELDS["payload_hex"])), raw, KEY)
    verify(SIGNED, document(payload_hex="\u0039e1c4852512000220020e3831071"), KEY)


@pytest.mark.parametrize("absent", [{"FPort": None}, {"FPort": 0}, {"FPort": "0"}])
def test_a_missing_port_is_zero(absent: dict[str, Any]) -> None:
    verify(
        with_token("100000001", "0018B20000000B20", "0", "1174", str(FIELDS["payload_hex"])), document(**absent), KEY
    )


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("DevEUI_downlink_Sent", ("100000001", "0018B20000000B20", "1", "9")),
        ("DevEUI_location", ("100000001", "0018b20000000b20")),
        ("DevEUI_notification", ("100000001", "0018B20000000B20")),
        ("DevEUI_downlink_Rejected", ("100000001", "0018B20000000B20")),
        ("DevEUI_downlink_Rejected", ("100000001", "0018B20000000B20", "1", "9")),
        ("DevEUI_alarm", ("100000001", "0018B20000000B20")),
    ],
)
def test_each_kind_has_its_own_rule(kind: str, parts: tuple[str, ...]) -> None:
    verify(with_token(*parts), document(kind, FCntDn=9), KEY)
    refusal(SIGNED, document(kind, FCntDn=9))


@pytest.mark.parametrize("absent", [{1}, {0}, {2}, {0, 1, 2}])
def test_a_report_may_come_without_a_port_in_its_query(absent: set[int]) -> None:
    query = b"&".join(part for at, part in enumerate(QUERY.split(b"&")) if at not in absent)
    signed = with_token("100000001", "0018b20000000b20", query=query)
    verify(signed, document("DevEUI_location"), KEY)
    verify(b"&".join(reversed(signed.split(b"&"))), document("DevEUI_location"), KEY)
    assert "does not match" in refusal(signed + b"&LrnFPort=9" * (1 in absent), document("DevEUI_notification"))
    if 1 in absent:
        assert "does not match" in refusal(signed + b"&LrnFPort=1", document("DevEUI_location"))


@pytest.mark.parametrize("name", ["AS_ID", "Time", "Token"])
def test_what_makes_a_signature_must_stand_in_the_query(name: str) -> None:
    query = b"&".join(part for part in SIGNED.split(b"&") if not part.startswith(name.encode()))
    assert f"{name} missing" in refusal(query, document())


def test_the_key_may_be_a_secret_and_in_upper_case() -> None:
    verify(SIGNED, document(), Secret(KEY.upper()))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (b"", "no Token"),
        (b"x=1", "Token missing"),
        (b"Token=1", "AS_ID and Time missing"),
        (QUERY, "Token missing"),
        (SIGNED.replace(b"Time=", b"time="), "Time missing"),
        (SIGNED + b"&Token=" + TOKEN, "Token stands twice"),
        (SIGNED[:-1], "does not match"),
        (SIGNED.replace(b"LrnFPort=1", b"LrnFPort=2"), "does not match"),
        (SIGNED.replace(b"+01:00", b"%2001:00"), "does not match"),
        (QUERY + b"&Token=", "does not match"),
        (QUERY + b"&Token=%ff%00", "does not match"),
        (SIGNED + b"&x=" + b"y" * 5000, "4096"),
    ],
)
def test_a_request_that_is_not_signed_well_is_refused_by_name(query: bytes, says: str) -> None:
    said = refusal(query, document())
    assert says in said
    assert TOKEN.decode() not in said
    assert KEY not in said


@pytest.mark.parametrize("field", ["DevEUI", "CustomerID", "FPort", "FCntUp", "payload_hex"])
def test_each_signed_field_is_covered(field: str) -> None:
    assert "does not match" in refusal(SIGNED, document(**{field: "77"}))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[" + document() + b"]", "one document"),
        (document(CustomerID=None), "CustomerID is missing"),
        (document(FPort=[1]), "neither a text nor a number"),
        (document(FPort=True), "neither a text nor a number"),
    ],
)
def test_a_body_that_cannot_be_signed_is_refused(body: bytes, says: str) -> None:
    assert says in refusal(SIGNED, body)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (document() + b"\n" + document(), "not one document"),
        (b"", "not one document"),
        (b"nonsense", "not one document"),
        (b"{}", "one root key"),
        (b'{"BS_alarm": {}}', "known kind"),
        (b"\xff", "not one document"),
        (b'{"DevEUI_uplink": {"CustomerID": "1"}}', "DevEUI is missing"),
        (b'{"DevEUI_uplink":{"x":' + b"[" * 100_000, "not one document"),
    ],
)
def test_with_a_body_that_is_no_document_the_document_is_what_is_wrong(body: bytes, says: str) -> None:
    with pytest.raises(DocumentError) as caught:
        verify(SIGNED, body, KEY)
    assert says in str(caught.value)
    assert "Token missing" in refusal(QUERY, body), "but without a Token it is not looked at"


def test_the_wrong_key_is_refused() -> None:
    assert "does not match" in refusal(SIGNED, document(), "f" * 32)


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_what_is_signed_is_verified(as_id: str, time: str, infos: str) -> None:
    body = sample.uplink("0018B20000000B20", fcnt=3)
    query = sign(body, KEY, as_id=as_id, time=time, infos=infos)
    assert query.isascii()
    assert query.startswith("LrnDevEui=0018B20000000B20&LrnFPort=1&LrnInfos=")
    verify(query.encode(), body, KEY)


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_any_request_is_verified_or_refused(query: bytes, body: bytes) -> None:
    refusal(query, document())
    for signed in (SIGNED, SIGNED[: len(query)] + query):
        with pytest.raises((TokenError, DocumentError)):
            verify(signed, body, KEY)
