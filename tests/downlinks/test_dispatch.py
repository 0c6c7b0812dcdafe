"""A dispatcher between a journal and a network server that the test plays."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from structlog.testing import capture_logs

from mqttbridge.downlinks import dispatch
from mqttbridge.downlinks.dispatch import Dispatcher
from mqttbridge.downlinks.network import Later, Refused, Taken
from mqttbridge.observe.throttle import Throttle
from tests.downlinks.memory import NOW, CountedMetrics, Hands, MemoryDownlinks, connection, pending, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from mqttbridge.downlinks.network import Answer
    from mqttbridge.errors import DocumentError
    from mqttbridge.journal.downlink_protocol import ConcludedDownlink, PendingDownlink
    from mqttbridge.model import Downlink

A, B = "000000000000000A", "000000000000000B"
DOWN = Later("connection refused", everyone=True)


class ScriptedNetwork:
    """Answers as the test says; what it is given is noted."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.under_way = Counter[str]()
        self.taken = Counter[int]()
        self.script: Callable[[PendingDownlink], Answer] = lambda _: Taken()
        self.gate = asyncio.Event()
        self.gate.set()

    def refusal(self, downlink: Downlink, way: str) -> DocumentError | None:
        raise NotImplementedError

    async def send(self, one: PendingDownlink) -> Answer:
        dev_eui = one.downlink.dev_eui
        self.sent.append(one.seq)
        self.under_way[dev_eui] += 1
        try:
            assert self.under_way[dev_eui] == 1, "one under way for each device"
            assert self.under_way.total() <= 16
            await self.gate.wait()
            await asyncio.sleep(0)
            answer = self.script(one)
            if isinstance(answer, Taken):
                self.taken[one.seq] += 1
            return answer
        finally:
            self.under_way[dev_eui] -= 1

    async def close(self) -> None: ...


class World:
    """One dispatcher and all around it."""

    def __init__(self, journal: MemoryDownlinks | None = None) -> None:
        self.hands = Hands()
        self.journal = journal or MemoryDownlinks()
        self.network = ScriptedNetwork()
        self.metrics = CountedMetrics()
        self.dispatcher = self.make()

    def make(self, **other: Any) -> Dispatcher:  # noqa: ANN401 (any argument)
        arguments = {
            "network": self.network,
            "connections": {"acme": connection(), "quiet": connection(receipts=False)},
            "clock": self.hands,
            "random": lambda: 0.5,
            "metrics": self.metrics,
            "throttle": Throttle(self.hands),
            "journal": self.journal,
            **other,
        }
        return Dispatcher("lrc", **arguments)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.dispatcher.run())
        try:
            yield task
            if not task.done():
                self.dispatcher.stop()
                await asyncio.wait_for(task, 10)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def later(self, seconds: float) -> None:
        """Let time pass, and have the dispatcher look at its clock."""
        self.hands.turn(seconds)
        self.dispatcher.kick()

    async def ended(self, number: int) -> None:
        """Wait until so many have ended, with log line and count."""
        await until(lambda: self.metrics.ended.total() >= number)

    def receipt(self, seq: int) -> dict[str, Any]:
        body = self.journal.concluded[seq]
        assert body is not None
        return json.loads(body.body)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs() as found:
        yield found


def named(lines: Sequence[Any], event: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == event]


async def test_what_is_pending_and_what_comes_is_sent_and_ends_with_a_receipt(world: World, lines: list[Any]) -> None:
    world.journal.put(pending(1, A, correlation=b"c"))
    async with world.running():
        await world.ended(1)
        world.journal.put(pending(2, A, connection="quiet"))
        world.dispatcher.kick()
        await world.ended(2)
    assert world.network.sent == [1, 2]
    assert world.receipt(1) == {
        "outcome": "queued",
        "DevEUI": A,
        "CorrelationID": f"{1:016x}",
        "key": f"{1:016x}",
        "correlationData": "Yw==",
        "Time": "2023-11-14T22:13:20.000+00:00",
    }
    body = world.journal.concluded[1]
    assert body is not None
    assert body.correlation == b"c"
    assert world.journal.concluded[2] is None, "this connection wants no receipts"
    assert named(lines, "downlink.queued")[0] == {
        "event": "downlink.queued",
        "log_level": "info",
        "connection": "acme",
        "dev_eui": A,
        "source": "lrc",
        "key": f"{1:016x}",
        "correlation_id": f"{1:016x}",
        "attempts": 1,
    }
    assert world.metrics.ended == {("acme", "queued"): 1, ("quiet", "queued"): 1}


