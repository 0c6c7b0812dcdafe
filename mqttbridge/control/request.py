"""What the handlers of the Unix socket read from a request: its query, and a small JSON body."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection

    from mqttbridge.sources.asgi import Receive, Scope

__all__ = ["BadRequest", "TooLarge", "body_of", "query_of", "whole_number"]

T = TypeVar("T")
MAX_BODY = 1024 * 1024
"""Bytes."""
DISCARDED = 16 * MAX_BODY
"""What is read of a body that is too large, so that its sender sees the answer and not a reset."""


class BadRequest(Exception):
    """The request gets 400, with this sentence."""


class TooLarge(BadRequest):
    """The request gets 413, with this sentence."""


def query_of(scope: Scope, known: Collection[str]) -> dict[str, str]:
    """Give the query; a name comes once, and is one of those that are known. Raises `BadRequest`."""
    pairs = urllib.parse.parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    query = dict(pairs)
    if len(query) != len(pairs):
        raise BadRequest("a name stands twice in the query")
    if unknown := sorted(query.keys() - set(known)):
        raise BadRequest(f"{unknown[0][:50]!r} is not asked for here; known: {', '.join(sorted(known)) or 'none'}")
    return query


def whole_number(query: dict[str, str], name: str, default: int, *, most: int) -> int:
    """Give a number of the query, 1 to `most`. Raises `BadRequest`."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):  # noqa: PLR2004
        raise BadRequest(f"{name} is a whole number from 1 to {most}")
    return int(text)


async def body_of(receive: Receive, wanted: type[T]) -> T:
    """Give the body, which is JSON of this type. Raises `BadRequest` and `TooLarge`."""
    body = bytearray()
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise BadRequest("the request ended too soon")
        size += len(message["body"])
        if size <= MAX_BODY:
            body += message["body"]
        if size > DISCARDED or not message.get("more_body"):
            break
    if size > MAX_BODY:
        raise TooLarge(f"the body is larger than {MAX_BODY} bytes")
    try:
        return msgspec.json.decode(body, type=wanted)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not what is asked for here: {error}") from error
