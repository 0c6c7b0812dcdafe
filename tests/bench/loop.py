"""The plain way, to compare with: `await client.publish(...)` of aiomqtt with QoS 1, in a process of its own.

Task: `port`, `total`, `together`: so many publishes are gathered at once; 1 is one by one.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import aiomqtt

from tests.bench.packets import CYCLE, uplinks
from tests.bench.worker import serve

if TYPE_CHECKING:
    from collections.abc import Callable


def prepare(task: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Build the documents."""
    documents = uplinks(min(task["total"], CYCLE))
    return lambda: asyncio.run(_publish(task["port"], documents, task["total"], task["together"]))


async def _publish(port: int, documents: list[bytes], total: int, together: int) -> dict[str, Any]:
    async with aiomqtt.Client("127.0.0.1", port, max_inflight_messages=max(20, together)) as client:
        started = time.monotonic()
        for at in range(0, total, together):
            sending = [
                client.publish(f"network/{index % CYCLE:016x}/uplink", documents[index % CYCLE], qos=1)
                for index in range(at, min(at + together, total))
            ]
            if together == 1:
                await sending[0]
            else:
                await asyncio.gather(*sending)
        return {"started": started, "ended": time.monotonic()}


if __name__ == "__main__":
    serve(prepare)
