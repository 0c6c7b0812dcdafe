"""The life of a session against a scripted broker, for what honest brokers do not do."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import TYPE_CHECKING

import anyio
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from mqttbridge.mqtt import backoff
from mqttbridge.sessions import delivery, runner, suspicion
from mqttbridge.sessions.machine import State
from tests.brokers.fake import Fake, fake_broker
from tests.brokers.mosquitto import free_port
from tests.sessions.bench import Bench, FailingJournal, Running, bench, until
from tests.sessions.simulated import Hands

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.brokers.fake import Published


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[Fake]:
    async with fake_broker() as broker:
        yield broker


@pytest_asyncio.fixture
async def it(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path / "state", failing=True) as made:
        yield made


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the delays of the backoff begin with 20 ms in place of a second."""
    monkeypatch.setattr(backoff, "JITTER_LOW", 0.02)
    monkeypatch.setattr(suspicion, "QUIET", 0.02)
    monkeypatch.setattr(delivery, "JOURNAL_RETRY", 0.02)


def numbers(fake: Fake) -> list[int]:
    """Give FCntUp of what was published, in order."""
    return [int(message.payload.split(b'"FCntUp":')[1].split(b",")[0]) for message in fake.published]


# -- publishing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maximum", [1, 2, 20])
async def test_the_brokers_receive_maximum_is_never_exceeded(fake: Fake, it: Bench, maximum: int) -> None:
    fake.script.receive_maximum = maximum
    fake.script.connack_properties = b"\x21" + maximum.to_bytes(2, "big")
    run = it.start(fake.port, mqtt_version="5", max_inflight=100)
    await run.put(1, 200)
    await run.until_settled()
    assert fake.violations == []
    assert numbers(fake) == list(range(1, 201))


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_max_inflight_is_never_exceeded_even_if_acknowledgements_are_late(
    fake: Fake, it: Bench, version: str
) -> None:
    fake.script.receive_maximum = 7
    fake.script.puback = lambda _: None
    run = it.start(fake.port, mqtt_version=version, max_inflight=7, action_timeout=10_000)
    await run.put(1, 50)
    for answered in range(50):
        await fake.wait_published(min(50, answered + 7))
        fake.client.unanswered.discard(fake.published[answered].mid)
        fake.client.answer(4, fake.published[answered].mid)
    await run.until_settled()
    assert fake.violations == []
    assert numbers(fake) == list(range(1, 51))


async def test_what_the_broker_does_not_offer_is_not_used(fake: Fake, it: Bench) -> None:
    fake.script.connack_properties = b"\x24\x00\x25\x00"  # Maximum QoS 0, Retain Available 0
    run = it.start(fake.port, mqtt_version="5", qos=1, retain=True)
    await run.put(1, 5)
    assert (await run.until_settled()).delivered == 5
    await fake.wait_published(5)
    assert {(message.qos, message.retain) for message in fake.published} == {(0, False)}


async def test_an_uplink_that_is_too_large_for_the_broker_is_parked_and_the_next_goes_on(fake: Fake, it: Bench) -> None:
    fake.script.connack_properties = b"\x27" + (500).to_bytes(4, "big")
    run = it.start(fake.port, mqtt_version="5")
    await run.put(1, 1, size=1000)
    await run.put(2, 1)
    counts = await run.until_settled()
    assert (counts.parked, counts.delivered) == (1, 1)
    assert numbers(fake) == [2]


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("code", [0x87, 0x90, 0x99])
async def test_a_refusal_is_never_counted_as_delivered(fake: Fake, it: Bench, code: int, qos: int) -> None:
    fake.script.puback = lambda message: code if b'"FCntUp":2,' in message.payload else 0
    run = it.start(fake.port, mqtt_version="5", qos=qos)
    await run.put(1, 3)
    counts = await run.until_settled()
    assert (counts.delivered, counts.parked) == (2, 1)


async def test_unasked_messages_are_answered_and_do_no_harm(fake: Fake, it: Bench) -> None:
    run = it.start(fake.port)
    await run.until_state(State.OPENED)
    fake.client.publish("mqtt/things/x/downlink", b"{}", qos=1)
    await fake.wait_until(lambda: fake.client.count(4) == 1)
    await run.put(1, 3)
    assert (await run.until_settled()).delivered == 3


