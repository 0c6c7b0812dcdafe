"""A connected socket with TLS and WebSocket framing on top, made for batches. Used by one link, in the loop's thread.

Reading takes one `recv` per readable event. Writing collects what is written during one iteration of the loop and
sends it with one `send`; what the kernel does not take waits for the socket to become writable.

Invariants:

1. No call blocks: the socket is non-blocking, TLS works on memory, WebSocket frames are made by a sans-I/O protocol.
2. Bytes leave in the order in which they were written.
3. After `close` no callback is called, and the loop knows the socket no more.
"""

from __future__ import annotations

import _ssl
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from websockets.exceptions import WebSocketException
from websockets.frames import Opcode
from websockets.protocol import State

from mqttbridge.mqtt.facts import Secured

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

    from websockets.client import ClientProtocol
    from websockets.frames import Frame

__all__ = ["TlsPipe", "Wire", "WireFull"]

CHUNK = 64 * 1024
DRAIN = 16
"""Chunks that are read, and thrown away, at the end."""
LIMIT = 64 * 1024 * 1024
"""Unsent bytes from which on a peer counts as one that does not read."""


class WireFull(OSError):
    """The peer has not read for so long that the buffer is full."""


class TlsPipe:
    """TLS over memory: bytes in, bytes out. `ended` once the peer said goodbye."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        """Prepare a handshake as the client of `host`."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.ended = False

    def handshake(self, data: bytes) -> bool:
        """Go on with the handshake, with bytes from the peer; True when it is done. Raises `ssl.SSLError`."""
        if data:
            self._incoming.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypt(self, data: bytes) -> bytes:
        """Give the plain bytes that are complete. Raises `ssl.SSLError`."""
        self._incoming.write(data)
        parts = []
        try:
            while part := self._tls.read(CHUNK):
                parts.append(part)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError:
            if not parts:
                raise
            self.ended = True  # what came before the break is still good
        return b"".join(parts)

    def encrypt(self, data: bytes) -> None:
        """Encrypt; the bytes are in `outgoing`. Raises `ssl.SSLError`."""
        self._tls.write(data)

    def outgoing(self) -> bytes:
        """Give what is to be sent to the peer."""
        return self._outgoing.read()

    def secured(self) -> Secured:
        """Give what the handshake agreed on, as far as it came; the certificates are the peer's, verified or not."""
        # Pinned by a contract test; a Python without it may cost the doctor a fact, but never a session its broker.
        read = getattr(getattr(self._tls, "_sslobj", None), "get_unverified_chain", tuple)
        chain: Any = read() or ()
        cipher = self._tls.cipher()
        return Secured(
            version=self._tls.version() or "",
            cipher=cipher[0] if cipher else "",
            alpn=self._tls.selected_alpn_protocol(),
            chain=tuple(certificate.public_bytes(_ssl.ENCODING_DER) for certificate in chain),
        )

    def goodbye(self) -> None:
        """Prepare close_notify."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()


class Wire:
    """One connection. `start` it with who is told; then `fill`, `write`, `pause`, `resume`, `close`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        tls: TlsPipe | None = None,
        websocket: ClientProtocol | None = None,
        early: bytes = b"",
    ) -> None:
        """Take a connected non-blocking socket, the finished layers, and plain bytes that already came."""
        self.ended = False
        self._loop = loop
        self._sock = sock
        self._tls = tls
        self._websocket = websocket
        self._early = early
        self._written: list[bytes | bytearray] = []
        self._unsent = memoryview(b"")
        self._size = 0
        self._scheduled = False
        self._writing = False
        self._reading = False
        self._closed = False
        self._on_readable: Callable[[], None] = _nothing
        self._on_drained: Callable[[], None] = _nothing
        self._on_broken: Callable[[Exception], None] = _nothing_of

    def start(
        self,
        on_readable: Callable[[], None],
        on_drained: Callable[[], None],
        on_broken: Callable[[Exception], None],
    ) -> None:
        """Begin to read. `on_readable` calls `fill`; `on_drained`: nothing is unsent; `on_broken`: a write failed."""
        self._on_readable = on_readable
        self._on_drained = on_drained
        self._on_broken = on_broken
        self.resume()
        if self._early:
            self._loop.call_soon(self._tell_early)

    @property
    def unsent(self) -> int:
        """Bytes that wait for the peer to read."""
        return self._size + len(self._unsent)

    def fill(self) -> bytes:
        """Read once; gives what came, decrypted and unframed, perhaps nothing. Sets `ended` at the end of the stream.

        Raises `OSError` (with `ssl.SSLError`) or `WebSocketException`.
        """
        early, self._early = self._early, b""
        try:
            data = self._sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return early
        if not data:
            self.ended = True
            return early
        if self._tls is not None:
            data = self._tls.decrypt(data)
            self.ended = self._tls.ended
            self._push(self._tls.outgoing())
        if self._websocket is not None:
            data = self._unframe(self._websocket, data)
        return early + data if early else data

    def write(self, data: bytes | bytearray) -> None:
        """Have bytes sent, with all else that is written in this iteration of the loop. Never fails, never blocks."""
        if self._closed:
            return
        self._written.append(data)
        self._size += len(data)
        self._schedule()

    def pause(self) -> None:
        """Stop reading."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock)

    def resume(self) -> None:
        """Read again."""
        if not self._reading and not self._closed:
            self._reading = True
            self._loop.add_reader(self._sock, self._on_readable)

    def finish(self) -> None:
        """Send what is written, as far as the kernel takes it at once, say goodbye, and close."""
        if not self._closed:
            self._on_drained, self._on_broken = _nothing, _nothing_of
            self._flush()
            with suppress(OSError, WebSocketException):
                if not self._unsent:
                    self._sock.send(self._farewell())
                # Closing with unread bytes resets the connection, and the peer may see no goodbye.
                for _ in range(DRAIN):
                    if not self._sock.recv(CHUNK):
                        break
        self.close()

    def close(self) -> None:
        """Let go of the socket, at once."""
        if self._closed:
            return
        self.pause()
        if self._writing:
            self._loop.remove_writer(self._sock)
        self._closed = True
        self._written.clear()
        self._size = 0
        self._unsent = memoryview(b"")
        self._sock.close()

    def _tell_early(self) -> None:
        if self._early and self._reading:
            self._on_readable()

    def _schedule(self) -> None:
        """Flush at the end of this iteration; while the kernel is full, only to find that the limit is reached."""
        if not self._scheduled and (not self._writing or self.unsent > LIMIT):
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _push(self, sealed: bytes) -> None:
        """Send bytes that need no more framing (TLS's own)."""
        if sealed:
            self._unsent = memoryview(bytes(self._unsent) + sealed)
            self._schedule()

    def _flush(self) -> None:
        """Send all there is; wait for the socket to become writable if the kernel does not take it."""
        self._scheduled = False
        if self._closed:
            return
        try:
            while self._unsent or self._written:
                if not self._unsent:
                    self._unsent = memoryview(self._seal())
                    continue
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except (BlockingIOError, InterruptedError):
            self._wait_writable()
        except (OSError, WebSocketException) as error:
            self._on_broken(error)
        else:
            if self._writing:
                self._writing = False
                self._loop.remove_writer(self._sock)
            self._on_drained()

    def _wait_writable(self) -> None:
        if self.unsent > LIMIT:
            self._on_broken(WireFull())
        elif not self._writing:
            self._writing = True
            self._loop.add_writer(self._sock, self._flush)

    def _seal(self) -> bytes:
        """Frame and encrypt all that is written."""
        data = b"".join(self._written) if len(self._written) > 1 else bytes(self._written[0])
        self._written.clear()
        self._size = 0
        if self._websocket is not None:
            self._websocket.send_binary(data)
            data = b"".join(self._websocket.data_to_send())
        if self._tls is not None:
            self._tls.encrypt(data)
            data = self._tls.outgoing()
        return data

    def _unframe(self, websocket: ClientProtocol, data: bytes) -> bytes:
        """Take WebSocket frames apart; an MQTT packet may span several (MQTT section 6)."""
        if data:
            websocket.receive_data(data)
        if websocket.parser_exc is not None or websocket.state is not State.OPEN:
            self.ended = True
        parts = []
        for event in websocket.events_received():
            frame: Frame = event  # type: ignore[assignment] # after the handshake there are only frames
            if frame.opcode in {Opcode.BINARY, Opcode.CONT}:
                parts.append(bytes(frame.data))
        replies = b"".join(websocket.data_to_send())
        if self._tls is not None and replies:
            self._tls.encrypt(replies)
            replies = self._tls.outgoing()
        self._push(replies)
        return b"".join(parts)

    def _farewell(self) -> bytes:
        """WebSocket close and TLS close_notify."""
        data = b""
        if self._websocket is not None and self._websocket.state is State.OPEN:
            self._websocket.send_close(1000)
            data = b"".join(self._websocket.data_to_send())
        if self._tls is not None:
            if data:
                self._tls.encrypt(data)
            self._tls.goodbye()
            data = self._tls.outgoing()
        return data


def _nothing() -> None:
    """Before `start` and after `close` nobody is told."""


def _nothing_of(_: Exception) -> None:
    """Likewise, for a failed write."""
