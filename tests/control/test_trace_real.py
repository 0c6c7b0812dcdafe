"""GET /trace with the real history, journal and queue of downlinks: what was told to them is what is shown."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest
import pytest_asyncio

from mqttbridge.ask.trace_wording import report
from mqttbridge.clock import SystemClock
from mqttbridge.control.trace import SessionView, TraceDesk
from mqttbridge.formats import FORMATS
from mqttbridge.history.history import History
from mqttbridge.journal.downlink_protocol import AcceptedDownlink
from mqttbridge.journal.downlinks import SqliteDownlinks
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.model import Device, DocumentKind, Downlink, Entry, Outcome, Settled, Uplink
from mqttbridge.settings.schema import Flow, HttpSource, Settings, ThingMatcher
from tests.control.test_passages import DEVICE, connection, document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mqttbridge.control.passport import Passport

SETTINGS = Settings(
    sources={"lrc": HttpSource()},
    flows={"f": Flow(matchers=(ThingMatcher(tags=("Temperature",)),), connections=("acme", "beta"))},
    connections={"acme": connection(), "beta": connection()},
)


class Real:
    """The daemon's own parts, and a desk."""

    def __init__(self, history: History, journal: SqliteJournal, downlinks: SqliteDownlinks) -> None:
        self.history, self.journal, self.downlinks = history, journal, downlinks
        self.sessions = {"beta": SessionView("UNREACHABLE", "connection refused", SystemClock().now() + 40_000)}
        self.desk = TraceDesk(history, journal, downlinks, self.sessions.get, lambda: SETTINGS, SystemClock())

    async def accept(self, *fcnts: int, to: tuple[str, ...] = ("acme", "beta"), origin: str = "POST from h") -> None:
        await self.journal.append([Entry(uplink(fcnt, origin=origin), to) for fcnt in fcnts])

    async def page(self, limit: int = 10) -> Passport:
        return await self.desk.passport(DEVICE, limit)


def uplink(fcnt: int, *, tags: tuple[str, ...] = ("temperature",), origin: str = "POST from h") -> Uplink:
    body = document(tags=tags, FCntUp=fcnt, FPort=1, payload_hex="0a0b")
    return FORMATS["thingpark"].parse(body, source="lrc", received=SystemClock().now(), origin=origin)


@pytest_asyncio.fixture
async def real(tmp_path: Path) -> AsyncIterator[Real]:
    clock = SystemClock()
    history = await History.open(tmp_path, retention=3600_000, max_size=10_000_000, clock=clock)
    journal = await SqliteJournal.open(tmp_path, max_size=10_000_000, when_full="block", clock=clock, witness=history)
    downlinks = await SqliteDownlinks.open(tmp_path, clock=clock)
    yield Real(history, journal, downlinks)
    await downlinks.close()
    await journal.close()
    await history.close()


async def test_an_uplink_is_queued_until_it_was_acknowledged_and_each_connection_by_itself(real: Real) -> None:
    await real.accept(1, 2)
    page = await real.page()
    assert [one.fcnt for one in page.uplinks] == [2, 1]
    assert {each.outcome for one in page.uplinks for each in one.connections} == {"queued"}
    now = SystemClock().now()
    await real.journal.settle("acme", [Settled(1, Outcome.DELIVERED, topic="a/b", sent=now, at=now + 36)])
    page = await real.page()
    acme, beta = page.uplinks[1].connections
    assert (acme.outcome, acme.topic, acme.milliseconds) == ("delivered", "a/b", 36)
    assert (beta.outcome, beta.state, beta.why) == ("queued", "UNREACHABLE", "connection refused")
    assert page.uplinks[0].connections[0].outcome == "queued"
    one = page.uplinks[1]
    assert (one.origin, one.source, one.fport, one.payload_hex) == ("POST from h", "lrc", 1, "0a0b")
    assert (one.now, one.now_differs) == (("acme", "beta"), False)
    told = "\n".join(line.text for line in report(page))
    assert "acme: published on a/b" in told
    assert "beta: UNREACHABLE: connection refused; tries again in" in told