# -- silence and hanging up ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fast")
async def test_a_broker_that_answers_pings_but_no_publish_is_dead_within_action_timeout(fake: Fake, it: Bench) -> None:
    fake.script.puback = lambda _: None
    run = it.start(fake.port, action_timeout=100)
    await run.put(1, 5)
    await until(lambda: len(fake.clients) >= 8, "it tries again and again")
    assert run.counts().delivered == 0
    assert run.counts().parked == 0, "a frozen broker accuses no uplink"
    fake.script.puback = lambda _: 0
    counts = await run.until_settled()
    assert counts.delivered == 5
    assert numbers(fake)[-5:] == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("fast")
async def test_an_uplink_that_makes_the_broker_hang_up_does_not_block_the_rest(fake: Fake, it: Bench) -> None:
    def puback(message: Published) -> int | None:
        if b'"FCntUp":5,' in message.payload:
            fake.client.hang_up()
            return None
        return 0

    fake.script.puback = puback
    with capture_logs() as lines:
        run = it.start(fake.port)
        await run.put(1, 50)
        counts = await run.until_settled()
    assert (counts.delivered, counts.parked) == (49, 1)
    parked = [line for line in lines if line["event"] == "uplink.parked"]
    assert [line["fcnt"] for line in parked] == [5]
    assert "connection" in parked[0]["reason"]
    assert not [line for line in lines if line["event"] == "connection.client_id_conflict"]
    assert len(fake.clients) <= 8


