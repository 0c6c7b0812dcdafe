"""Settings that change while a session lives: in place, whatever state it is in, or by another session after it."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest_asyncio
from structlog.testing import capture_logs

from mqttbridge.mqtt import backoff, lookup
from mqttbridge.sessions import runner
from mqttbridge.sessions.machine import State
from mqttbridge.settings.schema import Configuration, Connection
from tests.brokers.fake import Fake, fake_broker
from tests.brokers.mosquitto import free_port
from tests.brokers.recorder import publish, recorder
from tests.sessions.bench import DEV_EUI, Bench, bench, until
from tests.sessions.simulated import Hands
from tests.sessions.taking import MemoryInbox, MemoryReceipts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from tests.brokers.mosquitto import Mosquitto
    from tests.sessions.bench import Running

HOUR = 3_600_000


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[Fake]:
    async with fake_broker() as broker:
        yield broker


@pytest_asyncio.fixture
async def it(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path / "state") as made:
        yield made


def changed(run: Running, port: int, **configuration: object) -> None:
    """Put other settings in force, all of them."""
    given = {"host_name": f"127.0.0.1:{port}", "protocol": "TCP", **configuration}
    run.session.reconfigure(Connection(configuration=Configuration(**given)))


def answer(fake: Fake, number: int) -> None:
    """Acknowledge the first publishes that were not yet."""
    for mid in sorted(fake.client.unanswered)[:number]:
        fake.client.unanswered.discard(mid)
        fake.client.answer(4, mid)


# -- in place --------------------------------------------------------------------------------------------------------


async def test_a_changed_topic_counts_from_the_next_uplink_on_and_the_link_goes_on(fake: Fake, it: Bench) -> None:
    fake.script.puback = lambda _: None
    run = it.start(fake.port, max_inflight=2, uplink_topic_pattern="old/{DevEUI}", action_timeout=10_000)
    await run.put(1, 6)
    await fake.wait_published(2)
    changed(run, fake.port, max_inflight=2, uplink_topic_pattern="new/{DevEUI}", send_metadata=True)
    fake.script.puback = lambda _: 0
    answer(fake, 2)
    await run.until_settled()
    assert [message.topic for message in fake.published] == [f"old/{DEV_EUI}"] * 2 + [f"new/{DEV_EUI}"] * 4
    assert [b"DevEUI_uplink" in message.payload for message in fake.published] == [True] * 2 + [False] * 4
    assert len(fake.clients) == 1


async def test_a_wider_window_counts_at_once_and_a_narrower_one_as_places_get_free(fake: Fake, it: Bench) -> None:
    fake.script.puback = lambda _: None
    run = it.start(fake.port, max_inflight=3, action_timeout=10_000)
    await run.put(1, 30)
    await fake.wait_published(3)
    changed(run, fake.port, max_inflight=8, action_timeout=10_000)
    await fake.wait_published(8)
    changed(run, fake.port, max_inflight=2, action_timeout=10_000)
    answer(fake, 6)
    await run.until_delivered(6)
    assert len(fake.published) == 8, "two are on their way"
    fake.script.receive_maximum = 2
    answer(fake, 1)
    await fake.wait_published(9)
    fake.script.puback = lambda _: 0
    answer(fake, 2)
    await run.until_settled()
    assert (len(fake.clients), fake.violations) == (1, [])


async def test_a_changed_validity_lets_what_waits_expire(fake: Fake, it: Bench) -> None:
    fake.script.puback = lambda _: None
    run = it.start(fake.port, max_inflight=1, action_timeout=10_000)
    await run.put(1, 3, age=2 * HOUR)
    await fake.wait_published(1)
    changed(run, fake.port, uplink_time_validity=HOUR)
    answer(fake, 1)
    counts = await run.until_settled()
    assert (counts.delivered, counts.expired) == (1, 2)


async def test_a_shorter_action_timeout_counts_from_now_on_also_for_what_is_awaited(fake: Fake, it: Bench) -> None:
    fake.script.puback = lambda _: None
    run = it.start(fake.port, action_timeout=10_000)
    await run.put(1, 1)
    await fake.wait_published(1)
    changed(run, fake.port, action_timeout=50)
    status = await run.until_state(State.UNREACHABLE)
    assert "50 ms (actionTimeout)" in status.why


async def test_debug_tells_from_now_on(fake: Fake, it: Bench) -> None:
    with capture_logs() as lines:
        run = it.start(fake.port)
        await run.put(1, 1)
        await run.until_settled()
        changed(run, fake.port, debug=True)
        await run.put(2, 1)
        await run.until_settled()
    told = [line for line in lines if line["event"].startswith("uplink.")]
    assert [(line["event"], line["log_level"]) for line in told if line["log_level"] == "info"] == [
        ("uplink.published", "info"),
        ("uplink.delivered", "info"),
    ]


async def test_receipts_that_wait_are_rendered_anew(fake: Fake, it: Bench) -> None:
    fake.script.puback = lambda _: None
    receipts = MemoryReceipts()
    for seq in range(1, 6):
        receipts.put(seq, b"{}", DEV_EUI)
    before = {"max_inflight": 4, "action_timeout": 10_000, "downlink_receipt_topic_pattern": "old/{DevEUI}"}
    run = it.start(fake.port, wiring={"downlinks": receipts}, **before)
    await fake.wait_published(1)
    changed(run, fake.port, **{**before, "downlink_receipt_topic_pattern": "new/{DevEUI}"})
    fake.script.puback = lambda _: 0
    answer(fake, 1)
    await until(lambda: not receipts.queue, "all are recorded")
    assert [message.topic for message in fake.published] == [f"old/{DEV_EUI}"] + [f"new/{DEV_EUI}"] * 4


async def test_one_that_was_given_up_stays_so(it: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "JITTER_FOR", 0.0)
    monkeypatch.setattr(backoff, "STRATEGIES", {"CALM": ((0.01, 0.05),), "NORMAL": ((0.01, 10.0),)})
    port = free_port()
    run = it.start(port, reconnect_strategy="CALM")
    await until(lambda: run.status().state is State.CLOSED and run.status().why, "it is given up")
    before = run.status()
    changed(run, port, reconnect_strategy="NORMAL", uplink_topic_pattern="new/{DevEUI}", max_inflight=3)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert run.status() == before
    assert await run.stop() < 1.0


async def test_the_next_attempt_goes_by_the_new_strategy_and_timeout(
    fake: Fake, it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "JITTER_LOW", 0.05)
    fake.script.connack = None
    run = it.start(fake.port, connection_timeout=60)
    await run.until_state(State.UNREACHABLE)
    changed(run, fake.port, connection_timeout=90, reconnect_strategy="CALM")
    monkeypatch.setattr(backoff, "JITTER_FOR", 0.0)
    monkeypatch.setattr(backoff, "STRATEGIES", {"CALM": ()})
    status = await run.until_state(State.CLOSED)
    assert "90 ms (connectionTimeout)" in status.why


async def test_the_hour_of_aggressive_begins_with_the_change(tmp_path: Path) -> None:
    hands = Hands()
    async with bench(tmp_path / "state", clock=hands) as it:
        port = free_port()
        run = it.start(port)
        hands.time = 100_000.0
        await run.put(1, 1)
        changed(run, port, reconnect_strategy="AGGRESSIVE")
        hands.time += 3_599
        assert not run.session._starved()
        changed(run, port, reconnect_strategy="AGGRESSIVE", debug=True)
        hands.time += 2
        assert run.session._starved(), "another change does not begin it anew"


# -- by another session ----------------------------------------------------------------------------------------------


async def test_restarts_under_load_lose_nothing_and_repeat_no_more_than_the_window(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    window, number = 20, 1200
    async with bench(tmp_path / "state") as it, recorder(plain_mosquitto) as record:
        run = it.start(plain_mosquitto.port, max_inflight=window)
        sent: list[bytes] = []
        for restart in range(12):
            sent += await run.put(restart * 100 + 1, 100)
            await run.until_delivered(restart * 100 + 30)
            await run.stop()
            run = it.start(plain_mosquitto.port, max_inflight=window, qos=1 + restart % 2, client_id=f"c{restart}")
        await run.until_settled()
        await run.until_state(State.OPENED)
        sent += await run.put(number + 1, 1)
        counts = await run.until_settled()
        assert (counts.routed, counts.delivered) == (number + 1, number + 1)
        await until(lambda: sent[-1] in record.payloads, "the last has arrived")
        assert list(dict.fromkeys(record.payloads)) == sent
        assert len(record.payloads) == len(sent), "mosquitto answers in time: nothing comes twice"


async def test_what_a_frozen_broker_had_is_sent_again_by_the_next_session_and_no_more(fake: Fake, it: Bench) -> None:
    fake.script.puback = lambda _: None
    run = it.start(fake.port, max_inflight=5, action_timeout=100)
    await run.put(1, 20)
    await fake.wait_published(5)
    await run.stop()
    fake.script.puback = lambda _: 0
    run = it.start(fake.port, max_inflight=5)
    assert (await run.until_settled()).delivered == 20
    assert len(fake.published) == 25


async def test_a_session_that_follows_hears_of_new_uplinks(fake: Fake, it: Bench) -> None:
    first = it.start(fake.port)
    await first.until_state(State.OPENED)
    first.session.stop()
    second = it.start(fake.port)  # made while the first one ends
    await asyncio.wait_for(first.task, 5.0)
    await second.until_state(State.OPENED)
    await second.put(1, 3)
    assert (await second.until_settled()).delivered == 3


async def test_a_session_that_follows_gets_the_downlinks_that_came_between(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    inbox = MemoryInbox()
    given = {"downlink_topic_pattern": "down/{DevEUI}"}
    async with bench(tmp_path / "state") as it:
        run = it.start(plain_mosquitto.port, wiring={"inbox": inbox}, **given)
        await until(lambda: run.session._traffic.problem == "" and run.session._traffic._downlinks._told == "", "it is")
        await run.stop()
        await publish(plain_mosquitto, f"down/{DEV_EUI}", b"between", qos=1)
        run = it.start(plain_mosquitto.port, wiring={"inbox": inbox}, qos=0, **given)
        await until(lambda: inbox.payloads == [b"between"], "it comes")


async def test_downlinks_that_are_turned_off_leave_nothing_at_the_broker(fake: Fake, it: Bench) -> None:
    wiring, given = {"inbox": MemoryInbox()}, {"downlink_topic_pattern": "down/{DevEUI}"}
    run = it.start(fake.port, wiring=wiring, **given)
    await fake.wait_until(lambda: fake.clients and fake.client.session.filters)
    await run.stop()
    run = it.start(fake.port, wiring=wiring, downlink_enabled=False, **given)
    await run.until_state(State.OPENED)
    assert fake.client.session.filters == {}


# -- a stop in a bad moment ------------------------------------------------------------------------------------------


async def test_a_stop_does_not_wait_for_a_tls_handshake(it: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run = it.start(silent.getsockname()[1], protocol="SSL", connection_timeout=10_000)
        await until(lambda: run.session._link is not None and run.session._link.step == "TLS handshake", "it hangs")
        assert await run.stop() < 1.0


async def test_a_stop_does_not_wait_for_a_name_that_hangs(it: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = asyncio.Event()

    async def hang(*_: object) -> object:
        await answers.wait()
        return []

    monkeypatch.setattr(lookup.Lookups, "addresses", hang)
    run = it.start(1, host_name="hangs.example:1883", connection_timeout=10_000)
    await until(lambda: run.session._link is not None and run.session._link.step == "DNS", "it hangs")
    assert await run.stop() < 1.0


async def test_a_stop_does_not_wait_for_the_next_attempt_nor_for_a_turn(
    it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "JITTER_LOW", 30.0)
    port = free_port()
    run = it.start(port)
    await run.until_state(State.UNREACHABLE)
    assert await run.stop() < 1.0
    it.gate._next["127.0.0.1", port] = it.clock.monotonic() + 30.0
    run = it.start(port)
    await run.until_state(State.OPENING)
    assert await run.stop() < 1.0


async def test_a_frozen_broker_gets_its_seconds_at_the_end_and_no_more(
    fake: Fake, it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "DRAIN_FOR", 0.3)
    fake.script.puback = lambda _: None
    run = it.start(fake.port, action_timeout=10_000)
    await run.put(1, 5)
    await fake.wait_published(5)
    assert 0.25 < await run.stop() < 1.0
    assert run.counts().queued == 5
