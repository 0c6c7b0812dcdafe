"""The daemon's one HTTP application: hands uplinks to the sources, and answers /health and /metrics itself.

All else is for the API and the page, while they may be used over the network at all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.control.guard import guarded
from mqttbridge.control.pieces import in_pieces
from mqttbridge.sources.asgi import answer, problem, problem_unread
from mqttbridge.sources.http import PREFIX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mqttbridge.control.view import View
    from mqttbridge.sources.asgi import Receive, Scope, Send
    from mqttbridge.sources.http import HttpIntake

    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["API_SECTIONS", "App", "for_api"]

MAX_UNDER_WAY = 2000
"""Requests; /health is answered beyond it too."""


API_SECTIONS = frozenset(
    {
        "",
        "connections",
        "connectors",
        "downlinkMessages",
        "events",
        "favicon.ico",
        "flows",
        "openapi.json",
        "page",
        "session",
        "status",
    }
)
"""Where the routes of the API and of the page begin. What comes elsewhere may be an uplink that went astray."""


def for_api(path: str) -> bool:
    """Tell whether a path is one of the API or of the page, or near one."""
    return path.startswith("/") and path[1:].partition("/")[0] in API_SECTIONS


class App:
    """The ASGI application under the one listener."""

    def __init__(
        self,
        uplinks: HttpIntake,
        view: View,
        *,
        api: Application | None = None,
        api_enabled: Callable[[], bool] = lambda: True,
    ) -> None:
        """Serve uplinks and the view. `api` asks for a token by itself; without `api_enabled` it is not there."""
        self._api = api
        self._api_enabled = api_enabled
        self._uplinks = uplinks
        self._view = view
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A bug is answered with 500, told in the log, and ends nothing else."""
        if scope["type"] != "http":
            return
        if self._under_way >= MAX_UNDER_WAY and scope["path"] != "/health":
            detail = f"{MAX_UNDER_WAY} requests are under way, the most that are taken at once; send it again later"
            await self._uplinks.overloaded(scope, receive, send, detail)
            return
        self._under_way += 1
        try:
            await guarded(self._route, scope, receive, send)
        finally:
            self._under_way -= 1

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.startswith(PREFIX):
            await self._uplinks(scope, receive, send)
        elif self._api is not None and for_api(path) and self._api_enabled():
            await self._api(scope, receive, in_pieces(send))
        elif path not in ("/health", "/metrics"):
            detail = "there is nothing here; there are POST /uplink/<source>, GET /health and GET /metrics"
            await self._uplinks.not_found(scope, receive, send, detail)
        elif scope["method"] not in ("GET", "HEAD"):
            allow = ((b"allow", b"GET, HEAD"),)
            await problem_unread(scope, receive, send, 405, f"{path} is for GET", headers=allow)
        elif path == "/health":
            await self._health(send)
        else:
            body, content_type = await asyncio.to_thread(self._view.metrics)
            await answer(in_pieces(send), 200, body, content_type.encode())

    async def _health(self, send: Send) -> None:
        health = self._view.health()
        more: dict[str, Any] = {"connections": health.connections, "not_open": health.not_open}
        if health.downlinks:
            more["downlinks"] = health.downlinks
        if health.config:
            more["config"] = health.config
        if health.reasons:
            await problem(send, 503, "; ".join(health.reasons), reasons=health.reasons, **more)
        else:
            await answer(send, 200, msgspec.json.encode({"status": "ok", **more}))
