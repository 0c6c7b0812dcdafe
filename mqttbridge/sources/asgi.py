"""Answers over plain ASGI: JSON, and RFC 9457 problem details. For the uplink route and the rooms above."""

from __future__ import annotations

import http
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

__all__ = ["Message", "Receive", "Scope", "Send", "answer", "problem"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

Headers = tuple[tuple[bytes, bytes], ...]

_encode = msgspec.json.Encoder().encode


async def answer(
    send: Send, status: int, body: bytes, content_type: bytes = b"application/json", headers: Headers = ()
) -> None:
    """Send a whole answer."""
    length = (b"content-length", str(len(body)).encode())
    start = {"type": "http.response.start", "status": status}
    await send({**start, "headers": [(b"content-type", content_type), length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def problem(send: Send, status: int, detail: str, *, headers: Headers = (), **more: object) -> None:
    """Send problem details (RFC 9457, section 3): `detail` is a sentence, `more` are members of our own."""
    body: dict[str, object] = {"type": "about:blank", "title": http.HTTPStatus(status).phrase, "status": status}
    body["detail"] = detail
    body.update((key, value) for key, value in more.items() if value not in (None, ""))
    await answer(send, status, _encode(body), b"application/problem+json", headers)
