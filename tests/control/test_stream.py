"""An answer that goes on ends by its own end, by the client, or by the daemon; each in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from mqttbridge.control import stream
from mqttbridge.control.stream import Streams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Client:
    """Takes an answer, and goes when it is told to."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.leaves = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self._first = True

    async def receive(self) -> dict[str, Any]:
        if self._first:
            self._first = False
            return {"type": "http.request", "body": b""}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:  # noqa: ANN401 (ASGI)
        await self.reads.wait()
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def whole(self) -> bool:
        return not self.sent[-1].get("more_body", False)


class Chunks:
    """Gives so many chunks, then waits; tells when it is closed."""

    def __init__(self, many: int, *, ends: bool = False) -> None:
        self.many = many
        self.ends = ends
        self.given = asyncio.Event()
        self.closed = False

    async def all(self) -> AsyncGenerator[bytes, None]:
        try:
            for number in range(self.many):
                yield b"%d\n" % number
            self.given.set()
            if not self.ends:
                await asyncio.sleep(60)
        finally:
            self.closed = True


async def test_chunks_that_end_end_the_answer() -> None:
    streams, client, chunks = Streams(), Client(), Chunks(3, ends=True)
    await streams.answer(client.receive, client.send, chunks.all())
    assert (client.sent[0]["status"], client.body, client.whole) == (200, b"0\n1\n2\n", True)
    assert (chunks.closed, streams.under_way) == (True, 0)


@pytest.mark.parametrize("how", ["stop", "leave"])
async def test_it_ends_with_the_daemon_and_with_the_client(how: str) -> None:
    streams, client, chunks = Streams(), Client(), Chunks(2)
    answering = asyncio.create_task(streams.answer(client.receive, client.send, chunks.all()))
    await chunks.given.wait()
    assert streams.under_way == 1
    streams.stop() if how == "stop" else client.leaves.set()
    await asyncio.wait_for(answering, 10)
    assert (client.body, client.whole, chunks.closed, streams.under_way) == (b"0\n1\n", True, True, 0)


async def test_after_the_stop_none_begins() -> None:
    streams, client, chunks = Streams(), Client(), Chunks(2)
    streams.stop()
    await streams.answer(client.receive, client.send, chunks.all())
    assert (client.body, client.whole) == (b"", True)


async def test_a_client_that_does_not_read_does_not_hold_up_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LAST", 0.01)
    streams, client, chunks = Streams(), Client(), Chunks(1)
    answering = asyncio.create_task(streams.answer(client.receive, client.send, chunks.all()))
    await chunks.given.wait()
    client.reads.clear()
    streams.stop()
    await asyncio.wait_for(answering, 10)
    assert chunks.closed
    assert not client.whole
