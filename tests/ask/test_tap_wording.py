"""The lines of `mqttbridge tap`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.ask.tap_wording import lines_of
from mqttbridge.observe.tap_line import TapLine

AT = datetime(2026, 11, 22, 14, 3, 7, 123000, tzinfo=UTC)
ONE = "0018B20000000B20"


def text(what: str, **fields: Any) -> str:  # noqa: ANN401 (fields of any kind)
    written = msgspec.json.encode({"what": what, "at": AT} | fields)
    return "\n".join(line.text for line in lines_of(msgspec.json.decode(written, type=TapLine), UTC))


def came(what: str = "uplink", **fields: Any) -> str:  # noqa: ANN401 (likewise)
    whole = {"source": "lrc", "dev_eui": ONE, "fcnt": 1234, "kind": "DevEUI_uplink", "size": 512, "seq": 5}
    return text(what, **whole | fields)


def ended(what: str = "delivered", **fields: Any) -> str:  # noqa: ANN401 (likewise)
    whole = {"source": "lrc", "dev_eui": ONE, "fcnt": 1234, "connection": "acme", "seq": 5, "age_ms": 40}
    return text(what, **whole | fields)


def test_what_comes_tells_from_where_and_to_where() -> None:
    assert came(connections=("acme", "beta")) == (f"14:03:07.123 uplink    lrc {ONE} #1234 512 B > acme, beta")
    assert came("unrouted") == f"14:03:07.123 unrouted  lrc {ONE} #1234 512 B"
    assert came("duplicate", kind="DevEUI_downlink_Sent", fcnt=None) == (
        f"14:03:07.123 duplicate lrc {ONE} downlink_Sent 512 B"
    )
    assert "(replay of the uplink" in came(origin="replay of the uplink received 2026-11-22T13:00:00Z")
    assert "POST" not in came(origin="POST from 10.0.0.7")


def test_of_many_connections_some_are_named() -> None:
    page = came(connections=tuple(f"c{number}" for number in range(500)))
    assert page.endswith("> c0, c1, c2, c3, c4 and\n             495 more")


def test_an_end_fits_a_line_with_the_usual_topic() -> None:
    assert ended(took_ms=12, topic=f"mqtt/things/{ONE}/uplink") == (
        f"14:03:07.123 delivered acme #1234 12ms mqtt/things/{ONE}/uplink"
    )
    assert ended(topic="fixed/topic", age_ms=125_000) == (
        f"14:03:07.123 delivered acme {ONE} #1234 age 2min fixed/topic"
    )
    assert ended("parked", reason="no topic") == f"14:03:07.123 parked    acme {ONE} #1234: no topic"


def test_an_end_of_nobody_known_has_the_topic_or_its_number() -> None:
    unknown = {"dev_eui": "", "fcnt": None, "age_ms": None, "source": ""}
    assert ended(topic="a/b", **unknown) == "14:03:07.123 delivered acme a/b"
    assert ended("expired", reason="too old", **unknown) == (
        "14:03:07.123 expired   acme uplink 5 of the journal: too old"
    )
    assert text("dropped", connection="acme", count=1500, reason="the journal is full") == (
        "14:03:07.123 dropped   acme 1,500 uplinks: the journal is full"
    )


def test_a_downlink_tells_its_outcome() -> None:
    whole = {"connection": "acme", "source": "lrc", "dev_eui": ONE}
    assert text("downlink", outcome="queued", **whole) == f"14:03:07.123 downlink  acme > lrc {ONE} queued"
    assert text("downlink", outcome="rejected", reason="no FPort", count=3, connection="acme") == (
        "14:03:07.123 downlink  acme > ? rejected (3 of them): no FPort"
    )


def test_what_was_left_out_is_told_with_its_number() -> None:
    assert text("left_out", count=3120).startswith("14:03:07.123 … 3,120 left out: ")


def test_the_time_is_that_of_the_reader() -> None:
    line = TapLine(what="uplink", at=AT)
    (one,) = lines_of(line, timezone(timedelta(hours=2)))
    assert one.text.startswith("16:03:07.123")


@pytest.mark.parametrize(
    ("what", "fields", "style"),
    [
        ("uplink", {}, "plain"),
        ("delivered", {}, "plain"),
        ("parked", {}, "bad"),
        ("expired", {}, "bad"),
        ("dropped", {}, "bad"),
        ("unrouted", {}, "bad"),
        ("downlink", {"outcome": "queued"}, "plain"),
        ("downlink", {"outcome": "failed"}, "bad"),
        ("left_out", {"count": 3}, "head"),
    ],
)
def test_what_needs_attention_stands_out(what: Any, fields: dict[str, Any], style: str) -> None:  # noqa: ANN401
    assert {line.style for line in lines_of(TapLine(what=what, at=AT, **fields), UTC)} == {style}


def test_a_document_stands_below_in_one_line() -> None:
    page = came(document={"DevEUI_uplink": {"DevEUI": ONE}})
    assert page.splitlines()[1:] == ['  {"DevEUI_uplink":{"DevEUI":"0018B20000000B20"}}']


@given(
    what=st.sampled_from(["uplink", "delivered", "parked", "downlink", "dropped"]),
    words=st.lists(st.text(st.characters(blacklist_categories=["Cs"]), max_size=60), min_size=5, max_size=5),
    fcnt=st.none() | st.integers(0, 2**32),
)
def test_lines_fit_and_steer_no_terminal(what: Any, words: list[str], fcnt: int | None) -> None:  # noqa: ANN401
    connection, source, dev_eui, topic, reason = words
    line = TapLine(
        what=what, at=AT, connection=connection, source=source, dev_eui=dev_eui, topic=topic, reason=reason, fcnt=fcnt
    )
    for one in lines_of(line, UTC):
        assert one.text.isprintable()
        assert len(one.text) <= 80 or max(map(len, one.text.split())) > 40
