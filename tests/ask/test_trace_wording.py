"""What `trace` prints: timelines in 80 columns, the newest uplink first, nothing cut that somebody may copy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.ask.trace_wording import report
from mqttbridge.ask.wording import WIDTH
from mqttbridge.routing import Reason, Withheld
from tests.ask.passports import DEVICE, NOW, TOPIC, after, delivery, downlink, passport, queued, uplink

if TYPE_CHECKING:
    from mqttbridge.control.passport import Delivery, DownlinkPassage, Passport


def lines(page: Passport) -> list[str]:
    return [line.text for line in report(page, UTC)]


def text(page: Passport) -> str:
    """Give the page as running text: a sentence may be broken anywhere."""
    return " ".join(" ".join(lines(page)).split())


def test_an_uplink_is_a_timeline() -> None:
    assert lines(passport(uplink(delivery(), queued()))) == [
        "0018B20000000B20  uplink FCntUp 1174, FPort 1, 14 bytes",
        "  Sunday 2026-11-22, 2m57s ago",
        "  10:02:03.120  received by lrc (http, thingpark): POST from 10.0.0.7, Token",
        "                verified",
        "                payload 00112233445566778899aabbccdd",
        "                stored before lrc got its answer; routed to acme and beta",
        "                flow temperature matched: the device has the tag Temperature",
        "                flow roof did not match: its tags are temperature; the flow",
        "                wants Roof",
        "  10:02:03.125  acme: published on mqtt/things/0018B20000000B20/uplink",
        "  10:02:03.161  acme: acknowledged by the broker (36 ms)",
        "  queued        beta: UNREACHABLE since 09:58:00: connection refused; tries",
        "                again in 40s",
    ]


def test_the_newest_uplink_comes_first_and_the_same_flows_are_told_once() -> None:
    page = lines(passport(uplink(delivery()), uplink(delivery(), fcnt=1173), uplink(delivery(), fcnt=1172, flows=())))
    heads = [line for line in page if line.startswith(DEVICE)]
    assert [head.split()[3] for head in heads] == ["1174,", "1173,", "1172,"]
    assert sum("flow roof" in line for line in page) == 1
    assert sum("flows: as above" in line for line in page) == 1


def test_times_are_local_and_another_day_is_named() -> None:
    page = passport(uplink(delivery(ended=after(14 * 3600 * 1000))))
    east = [line.text for line in report(page, timezone(timedelta(hours=9)))]
    assert east[1].startswith("  Sunday 2026-11-22, ")
    assert any(line.startswith("  19:02:03.120  received") for line in east)
    place = east.index("  Monday 2026-11-23")
    assert east[place + 1].startswith("  09:02:03.120  acme: acknowledged")


def test_moments_of_several_connections_are_in_their_order() -> None:
    late = delivery("a-late", sent=after(100), ended=after(300))
    page = lines(passport(uplink(late, delivery("b-soon", sent=after(50), ended=after(200)))))
    events = [line.split()[1:3] for line in page if line.startswith("  10:02:03") and "received" not in line]
    assert [f"{name} {what}" for name, what in events] == [
        "b-soon: published",
        "a-late: published",
        "b-soon: acknowledged",
        "a-late: acknowledged",
    ]


@pytest.mark.parametrize("levels", [5, 20, 30, 33, 35, 200, 30_000])
def test_a_topic_stays_whole_however_long_it_is(levels: int) -> None:
    topic = "/".join(["äb"[level % 2] for level in range(levels)])
    page = lines(passport(uplink(delivery(topic=topic))))
    (found,) = [line for line in page if topic in line]
    assert len(found) <= max(WIDTH, len(topic) + 2)
    assert not found.endswith("…")


def test_a_topic_with_spaces_is_not_broken_at_them() -> None:
    topic = "a topic  with spaces " * 5
    assert any(topic.rstrip() in line for line in lines(passport(uplink(delivery(topic=topic)))))


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (delivery(milliseconds=0), "acme: acknowledged by the broker (under 1 ms)"),
        (delivery(qos=0), "acme: handed over (QoS 0: no broker acknowledges that) (36 ms)"),
        (delivery(sent=None, milliseconds=None), f"acme: acknowledged by the broker - published on {TOPIC}"),
        (
            delivery(outcome="parked", reason="not authorised", milliseconds=None),
            "acme: parked: not authorised - see mqttbridge parked list --connection acme",
        ),
        (
            delivery(outcome="expired", sent=None, topic="", reason="it is older than 72h"),
            "acme: expired: it is older than 72h",
        ),
        (
            delivery(outcome="parked", sent=None, ended=None, reason="no"),
            f"parked acme: parked: no - its topic is {TOPIC} - see mqttbridge parked list --connection acme",
        ),
        (
            delivery(outcome="unknown", sent=None, ended=None, topic="", reason="its end was not recorded"),
            "unknown acme: its end was not recorded",
        ),
        (queued(state="OPENED", why=""), "queued beta: the connection is OPENED; it is sent in its turn"),
        (
            queued(state="CLOSED", why="its schedule ended", retry_at=None),
            "queued beta: CLOSED since 09:58:00: its schedule ended; does not try again by itself",
        ),
        (
            queued(state="DEACTIVATED", why="active is false", retry_at=None, down_since=None),
            "queued beta: DEACTIVATED: active is false",
        ),
        (queued(retry_at=NOW), "connection refused; tries again now"),
        (queued(down_since=after(-86400_000)), "UNREACHABLE since 2026-11-21 10:02:03"),
    ],
)
def test_each_end_has_its_sentence(one: Delivery, sentence: str) -> None:
    assert sentence in text(passport(uplink(one)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stored": False, "routed": ()}, "not stored: no connection gets it"),
        ({"origin": ""}, "received by lrc (http, thingpark) payload"),
        ({"transport": None, "format": None}, "received by lrc (not configured any more): POST"),
        ({"time": after(-720_000)}, "its own Time is 09:50:03, 12m00s earlier"),
        ({"unread": "it is too large", "now": None}, "which flows match is not known: it is too large"),
        ({"now": ("b", "c"), "now_differs": True}, "the flows have changed since: now it would go to b and c"),
        ({"now": (), "now_differs": True}, "the flows have changed since: now it would go to no connection"),
        ({"flows_not_shown": 1480}, "and 1,480 more flows did not match"),
        ({"payload_cut": True}, "payload 00112233445566778899aabbccdd…"),
        ({"kind": "DevEUI_downlink_Sent", "fport": None, "size": None}, f"{DEVICE} DevEUI_downlink_Sent FCntDn 1174"),
        ({"kind": "DevEUI_location", "fcnt": None, "fport": None, "size": None}, f"{DEVICE} DevEUI_location Sunday"),
        ({"size": 1}, "FPort 1, 1 byte Sunday"),
        (
            {
                "origin": "replay of the uplink received 2026-11-21T10:00:00+00:00",
                "replayed": True,
                "now": None,
            },
            "queued again: replay of the uplink received 2026-11-21T10:00:00+00:00 payload",
        ),
        (
            {"flows": (Reason("", matched=True, why="no flows", withheld=(Withheld("off", "it is inactive"),)),)},
            "no flows but off does not get it: it is inactive",
        ),
    ],
)
def test_what_is_special_about_an_uplink_is_told(changes: dict[str, object], sentence: str) -> None:
    assert sentence in text(passport(uplink(delivery(), **changes)))


def test_a_retry_is_told_as_one() -> None:
    page = passport(uplink(delivery(), origin="retry of the parked uplink 12", now=None))
    assert lines(page)[0].endswith("14 bytes (retry)")
    assert "queued again: retry of the parked uplink 12 payload" in text(page)


def test_a_retry_is_told_with_the_time_at_which_it_was_queued_again() -> None:
    queued_again = after(2 * 3600 * 1000)
    origin = "retry of the parked uplink received then"
    came = uplink(delivery(sent=queued_again, ended=queued_again), time=queued_again, now=None, origin=origin)
    page = lines(passport(came, now=after(3 * 3600 * 1000)))
    assert page[1] == "  Sunday 2026-11-22, 1h00m ago"
    assert page[2].startswith("  12:02:03.120  queued again: retry of the parked uplink")
    assert not any("its own Time" in line for line in page), "its validity counts from the retry"


def test_a_replay_is_marked_in_the_head() -> None:
    assert lines(passport(uplink(delivery(), replayed=True, now=None)))[0].endswith("14 bytes (replay)")


def test_of_many_connections_those_that_did_not_get_it_are_shown() -> None:
    many = [delivery(f"c{number}") for number in range(500)]
    many[400] = delivery("c400", outcome="expired", reason="too old")
    page = lines(passport(uplink(*many)))
    assert len(page) < 70
    assert any("c400: expired: too old" in line for line in page)
    assert "and 480 more connections, all of them delivered" in " ".join(" ".join(page).split())


@pytest.mark.parametrize(
    ("one", "sentences"),
    [
        (
            downlink(reason="the LRC says 503", expires=after(7200_000), confirmed=True),
            [
                f"{DEVICE} downlink 8899aabbccddeeff from acme Sunday 2026-11-22 10:02:04.120",
                "10:02:04.120 acme: taken, for source lrc",
                "FPort 5, confirmed, payload 0102",
                "pending waits for the network server of lrc: the LRC says 503",
                "valid until 12:02:03",
            ],
        ),
        (
            downlink(outcome="queued", received=None, fport=None, ended=after(9), correlation_id=""),
            ["downlink 0011223344556677 from acme", "10:02:03.129 the network server took it (source lrc)"],
        ),
        (
            downlink(outcome="rejected", received=None, fport=None, ended=after(9), source="", reason="no FPort"),
            ["10:02:03.129 rejected: no FPort"],
        ),
    ],
)
def test_a_downlink_waits_or_has_ended(one: DownlinkPassage, sentences: list[str]) -> None:
    page = text(passport(uplink(delivery()), downlinks=(one,)))
    for sentence in sentences:
        assert sentence in page


def test_of_a_device_with_downlinks_alone_the_lack_of_uplinks_is_told() -> None:
    page = lines(passport(downlinks=(downlink(),)))
    assert page[0] == f"{DEVICE}  no uplinks"
    assert f"{DEVICE}  downlink 8899aabbccddeeff from acme" in page


def test_of_what_is_not_known_it_tells_what_to_check() -> None:
    page = text(passport(last_source=None))
    assert page.startswith(
        f"nothing is known of {DEVICE} - no uplink of it is known to have come here: check the DevEUI"
    )
    assert f"mqttbridge events --name uplink.rejected --device {DEVICE}" in page
    assert "remembered for 1d00h (journal.retention)" in page
    assert "its last uplink came from source lrc, and is not remembered any more" in text(passport())
    assert "journal.retention is 0" in text(passport(remembered_seconds=0.0))


def test_what_is_left_out_is_said() -> None:
    assert "7 older uplinks are left out" in text(passport(uplink(delivery()), left_out=7))


def test_what_may_be_missing_is_said_first() -> None:
    page = report(passport(uplink(delivery()), problem="the disk is full"), UTC)
    assert page[0].text.strip() == "something may be missing here: the disk is full"
    assert page[0].style == "bad"


FOREIGN = st.text(max_size=120)


@settings(max_examples=60)
@given(FOREIGN, FOREIGN, FOREIGN, FOREIGN, st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001
def test_whatever_is_in_it_no_line_steers_the_terminal_and_only_whole_words_are_too_long(
    name: str, topic: str, reason: str, origin: str, when: datetime
) -> None:
    moment = when.replace(tzinfo=UTC)
    bad = delivery(name, outcome="parked", reason=reason, sent=moment, ended=moment, topic=topic)
    flows = (Reason(name, matched=True, why=reason, withheld=(Withheld(name, reason),)),)
    one = uplink(bad, queued(name, why=reason), origin=origin, flows=flows, unread=reason, received=moment, time=moment)
    page = passport(one, downlinks=(downlink(connection=name, reason=reason, ended=moment, outcome="failed"),))
    for line in lines(page):
        assert line.isprintable()
        words = [topic.strip(), *line.split()] if len(line) > WIDTH else []
        whole = line.startswith((DEVICE, "  mqttbridge "))  # what is copied is not broken
        assert len(line) <= WIDTH or whole or any(len(word) > WIDTH - 16 for word in words), line