async def test_the_receipt_of_what_was_queued_has_its_warnings(world: World) -> None:
    world.journal.put(msgspec.structs.replace(pending(1, A), warnings=("'Confirmd' is not known",)))
    async with world.running():
        await world.ended(1)
    assert world.receipt(1)["warnings"] == ["'Confirmd' is not known"]


async def test_a_refusal_is_a_rejected_receipt_with_its_field(world: World, lines: list[Any]) -> None:
    world.network.script = lambda _: Refused("the device is not known", "DevEUI_downlink.DevEUI")
    world.journal.put(pending(1, A))
    async with world.running():
        await world.ended(1)
    receipt = world.receipt(1)
    assert (receipt["outcome"], receipt["field"], receipt["reason"]) == (
        "rejected",
        "DevEUI_downlink.DevEUI",
        "the device is not known",
    )
    (line,) = named(lines, "downlink.rejected")
    assert (line["log_level"], line["field"], line["reason"]) == (
        "warning",
        "DevEUI_downlink.DevEUI",
        "the device is not known",
    )
    assert "topic" not in line


async def test_a_device_that_waits_does_not_hold_up_the_others(world: World, lines: list[Any]) -> None:
    world.network.script = lambda one: Later("busy") if one.downlink.dev_eui == A and one.seq == 1 else Taken()
    world.journal.put(pending(1, A), pending(2, A), pending(3, B), pending(4, B))
    async with world.running():
        await world.ended(2)
        assert sorted(world.journal.concluded) == [3, 4]
        world.network.script = lambda _: Taken()
        world.later(2.0)
        await world.ended(4)
    assert world.network.sent[-2:] == [1, 2]
    (line,) = named(lines, "downlink.retrying")
    assert (line["reason"], line["retry_in"], line["attempts"], line["connection"]) == ("busy", 2.0, 1, "acme")
    assert world.metrics.retried == {"lrc": 1}


async def test_an_outage_is_told_once_and_its_end_too(world: World, lines: list[Any]) -> None:
    world.network.script = lambda _: DOWN
    world.journal.put(*(pending(seq, f"{seq:016X}") for seq in range(1, 31)))
    async with world.running():
        await until(lambda: world.metrics.retried["lrc"] == 16)
        assert world.dispatcher.status() == dispatch.DispatchStatus("connection refused", 30)
        for probe in range(1, 6):
            world.later(60)
            await until(lambda probe=probe: world.metrics.retried["lrc"] == 16 + probe)
        assert len(world.network.sent) == 16 + 5, "one at a time"
        world.network.script = lambda _: Taken()
        world.later(60)
        await world.ended(30)
        await until(lambda: world.dispatcher.status() == dispatch.DispatchStatus("", 0))
    (line,) = named(lines, "network.failing")
    assert (line["source"], line["reason"], line["log_level"]) == ("lrc", "connection refused", "warning")
    assert len(named(lines, "network.recovered")) == 1
    assert not named(lines, "downlink.retrying")


async def test_an_expiry_is_noticed_while_the_device_waits(world: World) -> None:
    world.network.script = lambda _: Later("busy")
    world.journal.put(pending(1, A, expires=NOW + 1500), pending(2, A), pending(3, A, expires=NOW + 500))
    async with world.running():
        await until(lambda: world.metrics.retried["lrc"] == 1)
        world.later(0.5)
        await world.ended(1)
        assert world.receipt(3)["outcome"] == "expired"
        world.later(1.0)
        await world.ended(2)
        assert world.receipt(1)["reason"] == "its ValidityTime passed before the network server took it: busy"
        world.later(24 * 3600)
        await world.ended(3)
        assert world.receipt(2)["outcome"] == "failed"
    assert world.journal.queue == {}


async def test_an_expiry_wakes_the_dispatcher_by_itself(world: World) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    world.hands.now = lambda: NOW + round((loop.time() - began) * 1000)  # type: ignore[method-assign]
    world.network.script = lambda _: Later("busy")
    world.journal.put(pending(1, A, expires=NOW + 100))
    async with world.running():
        async with asyncio.timeout(5):
            await asyncio.to_thread(lambda: None)
            while not world.metrics.ended:  # noqa: ASYNC110 (real time passes)
                await asyncio.sleep(0.01)
    assert world.receipt(1)["outcome"] == "expired"


async def test_what_expired_before_the_start_is_never_sent(world: World) -> None:
    world.journal.put(pending(1, A, expires=NOW), pending(2, A, received=NOW - 86_400_000), pending(3, A))
    async with world.running():
        await world.ended(3)
    assert world.network.sent == [3]
    assert [world.receipt(seq)["outcome"] for seq in (1, 2, 3)] == ["expired", "failed", "queued"]


