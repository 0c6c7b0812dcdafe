"""What the settings say of a connection's downlinks, as they are now."""

from __future__ import annotations

import asyncio

from mqttbridge.downlinks.desks import Desks
from tests.downlinks.memory import Hands, connection


async def test_a_desk_follows_the_settings_and_its_rate_goes_on() -> None:
    connections = {"acme": connection(downlink_rate=10, downlink_port=1)}
    hands = Hands()
    desks = Desks(connections, hands)
    desk = await desks.at("acme")
    desk.bucket.take(50, hands.monotonic())
    assert await desks.at("acme") is desk
    connections["acme"] = connection(receipts=False, downlink_rate=100, downlink_port=2, downlink_topic_pattern="x")
    assert await desks.at("acme") is desk
    assert (desk.rate, desk.fport, desk.wants_receipts) == (100, 2, False)
    assert desk.pattern is not None
    assert desk.pattern.subscription == "x"
    assert desk.bucket.available(hands.monotonic()) == 500, "half full, as before"


async def test_for_a_connection_that_is_gone_it_waits_and_one_that_comes_back_begins_anew() -> None:
    connections = {"acme": connection(downlink_rate=10)}
    hands = Hands()
    desks = Desks(connections, hands)
    desk = await desks.at("acme")
    desk.bucket.take(100, hands.monotonic())
    gone = connections.pop("acme")
    waiting = asyncio.ensure_future(desks.at("acme"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    connections["acme"] = gone
    assert (await desks.at("acme")).bucket.available(hands.monotonic()) == 100
