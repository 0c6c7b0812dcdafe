"""Downlinks on their way in, against a scripted broker and a real one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from mqttbridge.model import DownlinkOutcome
from mqttbridge.mqtt import backoff
from mqttbridge.sessions import downlinks
from mqttbridge.sessions.machine import State
from mqttbridge.settings.secret import Secret
from tests.brokers.fake import Fake, fake_broker
from tests.brokers.mosquitto import find
from tests.brokers.recorder import publish
from tests.sessions.bench import Bench, bench, until
from tests.sessions.taking import Counted, MemoryInbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.brokers.mosquitto import Mosquitto
    from tests.sessions.bench import Running

TOPIC = "mqtt/things/0018b20000000b20/downlink"
FILTER = "mqtt/things/+/downlink"


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[Fake]:
    async with fake_broker() as broker:
        yield broker


@pytest_asyncio.fixture
async def it(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path / "state") as made:
        yield made


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "JITTER_LOW", 0.02)
    monkeypatch.setattr(downlinks, "JOURNAL_RETRY", 0.02)
    monkeypatch.setattr(downlinks, "TAKE_FOR", 0.2)


def begin(it: Bench, port: int, inbox: MemoryInbox, counted: Counted | None = None, **more: object) -> Running:
    wiring = {"inbox": inbox, "metrics": counted}
    return it.start(port, wiring=wiring, downlink_topic_pattern="mqtt/things/{DevEUI}/downlink", **more)


async def subscribed(fake: Fake, number: int = 1) -> None:
    await fake.wait_until(lambda: fake.clients and fake.client.count(8) >= number)


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_a_downlink_is_acknowledged_only_after_it_was_taken(fake: Fake, it: Bench, version: str) -> None:
    inbox = MemoryInbox()
    inbox.ready.clear()
    run = begin(it, fake.port, inbox, mqtt_version=version)
    await subscribed(fake)
    assert not fake.client.clean
    assert fake.client.session.filters == {FILTER: 1}
    fake.client.publish(TOPIC, b"1", 1)
    await until(lambda: inbox.given, "it is given")
    await run.put(1, 3)
    await run.until_settled()
    assert fake.client.count(4) == 0, "uplinks go on, nothing is acknowledged"
    inbox.ready.set()
    await fake.wait_until(lambda: fake.client.count(4) == 1)
    assert inbox.payloads == [b"1"]


async def test_what_is_stored_is_acknowledged_while_the_rest_of_a_flood_has_to_wait(fake: Fake, it: Bench) -> None:
    inbox = MemoryInbox()
    inbox.at_once = 3
    inbox.ready.clear()
    run = begin(it, fake.port, inbox)
    await subscribed(fake)
    fake.client.publish(TOPIC, b"first", 1)
    await until(lambda: inbox.given, "it is being taken while others come")
    for number in range(10):
        fake.client.publish(TOPIC, b"%d" % number, number % 2)
    inbox.ready.set()
    await until(lambda: len(inbox.given) == 11, "all are given")
    await fake.wait_until(lambda: fake.client.count(4) == 2)
    assert inbox.payloads == [b"first", b"0", b"1", b"2"]
    assert len(fake.client.session.unanswered) == 4
    inbox.room.set()
    await fake.wait_until(lambda: fake.client.count(4) == 6)
    assert run.status().state is State.OPENED


async def test_a_disk_that_fails_delays_the_acknowledgement(fake: Fake, it: Bench) -> None:
    inbox = MemoryInbox()
    inbox.failures = 3
    begin(it, fake.port, inbox)
    await subscribed(fake)
    fake.client.publish(TOPIC, b"1", 1)
    await fake.wait_until(lambda: fake.client.count(4) == 1)
    assert (len(inbox.given), len(inbox.taken)) == (4, 1)


async def test_what_was_not_acknowledged_comes_again_and_what_was_taken_meanwhile_is_not_taken_twice(
    fake: Fake, it: Bench
) -> None:
    inbox = MemoryInbox()
    inbox.ready.clear()
    begin(it, fake.port, inbox)
    await subscribed(fake)
    fake.client.publish(TOPIC, b"1", 1)
    await until(lambda: inbox.given, "it is given")
    fake.client.publish(TOPIC, b"2", 1)
    fake.client.publish(TOPIC, b"3", 0)
    await asyncio.sleep(0.02)
    fake.client.hang_up()
    await fake.wait_until(lambda: len(fake.clients) == 2 and fake.client.count(8))
    inbox.ready.set()
    await fake.wait_until(lambda: fake.client.count(4) == 2)
    assert inbox.cancelled == 0
    assert sorted(inbox.payloads) == [b"1", b"2", b"3"]
    assert [message.dup for message in inbox.taken if message.payload == b"2"] == [True]


@pytest.mark.parametrize(("version", "code"), [("3.1.1", 0x80), ("5", 0x87)])
async def test_a_refused_subscription_is_said_once_and_uplinks_go_on(
    fake: Fake, it: Bench, version: str, code: int
) -> None:
    fake.script.suback = code
    with capture_logs() as lines:
        run = begin(it, fake.port, MemoryInbox(), mqtt_version=version)
        await until(lambda: run.status().downlinks, "it is visible")
        for life in range(2, 5):
            fake.client.hang_up()
            await fake.wait_until(lambda life=life: len(fake.clients) == life and fake.client.count(8))
        await run.put(1, 3)
        assert (await run.until_settled()).delivered == 3
        fake.script.suback = None
        fake.client.hang_up()
        await until(lambda: not run.status().downlinks, "granted")
    names = [line["event"] for line in lines]
    assert names.count("connection.subscription_refused") == 1
    assert names.count("connection.subscribed") == 1
    assert next(line for line in lines if line["event"] == "connection.subscription_refused")["topic"] == FILTER


async def test_no_suback_in_time_ends_the_link(fake: Fake, it: Bench) -> None:
    fake.script.answer_subscribe = False
    run = begin(it, fake.port, MemoryInbox(), action_timeout=50)
    await until(lambda: "SUBACK" in run.status().why, "it says why")
    await fake.wait_until(lambda: len(fake.clients) >= 3)


async def test_a_flood_is_sent_again_and_none_of_qos_1_is_lost_or_out_of_order(
    fake: Fake, it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlinks, "MAX_MESSAGES", 20)
    inbox, counted = MemoryInbox(), Counted()
    inbox.ready.clear()
    with capture_logs() as lines:
        begin(it, fake.port, inbox, counted)
        await subscribed(fake)
        for number in range(60):
            fake.client.publish(TOPIC, b"%d" % number, 1)
        await until(lambda: inbox.given, "it is given")
        inbox.ready.set()
        await until(lambda: len(set(inbox.payloads)) == 60, "all are taken")
        await fake.wait_until(lambda: not fake.client.session.unanswered)
    assert list(dict.fromkeys(inbox.payloads)) == [b"%d" % number for number in range(60)]
    assert counted.ended == []
    assert "connection.client_id_conflict" not in {line["event"] for line in lines}


async def test_a_flood_has_no_uplink_sent_twice(fake: Fake, it: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downlinks, "MAX_MESSAGES", 20)
    fake.script.puback = lambda _: None
    inbox = MemoryInbox()
    inbox.ready.clear()
    run = begin(it, fake.port, inbox, action_timeout=5000)
    await subscribed(fake)
    await run.put(1, 3)
    await fake.wait_until(lambda: len(fake.published) == 3)
    for number in range(60):
        fake.client.publish(TOPIC, b"%d" % number, 1)
    await until(lambda: inbox.given, "it is given")
    inbox.ready.set()
    await until(lambda: len(inbox.taken) >= 20, "what the buffer holds is taken, and the link is to end")
    fake.script.puback = lambda _: 0
    for one in list(fake.published):
        fake.clients[0].answer(4, one.mid)
    await until(lambda: len(set(inbox.payloads)) == 60, "all are taken")
    await run.until_settled()
    assert len(fake.published) == 3


async def test_qos_0_beyond_the_buffer_is_discarded_told_and_counted(
    fake: Fake, it: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlinks, "MAX_MESSAGES", 20)
    inbox, counted = MemoryInbox(), Counted()
    inbox.ready.clear()
    with capture_logs() as lines:
        begin(it, fake.port, inbox, counted)
        await subscribed(fake)
        for number in range(50):
            fake.client.publish(TOPIC, b"%d" % number, 0)
        await until(lambda: counted.received >= 20, "some are discarded")
        fake.client.publish(TOPIC, b"last", 1)
        await asyncio.sleep(0.05)
        inbox.ready.set()
        await fake.wait_until(lambda: fake.client.count(4) == 1)
    assert inbox.payloads[-1] == b"last"
    assert len(fake.clients) == 1
    assert len(inbox.taken) + counted.received == 51
    assert set(counted.ended) == {DownlinkOutcome.REJECTED}
    rejected = [line for line in lines if line["event"] == "downlink.rejected"]
    assert rejected[0]["reason"]


async def test_a_bug_in_the_inbox_ends_the_link_and_the_message_comes_again(fake: Fake, it: Bench) -> None:
    inbox = MemoryInbox()
    inbox.crashes = 1
    with capture_logs() as lines:
        begin(it, fake.port, inbox)
        await subscribed(fake)
        fake.client.publish(TOPIC, b"1", 1)
        await until(lambda: inbox.taken, "taken at the second time")
    assert inbox.taken[0].dup
    assert "downlink.crashed" in {line["event"] for line in lines}


@pytest.mark.parametrize("busy", [True, False])
async def test_a_stop_takes_nothing_more_and_leaves_it_with_the_broker(fake: Fake, it: Bench, busy: bool) -> None:
    inbox = MemoryInbox()
    inbox.ready.clear()
    run = begin(it, fake.port, inbox)
    await subscribed(fake)
    fake.client.publish(TOPIC, b"1", 1)
    await until(lambda: inbox.given, "it is given")
    fake.client.publish(TOPIC, b"2", 1)
    await asyncio.sleep(0.02)
    if not busy:
        asyncio.get_running_loop().call_later(0.05, inbox.ready.set)
    assert await run.stop() < 1.0
    await fake.wait_until(fake.client.ended.is_set)
    assert fake.client.count(4) == (0 if busy else 1), "what was being taken is acknowledged if it was in time"
    assert [message.payload for message in inbox.given] == [b"1"]
    assert run.status().state is State.CLOSED


async def test_mosquitto_keeps_downlinks_while_we_are_away(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    broker = plain_mosquitto
    async with bench(tmp_path / "state") as it:
        first, second = MemoryInbox(), MemoryInbox()
        first.ready.clear()
        with capture_logs() as lines:
            run = begin(it, broker.port, first, mqtt_version="5")
            await until(lambda: [line for line in lines if line["event"] == "connection.subscribed"], "subscribed")
        args = ["-V", "5", "-D", "publish", "correlation-data", "abc"]
        await publish(broker, TOPIC, b"1", qos=1, args=args)
        await until(lambda: first.given, "it is given")
        await run.stop()
        await publish(broker, TOPIC, b"2", qos=1)
        again = begin(it, broker.port, second, mqtt_version="5")
        await until(lambda: len(second.taken) == 2, "both come")
        assert {message.payload: (message.dup, message.correlation) for message in second.taken} == {
            b"1": (True, b"abc"),
            b"2": (False, b""),
        }
        await again.stop()
        third = MemoryInbox()
        last = begin(it, broker.port, third, mqtt_version="5")
        await last.put(1, 1)
        await last.until_settled()
        await publish(broker, TOPIC, b"3", qos=1)
        await until(lambda: third.taken, "it comes")
        assert third.payloads == [b"3"], "what was acknowledged does not come again"


async def test_cancelled_at_any_step_it_leaves_nothing(fake: Fake, it: Bench) -> None:
    tasks = asyncio.all_tasks()
    for steps in range(40):
        inbox = MemoryInbox()
        if steps % 2:
            inbox.ready.clear()
        run = begin(it, fake.port, inbox)
        if steps % 4 > 1:
            await until(lambda run=run: run.status().state is State.OPENED, "it is open")
            fake.client.publish(TOPIC, b"1", 1)
            if steps % 8 > 3:
                await asyncio.sleep(0.002)
                fake.client.hang_up()
        for _ in range(steps // 2):
            await asyncio.sleep(0)
        run.task.cancel()
        await asyncio.wait([run.task])
        assert run.session._link is None
    await until(lambda: asyncio.all_tasks() <= tasks | set(fake._tasks), "no task is left")


async def test_mosquitto_refuses_a_subscription_by_its_access_control(
    tmp_path: Path, start_mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> None:
    plugin = Path("/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so")
    if not await asyncio.to_thread(plugin.exists):
        pytest.skip("this mosquitto has no dynamic security, and its ACL file lets everybody subscribe")
    rules = tmp_path / "rules.json"
    command = [find("mosquitto_ctrl"), "dynsec", "init", str(rules), "acme", "s3cret"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0
    text = await asyncio.to_thread(rules.read_text)
    await asyncio.to_thread(rules.write_text, text.replace('"#"', '"other/#"'))  # else it may subscribe to everything
    broker = await start_mosquitto(config=[f"plugin {plugin}", f"plugin_opt_config_file {rules}"])
    async with bench(tmp_path / "state") as it:
        login = {"username": "acme", "password": Secret("s3cret")}
        run = begin(it, broker.port, MemoryInbox(), mqtt_version="5", **login)
        await until(lambda: run.status().downlinks, f"refused; {run.status()}", 5.0)
        assert "not authorised (0x87)" in run.status().downlinks
        assert run.status().state is State.OPENED
