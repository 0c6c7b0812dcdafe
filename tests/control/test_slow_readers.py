"""Clients that read slowly, or not at all: the memory that they cost, and how long they last."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.control.slow_server import BODY
from tests.support.bridge import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLIENTS = 50
MIB = 1024 * 1024
MAX_MORE = 40 * MIB
"""Of 400 MiB that the clients do not read: twice 64 KiB a client, sixteen times as much with TLS state and slack."""
KINDS = pytest.mark.parametrize("kind", ["plain", "tls"])


class Server(NamedTuple):
    """The server in its process."""

    port: int
    pid: int
    context: ssl.SSLContext | None

    def memory(self) -> int:
        """Give its resident memory in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * 4096

    def connections(self) -> int:
        """Count those that are established, at the server's end."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return sum(line[1].endswith(f":{self.port:04X}") and line[3] == "01" for line in lines)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect with small buffers of our own, and ask for the large answer."""
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003 (the standard library's own signature)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        name = "localhost" if self.context else None
        reader, writer = await asyncio.open_connection(sock=sock, ssl=self.context, server_hostname=name, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return reader, writer


@asynccontextmanager
async def serving(kind: str, read_within: float) -> AsyncIterator[Server]:
    command = ["-m", "tests.control.slow_server", kind, str(read_within)]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdin=-1, stdout=-1)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            port, ca = json.loads(await process.stdout.readline())
        yield Server(port, process.pid, ssl.create_default_context(cadata=ca) if ca else None)
    finally:
        process.stdin.close()  # type: ignore[union-attr]
        async with asyncio.timeout(20):
            await process.wait()


@KINDS
async def test_fifty_clients_that_read_a_byte_a_second_cost_little_memory(kind: str) -> None:
    async with serving(kind, 60) as server, AsyncExitStack() as stack:
        reader, writer = await server.connect()
        assert b" 200 " in await reader.readline()
        before = server.memory()
        clients = [(reader, writer)]
        clients += [await server.connect() for _ in range(CLIENTS - 1)]
        for _, each in clients:
            stack.callback(each.close)
        for one, _ in clients[1:]:
            assert await one.read(1) == b"H"
        until_then = time.monotonic() + 2.5
        while time.monotonic() < until_then:
            await asyncio.gather(*(one.read(1) for one, _ in clients))
            assert server.memory() - before < MAX_MORE
            await asyncio.sleep(0.5)


@KINDS
async def test_who_does_not_read_is_cut_off_and_who_reads_slowly_gets_all(kind: str) -> None:
    async with serving(kind, 1.0) as server, AsyncExitStack() as stack:
        deaf_reader, deaf = await server.connect()
        stack.callback(deaf.close)
        reader, writer = await server.connect()
        stack.callback(writer.close)
        head = await reader.readuntil(b"\r\n\r\n")
        assert f"content-length: {len(BODY)}".encode() in head
        got, began = 0, time.monotonic()
        while got < len(BODY):
            chunk = await reader.read(256 * 1024)
            assert chunk, f"cut off after {got} bytes"
            got += len(chunk)
            # All of it in twice the time that anybody may pause.
            await asyncio.sleep(max(0, began + 2.0 * got / len(BODY) - time.monotonic()))
        assert time.monotonic() - began >= 2.0
        assert await received(deaf_reader) < len(BODY) // 2

        async def gone() -> bool:
            return server.connections() == 1

        await until(gone, "the deaf one is gone, the other may ask again")


async def received(reader: asyncio.StreamReader) -> int:
    """Read to the end, whatever that is."""
    count = 0
    try:
        async with asyncio.timeout(10):
            while chunk := await reader.read(MIB):
                count += len(chunk)
    except (OSError, ssl.SSLError):
        pass
    return count
