"""kill -9 in the middle of the work: the journal is the only state, and it is enough.

None is lost, the order stays per connection up to what comes twice, and at most `maxInflight` come twice for each
connection and crash.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import httpx

from tests.brokers.recorder import recorder
from tests.support.bridge import NDJSON, bridge, fcnts, names, publish_lines, subscribed, to, uplink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto
    from tests.brokers.recorder import Recorder
    from tests.support.bridge import Bridge

COUNT = 10_000
BATCH = 100
WINDOW = 50
CRASHES_AT = (500, 5000)
"""Uplinks arrived."""


async def check(record: Recorder, account: dict[str, int]) -> None:
    """Hold what arrived at one connection against what was sent, 0, 1, 2, …, and what the journal accepted."""
    numbers = fcnts([message.payload for message in await record.wait_for(account["routed"])])
    assert sorted(set(numbers)) == list(range(COUNT)), "none is lost"
    assert list(dict.fromkeys(numbers)) == list(range(COUNT)), "in order, up to what comes twice"
    assert account["delivered"] == account["routed"]
    # Whatever the network server sent twice is routed twice; beyond that, only the window comes again.
    assert 0 <= len(numbers) - account["routed"] <= WINDOW * len(CRASHES_AT)


async def crash_at(daemon: Bridge, record: Recorder, arrived: int) -> None:
    await record.wait_for(arrived, 30)
    await daemon.kill()
    await daemon.start()


async def finish(daemon: Bridge, records: list[Recorder]) -> None:
    """Wait until everything has arrived everywhere, and the accounts are even."""
    for record in records:
        await record.wait_until(lambda them: fcnts([them[-1].payload]) == [COUNT - 1], 40)
    for name in ("one", "two"):
        await daemon.until_account(name, queued=0)


async def test_kill_9_amid_10_000_uplinks_by_http_loses_none(
    tmp_path: Path, start_mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> None:
    brokers = [await start_mosquitto(), await start_mosquitto()]
    connections = {name: to(broker, maxInflight=WINDOW) for name, broker in zip(("one", "two"), brokers, strict=True)}
    async with (
        recorder(brokers[0]) as first,
        recorder(brokers[1]) as second,
        bridge(tmp_path, connections=connections) as daemon,
    ):

        async def network_server() -> int:
            """Send batch after batch, again where no answer came. Gives how many may have been stored twice."""
            unsure = 0
            for start in range(0, COUNT, BATCH):
                body = b"\n".join(uplink(number) for number in range(start, start + BATCH))
                while True:
                    try:
                        if (await daemon.post("lrc", body, headers=NDJSON)).status_code == 200:
                            break
                    except httpx.ConnectError:
                        await asyncio.sleep(0.02)
                    except httpx.HTTPError:
                        unsure += 1
            return unsure

        sending = asyncio.create_task(network_server())
        for arrived in CRASHES_AT:
            await crash_at(daemon, first, arrived)
        unsure = await sending
        await finish(daemon, [first, second])
        for name, record in (("one", first), ("two", second)):
            account = await daemon.account(name)
            await check(record, account)
            assert account["routed"] <= COUNT + unsure * BATCH


async def test_kill_9_amid_10_000_uplinks_by_mqtt_loses_none(
    tmp_path: Path, start_mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> None:
    ns, *brokers = [await start_mosquitto(), await start_mosquitto(), await start_mosquitto()]
    connections = {name: to(broker, maxInflight=WINDOW) for name, broker in zip(("one", "two"), brokers, strict=True)}
    async with (
        recorder(brokers[0]) as first,
        recorder(brokers[1]) as second,
        bridge(tmp_path, sources={"ns": subscribed(ns)}, connections=connections) as daemon,
    ):
        await daemon.until_said("source.opened")
        documents = [uplink(number) for number in range(COUNT)]
        sending = asyncio.create_task(publish_lines(ns, "ns/x/up", documents))
        for arrived in CRASHES_AT:
            await crash_at(daemon, first, arrived)
        await sending
        await finish(daemon, [first, second])
        for name, record in (("one", first), ("two", second)):
            await check(record, await daemon.account(name))


async def test_the_journal_is_the_only_state(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    await plain_mosquitto.stop()
    async with bridge(tmp_path / "here", connections={"one": to(plain_mosquitto)}) as daemon:
        await daemon.accept("lrc", *(uplink(number) for number in range(500)))
        await daemon.kill()
        left = {"journal.db", "downlinks.db", "history.db", "etag.key", "lock", "mqttbridge.sock"}
        assert {name.split("-")[0] for name in names(daemon.state)} == left
        moved = tmp_path / "there"
        without = shutil.ignore_patterns("*.sock")
        await asyncio.to_thread(shutil.copytree, daemon.path.parent, moved, ignore=without)
    await plain_mosquitto.start()
    async with (
        recorder(plain_mosquitto) as record,
        bridge(moved, connections={"one": to(plain_mosquitto)}) as daemon,
    ):
        await record.wait_for(500)
        assert fcnts(record.payloads) == list(range(500))
        await daemon.until_account("one", routed=500, delivered=500)
