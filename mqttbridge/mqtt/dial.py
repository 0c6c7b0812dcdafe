"""Reaching a broker: DNS, TCP, TLS, WebSocket, as far as the first MQTT packet.

All of it runs in the loop and can be cancelled at any moment; then nothing is left of it. Foreign errors end here:
`ResolveFailed`, `ConnectFailed`, `TlsFailed` are what callers see.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from contextlib import suppress
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from mqttbridge.errors import ConnectFailed, ResolveFailed, TlsFailed
from mqttbridge.mqtt import tls
from mqttbridge.mqtt.facts import Addresses, Attempt
from mqttbridge.mqtt.link import Step
from mqttbridge.mqtt.lookup import Address, Lookups
from mqttbridge.mqtt.reasons import CHECK_PORT
from mqttbridge.mqtt.wire import CHUNK, TlsPipe, Wire

if TYPE_CHECKING:
    from mqttbridge.mqtt.facts import Learn
    from mqttbridge.mqtt.options import LinkOptions

__all__ = ["connect_first", "dial", "interleave", "pipe_for", "resolve", "shake_hands", "upgrade"]

STAGGER = 0.25
"""Seconds before the next address is tried beside the ones that have not answered (RFC 8305)."""
LARGEST_FRAME = 32 * 1024 * 1024

_lookups = Lookups()


async def dial(options: LinkOptions, learn: Learn) -> Wire:
    """Connect, as `options` say; `learn` hears of each step as it begins, and of what is found on the way."""
    context = None
    if options.protocol != "TCP":
        learn(Step.CERTIFICATES)
        context = await tls.context_for(options)
    learn(Step.DNS)
    addresses = await resolve(options)
    learn(Addresses(tuple(_shown(address) for address in addresses)))
    learn(Step.TCP)
    sock = await connect_first(options, addresses, learn)
    try:
        loop = asyncio.get_running_loop()
        pipe = None
        if context is not None:
            learn(Step.TLS)
            pipe = pipe_for(options, context)
            await shake_hands(options, sock, pipe)
            learn(pipe.secured())
        if options.protocol != "WSS":
            return Wire(loop, sock, pipe)
        learn(Step.WEBSOCKET)
        websocket, early = await upgrade(options, sock, pipe)
        return Wire(loop, sock, pipe, websocket, early)
    except BaseException:
        sock.close()
        raise


async def resolve(options: LinkOptions) -> list[Address]:
    """Give the addresses of the host, IPv6 and IPv4 in turn."""
    host, port = options.host, options.port
    with suppress(ValueError, OSError):
        return [_literal(host, port)]
    try:
        return interleave(await _lookups.addresses(host, port))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "not a host name"
        raise ResolveFailed(
            f"{options.where}: the host name cannot be resolved: {why}; check hostName and DNS"
        ) from None


def _literal(host: str, port: int) -> Address:
    """Take an address that is written out; it needs no lookup. Raises `ValueError` if it is none."""
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv4Address):
        return socket.AF_INET, (host, port)
    scope = address.scope_id
    index = 0 if scope is None else int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
    return socket.AF_INET6, (host.partition("%")[0], port, 0, index)


def _shown(address: Address) -> str:
    """Give an address as people read it."""
    return str(address[1][0])


def interleave(addresses: list[Address]) -> list[Address]:
    """Put the families in turn, the resolver's first choice first (RFC 8305, section 4)."""
    first = addresses[0][0]
    ours = [address for address in addresses if address[0] == first]
    others = [address for address in addresses if address[0] != first]
    return [address for address in chain.from_iterable(zip_longest(ours, others)) if address is not None]


async def connect_first(options: LinkOptions, addresses: list[Address], learn: Learn) -> socket.socket:
    """Give the first socket that connects; the attempts start one after the other and overlap."""
    attempts: dict[asyncio.Task[socket.socket], str] = {}
    running: set[asyncio.Task[socket.socket]] = set()
    winner = None
    errors: list[OSError] = []
    try:
        for position, address in enumerate(addresses):
            task = asyncio.create_task(_connect(address))
            attempts[task] = _shown(address)
            running.add(task)
            last = position == len(addresses) - 1
            while running and winner is None:
                timeout = None if last else STAGGER
                done, running = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    error = task.exception()
                    if isinstance(error, OSError):
                        errors.append(error)
                        learn(Attempt(attempts[task], _why([error])))
                    elif error is None and winner is None:
                        winner = task
                        learn(Attempt(attempts[task]))
                if not last:
                    break
            if winner is not None:
                return winner.result()
    finally:
        for task in attempts:
            if task is not winner:
                task.add_done_callback(_discard)
                task.cancel()
    raise ConnectFailed(f"{options.where}: cannot connect: {_why(errors)}")


