"""The daemon in the test's own process and loop: for what a test must reach into, or for many small requests."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from mqttbridge.daemon import Daemon
from mqttbridge.settings.loader import load
from tests.support.bridge import Bridge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DEADLINE = 10.0


class Inside(Bridge):
    """The same ways to ask as those of a daemon in a process; it has no log of its own."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        super().__init__(directory, config, level="info", env=None)
        self.daemon = Daemon(load(self.path, environ={}), environ={})
        self.running: asyncio.Task[None] | None = None

    @property
    def journal(self) -> Any:  # noqa: ANN401 (a test may replace any part of it)
        return self.daemon._running.stores.journal

    async def start(self, *, wait: bool = True) -> None:
        started = Started()
        self.running = asyncio.create_task(self.daemon.serve(task_status=started))
        waiting = asyncio.create_task(started.event.wait())
        done, _ = await asyncio.wait({self.running, waiting}, timeout=DEADLINE, return_when="FIRST_COMPLETED")
        waiting.cancel()
        if wait and self.running in done:
            self.running.result()
        host, port = self.daemon.address
        self.url = f"http://{host}:{port}"

    async def end(self) -> None:
        """Stop it, and wait for that."""
        self.daemon.stop()
        if self.running is not None:
            await self.running
        await self.client.aclose()


class Started:
    """What anyio calls a task status."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def started(self, value: object = None) -> None:
        assert value is None
        self.event.set()


@asynccontextmanager
async def inside(directory: Path, **sections: Any) -> AsyncIterator[Inside]:  # noqa: ANN401 (sections of the file)
    """Run a daemon here. Without sources there is an HTTP source `lrc`."""
    whole = {"sources": {"lrc": {"transport": "http"}}, **sections}
    here = await asyncio.to_thread(Inside, directory, whole)
    try:
        await here.start()
        yield here
    finally:
        await here.end()


class Answer(NamedTuple):
    """What a server said, byte by byte."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem details, which must be whole."""
        assert self.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = json.loads(self.body)
        assert problem["type"] == "about:blank"
        assert problem["status"] == self.status
        assert problem["title"]
        assert problem["detail"]
        return problem


class Wire:
    """A connection to an HTTP server, for what no decent client sends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def answer(self, *, head: bool = False) -> Answer:
        """Read one answer; `head`: it has no body."""
        async with asyncio.timeout(DEADLINE):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            body = b"" if head else await self.reader.readexactly(int(headers["content-length"]))
        return Answer(int(lines[0].split()[1]), headers, body)

    async def ended(self) -> bool:
        """Wait for the other side to hang up."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self.reader.read(1) == b""
            except OSError:
                return True


@asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    """Connect to the server of a URL."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def request(method: str, target: str, body: bytes | None = None, *headers: str) -> bytes:
    """Give the bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


class Told:
    """Stands in for a module's logger: remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def events(self, level: str | None = None) -> list[str]:
        """Give the events in their order, of one level or of all but debug."""
        return [event for at, event, _ in self.lines if (at == level if level else at != "debug")]

    def is_enabled_for(self, level: int) -> bool:
        """Take everything."""
        return level >= 0

    def __getattr__(self, level: str) -> Any:  # noqa: ANN401 (debug, info, warning, error, exception)
        """Give the method of a level."""
        return lambda event, **fields: self.lines.append((level, event, fields))
