"""Uplinks, downlinks and receipts on one link: none of them keeps another from going on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mqttbridge.errors import LinkError, LinkLost
from mqttbridge.mqtt.link import Grant, Received
from mqttbridge.observe.throttle import Throttle
from mqttbridge.sessions import delivery, machine, receipts, suspicion
from mqttbridge.sessions.downlinks import MAX_BYTES, Downlinks
from mqttbridge.sessions.traffic import Traffic
from mqttbridge.settings.schema import Configuration
from tests.sessions.bench import until
from tests.sessions.simulated import Hands, SimulatedJournal, SimulatedLink
from tests.sessions.taking import MemoryInbox, MemoryReceipts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

HOUR = 3_600_000
DEV_EUI = "0018B20000000B20"


class Bench:
    """The traffic of one connection; `open` and `lose` do what the runner does."""

    def __init__(self, window: int) -> None:
        self.clock = Hands()
        self.journal = SimulatedJournal()
        self.receipts = MemoryReceipts()
        self.traffic = Traffic(
            "acme",
            Configuration(
                host_name="localhost",
                uplink_time_validity=HOUR,
                max_inflight=window,
                downlink_receipt_topic_pattern="r/{DevEUI}",
            ),
            journal=self.journal,
            clock=self.clock,
            throttle=Throttle(self.clock),
            inbox=None,
            downlinks=self.receipts,
            tally=None,
        )
        self.link = SimulatedLink(self.traffic.acknowledged)

    def open(self) -> None:
        self.link = SimulatedLink(self.traffic.acknowledged)
        dead: asyncio.Future[LinkError] = asyncio.get_running_loop().create_future()
        self.traffic.open(self.link, Grant(), dead)

    async def lose(self, error: LinkError) -> None:
        self.traffic.blame(error)
        await self.traffic.cease()
        await self.traffic.settle()
        self.traffic.interrupt()


@asynccontextmanager
async def bench(window: int = 4) -> AsyncIterator[Bench]:
    made = Bench(window)
    made.open()
    try:
        yield made
    finally:
        await made.traffic.cease()
        made.traffic.interrupt()
        await made.traffic.close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspicion, "QUIET", 0.0)
    monkeypatch.setattr(delivery, "JOURNAL_RETRY", 0.0)
    monkeypatch.setattr(receipts, "JOURNAL_RETRY", 0.0)


@pytest.mark.parametrize("end", ["expired", "dropped by a full journal"])
async def test_a_suspect_that_ended_unsent_keeps_no_receipt_back_for_ever(end: str) -> None:
    async with bench() as it:
        [suspect] = it.journal.put(1)
        for _ in range(suspicion.SUSPICIOUS):
            await until(lambda: it.link.sent == [suspect])
            await it.lose(LinkLost("the broker closed the connection"))
            if it.traffic.delivery._suspicion.narrow:
                it.clock.wall += 2 * HOUR
                if end != "expired":
                    it.journal.drop_oldest(1)
            it.open()
        it.receipts.put(7, b"{}", DEV_EUI)
        await until(lambda: it.link.sent == [-7])
        it.link.answer(-7)
        await until(lambda: not it.receipts.queue)


async def test_receipts_that_cannot_be_recorded_keep_no_place_from_uplinks() -> None:
    async with bench(window=1) as it:
        it.receipts.put(1, b"{}", DEV_EUI)
        it.receipts.put(2, b"{}", DEV_EUI)
        await until(lambda: it.link.sent == [-1])
        it.receipts.failing = True
        it.link.answer(-1)
        for seq in it.journal.put(5):
            await until(lambda seq=seq: seq in it.link.waiting)
            it.link.answer(seq)
        await until(lambda: not it.journal.unsettled)


async def test_long_topics_and_correlation_data_fill_the_buffer_too() -> None:
    inbox = MemoryInbox()
    inbox.ready.clear()
    downlinks = Downlinks("acme", "d/+", inbox, action_timeout=1000, throttle=Throttle(Hands()), tally=None)
    dead: asyncio.Future[LinkError] = asyncio.get_running_loop().create_future()
    downlinks.open(SimulatedLink(lambda _: None), dead)
    downlinks.received([Received("d/" + "x" * 30_000, b"", 1, retain=False, mid=1)])
    await until(lambda: inbox.given)
    for mid in range(2, 200):
        message = Received("d/" + "x" * 30_000, b"", 1, retain=False, mid=mid, correlation=b"c" * 30_000)
        downlinks.received([message])
    held = len(downlinks._buffer)
    assert held * 60_000 <= MAX_BYTES
    inbox.ready.set()
    await until(dead.done)
    assert len(inbox.taken) == held + 1
    assert downlinks._size == 0
    await downlinks.close()


def test_a_flood_of_downlinks_never_brings_a_connection_to_the_schedule_of_a_broken_one() -> None:
    policy = machine.Policy("NORMAL", "acme")
    session, _, action = machine.step(machine.Session(), machine.Started(0.0), policy)
    now = 0.0
    for _ in range(100):
        session, _, _ = machine.step(session, machine.Granted(now), policy)
        now += 10.0
        lost = machine.Lost(now, 0.9, "more downlinks came at once than can be held", by_us=True, overflown=True)
        session, _, action = machine.step(session, lost, policy)
        assert isinstance(action, machine.Wait)
        assert action.delay is not None
        assert action.delay <= 1.0
        now += action.delay


class Answering(SimulatedLink):
    """Keeps what was acknowledged."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self.acknowledged: list[int] = []

    def acknowledge(self, messages: Sequence[Received]) -> None:
        self.acknowledged += [message.mid for message in messages]