async def test_parked_expired_and_unrouted_uplinks_are_told_with_their_reasons(real: Real) -> None:
    await real.accept(1, 2, to=("acme",))
    await real.journal.settle(
        "acme", [Settled(1, Outcome.PARKED, "not authorised", topic="t"), Settled(2, Outcome.EXPIRED, "too old")]
    )
    real.history.unrouted([uplink(3, tags=("roof",))])
    page = await real.page()
    assert [one.stored for one in page.uplinks] == [False, True, True]
    assert [(one.outcome, one.reason) for each in page.uplinks for one in each.connections] == [
        ("expired", "too old"),
        ("parked", "not authorised"),
    ]
    assert page.uplinks[0].flows[0].why == "its tags are roof; the flow wants Temperature"


async def test_a_parked_uplink_that_is_retried_is_told_as_that(real: Real) -> None:
    await real.accept(1, to=("acme",))
    await real.journal.settle("acme", [Settled(1, Outcome.PARKED, "not authorised")])
    await real.journal.unpark("acme", retry=True)
    page = await real.page()
    newer, older = page.uplinks
    assert (newer.connections[0].outcome, older.connections[0].outcome) == ("queued", "parked")
    assert newer.now is None
    assert "(retry)" in report(page)[0].text


async def test_an_end_that_the_history_has_lost_is_unknown(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real.history._waiting, "settled", lambda *_: None)
    await real.accept(1, to=("acme",))
    await real.journal.settle("acme", [Settled(1, Outcome.DELIVERED)])
    (one,) = (await real.page()).uplinks
    assert one.connections[0].outcome == "unknown"


async def test_downlinks_and_their_ends_are_found(real: Real) -> None:
    now = SystemClock().now()
    one = Downlink(DEVICE, 5, payload_hex="0102")
    await real.downlinks.accept([AcceptedDownlink("acme", "k" * 16, 1, b"\x00", now, "lrc", "", one)])
    about = {"connection": "acme", "source": "lrc", "dev_eui": DEVICE}
    real.history.event(now, "warning", "downlink.retrying", {**about, "reason": "503"})
    real.history.event(now, "warning", "downlink.rejected", {**about, "key": "x", "reason": "no FPort"})
    real.history.event(now, "warning", "downlink.rejected", {**about, "dev_eui": "0" * 16})
    real.downlinks.learn([Device(DEVICE, "lrc")])
    page = await real.page()
    assert [(each.outcome, each.reason) for each in page.downlinks] == [("pending", "503"), ("rejected", "no FPort")]
    assert page.last_source == "lrc"


async def test_under_load_nothing_that_was_settled_is_ever_taken_for_lost(real: Real) -> None:
    async def work() -> None:
        for first in range(1, 400, 4):
            await real.accept(*range(first, first + 4), to=("acme",))
            await real.journal.settle("acme", [Settled(seq, Outcome.DELIVERED) for seq in range(first, first + 4)])

    working = asyncio.create_task(work())
    seen = 0
    while not working.done():
        page = await real.page(100)
        outcomes = {each.outcome for one in page.uplinks for each in one.connections}
        assert outcomes <= {"queued", "delivered"}
        seen += 1
    await working
    assert seen
    assert {each.outcome for one in (await real.page(100)).uplinks for each in one.connections} == {"delivered"}


async def test_its_json_is_what_the_command_reads(real: Real) -> None:
    await real.accept(1)
    page = await real.page()
    assert msgspec.json.decode(msgspec.json.encode(page), type=type(page)) == page


@pytest.mark.parametrize("kind", list(DocumentKind))
async def test_each_kind_of_document_is_told(real: Real, kind: DocumentKind) -> None:
    parsed = FORMATS["thingpark"].parse(document(kind), source="lrc", received=SystemClock().now())
    await real.journal.append([Entry(parsed, ("acme",))])
    (one,) = (await real.page()).uplinks
    assert one.kind == kind.value
    assert not one.unread
