"""uvicorn's HTTP protocol with the limits that it lacks: heads of requests have a size and a time, answers a time.

What is refused here never reached the application; it is answered with problem details (RFC 9457) all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mqttbridge.control.unix import may_ask
from mqttbridge.sources.asgi import details, title

if TYPE_CHECKING:
    import asyncio

__all__ = ["BoundedProtocol", "PrivateProtocol"]

MAX_HEAD = 64 * 1024
"""Bytes of request line and headers, give or take what is read at once."""
HEAD_WITHIN = 20.0
"""Seconds from the connection, or from the first byte of a further request."""
MAX_KEPT = 2000
"""Connections. While there are more, each is closed after its answer: idle ones must not take all that the process has.
"""


MAX_UNREAD = 64 * 1024
"""Bytes of an answer that wait in the connection for a client that reads slowly; with TLS, as many again."""
READ_WITHIN = 60.0
"""Seconds in which a client must take most of these; else the connection is cut."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection of a client."""

    impatient = True
    """Whether a client that does not read is cut off."""
    _unread_timer: asyncio.TimerHandle | None = None
    _head = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, for a while."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=MAX_UNREAD)
        self._head_begins()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timers."""
        self._head_ends()
        self._unread_ends()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to watch the head of a request."""
        super().on_message_begin()
        if self._head_timer is None:
            self._head_begins()

    def on_headers_complete(self) -> None:
        """Stop watching: the body has limits of its own."""
        self._head_ends()
        super().on_headers_complete()
        if len(self.connections) > MAX_KEPT:
            self.cycle.keep_alive = False

    def data_received(self, data: bytes) -> None:
        """Parse; a head that does not end is refused."""
        super().data_received(data)
        if self._head_timer is not None and not self.transport.is_closing():
            self._head += len(data)
            if self._head > MAX_HEAD:
                self._refuse(431, f"the head of the request is larger than {MAX_HEAD} bytes")

    def pause_writing(self) -> None:
        """Hold the answer back, and give the client some time."""
        super().pause_writing()
        if self.impatient and self._unread_timer is None:
            self._unread_timer = self.loop.call_later(READ_WITHIN, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        self._unread_ends()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection. One that never read the end of its answer would not be closed by that alone."""
        if self.impatient and self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _unread_ends(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, msg)

    def _head_begins(self) -> None:
        self._head = 0
        self._head_timer = self.loop.call_later(HEAD_WITHIN, self._too_slow)

    def _head_ends(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._refuse(408, f"no request came within {HEAD_WITHIN:.0f} s")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer and hang up."""
        self._head_ends()
        body = details(status, detail)
        head = [
            f"HTTP/1.1 {status} {title(status)}",
            "content-type: application/problem+json",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        self.transport.close()


class PrivateProtocol(BoundedProtocol):
    """One connection to the Unix socket: our own user and root are heard, nobody else.

    Somebody may look at what goes by there, and halt it for a while.
    """

    impatient = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Look who it is, whatever the mode of the socket has let through."""
        super().connection_made(transport)
        if not may_ask(transport.get_extra_info("socket")):
            self._refuse(403, "only root and the user that mqttbridge runs as may ask it")
