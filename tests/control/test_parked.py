"""What the desk for parked uplinks answers, over a real journal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from mqttbridge.control import parked as parked_module
from mqttbridge.control.parked import ParkedDesk
from mqttbridge.errors import JournalFull
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.model import Counts, Entry, Outcome, Settled
from tests.control.desk import ask, connection
from tests.journal.samples import FixedClock, entries, fcnts, uplink
from tests.support.inside import Told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CONNECTIONS = {"acme": connection(), "beta": connection(), "idle": connection(active=False)}


class Here:
    """A desk over a journal of its own."""

    def __init__(self, journal: SqliteJournal, log: Told) -> None:
        self.journal = journal
        self.log = log
        self.desk = ParkedDesk(journal, CONNECTIONS)

    async def park(self, name: str, *numbers: int, reason: str = "no topic") -> None:
        await self.journal.append(entries(numbers, name))
        found = await self.journal.read(name, 0, 100)
        await self.journal.settle(name, [Settled(one.seq, Outcome.PARKED, reason) for one in found])

    async def get(self, target: str) -> tuple[int, Any]:
        return await ask(self.desk.routes(), "GET", target)

    async def post(self, target: str, **body: object) -> tuple[int, Any]:
        return await ask(self.desk.routes(), "POST", target, body)


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    log = Told()
    monkeypatch.setattr(parked_module, "log", log)
    journal = await SqliteJournal.open(tmp_path, max_size=2**24, when_full="block", clock=FixedClock())
    yield Here(journal, log)
    await journal.close()


async def test_the_list_has_the_newest_first_and_the_number_of_all(here: Here) -> None:
    await here.park("acme", 1, 2, 3)
    await here.park("beta", 4, reason="not allowed")
    status, body = await here.get("/parked?limit=2")
    assert status == 200
    assert body["kept"] == {"acme": 3, "beta": 1}
    assert [(one["number"], one["connection"], one["fcnt"]) for one in body["parked"]] == [
        (4, "beta", 4),
        (3, "acme", 3),
    ]
    assert body["parked"][0] == {
        "number": 4,
        "connection": "beta",
        "parked": "2023-11-14T22:13:20Z",
        "reason": "not allowed",
        "received": "2023-11-14T22:13:21.004000Z",
        "source": "lrc",
        "dev_eui": "0018B20000000B20",
        "fcnt": 4,
        "kind": "DevEUI_uplink",
        "size": len(uplink(4).body),
        "seq": 4,
    }
    _, body = await here.get("/parked?connection=acme&before=3")
    assert [one["number"] for one in body["parked"]] == [2, 1]


async def test_one_is_shown_with_its_document(here: Here) -> None:
    await here.park("acme", 7)
    status, body = await here.get("/parked/one?number=1")
    assert (status, body["document"]) == (200, {"DevEUI_uplink": {"FCntUp": 7}})
    await here.journal.append([Entry(uplink(8, body=b'\xff{"'), ("acme",))])
    await here.park("acme")
    status, body = await here.get("/parked/one?number=2")
    assert (status, body["document"]) == (200, '\ufffd{"')


async def test_what_is_not_there_is_said_with_what_to_do(here: Here) -> None:
    assert await here.get("/parked/one?number=5") == (404, {**PROBLEM_404, "detail": NONE_OF.format("5")})
    status, body = await here.get("/parked?connection=nobody")
    assert (status, "no connection 'nobody'" in body["detail"]) == (404, True)
    assert (await here.get("/parked/one"))[0] == 400
    assert (await here.get("/parked?limit=0"))[0] == 400
    assert (await here.get("/parked?foo=1"))[0] == 400


PROBLEM_404 = {"type": "about:blank", "title": "Not Found", "status": 404}
NONE_OF = "there is no parked uplink with number {}; `mqttbridge parked list` shows those that there are"


@pytest.mark.parametrize("number", [10**9, 99_999_999_999, 2**63, 10**30])
async def test_a_number_that_is_huge_is_one_that_is_not_there(here: Here, number: int) -> None:
    await here.park("acme", 1)
    status, body = await here.get(f"/parked/one?number={number}")
    assert (status, body["detail"]) == (404, NONE_OF.format(number))
    for path in ("/parked/retry", "/parked/drop"):
        status, body = await here.post(path, numbers=[1, number])
        assert (status, body["detail"]) == (404, NONE_OF.format(number))


async def test_a_body_that_is_too_large_is_413(here: Here) -> None:
    status, body = await here.post("/parked/drop", numbers=[10**9] * 100_000)
    assert (status, body["detail"]) == (413, "the body is larger than 1048576 bytes")


async def test_numbers_are_retried_and_told(here: Here) -> None:
    await here.park("acme", 1, 2, 3)
    status, body = await here.post("/parked/retry", numbers=[3, 1, 1])
    assert (status, body) == (200, {"count": 2, "connections": {"acme": 2}, "skipped": []})
    assert fcnts(await here.journal.read("acme", 0, 10)) == [1, 3]
    assert here.log.lines == [("info", "parked.retried", {"connection": "acme", "count": 2})]


async def test_of_numbers_of_which_one_is_unknown_none_is_touched(here: Here) -> None:
    await here.park("acme", 1, 2)
    for path in ("/parked/retry", "/parked/drop"):
        status, body = await here.post(path, numbers=[1, 2, *range(90, 98)])
        assert (status, body["detail"]) == (
            404,
            NONE_OF.replace("number", "numbers").format("90, 91, 92, 93, 94 and 3 more"),
        )
    status, body = await here.post("/parked/drop", numbers=[1], connection="beta")
    assert (status, body["detail"]) == (422, "1 is parked for acme, not for beta")
    assert here.journal.parked_kept() == {"acme": 2}
    assert not here.log.lines


async def test_all_of_a_connection_are_dropped_and_the_others_stay(here: Here) -> None:
    await here.park("acme", 1, 2)
    await here.park("beta", 3)
    status, body = await here.post("/parked/drop", everything=True, connection="acme")
    assert (status, body["connections"]) == (200, {"acme": 2})
    assert here.journal.parked_kept() == {"beta": 1}
    assert here.journal.counts()["acme"] == Counts(routed=2, parked=2)
    assert here.log.lines == [("info", "parked.dropped", {"connection": "acme", "count": 2})]
    assert await here.post("/parked/drop", everything=True, connection="acme") == (
        200,
        {"count": 0, "connections": {}, "skipped": []},
    )


async def test_what_would_go_to_nobody_is_not_retried_and_can_be_dropped(here: Here) -> None:
    for number, name in enumerate(("acme", "idle", "acne")):
        await here.park(name, number)
    status, body = await here.post("/parked/retry", numbers=[3])
    assert status == 422
    assert "there is no connection 'acne' in the configuration; did you mean acme?" in body["detail"]
    assert "mqttbridge parked drop" in body["detail"]
    status, body = await here.post("/parked/retry", everything=True, connection="idle")
    assert (status, "`active: false`" in body["detail"]) == (422, True)
    status, body = await here.post("/parked/retry", everything=True)
    assert (status, body["connections"]) == (200, {"acme": 1})
    assert [one[:16] for one in body["skipped"]] == ["1 stay parked: t", "1 stay parked: c"]
    assert here.journal.parked_kept() == {"acne": 1, "idle": 1}
    status, body = await here.post("/parked/drop", everything=True)
    assert (status, body["count"]) == (200, 2)


@pytest.mark.parametrize("body", [{}, {"numbers": [1], "everything": True}, {"numbers": [0]}, {"number": [1]}])
async def test_an_unclear_wish_changes_nothing(here: Here, body: dict[str, object]) -> None:
    await here.park("acme", 1)
    assert (await here.post("/parked/drop", **body))[0] == 400
    assert here.journal.parked_kept() == {"acme": 1}


async def test_a_journal_that_gets_full_meanwhile_is_told_with_what_was_done(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.park("acme", *range(60))
    await here.park("beta", 99)
    unpark = here.journal.unpark

    async def full(which: str, **how: object) -> object:
        if which == "beta":
            raise JournalFull("The journal is full.")
        return await unpark(which, **how)

    monkeypatch.setattr(here.journal, "unpark", full)
    status, body = await here.post("/parked/retry", everything=True)
    assert (status, body["detail"]) == (503, "The journal is full. 60 parked uplinks were retried before.")
    assert here.log.lines == [("info", "parked.retried", {"connection": "acme", "count": 60})]


async def test_it_ends_when_the_client_is_gone(here: Here) -> None:
    await here.park("acme", *range(50))
    gone = asyncio.Event()
    unpark = here.journal.unpark
    calls: list[object] = []

    async def once(which: object, **how: object) -> object:
        calls.append(which)
        gone.set()
        await asyncio.sleep(0)
        return await unpark(which, **how)

    here.journal.unpark = once  # type: ignore[method-assign]
    body = {"everything": True}
    await ask(here.desk.routes(), "POST", "/parked/drop", body, gone=gone)
    assert calls == ["acme"]
    assert here.log.lines == [("info", "parked.dropped", {"connection": "acme", "count": 50})]
