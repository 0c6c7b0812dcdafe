"""GET /events: what is kept, by what was asked, and what follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from mqttbridge.control import events as module
from mqttbridge.control.events import EventsDesk
from mqttbridge.errors import HistoryFailed
from mqttbridge.history.records import KeptEvent
from tests.control.streaming import asking, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

AT = 1_790_000_000_123
RANK = {"info": 0, "warning": 1, "error": 2}


class Kept:
    """A history of events, and what it was asked."""

    def __init__(self) -> None:
        self.all: list[KeptEvent] = []
        self.asked: list[dict[str, Any]] = []
        self.failed = False

    def add(self, name: str, level: str = "info", **fields: object) -> None:
        number = len(self.all) + 1
        self.all.append(KeptEvent(id=number, at=AT + number, level=level, name=name, fields=fields))

    async def events(
        self, *, limit: int, after: int = 0, since: int = 0, level: str = "info", name: str = "", **fields: str
    ) -> list[KeptEvent]:
        if self.failed:
            raise HistoryFailed("The history cannot be read: disk I/O error. Check the disk.")
        self.asked.append({"limit": limit, "after": after, "since": since, "level": level, "name": name} | fields)
        found = [
            one
            for one in self.all
            if one.id > after
            and one.at >= since
            and RANK[one.level] >= RANK[level]
            and name in {"", one.name}
            and not (fields.get("connection") and one.fields.get("connection") != fields["connection"])
        ]
        return found[:limit] if after else found[-limit:]


class Here:
    """A desk that answers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = Kept()
        self.desk = EventsDesk(self.kept)


@pytest_asyncio.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    monkeypatch.setattr(module, "LOOK_EVERY", 0.005)
    one = Here(tmp_path / "s")
    async with serving(one.path, one.desk.routes()):
        yield one
        one.desk.stop()


async def test_events_are_an_array_the_newest_last(here: Here) -> None:
    here.kept.add("connection.lost", "warning", connection="acme", reason="gone", id="mine")
    here.kept.add("connection.opened", connection="acme", attempts=1)
    async with asking(here.path, "/events") as answer:
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        lost, opened = await answer.body()
    assert lost == {
        "id": 1,
        "at": "2026-09-21T14:13:20.124000Z",
        "level": "warning",
        "event": "connection.lost",
        "connection": "acme",
        "reason": "gone",
    }
    assert (opened["id"], opened["level"], opened["attempts"]) == (2, "info", 1)


async def test_all_that_is_asked_for_reaches_the_history(here: Here) -> None:
    query = "limit=7&level=warning&since=1790000000000&name=uplink.*&connection=a&source=b&after=3"
    async with asking(here.path, f"/events?{query}&device=00-18-b2-00-00-00-0b-20") as answer:
        assert await answer.body() == []
    assert here.kept.asked[1:] == [
        {
            "limit": 7,
            "after": 3,
            "since": 1790000000000,
            "level": "warning",
            "name": "uplink.*",
            "connection": "a",
            "source": "b",
            "device": "0018B20000000B20",
        }
    ]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("level=debug", "level is one of info, warning, error"),
        ("limit=0", "limit is a whole number from 1 to 10000"),
        ("since=yesterday", "since is a whole number, in ms since 1970"),
        ("after=-1", "after is a whole number"),
        ("device=x", "'x' is no DevEUI"),
        ("follow=yes", "follow is 0 or 1"),
        ("name=connection.losst", "did you mean connection.lost?"),
        ("name=uplnk.*", "did you mean uplink.*?"),
        ("name=*", "docs/events.md has the table"),
        ("name='; DROP TABLE event", "docs/events.md has the table"),
        ("names=x", "'names' is not asked for here"),
    ],
)
async def test_nonsense_is_refused(here: Here, query: str, said: str) -> None:
    async with asking(here.path, f"/events?{query.replace(' ', '%20')}") as answer:
        assert answer.status == 400
        assert said in (await answer.body())["detail"]
    assert here.kept.asked == []