async def test_an_end_that_cannot_be_stored_is_kept_and_never_sent_again(
    world: World, lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "JOURNAL_RETRY", 0.01)
    world.network.gate.clear()
    world.journal.put(*(pending(seq, f"{seq % 3:016X}") for seq in range(1, 10)))
    async with world.running():
        await until(lambda: len(world.network.sent) == 3)
        world.journal.failing = True
        world.network.gate.set()
        await until(lambda: world.dispatcher.status().waiting == 9 and len(world.dispatcher._ends) == 3)
        for _ in range(3):
            world.dispatcher.kick()
            await asyncio.sleep(0.02)
        assert not named(lines, "downlink.queued"), "not told before it is on disk"
        assert world.network.sent == [1, 2, 3], "nothing is sent meanwhile"
        world.journal.failing = False
        await world.ended(9)
    assert sorted(world.network.sent) == list(range(1, 10))
    assert set(world.network.taken.values()) == {1}
    assert len(named(lines, "downlink.queued")) == 9


async def test_a_journal_that_cannot_be_read_is_read_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "JOURNAL_RETRY", 0.01)
    world.journal.failing = True
    world.journal.put(pending(1, A))
    async with world.running():
        await until(lambda: len(world.journal.reads) >= 2)
        world.journal.failing = False
        await world.ended(1)


async def test_without_a_network_all_fails_with_the_reason(world: World) -> None:
    world.dispatcher = world.make(network=None, why="the source lrc is no longer configured")
    world.journal.put(*(pending(seq, A) for seq in range(1, 1203)), pending(5000, A, source="other"))
    async with world.running():
        await world.ended(1202)
    assert world.metrics.ended == {("acme", "failed"): 1202}
    assert world.receipt(1202)["reason"] == "the source lrc is no longer configured"
    assert list(world.journal.queue) == [5000]


async def test_order_holds_over_the_edge_of_the_window(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "WINDOW", 20)
    monkeypatch.setattr(dispatch, "PAGE", 7)
    world.journal.put(*(pending(seq, f"{seq % 5:016X}") for seq in range(1, 301)))
    async with world.running():
        await world.ended(300)
    for device in range(5):
        mine = [seq for seq in world.network.sent if seq % 5 == device]
        assert mine == sorted(mine)
    assert sorted(world.network.sent) == list(range(1, 301))
    assert len(world.journal.reads) > 40


async def test_a_device_that_fills_the_window_does_not_starve_those_beyond(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "WINDOW", 50)
    monkeypatch.setattr(dispatch, "PAGE", 10)
    world.network.script = lambda one: Later("busy") if one.downlink.dev_eui == A else Taken()
    world.journal.put(*(pending(seq, A) for seq in range(1, 301)), *(pending(seq, B) for seq in range(301, 311)))
    async with world.running():
        await world.ended(10)
    assert sorted(world.journal.concluded) == list(range(301, 311))


async def test_memory_is_bounded_in_an_outage(world: World) -> None:
    world.network.script = lambda _: DOWN
    world.journal.put(*(pending(seq, f"{seq:016X}") for seq in range(1, 8001)))
    async with world.running():
        await until(lambda: bool(world.dispatcher.status().why))
        assert world.dispatcher.status().waiting <= 5000 + 500


async def test_stopping_waits_for_what_is_under_way_and_sends_nothing_new(world: World) -> None:
    world.network.gate.clear()
    world.journal.put(pending(1, A), pending(2, A), pending(3, B))
    async with world.running() as task:
        await until(lambda: len(world.network.sent) == 2)
        world.dispatcher.stop()
        await asyncio.sleep(0.01)
        assert not task.done()
        world.network.gate.set()
        await asyncio.wait_for(task, 5)
    assert sorted(world.journal.concluded) == [1, 3]
    assert list(world.journal.queue) == [2]


async def test_stopping_does_not_wait_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "STOP_LIMIT", 0.05)
    world.network.gate.clear()
    world.journal.put(pending(1, A))
    async with world.running() as task:
        await until(lambda: world.network.sent == [1])
        world.dispatcher.stop()
        await asyncio.wait_for(task, 5)
    assert list(world.journal.queue) == [1]


async def test_stopping_does_not_wait_for_ever_for_a_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "STOP_LIMIT", 0.05)
    world.network.gate.clear()
    world.journal.put(pending(1, A))
    async with world.running() as task:
        await until(lambda: world.network.sent == [1])
        world.journal.failing = True
        world.network.gate.set()
        world.dispatcher.stop()
        await asyncio.wait_for(task, 5)
    assert list(world.journal.queue) == [1]


