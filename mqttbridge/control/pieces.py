"""Hands a large answer to the connection piece by piece, so that a client that reads slowly does not have all of it
copied into the buffers of its connection, and one that does not read at all can be told from one that does.
"""  # noqa: D205 (one sentence)

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mqttbridge.sources.asgi import Message, Send

__all__ = ["PIECE", "in_pieces"]

PIECE = 64 * 1024
"""Bytes."""


def in_pieces(send: Send) -> Send:
    """Give a `send` that cuts the bodies of answers. Each piece waits until the connection takes it."""

    async def sending(message: Message) -> None:
        body = message.get("body", b"")
        if message["type"] != "http.response.body" or len(body) <= PIECE:
            await send(message)
            return
        more = message.get("more_body", False)
        view = memoryview(body)
        for start in range(0, len(view), PIECE):
            rest = more or start + PIECE < len(view)
            await send({**message, "body": bytes(view[start : start + PIECE]), "more_body": rest})

    return sending