async def test_who_follows_gets_the_newest_and_then_what_comes(here: Here) -> None:
    for number in range(5):
        here.kept.add("connection.opened", number=number)
    async with asking(here.path, "/events?follow=1&limit=2") as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert [(await answer.news() or {})["number"] for _ in range(2)] == [3, 4]
        for number in range(5, 8):
            here.kept.add("connection.opened", number=number)
        assert [(await answer.news() or {})["number"] for _ in range(3)] == [5, 6, 7]


async def test_many_events_come_whole_and_in_their_order(here: Here) -> None:
    for _ in range(1001):
        here.kept.add("connection.opened")
    async with asking(here.path, "/events?limit=1000") as answer:
        assert [event["id"] for event in await answer.body()] == list(range(2, 1002))
    async with asking(here.path, "/events?limit=1000&follow=1") as answer:
        assert [(await answer.news() or {})["id"] for _ in range(1000)] == list(range(2, 1002))


async def test_who_follows_from_an_id_gets_all_that_came_since(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEXT", 4)
    for _ in range(30):
        here.kept.add("connection.opened")
    async with asking(here.path, "/events?follow=1&after=10&limit=1") as answer:
        assert [(await answer.news() or {})["id"] for _ in range(20)] == list(range(11, 31))


async def test_what_does_not_pass_is_looked_at_once(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEXT", 3)
    here.kept.add("daemon.started")
    async with asking(here.path, "/events?follow=1&connection=acme&level=warning") as answer:
        assert await answer.line() == b"", "there is none yet"
        for number in range(20):
            here.kept.add("connection.lost", "warning", connection="acme" if number % 5 == 4 else "beta")
            here.kept.add("connection.opened", connection="acme")
        assert [(await answer.news() or {})["id"] for _ in range(4)] == [10, 20, 30, 40]
        asked = [one["after"] for one in here.kept.asked if one["limit"] == 3]
        assert asked == sorted(set(asked))
        here.kept.add("connection.lost", "warning", connection="acme")
        assert (await answer.news() or {})["id"] == 42


async def test_an_empty_line_shows_that_the_daemon_is_there(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)
    async with asking(here.path, "/events?follow=1") as answer:
        assert [await answer.line() for _ in range(3)] == [b"", b"", b""]


async def test_it_ends_in_order_with_the_daemon(here: Here) -> None:
    here.kept.add("daemon.started")
    async with asking(here.path, "/events?follow=1") as answer:
        assert (await answer.news() or {})["event"] == "daemon.started"
        here.kept.add("daemon.stopping")
        assert (await answer.news() or {})["event"] == "daemon.stopping"
        here.desk.stop()
        assert await answer.news() is None


async def test_so_many_may_follow(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FOLLOWERS", 1)
    async with asking(here.path, "/events?follow=1") as first:
        await first.line()
        async with asking(here.path, "/events?follow=1") as second:
            assert (second.status, second.headers["retry-after"]) == (503, "5")
            assert "1 readers follow" in (await second.body())["detail"]
        async with asking(here.path, "/events") as other:
            assert other.status == 200


@pytest.mark.parametrize("query", ["", "?follow=1"])
async def test_a_history_that_cannot_be_read_is_told(here: Here, query: str) -> None:
    here.kept.failed = True
    async with asking(here.path, f"/events{query}") as answer:
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert "disk I/O error" in (await answer.body())["detail"]


async def test_who_follows_waits_for_a_history_that_fails_meanwhile(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)
    here.kept.add("daemon.started")
    async with asking(here.path, "/events?follow=1") as answer:
        assert (await answer.news() or {})["id"] == 1
        here.kept.failed = True
        assert [await answer.line() for _ in range(3)] == [b"", b"", b""]
        here.kept.add("history.recovered")
        here.kept.failed = False
        assert (await answer.news() or {})["id"] == 2
