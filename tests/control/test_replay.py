"""What is replayed: over a real journal, with a history in memory and with the real one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from mqttbridge.control import replay as replay_module
from mqttbridge.control.replay import ReplayDesk
from mqttbridge.errors import HistoryFailed
from mqttbridge.history.history import History
from mqttbridge.history.records import Passed
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.model import Counts, DocumentKind, Entry, Outcome, Settled
from tests.control.desk import ask, connection
from tests.journal.samples import FixedClock, delivered, drain, fcnts, uplink
from tests.support.inside import Told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


NOW = FixedClock().now()
HOUR = 3_600_000
CONNECTIONS = {"acme": connection(), "beta": connection(), "idle": connection(active=False)}
DEVICE = "0018B20000000B20"


class Past:
    """A history in memory."""

    def __init__(self) -> None:
        self.uplinks: list[Passed] = []
        self.pages: list[int] = []
        self.complaint = ""
        self.error: Exception | None = None

    def add(self, number: int, *connections: str, ago: int = HOUR, seq: int = 0, **more: object) -> None:
        passed = Passed(
            id=len(self.uplinks) + 1,
            seq=seq,
            received=NOW - ago,
            time=NOW - ago,
            source="lrc",
            kind=DocumentKind.UPLINK,
            dev_eui=DEVICE,
            fcnt=number,
            origin="POST from 10.0.0.7",
            connections=connections,
            body=b'{"DevEUI_uplink": {"FCntUp": %d}}' % number,
        )
        self.uplinks.append(replace(passed, **more))

    async def between(
        self,
        start: int,
        end: int,
        *,
        after: int = 0,
        limit: int,
        device: str | None = None,
        connection: str | None = None,
    ) -> list[Passed]:
        if self.error is not None:
            raise self.error
        found = [
            one
            for one in self.uplinks
            if start <= one.received < end
            and one.id > after
            and device in (None, one.dev_eui)
            and (connection is None or connection in one.connections)
        ][:limit]
        self.pages.append(len(found))
        return found

    def problem(self) -> str:
        return self.complaint


class Here:
    """A desk over a journal of its own."""

    def __init__(self, journal: SqliteJournal, log: Told) -> None:
        self.journal = journal
        self.past = Past()
        self.log = log
        self.desk = ReplayDesk(journal, self.past, CONNECTIONS, FixedClock())

    async def post(self, *, gone: asyncio.Event | None = None, **wish: object) -> tuple[int, Any]:
        body = {"connection": "acme", "start": NOW - 2 * HOUR} | wish
        return await ask(self.desk.routes(), "POST", "/replay", body, gone=gone)


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    log = Told()
    monkeypatch.setattr(replay_module, "log", log)
    journal = await SqliteJournal.open(tmp_path, max_size=2**20, when_full="block", clock=FixedClock())
    yield Here(journal, log)
    await journal.close()


async def test_uplinks_of_the_past_are_queued_again_in_order_marked_and_told(here: Here) -> None:
    for number in range(250):
        here.past.add(number, "acme", ago=HOUR - number)
    status, body = await here.post()
    assert (status, body) == (
        200,
        {
            "connection": "acme",
            "found": 250,
            "queued": 250,
            "skipped": [],
            "first": "2023-11-14T21:13:20Z",
            "last": "2023-11-14T21:13:20.249000Z",
        },
    )
    found = await here.journal.read("acme", 0, 1000)
    assert fcnts(found) == list(range(250))
    first = found[0].uplink
    assert first.body == b'{"DevEUI_uplink": {"Replayed":true,"FCntUp": 0}}'
    assert (first.time, first.received, first.fingerprint) == (NOW, NOW, 0)
    assert first.origin == "replay of the uplink received 2023-11-14T21:13:20.000+00:00"
    assert max(here.past.pages) == 100
    ((level, event, fields),) = here.log.lines
    assert (level, event) == ("info", "uplink.replayed")
    assert fields == {
        "connection": "acme",
        "count": 250,
        "reason": "received from 2023-11-14T21:13:20.000+00:00 to 2023-11-14T21:13:20.249+00:00",
    }


async def test_a_dry_run_counts_and_queues_nothing(here: Here) -> None:
    here.past.add(1, "acme")
    status, body = await here.post(dryRun=True)
    assert (status, body["found"], body["queued"]) == (200, 1, 0)
    assert here.journal.counts() == {}
    assert here.log.lines == []


async def test_only_what_was_routed_to_it_unless_everything_is_asked_for(here: Here) -> None:
    here.past.add(1, "acme", "beta")
    here.past.add(2, "beta")
    here.past.add(3)
    assert (await here.post())[1]["found"] == 1
    assert await drain(here.journal, "acme") == [1]
    assert (await here.post(everything=True))[1]["found"] == 3
    assert await drain(here.journal, "acme") == [1, 2, 3]


async def test_the_device_and_the_time_are_kept_to(here: Here) -> None:
    here.past.add(1, "acme", ago=HOUR)
    here.past.add(2, "acme", ago=HOUR, dev_eui="0018B20000000B21")
    here.past.add(3, "acme", ago=HOUR // 2)
    here.past.add(4, "acme", ago=0)
    for spelling in ("0018b20000000b21", "00-18-B2-00-00-00-0B-21", "lora:0018B20000000B21"):
        assert (await here.post(device=spelling))[1]["found"] == 1
    assert here.log.lines[0][2]["dev_eui"] == "0018B20000000B21"
    assert await drain(here.journal, "acme") == [2, 2, 2]
    await here.post(end=NOW - HOUR // 2, device=DEVICE)
    assert await drain(here.journal, "acme") == [1]
    await here.post(end=NOW + HOUR, device=DEVICE)
    assert await drain(here.journal, "acme") == [1, 3], "what comes now was not there when it was asked"


async def test_what_still_waits_and_what_is_a_replay_itself_is_left_out_and_said(here: Here) -> None:
    await here.journal.append([Entry(uplink(number), ("acme",)) for number in range(4)])
    await here.journal.settle("acme", delivered(await here.journal.read("acme", 0, 2)))
    for number in range(4):
        here.past.add(number, "acme", seq=number + 1)
    here.past.add(0, "acme", seq=9, origin="replay of the uplink received 2023-11-14T21:13:20.000+00:00")
    here.past.add(0, "acme", seq=10, origin="retry of the parked uplink received 2023-11-14T21:13:20.000+00:00")
    here.past.add(0, "acme", body=b"[]")
    here.past.complaint = "the disk was full."
    status, body = await here.post()
    assert (status, body["found"], body["queued"]) == (200, 2, 2)
    assert body["skipped"] == [
        "2 are still queued for acme: not delivered yet",
        "2 are themselves replays, or retries of parked ones, of other uplinks",
        "1 are no JSON objects, so that they cannot be marked",
        "perhaps more, which the history does not know: the disk was full.",
    ]
    assert await drain(here.journal, "acme") == [2, 3, 0, 1]


async def test_nothing_found_is_an_answer(here: Here) -> None:
    status, body = await here.post()
    assert (status, body["found"], body["first"], body["last"]) == (200, 0, None, None)


@pytest.mark.parametrize(
    ("wish", "status", "said"),
    [
        ({"connection": "acne"}, 404, "no connection 'acne' in the configuration; did you mean acme?"),
        ({"connection": "idle"}, 422, "connection idle has `active: false`"),
        ({"start": NOW}, 422, "which lies in the future (2023-11-14T22:13:20.000+00:00)"),
        ({"end": NOW - 3 * HOUR}, 422, "which is not before its end (2023-11-14T19:13:20.000+00:00)"),
        ({"device": "0018B2"}, 422, "'0018B2' is no DevEUI"),
        ({"start": "now"}, 400, "Expected `int`"),
        ({"start": 10**18}, 400, "start"),
        ({"dry_run": True}, 400, "dry_run"),
    ],
)
async def test_a_wish_that_makes_no_sense_is_refused_with_a_sentence(
    here: Here, wish: dict[str, object], status: int, said: str
) -> None:
    here.past.add(1, "acme")
    got, body = await here.post(**wish)
    assert got == status
    assert said in body["detail"]
    assert here.journal.counts() == {}


async def test_a_journal_that_is_full_ends_it_with_a_sentence_on_where_to_go_on(here: Here) -> None:
    for number in range(1000):
        body = json.dumps({"DevEUI_uplink": {"FCntUp": number, "x": "y" * 2000}}).encode()
        here.past.add(number, "acme", ago=HOUR - number, body=body)
    status, body = await here.post()
    queued = here.journal.counts()["acme"].queued
    assert 100 < queued < 900
    assert status == 503
    assert "is full" in body["detail"]
    assert (
        f" {queued} uplinks were queued before: replay the others from 2023-11-14T21:13:20.{queued:03}"
        in (body["detail"])
    )
    assert here.log.lines[0][2]["count"] == queued
    await drain(here.journal, "acme")
    status, body = await here.post(start=NOW - HOUR + queued)
    found = await here.journal.read("acme", 0, 1)
    assert fcnts(found) == [queued]


async def test_a_history_that_cannot_be_read_is_said(here: Here) -> None:
    here.past.error = HistoryFailed("The history cannot be read: disk I/O error.")
    assert (await here.post())[0] == 503


async def test_it_ends_when_the_client_is_gone_and_the_log_has_what_was_done(here: Here) -> None:
    for number in range(1000):
        here.past.add(number, "acme", ago=HOUR - number)
    gone = asyncio.Event()
    here.journal.watch("acme", gone.set)
    await here.post(gone=gone)
    queued = here.journal.counts()["acme"].queued
    assert 100 <= queued < 1000
    assert here.log.lines[0][2]["count"] == queued
    assert "the operator's command ended" in here.log.lines[0][2]["reason"]


async def test_with_the_real_history_nothing_comes_twice_however_often_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "log", Told())

    class Clock(FixedClock):
        at = NOW

        def now(self) -> int:
            return self.at

    clock = Clock()
    history = await History.open(tmp_path, retention=24 * HOUR, max_size=2**22, clock=clock)
    journal = await SqliteJournal.open(tmp_path, max_size=2**22, when_full="block", clock=clock, witness=history)
    desk = ReplayDesk(journal, history, CONNECTIONS, clock)
    await journal.append([Entry(uplink(number, received=NOW), ("acme", "beta")) for number in range(30)])
    await journal.append([Entry(uplink(number, received=NOW), ("beta",)) for number in range(30, 40)])
    await drain(journal, "acme", 7)
    await journal.append([Entry(uplink(40, received=NOW), ("acme",))])
    (one,) = await journal.read("acme", 0, 10)
    await journal.settle("acme", [Settled(one.seq, Outcome.PARKED, "why")])
    await journal.unpark("acme", retry=True)
    wish = {"connection": "acme", "start": NOW - HOUR}
    for round_ in range(3):
        clock.at += 1000
        await drain(journal, "acme")
        status, body = await ask(desk.routes(), "POST", "/replay", wish)
        assert (status, body["found"], body["queued"]) == (200, 31, 31)
        assert len(body["skipped"]) == 1
        assert body["skipped"][0].startswith(f"{1 + 31 * round_} are themselves"), body
    clock.at += 1000
    assert await drain(journal, "acme") == [*range(30), 40]
    everything = wish | {"everything": True, "device": DEVICE}
    status, body = await ask(desk.routes(), "POST", "/replay", everything)
    assert (status, body["queued"]) == (200, 41)
    counts = journal.counts()["acme"]
    assert counts == Counts(routed=31 + 1 + 3 * 31 + 41, delivered=31 + 3 * 31, parked=1)
    await journal.close()
    await history.close()
