"""Looks at a peer from outside: which certificates it shows, and what it speaks. For the doctor alone.

Invariants:

1. Nothing is verified here, so nothing of the user's goes over it: no client certificate, user name, password, client
   id, topic or path. Only host, port and the alpn names of the options are used.
2. Nothing is ever subscribed or published, and no login is waited for longer than for its first byte.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.errors import LinkError, TlsFailed
from mqttbridge.mqtt import packets
from mqttbridge.mqtt.dial import connect_first, pipe_for, resolve, shake_hands, upgrade
from mqttbridge.mqtt.options import LinkOptions

if TYPE_CHECKING:
    import socket

    from mqttbridge.mqtt.facts import Fact, Secured

__all__ = ["Look", "look", "speaks"]

HANDSHAKE, CERTIFICATE_REQUEST = 22, 13
"""TLS: content type, and handshake type (RFC 8446, section 4)."""
NOBODY = b"\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"
"""CONNECT of MQTT 3.1.1 (section 3.1): a clean session, 10 s of keep alive, no client id, no user."""
CONNECT = 0x10
PROTOCOLS = ("WSS", "SSL", "TCP", "WS")
"""What tells most comes first: who speaks WSS speaks TLS too."""


class Look(msgspec.Struct, frozen=True):
    """What a handshake showed. `wants_certificate`: the broker asks for a client certificate, needed or not."""

    secured: Secured
    wants_certificate: bool


async def look(options: LinkOptions) -> Look:
    """Shake hands without verifying, read the certificates, and hang up. Raises `LinkError`; has no time limit."""
    asked: list[int] = []
    sock = await _connected(options)
    try:
        pipe = pipe_for(options, _unverified(options.alpn, asked))
        try:
            await shake_hands(options, sock, pipe)
        except TlsFailed:
            # TLS 1.2: a broker that demands a client certificate has shown its own before it refuses.
            if not pipe.secured().chain:
                raise
        return Look(pipe.secured(), bool(asked))
    finally:
        sock.close()


async def speaks(options: LinkOptions, patience: float) -> str:
    """Give what answers at host and port: `SSL`, `WSS`, `TCP`, `WS` (WebSocket without TLS), or nothing known: "".

    `patience`: seconds that it waits at most, for all of them at once.
    """
    bare = LinkOptions(host=options.host, port=options.port, client_id="")
    answers = await asyncio.gather(*(_answers(bare, protocol, patience) for protocol in PROTOCOLS))
    return next((protocol for protocol, there in zip(PROTOCOLS, answers, strict=True) if there), "")


async def _answers(options: LinkOptions, protocol: str, patience: float) -> bool:
    """Tell whether the peer speaks a protocol."""
    try:
        async with asyncio.timeout(patience):
            return await _try(options, protocol)
    except (LinkError, OSError):  # with TimeoutError
        return False


async def _try(options: LinkOptions, protocol: str) -> bool:
    """Try one protocol. Raises `LinkError`, `OSError` if the peer does not speak it."""
    sock = await _connected(options)
    try:
        pipe = None
        if protocol in {"WSS", "SSL"}:
            pipe = pipe_for(options, _unverified((), []))
            await shake_hands(options, sock, pipe)
        if protocol in {"WSS", "WS"}:
            await upgrade(options, sock, pipe)
        elif protocol == "TCP":
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, packets.encode(CONNECT, NOBODY))
            return (await loop.sock_recv(sock, 1))[:1] == bytes((packets.CONNACK << 4,))
        return True
    finally:
        sock.close()


async def _connected(options: LinkOptions) -> socket.socket:
    return await connect_first(options, await resolve(options), _unheard)


def _unheard(_: Fact) -> None:
    """Take no note."""


def _unverified(alpn: tuple[str, ...], asked: list[int]) -> ssl.SSLContext:
    """Make a context that takes any certificate and has none; `asked` grows when a client certificate is wanted."""

    def note(_: object, direction: str, __: int, content: int, kind: int, ___: bytes) -> None:
        if direction == "read" and (content, kind) == (HANDSHAKE, CERTIFICATE_REQUEST):
            asked.append(kind)

    context: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context._msg_callback = note  # noqa: SLF001 - pinned
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context  # type: ignore[no-any-return]
