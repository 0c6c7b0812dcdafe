"""The routes that edit nothing: connectors, events, downlinks, the status, who asks, and the OpenAPI document."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from litestar import Request, Response, get, post

from mqttbridge.api.answers import answer, json_of, query, scope_of
from mqttbridge.api.auth import role_of
from mqttbridge.api.connections import USUAL, after_of
from mqttbridge.api.documents import id_of
from mqttbridge.api.openapi import openapi
from mqttbridge.api.schemas import connectors
from mqttbridge.control.events import LEVELS, members, not_a_name
from mqttbridge.control.request import BadRequest, whole_number

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from mqttbridge.api.seam import Views

__all__ = ["OtherRoutes"]

MOST_EVENTS = 1000
MAX_DIGITS = 15
TAKEN, REFUSED = 202, 422

Asked = Request[Any, Any, Any]
Answer = Response[bytes]


class OtherRoutes:
    """Answers who looks at the daemon as a whole, and takes downlinks."""

    def __init__(self, views: Views, version: str) -> None:
        """Look with these views; `version` is that of the program."""
        self._views = views
        self._openapi = openapi(version)
        self._connectors = {"connectors": connectors()}

    def routes(self) -> list[HTTPRouteHandler]:
        """Give what it answers, for Litestar."""
        return [
            get("/connectors", operation_id="listConnectors")(self._list_connectors),
            get("/events", operation_id="listEvents")(self._events),
            post("/downlinkMessages/{id:str}", operation_id="sendDownlink")(self._downlink),
            get("/status", operation_id="getStatus")(self._status),
            get("/session", operation_id="getSession")(self._session),
            get("/openapi.json", operation_id="getOpenApi")(self._document),
        ]

    async def _list_connectors(self, request: Asked) -> Answer:
        query(request)
        return answer(self._connectors)

    async def _events(self, request: Asked) -> Answer:
        given = query(request, "limit", "level", "name", "connection", "since", "after")
        level, name = given.get("level", "info"), given.get("name", "")
        if level not in LEVELS:
            raise BadRequest(f"level is one of {', '.join(LEVELS)}")
        if name and (reason := not_a_name(name)):
            raise BadRequest(reason)
        found = await self._views.events(
            limit=whole_number(given, "limit", USUAL, most=MOST_EVENTS),
            level=level,
            name=name,
            connection=given.get("connection", ""),
            since=_moment(given.get("since", "0")),
            after=after_of(given),
        )
        return answer({"events": [members(event) for event in found]})

    async def _downlink(self, request: Asked) -> Answer:
        query(request)
        _, body = await json_of(request)
        submitted = await self._views.submit_downlink(id_of(request), body)
        return answer(submitted, TAKEN if submitted.outcome == "accepted" else REFUSED)

    async def _status(self, request: Asked) -> Answer:
        query(request)
        return answer(self._views.status())

    async def _session(self, request: Asked) -> Answer:
        query(request)
        return answer({"role": role_of(scope_of(request)) or "read-only"})

    async def _document(self, request: Asked) -> Answer:
        query(request)
        return answer(self._openapi)


def _moment(text: str) -> int:
    """Read a time: ms since 1970, or ISO 8601 with an offset. Raises `BadRequest`."""
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return max(0, int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        pass
    raise BadRequest("since is a time: milliseconds since 1970, or such as 2026-11-22T19:30:00Z")
