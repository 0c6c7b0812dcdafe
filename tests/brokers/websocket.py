"""A WebSocket front for any broker: takes MQTT over WebSocket and passes it on over TCP.

mosquitto's own WebSocket listener sends some kilobytes per 100 ms; this one shows what a link can do.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator


class Address(Protocol):
    """What a broker offers."""

    host: str
    port: int


class Front:
    """Where the front listens. `fragment`: bytes of the frames to the client (0: as they come)."""

    host = "127.0.0.1"

    def __init__(self, broker: Address, fragment: int) -> None:
        self.broker = broker
        self.fragment = fragment
        self.port = 0
        self.connections: list[ServerConnection] = []

    async def handle(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        reader, writer = await asyncio.open_connection(self.broker.host, self.broker.port)
        pumps = [asyncio.create_task(self._in(connection, writer)), asyncio.create_task(self._out(reader, connection))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.close()

    async def _in(self, connection: ServerConnection, writer: asyncio.StreamWriter) -> None:
        try:
            async for data in connection:
                assert isinstance(data, bytes)
                writer.write(data)
                await writer.drain()
        except (ConnectionClosed, OSError):
            return

    async def _out(self, reader: asyncio.StreamReader, connection: ServerConnection) -> None:
        try:
            while data := await reader.read(256 * 1024):
                size = self.fragment or len(data)
                await connection.send(data[at : at + size] for at in range(0, len(data), size))
        except (ConnectionClosed, OSError):
            return


@asynccontextmanager
async def websocket_front(
    broker: Address, tls: ssl.SSLContext | None = None, *, fragment: int = 0
) -> AsyncIterator[Front]:
    """Put a WebSocket server in front of a broker."""
    front = Front(broker, fragment)
    server = await serve(
        front.handle, front.host, 0, ssl=tls, subprotocols=[Subprotocol("mqtt")], compression=None, max_size=None
    )
    front.port = server.sockets[0].getsockname()[1]
    try:
        yield front
    finally:
        server.close()
        await server.wait_closed()
