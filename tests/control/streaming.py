"""A desk of `control/` on a real Unix socket, and who reads its answers as they come."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

from mqttbridge.control.local import LocalApp
from mqttbridge.control.protocol import PrivateProtocol
from mqttbridge.control.server import HttpServer
from mqttbridge.control.unix import listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mqttbridge.control.local import Routes

DEADLINE = 10.0


@asynccontextmanager
async def serving(path: Path, routes: Routes) -> AsyncIterator[None]:
    """Answer on a Unix socket."""
    listening = await asyncio.to_thread(listen, path)
    try:
        app = await asyncio.to_thread(LocalApp, Mock(), Path("/etc/x.yaml"), routes)
        server = HttpServer(app, listening.socket, PrivateProtocol)
        running = asyncio.create_task(server.run_until_stopped())
        yield
        server.stop()
        await running
    finally:
        await asyncio.to_thread(listening.close)


class Reading:
    """An answer, as it comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self._rest = b""

    async def begin(self, target: str) -> None:
        """Ask, and read the head of the answer."""
        self.writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(head[0].split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)

    async def body(self) -> Any:  # noqa: ANN401 (JSON)
        """Give the whole body, which is JSON."""
        async with asyncio.timeout(DEADLINE):
            return json.loads(await self.reader.readexactly(int(self.headers["content-length"])))

    async def line(self) -> bytes | None:
        """Give the next line, without its end; None: the answer has ended in order."""
        while b"\n" not in self._rest:
            chunk = await self._chunk()
            if not chunk:
                return None
            self._rest += chunk
        line, self._rest = self._rest.split(b"\n", 1)
        return line

    async def news(self) -> dict[str, Any] | None:
        """Give the next line that is not empty."""
        async with asyncio.timeout(DEADLINE):
            while (line := await self.line()) == b"":
                pass
        return None if line is None else json.loads(line)

    async def _chunk(self) -> bytes:
        async with asyncio.timeout(DEADLINE):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:-2]


@asynccontextmanager
async def asking(path: Path, target: str) -> AsyncIterator[Reading]:
    """Ask for something."""
    reading = Reading(*await asyncio.open_unix_connection(str(path)))
    try:
        await reading.begin(target)
        yield reading
    finally:
        reading.writer.close()
