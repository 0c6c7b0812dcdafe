"""A slow line between a client and its broker: what the client sends arrives late, and is lost with the client.

So an acknowledgement can be on its way when its sender is killed; on the loopback it would have arrived. What the
broker sends comes at once. One direction alone, and no other fault.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.brokers.recorder import Address

CHUNK = 64 * 1024
AHEAD = 1000
"""Chunks on their way."""


class SlowLine:
    """Has the address for clients. `delay` in seconds, may be changed at any time."""

    host = "127.0.0.1"

    def __init__(self, broker: Address, delay: float) -> None:
        self.broker = broker
        self.delay = delay
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, until either end closes it."""
        with contextlib.closing(writer), contextlib.suppress(OSError):
            there, towards = await asyncio.open_connection(self.broker.host, self.broker.port)
            with contextlib.closing(towards):
                pumps = [asyncio.create_task(pump) for pump in (self._slowly(reader, towards), _pump(there, writer))]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)

    async def _slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry what the client sends; what is on its way when the client goes is lost."""
        loop = asyncio.get_running_loop()
        way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(AHEAD)

        async def arrive() -> None:
            while True:
                at, data = await way.get()
                await asyncio.sleep(max(0.0, at - loop.time()))
                writer.write(data)
                await writer.drain()

        arriving = asyncio.create_task(arrive())
        try:
            while data := await reader.read(CHUNK):
                await way.put((loop.time() + self.delay, data))
        finally:
            arriving.cancel()
            await asyncio.gather(arriving, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def slow_line(broker: Address, delay: float) -> AsyncIterator[SlowLine]:
    """Put a line before a broker; its connections end with the block."""
    line = SlowLine(broker, delay)
    tasks: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(line.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accepted, line.host, 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
