"""Asks a desk as the Unix socket would, without one."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from typing import TYPE_CHECKING, Any

from mqttbridge.settings.schema import Configuration, Connection

if TYPE_CHECKING:
    from mqttbridge.control.local import Routes

__all__ = ["ask", "connection"]


def connection(*, active: bool = True) -> Connection:
    """Give a connection as the settings have it."""
    return Connection(active=active, configuration=Configuration(host_name="broker.example"))


async def ask(
    routes: Routes, method: str, target: str, body: object = None, *, gone: asyncio.Event | None = None
) -> tuple[int, Any]:
    """Give status and body of an answer. `gone`: set when the client goes away; else it stays."""
    path, _, query = target.partition("?")
    known, handler = routes[path]
    assert known == method
    sent: list[dict[str, Any]] = []
    given = [json.dumps(body).encode()] if body is not None else [b""]

    async def receive() -> dict[str, Any]:
        if given:
            return {"type": "http.request", "body": given.pop()}
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "query_string": query.encode(), "headers": [], "method": method}
    await handler(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(one["body"] for one in sent[1:]))


def quoted(text: str) -> str:
    """Write a value of a query."""
    return urllib.parse.quote(text)