async def test_a_bug_while_stopping_does_not_end_the_daemon(world: World, lines: list[Any]) -> None:
    async def broken(ends: Sequence[ConcludedDownlink]) -> None:
        raise RuntimeError(len(ends))

    world.network.gate.clear()
    world.journal.put(pending(1, A))
    async with world.running() as task:
        await until(lambda: world.network.sent == [1])
        world.journal.conclude = broken  # type: ignore[method-assign]
        world.dispatcher.stop()
        await asyncio.sleep(0.01)
        world.network.gate.set()
        await asyncio.wait_for(task, 5)
    assert list(world.journal.queue) == [1]
    assert len(named(lines, "downlink.crashed")) == 1


async def test_cancelling_leaves_nothing_behind(world: World) -> None:
    world.network.gate.clear()
    world.journal.put(pending(1, A), pending(2, B))
    async with world.running() as task:
        await until(lambda: len(world.network.sent) == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not +world.network.under_way
    assert world.journal.concluded == {}


async def test_after_a_restart_what_is_pending_is_sent_again_with_the_same_key(world: World) -> None:
    world.network.gate.clear()
    world.journal.put(pending(1, A), pending(2, A))
    async with world.running() as task:
        await until(lambda: world.network.sent == [1])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    again = World(world.journal)
    async with again.running():
        await again.ended(2)
    assert again.network.sent == [1, 2]
    assert again.receipt(1)["key"] == f"{1:016x}"


async def test_a_network_that_raises_or_hangs_is_asked_again(
    world: World, lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "SEND_LIMIT", 0.02)

    def broken(one: PendingDownlink) -> Answer:
        raise ValueError(one.key)

    world.network.script = broken
    world.journal.put(pending(1, A), pending(2, B))
    async with world.running():
        await until(lambda: world.metrics.retried["lrc"] == 2)
        world.network.gate.clear()
        world.later(2)
        while world.metrics.retried["lrc"] < 4:  # noqa: ASYNC110 (real time passes)
            await asyncio.sleep(0.005)
        world.network.gate.set()
        world.network.script = lambda _: Taken()
        world.later(60)
        await world.ended(2)
    assert len(named(lines, "downlink.crashed")) == 2
    reasons = [line["reason"] for line in named(lines, "downlink.retrying")]
    assert (
        reasons
        == ["internal error (ValueError); please report it"] * 2
        + ["the network server gave no answer within 0.02 seconds"] * 2
    )


async def test_a_bug_in_its_own_code_ends_nothing_for_good(world: World, lines: list[Any]) -> None:
    conclude, calls = world.journal.conclude, []

    async def broken(ends: Sequence[ConcludedDownlink]) -> None:
        calls.append(len(ends))
        if len(calls) <= 2:
            raise RuntimeError("surprise")
        await conclude(ends)

    world.journal.conclude = broken  # type: ignore[method-assign]
    world.journal.put(pending(1, A), pending(2, A), pending(3, B))
    async with world.running():
        for crashes in (1, 2):
            await until(lambda crashes=crashes: len(named(lines, "downlink.crashed")) == crashes)
            assert "internal error" in world.dispatcher.status().why
            while len(calls) == crashes:
                world.later(60)
                await asyncio.sleep(0)
        await world.ended(3)
        await until(lambda: world.dispatcher.status().why == "")
    assert world.network.taken[1] == 1, "what was answered is not asked again"
    assert len(named(lines, "downlink.crashed")) == 2


async def test_five_hundred_devices_and_a_moody_network_end_each_exactly_once(world: World) -> None:
    moods: Counter[int] = Counter()

    def moody(one: PendingDownlink) -> Answer:
        moods[one.seq] += 1
        if moods[one.seq] == 1 and one.seq % 7 == 0:
            return Later("busy")
        if moods[one.seq] == 1 and one.seq % 31 == 0:
            return DOWN
        return Refused("no") if one.seq % 5 == 0 else Taken()

    world.network.script = moody
    world.journal.put(*(pending(seq, f"{seq % 50:016X}") for seq in range(1, 501)))
    async with world.running():
        while world.metrics.ended.total() < 500:
            world.later(60)
            await asyncio.sleep(0)
    assert world.metrics.ended == {("acme", "queued"): 400, ("acme", "rejected"): 100}
    for device in range(50):
        mine = [seq for seq in dict.fromkeys(world.network.sent) if seq % 50 == device]
        assert mine == sorted(mine)


async def test_a_receipt_that_cannot_be_made_is_lost_alone_and_its_downlink_ends(
    world: World, lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = dispatch.receipt

    def receipt(ended: Any) -> Any:  # noqa: ANN401 (as the real one)
        if ended.dev_eui == A:
            raise ZeroDivisionError("a bug")
        return make(ended)

    monkeypatch.setattr(dispatch, "receipt", receipt)
    world.journal.put(pending(1, A), pending(2, B))
    async with world.running() as task:
        await world.ended(2)
        assert not task.done()
    assert len(named(lines, "downlink.crashed")) == 1
    assert (world.network.taken[1], world.network.taken[2]) == (1, 1)
    assert world.metrics.lost == {"acme": 1}


# -- one after the other: the source has other settings --------------------------------------------------------------


@asynccontextmanager
async def following(world: World, **other: Any) -> AsyncIterator[Dispatcher]:  # noqa: ANN401 (any argument)
    """Run a dispatcher that follows the one of the world, which has ended."""
    world.dispatcher = world.make(before=world.dispatcher, **other)
    async with world.running():
        yield world.dispatcher


async def test_one_that_follows_sends_what_is_left_and_nothing_that_was_answered(world: World) -> None:
    world.journal.put(*(pending(seq, f"{seq:016X}") for seq in range(1, 41)))
    world.network.gate.clear()
    async with world.running() as task:
        await until(lambda: len(world.network.sent) == 16)
        world.dispatcher.stop()
        world.network.gate.set()
        world.journal.put(pending(41, A))
        world.dispatcher.kick()  # too late for this one
        await asyncio.wait_for(task, 5)
    assert len(world.journal.concluded) == 16, "what was under way was waited for"
    async with following(world):
        await world.ended(41)
    assert world.network.taken == dict.fromkeys(range(1, 42), 1)
    assert world.journal.queue == {}


async def test_one_that_follows_stores_the_ends_that_could_not_be_stored_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "STOP_LIMIT", 0.05)
    monkeypatch.setattr(dispatch, "JOURNAL_RETRY", 0.01)
    world.journal.put(pending(1, A), pending(2, B))
    world.network.gate.clear()
    async with world.running() as task:
        await until(lambda: len(world.network.sent) == 2)
        world.journal.failing = True
        world.network.gate.set()
        world.dispatcher.stop()
        await asyncio.wait_for(task, 5)
    assert not world.metrics.ended
    async with following(world):
        for _ in range(50):
            await asyncio.sleep(0)
        assert world.network.sent == [1, 2], "nothing is sent before they are stored"
        world.journal.failing = False
        await world.ended(2)
    assert world.network.taken == {1: 1, 2: 1}
    assert world.receipt(1)["outcome"] == world.receipt(2)["outcome"] == "queued"
    assert world.metrics.ended.total() == 2


@pytest.mark.usefixtures("lines")
async def test_an_answer_that_comes_while_it_ends_is_handed_on_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "STOP_LIMIT", 0.05)
    conclude = world.journal.conclude

    async def broken(ends: Sequence[ConcludedDownlink]) -> None:
        raise RuntimeError(len(ends))

    world.journal.conclude = broken  # type: ignore[method-assign]
    world.journal.put(pending(1, A), pending(2, B))
    async with world.running() as task:
        await until(lambda: world.dispatcher.status().why)
        world.dispatcher.stop()
        await asyncio.wait_for(task, 5)
    world.journal.conclude = conclude  # type: ignore[method-assign]
    async with following(world):
        await world.ended(2)
    assert world.network.taken == {1: 1, 2: 1}


async def test_what_was_answered_with_later_is_tried_at_once_by_the_one_that_follows(world: World) -> None:
    world.network.script = lambda _: DOWN
    world.journal.put(pending(1, A))
    async with world.running():
        await until(lambda: world.metrics.retried["lrc"] == 1)
    world.network.script = lambda _: Taken()
    async with following(world) as second:
        assert second.status().why == ""
        await world.ended(1)
    assert world.receipt(1)["outcome"] == "queued"


async def test_of_a_removed_source_what_is_left_fails_and_one_that_comes_back_takes_what_comes_then(
    world: World,
) -> None:
    world.network.script = lambda _: Later("busy")
    world.journal.put(pending(1, A))
    async with world.running():
        await until(lambda: world.metrics.retried["lrc"] == 1)
    async with following(world, network=None, why="source lrc is not configured any more"):
        await world.ended(1)
        assert world.receipt(1)["outcome"] == "failed"
        assert world.receipt(1)["reason"] == "source lrc is not configured any more"
    world.network.script = lambda _: Taken()
    world.journal.put(pending(2, A))
    async with following(world):
        await world.ended(2)
    assert world.receipt(2)["outcome"] == "queued"
    assert world.network.sent == [1, 2]
