"""The daemon's one HTTP application: hands uplinks to the sources, and answers /health and /metrics itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.observe.log import get_logger
from mqttbridge.sources.asgi import answer, problem
from mqttbridge.sources.http import PREFIX

if TYPE_CHECKING:
    from mqttbridge.control.view import View
    from mqttbridge.sources.asgi import Message, Receive, Scope, Send
    from mqttbridge.sources.http import HttpIntake

__all__ = ["App"]

log = get_logger()


class App:
    """The ASGI application under the one listener."""

    def __init__(self, uplinks: HttpIntake, view: View) -> None:
        """Serve uplinks and the view."""
        self._uplinks = uplinks
        self._view = view

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A bug is answered with 500, told in the log, and ends nothing else."""
        if scope["type"] != "http":
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._route(scope, receive, sending)
        except Exception:
            log.exception("http.crashed", path=scope["path"])
            if not started:
                await problem(send, 500, "internal error: the log of mqttbridge has the cause; please report it")

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.startswith(PREFIX):
            await self._uplinks(scope, receive, send)
        elif path not in ("/health", "/metrics"):
            detail = "there is nothing here; there are POST /uplink/<source>, GET /health and GET /metrics"
            await problem(send, 404, detail)
        elif scope["method"] not in ("GET", "HEAD"):
            await problem(send, 405, f"{path} is for GET", headers=((b"allow", b"GET, HEAD"),))
        elif path == "/health":
            await self._health(send)
        else:
            body, content_type = await asyncio.to_thread(self._view.metrics)
            await answer(send, 200, body, content_type.encode())

    async def _health(self, send: Send) -> None:
        health = self._view.health()
        if health.reasons:
            detail = "; ".join(health.reasons)
            await problem(send, 503, detail, reasons=health.reasons, connections=health.connections)
        else:
            body = msgspec.json.encode({"status": "ok", "connections": health.connections})
            await answer(send, 200, body)
