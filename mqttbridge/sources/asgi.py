"""Answers over plain ASGI: JSON, and RFC 9457 problem details. For the uplink route and the rooms above."""

from __future__ import annotations

import asyncio
import contextlib
import http
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

__all__ = ["Message", "Receive", "Scope", "Send", "answer", "details", "problem", "problem_unread", "title"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

Headers = tuple[tuple[bytes, bytes], ...]

TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
"""Where RFC 9110 says something else than the oldest Python that we run on."""
SMALL = 64 * 1024
"""Bytes of a body that is read before the answer even if nobody wants it, so that the connection may be kept."""
LINGER = 10.0
"""Seconds."""
LINGER_BYTES = 64 * 1024 * 1024
"""How much of an unwanted body is read and discarded, at most."""

_encode = msgspec.json.Encoder().encode


async def answer(
    send: Send, status: int, body: bytes, content_type: bytes = b"application/json", headers: Headers = ()
) -> None:
    """Send a whole answer."""
    await send(_start(status, body, content_type, headers))
    await send({"type": "http.response.body", "body": body})


async def problem(send: Send, status: int, detail: str, *, headers: Headers = (), **more: object) -> None:
    """Send problem details (RFC 9457, section 3): `detail` is a sentence, `more` are members of our own."""
    await answer(send, status, details(status, detail, **more), b"application/problem+json", headers)


async def problem_unread(
    scope: Scope, receive: Receive, send: Send, status: int, detail: str, *, headers: Headers = (), **more: object
) -> None:
    """Send problem details to a client that may still be sending its body.

    Were the connection closed on it, the client would see a reset instead of the answer. So a small body is read
    first; of a large one the rest is read, and discarded, behind the answer.
    """
    given = dict(scope["headers"])
    length = int(given.get(b"content-length", b"0"))
    chunked = b"transfer-encoding" in given
    small = not chunked and length <= SMALL
    if small and (not length or await _discard(receive)):
        await problem(send, status, detail, headers=headers, **more)
        return
    body = details(status, detail, **more)
    await send(_start(status, body, b"application/problem+json", (*headers, (b"connection", b"close"))))
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if not small:
        await _discard(receive)
    await send({"type": "http.response.body", "body": b""})


def _start(status: int, body: bytes, content_type: bytes, headers: Headers) -> Message:
    length = (b"content-length", str(len(body)).encode())
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", content_type), length, *headers],
    }


def title(status: int) -> str:
    """Give the phrase of a status."""
    return TITLES.get(status) or http.HTTPStatus(status).phrase


def details(status: int, detail: str, **more: object) -> bytes:
    """Give the body of problem details; members that are empty are left out."""
    body: dict[str, object] = {"type": "about:blank", "title": title(status), "status": status, "detail": detail}
    body.update((key, value) for key, value in more.items() if value not in (None, ""))
    return _encode(body)


async def _discard(receive: Receive) -> bool:
    """Read and forget what still comes, within bounds; False if they were reached before the end."""
    left = LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while left > 0:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body"):
                    return True
                left -= len(message["body"])
    return False
