"""Answers that go on: lines of JSON (NDJSON) until the client goes, or the daemon ends.

A reader that is slow holds up its own answer alone. An empty line goes out when there is nothing else to say: so who
is gone is noticed, and who reads knows that the daemon is there.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mqttbridge.sources.asgi import Receive, Send

__all__ = ["HEARTBEAT", "QUIET", "Streams"]

HEARTBEAT = 5.0
"""Seconds between two lines, at most; the commands give up after ten."""
QUIET = b"\n"
"""The empty line."""
LAST = 1.0
"""Seconds that an answer gets to end in order."""
HEAD = (b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")


class Streams:
    """The answers of one kind that go on."""

    def __init__(self) -> None:
        """None yet."""
        self._scopes: set[anyio.CancelScope] = set()
        self._stopped = False

    @property
    def under_way(self) -> int:
        """How many there are."""
        return len(self._scopes)

    def stop(self) -> None:
        """End all of them, and those to come at once."""
        self._stopped = True
        for scope in self._scopes:
            scope.cancel()

    async def answer(self, receive: Receive, send: Send, chunks: AsyncGenerator[bytes, None]) -> None:
        """Send chunks of whole lines, until they end, the client goes, or `stop`."""
        await send({"type": "http.response.start", "status": 200, "headers": HEAD})
        async with aclosing(chunks), anyio.create_task_group() as group:
            if self._stopped:
                return await _finish(send)
            self._scopes.add(group.cancel_scope)
            try:
                group.start_soon(_until_gone, receive, group.cancel_scope)
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                group.cancel_scope.cancel()
            finally:
                self._scopes.discard(group.cancel_scope)
        return await _finish(send)


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Wait until the client goes, and end its answer."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _finish(send: Send) -> None:
    """End the answer in order; one that does not read in time gets no end."""
    with anyio.move_on_after(LAST):
        await send({"type": "http.response.body", "body": b""})
