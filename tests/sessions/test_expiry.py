"""Backlogs expire also while nobody can take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from mqttbridge.errors import JournalFailed
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.model import Counts, DocumentKind, Entry, Uplink
from mqttbridge.sessions import expiry as module
from mqttbridge.sessions.expiry import Expiry
from mqttbridge.settings.schema import Configuration, Connection
from tests.support.inside import Told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HOUR = 3600 * 1000


class Hands:
    """A clock whose hands the test turns."""

    def __init__(self) -> None:
        self.wall = 100 * HOUR

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.wall / 1000


@pytest_asyncio.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    opened = await SqliteJournal.open(tmp_path / "state", max_size=2**24, when_full="block", clock=Hands())
    yield opened
    await opened.close()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(module, "log", told)
    return told


def valid(milliseconds: int) -> Connection:
    return Connection(configuration=Configuration(host_name="localhost", uplink_time_validity=milliseconds))


def entry(connection: str, time: int) -> Entry:
    uplink = Uplink("lrc", DocumentKind.UPLINK, "0018B20000000B20", time, time, 1, b"{}")
    return Entry(uplink, (connection,))


async def test_the_expired_beginning_of_a_dead_backlog_is_settled_and_told_as_one(
    journal: SqliteJournal, log: Told
) -> None:
    hands = Hands()
    await journal.append([entry("dead", HOUR) for _ in range(1200)] + [entry("dead", hands.wall - HOUR)] * 3)
    expiry = Expiry(journal, {"dead": valid(2 * HOUR)}, lambda _: False, clock=hands)
    await expiry.round()
    await expiry.round()
    assert journal.counts()["dead"] == Counts(routed=1203, expired=1200)
    assert [(event, fields["count"]) for _, event, fields in log.lines] == [("uplink.expired", 1200)]
    hands.wall += 2 * HOUR
    await expiry.round()
    assert journal.counts()["dead"].queued == 0


async def test_an_open_session_is_left_to_itself(journal: SqliteJournal, log: Told) -> None:
    await journal.append([entry("open", HOUR)])
    await Expiry(journal, {"open": valid(HOUR)}, lambda name: name == "open", clock=Hands()).round()
    assert journal.counts()["open"].queued == 1
    assert log.lines == []


async def test_a_changed_validity_counts_from_the_next_round_on(journal: SqliteJournal) -> None:
    connections = {"dead": valid(90 * HOUR)}
    await journal.append([entry("dead", 27 * HOUR)])
    expiry = Expiry(journal, connections, lambda _: False, clock=Hands())
    await expiry.round()
    assert journal.counts()["dead"].queued == 1
    connections["dead"] = valid(HOUR)
    await expiry.round()
    assert journal.counts()["dead"] == Counts(routed=1, expired=1)


async def test_the_queue_of_a_removed_connection_is_dropped_after_three_days_and_named(
    journal: SqliteJournal, log: Told
) -> None:
    connections = {"gone": valid(HOUR)}
    hands = Hands()
    await journal.append([entry("gone", 27 * HOUR), entry("gone", 27 * HOUR), entry("gone", 29 * HOUR)])
    del connections["gone"]
    expiry = Expiry(journal, connections, lambda _: False, clock=hands)
    await expiry.round()
    await expiry.round()
    assert journal.counts()["gone"] == Counts(routed=3, dropped=2)
    reason = "connection gone is not configured any more, and this uplink waited 72 hours"
    facts = {"connection": "gone", "count": 2, "reason": reason}
    assert log.lines == [("warning", "connection.queue_dropped", facts)]
    connections["gone"] = valid(1000 * HOUR)
    hands.wall += 90 * HOUR
    await expiry.round()
    assert journal.counts()["gone"].queued == 1, "it came back in time for the last"


@pytest.mark.usefixtures("log")
async def test_a_failing_disk_ends_the_round_and_not_the_task(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.append([entry("dead", HOUR)])

    async def fail(*_: object) -> None:
        raise JournalFailed("the disk is full")

    expiry = Expiry(journal, {"dead": valid(HOUR)}, lambda _: False, clock=Hands())
    with monkeypatch.context() as patch:
        patch.setattr(journal, "settle", fail)
        await expiry.round()
    assert journal.counts()["dead"].queued == 1
    await expiry.round()
    assert journal.counts()["dead"].queued == 0
