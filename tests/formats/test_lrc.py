"""Downlinks as ThingPark's LRC takes them."""

from __future__ import annotations

import hashlib
import time
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.errors import DocumentError
from mqttbridge.formats.lrc import query, refusal, token
from mqttbridge.model import Downlink

KEY = "00112233445566778899aabbccddeeff"
TIME = "2026-01-02T03:04:05.678+01:00"
DOWNLINK = Downlink(dev_eui="0018B20000000B20", fport=2, payload_hex="0103")
FULL = msgspec.structs.replace(DOWNLINK, confirmed=True, flush=True, expires=1_767_319_445_678)


def test_the_token_of_the_reference() -> None:
    parameters = [
        ("DevEUI", "0018B20000000B20"),
        ("FPort", "2"),
        ("Payload", "0103"),
        ("Confirmed", "1"),
        ("AS_ID", "TWA_1.2.AS"),
        ("Time", TIME),
    ]
    expected = "2aaab3e128bb863ab57e02dca37e60c4669a55449f2ff2c8d7f26f81bbe3e29f"
    assert token(parameters, KEY) == expected
    assert token(parameters, KEY.upper()) == expected
    confirmed = msgspec.structs.replace(DOWNLINK, confirmed=True)
    found = query(confirmed, correlation_id="", as_id="TWA_1.2.AS", as_key=KEY, time=TIME)
    assert found.endswith(f"&Token={expected}")


def test_parameters_come_in_the_order_of_the_reference_and_are_percent_encoded() -> None:
    found = query(FULL, correlation_id="0123456789abcdef", as_id="TWA_1.2.AS", as_key=KEY, time=TIME)
    rest, _, sign = found.rpartition("&Token=")
    assert rest == (
        "DevEUI=0018B20000000B20&FPort=2&Payload=0103&Confirmed=1&FlushDownlinkQueue=1"
        "&ValidityTime=2026-01-02T02%3A04%3A05.678%2B00%3A00&AS_ID=TWA_1.2.AS"
        "&Time=2026-01-02T03%3A04%3A05.678%2B01%3A00&CorrelationID=0123456789abcdef"
    )
    assert sign == hashlib.sha256((unquote(rest) + KEY).encode()).hexdigest()


def test_without_an_as_id_it_is_unsigned() -> None:
    assert query(DOWNLINK, correlation_id="0123456789ABCDEF", as_id="", as_key=KEY, time=TIME) == (
        "DevEUI=0018B20000000B20&FPort=2&Payload=0103&CorrelationID=0123456789ABCDEF"
    )


def test_a_payload_object_cannot_be_sent() -> None:
    downlink = Downlink(dev_eui="0018B20000000B20", fport=2, payload=b"{}")
    with pytest.raises(DocumentError) as caught:
        query(downlink, correlation_id="", as_id="", as_key="", time=TIME)
    assert caught.value.field == "DevEUI_downlink.payload"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_whatever_the_as_id_holds_it_stays_one_parameter(as_id: str) -> None:
    found = query(DOWNLINK, correlation_id="", as_id=as_id, as_key=KEY, time=TIME)
    assert found.isascii()
    values = dict(pair.split("=") for pair in found.split("&"))
    assert list(values) == ["DevEUI", "FPort", "Payload", "AS_ID", "Time", "Token"]
    assert unquote(values["AS_ID"]) == as_id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "<html><head><title>Error</title></head><body>Security Check. bad AS_ID</body></html>",
            "Security Check. bad AS_ID",
        ),
        ("<html><body>Request queued by LRC</body></html>", "Request queued by LRC"),
        ("<h1>403</h1><p>Unknown&nbsp;device\n\t &quot;A&amp;B&quot;<br>gone</p>", '403 Unknown device "A&B" gone'),
        ("un<b>kn</b>own", "unknown"),
        ("<title>502 Bad Gateway</title>", "502 Bad Gateway"),
        ("<style>p {color: red}</style><script>alert('x')</script><p>no</p>", "no"),
        ("plain text", "plain text"),
        ("a < b", "a < b"),
        ("a\x00b\x1b[31mc\u202ed\ud800", "a b [31mc d"),
        ("<![foo[ bar ]]> why", "why"),
        ("", ""),
        ("<p> </p>", ""),
        ("x" * 201, "x" * 197 + "..."),
    ],
)
def test_an_answer_becomes_one_line(text: str, expected: str) -> None:
    assert refusal(text) == expected


HTML = st.lists(
    st.sampled_from(
        ["<", ">", "<!", "<![", "<!--", "]]>", "</", "&#", "&#x110000;", "<script>", "<?", "a", '"', "=", " "]
    )
    | st.text(max_size=4)
).map("".join)


@given(HTML)
def test_any_answer_becomes_a_printable_line(text: str) -> None:
    found = refusal(text)
    assert found.isprintable()
    assert len(found) <= 200


@pytest.mark.parametrize(
    "piece", ["<", "<!--", "<![", "<![CDATA[", "<a ", "<a b='", "</", "&#", "&#9", "<?", "&", "<!a ", "<script>", "x=<"]
)
def test_a_hostile_answer_takes_no_time(piece: str) -> None:
    started = time.perf_counter()
    refusal(piece * 1_000_000)
    refusal("&#" + "9" * 1_000_000)
    assert time.perf_counter() - started < 0.5
