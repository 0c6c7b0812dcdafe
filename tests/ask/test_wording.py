"""What `status` prints: sentences for what needs attention, a table for the rest, 80 columns."""

from __future__ import annotations

import string
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.ask.wording import WIDTH, report, size, span
from mqttbridge.control.status import DownlinksStatus, JournalStatus, Rates
from tests.ask.pages import NOW, ago, connection, source, status

if TYPE_CHECKING:
    from mqttbridge.control.status import ConnectionStatus, Status

REFUSED = "broker.acme.example:8883: the broker refuses the login: bad user name or password"


def lines(page: Status) -> list[str]:
    return [line.text for line in report(page)]


def text(page: Status) -> str:
    """Give the page as running text: a sentence may be broken anywhere."""
    return " ".join(" ".join(lines(page)).split())


def broken(name: str = "acme", **changes: object) -> ConnectionStatus:
    given = {
        "ok": False,
        "state": "AUTHENTICATION_FAILED",
        "since": ago(5),
        "down_since": ago(720),
        "attempts": 7,
        "why": REFUSED,
        "retry_at": NOW + timedelta(seconds=250),
        "queued": 12345,
        "oldest": ago(700),
        "expires": NOW + timedelta(hours=71),
        "drain_seconds": None,
        "rates": Rates(3.2, 0, 0, 0, 0),
    }
    return connection(name, **(given | changes))


def test_when_all_is_well_it_says_so() -> None:
    page = text(status([connection("acme"), connection("local")], [source("lrc")]))
    assert "mqttbridge 1.2.3, pid 4711, up 2d03h all is well: 2 active connections, 1 source" in page
    assert "journal: 300 MiB of 1 GiB (29%), 0 uplinks queued" in page
    assert "attention" not in page


def test_a_connection_that_is_not_open_is_told_with_cause_next_try_and_queue() -> None:
    page = text(status([connection("local"), broken()], [source("lrc")]))
    assert "1 of 2 active connections needs attention" in page
    for sentence in (
        "connection acme: AUTHENTICATION_FAILED",
        "not open for 12m00s, 7 attempts failed",
        REFUSED,
        "tries again in 4m10s",
        "12,345 uplinks queued, the oldest for 11m40s; 3.2/s come, 0/s are delivered",
        "the first of them expires in 2d23h",
    ):
        assert sentence in page


def test_what_needs_attention_stands_first_the_longest_queue_on_top() -> None:
    page = lines(
        status(
            [connection("a-well"), broken("b", queued=1), broken("c", queued=1000), connection("z")],
            [source("lrc"), source("ns", ok=False, open=False, why="connection refused")],
        )
    )
    places = [next(n for n, line in enumerate(page) if word in line) for word in ("n c:", "n b:", "e ns:", "a-well")]
    assert places == sorted(places)
    assert "2 of 4 active connections and 1 of 2 sources need attention" in page


def test_a_disk_that_takes_nothing_is_the_first_news() -> None:
    page = lines(status([broken()], reasons=("journal: the disk is full; make room",)))
    assert page[1:3] == ["uplinks are not accepted:", "  journal: the disk is full; make room"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"expiring": 120}, "about 120 of them will expire before the next try, the first in 2d23h"),
        ({"expiring": 12345, "retry_at": None, "state": "CLOSED"}, "does not try again by itself"),
        ({"expiring": 12345, "retry_at": None, "state": "CLOSED"}, "will expire before they are delivered"),
        ({"down_since": None, "state": "OPENED", "drain_seconds": 90.0}, "the queue is empty in 1m30s at this rate"),
        ({"down_since": None, "state": "OPENED"}, "the queue does not become shorter"),
        ({"expires": ago(5)}, "the first of them expires now"),
        ({"downlinks": DownlinksStatus(3, "SUBACK: not authorised")}, "3 downlinks waiting: SUBACK: not authorised"),
        ({"retry_at": ago(1)}, "7 attempts failed"),
        ({"rates": Rates(5, 1, 0.5, 0, 12)}, "5/s come, 1/s are delivered and 0.5/s expire, 12/s are dropped"),
    ],
)
def test_the_queue_of_a_connection_is_told(changes: dict[str, object], sentence: str) -> None:
    assert sentence in text(status([broken(**changes)]))


def test_one_that_has_just_opened_is_not_said_to_fall_behind() -> None:
    page = text(status([broken(state="OPENED", down_since=None, retry_at=None, expiring=None, rates=None)]))
    assert "does not become shorter" not in page


def test_the_downlinks_of_a_source_are_told() -> None:
    held = source("lrc", ok=False, downlinks=DownlinksStatus(12, "the network server cannot be reached"))
    page = text(status([], [held]))
    assert "source lrc: its downlinks are held up 12 downlinks waiting: the network server cannot be reached" in page


def test_a_journal_that_is_nearly_full_stands_out() -> None:
    for used, style in ((0.5, "plain"), (0.95, "bad")):
        page = report(status(journal=JournalStatus("", int(used * 2**30), 2**30, 0)))
        assert [line.style for line in page if line.text.startswith("journal: ")] == [style]