def opened(downlinks: Downlinks, *, resumed: bool = True) -> Answering:
    """Give the downlinks another link."""
    link, dead = Answering(), asyncio.get_running_loop().create_future()
    downlinks.interrupt()
    downlinks.open(link, dead, resumed=resumed)
    return link


@pytest.mark.parametrize(
    ("again", "payloads"),
    [
        ({}, [b"1", b"2", b"3"]),
        ({"dup": False}, [b"1", b"2", b"1", b"3"]),
        ({"payload": b"x"}, [b"1", b"2", b"x", b"3"]),
        ({"correlation": b"x"}, [b"1", b"2", b"1", b"3"]),
    ],
    ids=["the same", "another one alike", "another payload", "other correlation data"],
)
async def test_what_was_taken_when_its_link_was_gone_is_acknowledged_and_not_taken_twice(
    again: dict[str, Any], payloads: list[bytes]
) -> None:
    inbox = MemoryInbox()
    inbox.ready.clear()
    downlinks = Downlinks("acme", "d/+", inbox, action_timeout=1000, throttle=Throttle(Hands()), tally=None)
    first = opened(downlinks)
    downlinks.received([Received("d/1", b"1", 1, retain=False, mid=1), Received("d/2", b"2", 1, retain=False, mid=2)])
    await until(lambda: inbox.given)
    second = opened(downlinks)
    repeated = Received(**{"topic": "d/1", "payload": b"1", "qos": 1, "retain": False, "mid": 1, "dup": True, **again})
    downlinks.received([repeated, Received("d/2", b"2", 1, retain=False, mid=2, dup=True)])
    downlinks.received([Received("d/3", b"3", 1, retain=False, mid=3)])
    inbox.ready.set()
    await until(lambda: second.acknowledged == [1, 2, 3])
    assert inbox.payloads == payloads
    downlinks.received([Received("d/1", b"1", 1, retain=False, mid=1, dup=True)])
    await until(lambda: inbox.payloads == [*payloads, b"1"])
    assert first.acknowledged == []
    await downlinks.close()


async def test_a_broker_that_lost_our_session_repeats_nothing_that_was_taken() -> None:
    inbox = MemoryInbox()
    inbox.ready.clear()
    downlinks = Downlinks("acme", "d/+", inbox, action_timeout=1000, throttle=Throttle(Hands()), tally=None)
    opened(downlinks)
    downlinks.received([Received("d/1", b"1", 1, retain=False, mid=1)])
    await until(lambda: inbox.given)
    opened(downlinks)
    inbox.ready.set()
    await until(lambda: inbox.taken)
    opened(downlinks, resumed=False)
    downlinks.received([Received("d/1", b"1", 1, retain=False, mid=1, dup=True)])
    await until(lambda: inbox.payloads == [b"1", b"1"])
    await downlinks.close()
