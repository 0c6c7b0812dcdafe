"""kill -9 amid downlinks: none is lost, and what comes twice has one key. The long form is `tests.downlinks.crash`."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

from tests.brokers.line import slow_line
from tests.brokers.recorder import recorder
from tests.downlinks import crash
from tests.downlinks.publisher import publish
from tests.networks.lrc import FakeLrc
from tests.support.bridge import bridge, to

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto

COUNT = 20
SLOW = 3.0
"""Seconds until an acknowledgement arrives; less than actionTimeout, more than the downlinks need."""


async def test_kill_9_amid_downlinks_loses_none(tmp_path: Path) -> None:
    seed = random.randrange(1_000_000)  # noqa: S311 (any will do)
    round_ = crash.Round(seed, downlinks=100, rate=0.01, hangs=False)
    print(f"again: {round_.command}")  # noqa: T201 (pytest shows it if this fails)
    figures = await crash.play(round_, tmp_path)
    assert figures.kills >= 5
    assert figures.downlinks == 100


async def test_a_downlink_whose_acknowledgement_was_lost_in_a_crash_comes_again_with_its_key(
    tmp_path: Path, start_mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> None:
    broker = await start_mosquitto()
    patterns = {
        "downlinkTopicPattern": "mqtt/things/{DevEUI}/downlink",
        "downlinkReceiptTopicPattern": "mqtt/things/{DevEUI}/receipt",
    }
    round_ = crash.Round(0, downlinks=COUNT)
    async with (
        FakeLrc() as server,
        slow_line(broker, 0.0) as line,
        recorder(broker, "mqtt/things/+/receipt") as record,
        bridge(
            tmp_path,
            sources={"lrc": {"transport": "http", "apiUrl": server.url}},
            connections={"acme": to(line, actionTimeout=10_000, **patterns)},
        ) as daemon,
    ):
        await daemon.until_said("connection.subscribed")
        line.delay = SLOW
        await asyncio.to_thread(publish, broker, [crash.document(number) for number in range(COUNT)])
        await daemon.until_said("downlink.queued", COUNT)
        await daemon.kill()
        line.delay = 0.0
        await daemon.restart()
        await server.wait_for(2 * COUNT)
        await crash.finished(round_, server, record, daemon)
        await record.wait_for(COUNT)
        await daemon.kill()
        crash.check(round_, server.queued, record.messages, daemon.state)
        assert round_.figures.known == COUNT, "each was stored before, and was stored again with its former key"
        assert set(Counter(one["Payload"] for one in server.queued).values()) == {2}
        assert len(crash.REDELIVERED.findall(await broker.read_log())) == COUNT


async def test_what_has_ended_does_not_begin_again_after_a_crash(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    patterns = {"downlinkTopicPattern": "mqtt/things/{DevEUI}/downlink"}
    async with (
        FakeLrc() as server,
        bridge(
            tmp_path,
            sources={"lrc": {"transport": "http", "apiUrl": server.url}},
            connections={"acme": to(plain_mosquitto, **patterns)},
        ) as daemon,
    ):
        await daemon.until_said("connection.subscribed")
        await asyncio.to_thread(publish, plain_mosquitto, [crash.document(number) for number in range(COUNT)])
        await daemon.until_said("downlink.queued", COUNT)
        await daemon.kill()
        await daemon.restart()
        await daemon.until_said("connection.subscribed")
        await asyncio.to_thread(publish, plain_mosquitto, [crash.document(COUNT)])
        await daemon.until_said("downlink.queued")
        assert [int(one["Payload"], 16) for one in server.queued][COUNT:] == [COUNT]