@pytest.mark.usefixtures("fast")
async def test_a_broker_that_dies_again_and_again_parks_nothing(
    fake: Fake, it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lives for a moment after each CONNACK, whatever is sent to it, and answers nothing."""
    monkeypatch.setattr(suspicion, "QUIET", 0.2)
    fake.script.puback = lambda _: None
    run = it.start(fake.port, action_timeout=10_000)
    await run.put(1, 20)
    for life in range(1, 12):
        await fake.wait_until(lambda life=life: len(fake.clients) >= life and fake.client.packets)
        await asyncio.sleep(0.05)  # this is how long it lives
        fake.client.hang_up()
    fake.script.puback = lambda _: 0
    counts = await run.until_settled()
    assert (counts.delivered, counts.parked) == (20, 0)


@pytest.mark.usefixtures("fast")
async def test_a_broker_without_connack_parks_nothing_and_is_unreachable(fake: Fake, it: Bench) -> None:
    fake.script.connack = None
    run = it.start(fake.port, connection_timeout=50)
    await run.put(1, 5)
    await until(lambda: len(fake.clients) >= 6, "six tries")
    status = await run.until_state(State.UNREACHABLE)
    assert "connectionTimeout" in status.why
    fake.script.connack = 0
    assert (await run.until_settled()).delivered == 5


@pytest.mark.usefixtures("fast")
async def test_a_client_id_that_was_taken_over_is_named_once_and_backed_off(fake: Fake, it: Bench) -> None:
    with capture_logs() as lines:
        run = it.start(fake.port, mqtt_version="5", client_id="mine")
        for life in range(1, 6):
            await until(lambda life=life: len(fake.clients) == life, "it comes back")
            await run.until_state(State.OPENED)
            fake.client.disconnect(0x8E)
            await until(lambda: "connection.client_id_conflict" in {line["event"] for line in lines}, "at the first")
        await run.stop()
    named = [line for line in lines if line["event"] == "connection.client_id_conflict"]
    assert len(named) == 1
    assert "mine" in named[0]["reason"]


@pytest.mark.usefixtures("fast")
async def test_a_flapping_broker_is_told_once_and_not_a_line_an_attempt(fake: Fake, it: Bench) -> None:
    with capture_logs() as lines:
        run = it.start(fake.port)
        for life in range(1, 21):
            await until(lambda life=life: len(fake.clients) == life, "it comes back")
            await run.until_state(State.OPENED)
            fake.client.hang_up()
        await run.stop()
    told = [line for line in lines if line["log_level"] != "debug"]
    names = [line["event"] for line in told]
    assert names.count("connection.lost") == 1
    assert len(names) <= 5, names
    assert not any(line["reason"].endswith(".") for line in told if "reason" in line)


@pytest.mark.usefixtures("fast")
async def test_thirty_seconds_of_health_forget_the_failures(
    fake: Fake, it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "HEALTHY_AFTER", 0.05)
    run = it.start(fake.port)
    await run.until_state(State.OPENED)
    fake.client.hang_up()
    await until(lambda: len(fake.clients) == 2, "it comes back")
    await until(lambda: run.session._machine.attempts == 0, "the episode is forgotten")
    assert run.session._machine.backoff == backoff.FRESH
    assert run.status().state is State.OPENED


async def test_calm_ends_closed_and_says_so_and_can_be_stopped(it: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "JITTER_FOR", 0.0)
    monkeypatch.setattr(backoff, "STRATEGIES", {"CALM": ((0.01, 0.1),)})
    with capture_logs() as lines:
        run = it.start(free_port(), reconnect_strategy="CALM")
        await run.put(1, 3)
        status = await run.until_state(State.CLOSED)
        assert "refused" in status.why
        assert await run.stop() < 1.0
    assert [line["log_level"] for line in lines if line["event"] == "connection.closed"] == ["error"]
    assert run.counts().queued == 3


# -- AGGRESSIVE ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fast")
async def test_aggressive_restarts_a_link_that_delivers_nothing(
    fake: Fake, it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STARVED_AFTER", 0.2)
    monkeypatch.setattr(runner, "STARVED_CHECK", 0.05)
    fake.script.puback = lambda _: None
    run = it.start(fake.port, reconnect_strategy="AGGRESSIVE", action_timeout=10_000)
    await run.put(1, 3)
    await until(lambda: len(fake.clients) == 2, "restarted")
    fake.script.puback = lambda _: 0
    assert (await run.until_settled()).delivered == 3


@pytest.mark.parametrize(("strategy", "expected"), [("AGGRESSIVE", True), ("NORMAL", False), ("CALM", False)])
async def test_only_an_hour_with_something_queued_is_starving(tmp_path: Path, *, strategy: str, expected: bool) -> None:
    hands = Hands()
    async with bench(tmp_path / "state", clock=hands) as it:
        run = it.start(free_port(), reconnect_strategy=strategy)
        session = run.session
        hands.time = 10_000.0
        assert not session._starved(), "nothing is queued"
        await run.put(1, 1)
        await it.journal.read("acme", 0, 1)
        assert not session._starved(), "it came only now"
        hands.time += 3_599
        assert not session._starved()
        hands.time += 2
        assert session._starved() is expected


# -- the journal fails ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fast")
async def test_a_disk_that_fails_for_a_while_costs_nothing_but_time(fake: Fake, it: Bench) -> None:
    journal = it.journal
    assert isinstance(journal, FailingJournal)
    run = it.start(fake.port, max_inflight=10)
    journal.settling_fails = True
    await run.put(1, 50)
    await fake.wait_published(10)
    await asyncio.sleep(0)
    assert len(fake.published) == 10, "no further than the window while nothing can be settled"
    journal.reading_fails = True
    journal.settling_fails = False
    await until(lambda: run.counts().delivered >= 10, "what was answered is settled")
    journal.reading_fails = False
    counts = await run.until_settled()
    assert counts.delivered == 50
    assert numbers(fake) == list(range(1, 51))
    assert len(fake.clients) == 1, "the link is not to blame"


@pytest.mark.usefixtures("fast")
async def test_what_was_acknowledged_before_a_loss_is_not_sent_again_though_the_disk_failed(
    fake: Fake, it: Bench
) -> None:
    journal = it.journal
    assert isinstance(journal, FailingJournal)
    run = it.start(fake.port, max_inflight=10)
    journal.settling_fails = True
    await run.put(1, 20)
    await fake.wait_published(10)
    await until(lambda: run.status().in_flight == 0, "all are acknowledged")
    fake.client.hang_up()
    await until(lambda: len(fake.clients) == 2, "it comes back")
    journal.settling_fails = False
    assert (await run.until_settled()).delivered == 20
    assert numbers(fake) == list(range(1, 21))


@pytest.mark.usefixtures("fast")
async def test_a_bug_becomes_a_lost_link_and_a_retry(fake: Fake, it: Bench) -> None:
    read, broken = it.journal.read, [True]

    async def buggy(connection: str, after: int, limit: int) -> object:
        if broken[0]:
            raise ZeroDivisionError("a bug")
        return await read(connection, after, limit)

    it.journal.read = buggy
    with capture_logs() as lines:
        run = it.start(fake.port)
        await run.put(1, 3)
        await until(lambda: len(fake.clients) >= 3, "it tries again")
        assert "internal error" in (await run.until_state(State.UNREACHABLE)).why
        broken[0] = False
        assert (await run.until_settled()).delivered == 3
    assert [line for line in lines if line["event"] == "session.crashed"]


async def test_drop_oldest_while_uplinks_are_in_flight_keeps_the_account(tmp_path: Path, fake: Fake) -> None:
    async with bench(tmp_path / "state", max_size=2 * 1024 * 1024, when_full="drop-oldest") as it:
        fake.script.puback = lambda _: None
        run = it.start(fake.port, max_inflight=5, action_timeout=10_000)
        answered = 0
        for block in range(40):
            await run.put(1 + block * 20, 20, size=5000)
            counts = run.counts()
            assert counts.routed == (block + 1) * 20
            assert counts.queued == counts.routed - counts.delivered - counts.dropped
            for message in fake.published[answered : answered + 3]:
                fake.client.answer(4, message.mid)
                answered += 1
        fake.script.puback = lambda _: 0
        for message in fake.published[answered:]:
            fake.client.answer(4, message.mid)
        counts = await run.until_settled()
        assert counts.dropped > 0
        assert counts.parked == counts.expired == 0
        assert counts.delivered + counts.dropped == 800
        seen = numbers(fake)
        assert seen == sorted(set(seen)), "in order, none twice"
        assert len(seen) >= counts.delivered, "what was dropped in flight counts as dropped"


# -- ending --------------------------------------------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only their number


async def in_opening(it: Bench, fake: Fake) -> Running:  # noqa: ARG001 - one shape for all states
    return it.start(blackhole())


async def in_authenticating(it: Bench, fake: Fake) -> Running:
    fake.script.connack = None
    return it.start(fake.port)


async def in_opened(it: Bench, fake: Fake) -> Running:
    return it.start(fake.port)


async def in_flight(it: Bench, fake: Fake) -> Running:
    fake.script.puback = lambda _: None
    run = it.start(fake.port, max_inflight=3, action_timeout=10_000)
    await run.put(1, 10)
    await fake.wait_published(3)
    return run


async def in_unreachable(it: Bench, fake: Fake) -> Running:  # noqa: ARG001
    return it.start(free_port())


async def in_authentication_failed(it: Bench, fake: Fake) -> Running:
    fake.script.connack = 5
    return it.start(fake.port)


STATES: dict[State | str, Callable[..., object]] = {
    State.OPENING: in_opening,
    State.AUTHENTICATING: in_authenticating,
    State.OPENED: in_opened,
    "in flight": in_flight,
    State.UNREACHABLE: in_unreachable,
    State.AUTHENTICATION_FAILED: in_authentication_failed,
}

_held: list[socket.socket] = []


def blackhole() -> int:
    """Give a port at which connects get no answer: the backlog of its listener is full."""
    full, filler = socket.socket(), socket.socket()
    _held.extend((full, filler))
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    filler.settimeout(0)
    filler.connect_ex(full.getsockname())
    return full.getsockname()[1]


@pytest.fixture(autouse=True)
def _let_go() -> object:
    yield
    while _held:
        _held.pop().close()


@pytest.mark.parametrize("how", ["stop", "cancel", "anyio"])
@pytest.mark.parametrize("state", STATES)
async def test_it_ends_at_any_time_and_leaves_nothing(
    fake: Fake, it: Bench, monkeypatch: pytest.MonkeyPatch, state: State | str, how: str
) -> None:
    monkeypatch.setattr(runner, "DRAIN_FOR", 0.2)
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    run = await STATES[state](it, fake)
    if isinstance(state, State):
        await run.until_state(state)
    sockets = sum(not client.ended.is_set() for client in fake.clients)
    began = it.clock.monotonic()
    if how == "stop":
        await run.stop()
    elif how == "cancel":
        run.task.cancel()
        await asyncio.wait([run.task])
    else:
        await under_anyio(it, run, state)
    assert it.clock.monotonic() - began < 2.0
    assert run.status().state is State.CLOSED
    if sockets:
        await fake.wait_until(lambda: all(client.ended.is_set() for client in fake.clients))
    await until(lambda: asyncio.all_tasks() <= tasks, "no task is left")
    assert set(threading.enumerate()) <= threads
    assert run.session._link is None


async def under_anyio(it: Bench, run: Running, state: State | str) -> None:
    """Have the session end with the task group of the daemon: cancelled again at every wait."""
    run.task.cancel()
    await asyncio.wait([run.task])
    it.running.remove(run)
    async with anyio.create_task_group() as group:
        group.start_soon(run.session.run)
        await run.until_state(State.OPENED if state == "in flight" else State(state))
        group.cancel_scope.cancel()


async def test_cancelled_sessions_leave_no_descriptor(fake: Fake, it: Bench) -> None:
    first = it.start(fake.port, "first")
    await first.until_state(State.OPENED)
    await first.stop()
    await fake.wait_until(fake.client.ended.is_set)
    before = descriptors()
    for number in range(10):
        run = it.start(fake.port, f"c{number}")
        await run.until_state(State.OPENED)
        run.task.cancel()
        await asyncio.wait([run.task])
    await fake.wait_until(lambda: all(client.ended.is_set() for client in fake.clients))
    await until(lambda: descriptors() <= before, "all are closed")


async def test_a_stop_before_it_began_ends_it_at_once(fake: Fake, it: Bench) -> None:
    run = it.start(fake.port)
    assert await run.stop() < 1.0
    assert run.status().state is State.CLOSED
    assert fake.published == []


async def test_a_stop_lets_slow_acknowledgements_come_and_sends_nothing_new(fake: Fake, it: Bench) -> None:
    fake.script.puback = lambda _: None
    run = it.start(fake.port, max_inflight=5, action_timeout=5_000)
    await run.put(1, 20)
    await fake.wait_published(5)
    run.session.stop()
    await run.until_state(State.CLOSING)
    for message in list(fake.published):
        fake.client.answer(4, message.mid)
        await asyncio.sleep(0.01)
    await asyncio.wait_for(run.task, 2.0)
    assert run.counts().delivered == 5
    assert numbers(fake) == [1, 2, 3, 4, 5]
    assert fake.client.count(14) == 1, "it says goodbye"
    again = it.start(fake.port)
    fake.script.puback = lambda _: 0
    await again.until_settled()
    assert numbers(fake) == list(range(1, 21))


async def test_a_stop_does_not_wait_for_a_broker_that_never_acknowledges(fake: Fake, it: Bench) -> None:
    fake.script.puback = lambda _: None
    run = it.start(fake.port, action_timeout=200)
    await run.put(1, 5)
    await fake.wait_published(5)
    assert await run.stop() < 1.5
    assert run.counts().queued == 5


async def test_a_stop_while_the_journal_fails_leaves_the_uplinks_queued(fake: Fake, it: Bench) -> None:
    journal = it.journal
    assert isinstance(journal, FailingJournal)
    run = it.start(fake.port)
    journal.settling_fails = True
    await run.put(1, 5)
    await until(lambda: len(fake.published) == 5 and run.status().in_flight == 0, "all acknowledged")
    assert await run.stop() < 2.0
    assert run.counts().queued == 5


async def test_a_stop_does_not_wait_for_a_broker_that_reads_no_more(fake: Fake, it: Bench) -> None:
    run = it.start(fake.port, action_timeout=200)
    await run.until_state(State.OPENED)
    fake.reading.clear()
    await run.put(1, 100, size=200_000)
    await until(lambda: run.status().in_flight >= 20, "more than the buffers of the kernel hold")
    assert await run.stop() < 1.5
    fake.reading.set()
    assert run.counts().queued > 0


async def test_a_stop_records_what_was_acknowledged_and_not_yet_settled(fake: Fake, it: Bench) -> None:
    journal = it.journal
    assert isinstance(journal, FailingJournal)
    run = it.start(fake.port)
    journal.settling_fails = True
    await run.put(1, 5)
    await until(lambda: len(fake.published) == 5 and run.status().in_flight == 0, "all acknowledged")
    journal.settling_fails = False  # the session would try again in a second
    assert await run.stop() < 0.9
    assert run.counts().delivered == 5


@pytest.mark.usefixtures("fast")
async def test_cancelled_at_any_step_it_leaves_nothing(fake: Fake, it: Bench) -> None:
    warm = it.start(fake.port)
    await warm.put(1, 1)
    await warm.until_settled()
    await warm.stop()
    await fake.wait_until(fake.client.ended.is_set)
    before, tasks = descriptors(), asyncio.all_tasks()
    for steps in range(80):
        run = it.start(fake.port)
        await run.put(1, 2)
        if steps % 2:
            await run.until_state(State.OPENED)
            fake.client.hang_up()
        for _ in range(steps // 2):
            await asyncio.sleep(0)
        run.task.cancel()
        await asyncio.wait([run.task])
        assert run.session._link is None
    await until(lambda: asyncio.all_tasks() <= tasks | set(fake._tasks), "no task is left")
    await fake.wait_until(lambda: all(client.ended.is_set() for client in fake.clients))
    await until(lambda: descriptors() <= before, "no descriptor is left")


# -- how long it is down -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fast")
async def test_it_says_since_when_it_is_down_whatever_it_tries(fake: Fake, it: Bench) -> None:
    fake.script.connack = 3
    run = it.start(fake.port)
    began = run.status().down_since
    assert began is not None
    await until(lambda: run.status().attempts >= 3, "three attempts", 5.0)
    assert run.status().down_since == began
    assert run.status().since > began
    fake.script.connack = 0
    await run.until_state(State.OPENED)
    assert run.status().down_since is None
    fake.script.connack = 3
    fake.client.hang_up()
    await until(lambda: run.status().down_since is not None, "it is down again", 5.0)
    again = run.status().down_since
    assert again is not None
    assert again > began