def _discard(task: asyncio.Task[socket.socket]) -> None:
    """Close the socket of an attempt that came too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connect(address: Address) -> socket.socket:
    """Connect to one address."""
    family, target = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


def pipe_for(options: LinkOptions, context: ssl.SSLContext) -> TlsPipe:
    """Prepare TLS; a host name that cannot stand in a certificate fails here."""
    try:
        return TlsPipe(context, options.host.partition("%")[0])
    except ValueError:
        raise TlsFailed(f"{options.where}: no certificate can be valid for this host name; check hostName") from None


async def shake_hands(options: LinkOptions, sock: socket.socket, pipe: TlsPipe) -> None:
    """Drive the TLS handshake."""
    loop = asyncio.get_running_loop()
    data = b""
    try:
        while True:
            try:
                done = pipe.handshake(data)
            finally:
                with suppress(OSError):  # an alert that explains a failure, if the broker still reads
                    await loop.sock_sendall(sock, pipe.outgoing())
            if done:
                return
            data = await loop.sock_recv(sock, CHUNK)
            if not data:
                raise TlsFailed(
                    f"{options.where}: the broker closed the connection during the TLS handshake; {CHECK_PORT}"
                )
    except ssl.SSLError as error:
        verify = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else None
        raise TlsFailed(
            f"{options.where}: {tls.explain(error, own_ca=options.ca is not None)}", verify=verify
        ) from None
    except OSError as error:
        raise TlsFailed(
            f"{options.where}: the connection broke during the TLS handshake: {_why([error])}; {CHECK_PORT}"
        ) from None


async def upgrade(options: LinkOptions, sock: socket.socket, pipe: TlsPipe | None) -> tuple[ClientProtocol, bytes]:
    """Open the WebSocket; gives it with the bytes that came right behind the broker's answer."""
    path = options.web_socket_path
    uri = WebSocketURI(pipe is not None, options.host, options.port, path, "")
    websocket = ClientProtocol(uri, subprotocols=[Subprotocol("mqtt")], max_size=LARGEST_FRAME)
    websocket.send_request(websocket.connect())
    try:
        return websocket, await _exchange_upgrade(sock, pipe, websocket)
    except InvalidStatus as error:
        raise ConnectFailed(
            f"{options.where}: the broker answered the WebSocket upgrade of {path} with HTTP "
            f"{error.response.status_code}; check webSocketPath, or {CHECK_PORT}",
            status=error.response.status_code,
        ) from None
    except InvalidHandshake as error:
        raise ConnectFailed(f"{options.where}: the WebSocket upgrade failed: {error}; {CHECK_PORT}") from None
    except ssl.SSLError as error:
        raise TlsFailed(f"{options.where}: {tls.explain(error, own_ca=options.ca is not None)}") from None
    except OSError as error:
        raise ConnectFailed(f"{options.where}: the WebSocket upgrade failed: {_why([error])}; {CHECK_PORT}") from None


async def _exchange_upgrade(sock: socket.socket, pipe: TlsPipe | None, websocket: ClientProtocol) -> bytes:
    """Send the request and wait for the answer; raises `InvalidHandshake` if it is no upgrade."""
    loop = asyncio.get_running_loop()
    request = b"".join(websocket.data_to_send())
    if pipe is not None:
        pipe.encrypt(request)
        request = pipe.outgoing()
    await loop.sock_sendall(sock, request)
    while True:
        data = await loop.sock_recv(sock, CHUNK)
        ended = not data
        if pipe is not None and data:
            data = pipe.decrypt(data)
            ended = pipe.ended
        if data:
            websocket.receive_data(data)
        if ended:
            websocket.receive_eof()
        if websocket.handshake_exc is not None:
            raise websocket.handshake_exc
        events = websocket.events_received()
        if events and isinstance(events[0], Response):
            return b"".join(bytes(event.data) for event in events[1:] if isinstance(event, Frame))


def _why(errors: list[OSError]) -> str:
    """Name each different reason once."""
    texts = [os.strerror(error.errno) if error.errno else str(error) for error in errors]
    return ", ".join(dict.fromkeys(text.lower() for text in texts)) or "no address"