def test_parked_uplinks_are_told_though_the_connection_is_well() -> None:
    assert "and 0.5/s are parked" in text(status([connection("a", rates=Rates(3, 2.5, 0, 0.5, 0))]))


def test_what_will_be_lost_and_what_is_parked_now_is_told_above_though_all_is_well() -> None:
    gone = connection("gone", state="REMOVED", since=None, queued=7, expires=NOW + timedelta(hours=71), rates=None)
    parking = connection("acme", rates=Rates(3, 2.5, 0, 0.5, 0))
    page = lines(status([gone, parking, connection("local")]))
    assert page[1].startswith("all is well")
    assert page[3:5] == [
        "removed connection gone: 7 uplinks queued, to be dropped, the first in 2d23h",
        "connection acme: about 30 uplinks were parked in the last minute",
    ]
    many = [msgspec.structs.replace(gone, id=f"gone-{number}") for number in range(9)]
    page = lines(status([*many, parking]))
    assert sum(line.startswith("removed connection gone-") for line in page) == 5
    assert "and 4 more removed connections with a queue" in page
    assert status([gone, parking]).ok


def test_the_table_has_a_line_for_each_connection_that_is_well() -> None:
    page = lines(
        status(
            [
                connection("acme", queued=30, oldest=ago(2), drain_seconds=3.0),
                connection(
                    "off",
                    state="DEACTIVATED",
                    since=None,
                    queued=7,
                    expires=NOW,
                    expiring=7,
                    rates=None,
                    drain_seconds=None,
                ),
            ]
        )
    )
    table = page[page.index(next(line for line in page if line.startswith("connection"))) :]
    assert table[1].split() == ["acme", "OPENED", "3h00m", "30", "2s", "3.2", "3.2", "3s"]
    assert table[2].split() == ["off", "DEACTIVATED", "-", "7", "-", "?", "?", "-"]
    assert table[3] == "  7 will expire, the first now"


def test_a_source_has_its_rate_and_its_last_uplink() -> None:
    page = lines(status([], [source("lrc", rejected_rate=0.5), source("silent", rate=0.0, last_uplink=None)]))
    assert page[-2].split() == ["lrc", "http", "open", "12", "0.5", "1s", "ago"]
    assert page[-1].endswith("none since the start")


def test_ids_that_are_too_long_for_the_table_are_cut_in_the_middle() -> None:
    name = "customer-of-the-north-" + "x" * 30 + "-0001"
    row = lines(status([connection(name)]))[-1]
    assert row.startswith("customer-o")
    assert "-0001 OPENED" in row


def test_what_is_foreign_does_not_steer_the_terminal() -> None:
    page = lines(status([broken(why="\x1b[2J\x07 \u202e gone\r\nacme: OPENED")]))
    assert all(char.isprintable() for line in page for char in line)


IDS = st.text(string.ascii_letters + "-_.", min_size=1, max_size=64)
NUMBERS = st.integers(0, 10**12)
SECONDS = st.floats(0, 10**9)


@settings(max_examples=150, deadline=None)
@given(name=IDS, why=st.text(max_size=400), queued=NUMBERS, seconds=SECONDS, rate=SECONDS, ok=st.booleans())
def test_no_line_is_longer_than_80_columns(
    name: str, why: str, queued: int, seconds: float, rate: float, *, ok: bool
) -> None:
    one = broken(
        name,
        ok=ok,
        why=why,
        queued=queued,
        expiring=queued,
        oldest=ago(seconds),
        since=ago(seconds),
        rates=Rates(rate, rate, rate, rate, rate),
        drain_seconds=seconds,
        downlinks=DownlinksStatus(queued, why),
    )
    origin = source(
        name, ok=ok, why=why, open=ok, rate=rate, rejected_rate=rate, last_uplink=ago(seconds),
        downlinks=DownlinksStatus(queued, why),
    )  # fmt: skip
    page = lines(status([one], [origin], reasons=(why,) if why else ()))
    assert [line for line in page if len(line) > WIDTH] == []


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "0s"), (0.4, "0s"), (59, "59s"), (60, "1m00s"), (3599, "59m59s"), (7500, "2h05m"), (183600, "2d03h"),
     (400 * 86400, "400d")],
)  # fmt: skip
def test_spans_are_short(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (5 * 1024**3, "5 GiB")]
)
def test_sizes_are_short(count: int, shown: str) -> None:
    assert size(count) == shown


def test_what_is_wrong_with_the_daemon_as_a_whole_stands_at_the_head_and_is_not_called_a_disk_that_fails() -> None:
    page = text(status([connection("a")], attention=("the file as it stands is not in force: a.yaml:1:1: …",)))
    assert "the file as it stands is not in force" in page
    assert "not accepted" not in page
    assert "all is well" not in page


def test_parked_uplinks_are_counted_with_the_command_that_shows_them() -> None:
    page = text(status([connection("a", parked=2), connection("b", parked=1)]))
    assert "3 parked uplinks kept: see mqttbridge parked list" in page
    assert "parked" not in text(status([connection("a")]))


def test_a_connection_with_too_few_uplinks_says_so() -> None:
    page = text(status([connection("a", ok=False, low_rate="gets 2 uplinks an hour")]))
    assert "gets 2 uplinks an hour" in page
