"""Whether somebody still waits for an answer."""

from __future__ import annotations

import asyncio

from mqttbridge.control.presence import Presence


async def test_it_is_noticed_that_the_client_goes_and_nothing_is_left_behind() -> None:
    leaves = asyncio.Event()

    async def receive() -> dict[str, object]:
        await leaves.wait()
        return {"type": "http.disconnect"}

    before = asyncio.all_tasks()
    async with Presence(receive) as client:
        await asyncio.sleep(0)
        assert not client.gone
        leaves.set()
        for _ in range(3):
            await asyncio.sleep(0)
        assert client.gone
    leaves.clear()
    async with Presence(receive) as client:
        assert not client.gone
    assert asyncio.all_tasks() == before


async def test_what_still_comes_of_the_body_is_no_sign_of_leaving() -> None:
    messages = [{"type": "http.request", "body": b""}, {"type": "http.disconnect"}]
    gate = asyncio.Event()

    async def receive() -> dict[str, object]:
        if len(messages) == 1:
            await gate.wait()
        return messages.pop(0)

    async with Presence(receive) as client:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not client.gone
