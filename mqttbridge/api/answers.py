"""What all handlers of the API share: reading a request, and answering with JSON or with problem details.

A handler raises `Refused`, `BadRequest`, or an error of the disk; `HANDLERS` turns each into problem details (RFC
9457). What is none of them is a bug: it goes on, up to what stands around the application.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

import msgspec
from litestar import Response
from litestar.exceptions import HTTPException

from mqttbridge.api.seam import Problem, Refused
from mqttbridge.control.request import BadRequest, query_of
from mqttbridge.errors import HistoryFailed, JournalError
from mqttbridge.sources.asgi import details

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litestar import Request
    from litestar.types import ExceptionHandlersMap

    from mqttbridge.sources.asgi import Scope

    Asked = Request[Any, Any, Any]
    Answer = Response[bytes]

__all__ = ["HANDLERS", "allowed", "answer", "flag", "if_match", "json_of", "problem", "query", "scope_of"]

RETRY = {"Retry-After": "5"}
MAX_NAME = 64
"""Characters of a property's name that are shown."""
MAX_ERRORS = 50
"""Properties that are named in one answer."""
JSON = re.compile(r"application/(?:json|[a-z0-9.-]+\+json)", re.IGNORECASE).fullmatch
UTF8 = re.compile(r"charset\s*=\s*\"?utf-?8\"?", re.IGNORECASE).fullmatch
ETAG = re.compile(r"\s*(?:W/)?(?:\"([\x21\x23-\x7e]*)\"|([\x21\x23-\x2b\x2d-\x7e]+))\s*").fullmatch
TRUTH = {"true": True, "1": True, "false": False, "0": False}

_encode = msgspec.json.Encoder().encode


def answer(body: object, status: int = 200, *, etag: str = "", location: str = "") -> Answer:
    """Answer with JSON."""
    headers = {"ETag": f'"{etag}"'} if etag else {}
    if location:
        headers["Location"] = location
    return Response(_encode(body), status_code=status, media_type="application/json", headers=headers)


def problem(
    status: int, detail: str, problems: tuple[Problem, ...] = (), headers: Mapping[str, str] | None = None
) -> Answer:
    """Answer with problem details; `errors` names the properties."""
    body = details(status, detail, errors=problems[:MAX_ERRORS] or None)
    return Response(body, status_code=status, media_type="application/problem+json", headers=dict(headers or {}))


def scope_of(request: Asked) -> Scope:
    """Give the scope of a request, as our own applications know it."""
    return cast("Scope", request.scope)


def query(request: Asked, *known: str) -> dict[str, str]:
    """Give the query; only these names may be in it. Raises `BadRequest`."""
    if not known and request.scope["query_string"]:
        raise BadRequest("nothing is asked for by a query here")
    return query_of(scope_of(request), known)


def flag(given: Mapping[str, str], name: str) -> bool:
    """Give a yes or no of the query; no by default. Raises `BadRequest`."""
    try:
        return TRUTH[given.get(name, "false").lower()]
    except KeyError:
        raise BadRequest(f"{name} is true or false") from None


async def json_of(request: Asked) -> tuple[Any, bytes]:
    """Give the body: as JSON, and as it came. Raises `BadRequest`, `Refused` (415)."""
    kind, _, parameter = request.headers.get("content-type", "").partition(";")
    if not JSON(kind.strip()) or (parameter.strip() and not UTF8(parameter.strip())):
        raise Refused(415, "send JSON in UTF-8, with the header Content-Type: application/json")
    body = await request.body()
    try:
        found = msgspec.json.decode(body)
        json.loads(body, object_pairs_hook=_once)
    except RecursionError:
        raise BadRequest("the body is nested too deep") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    return found, body


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Refuse an object that has a name twice: of two values one would be lost without a word."""
    if len(dict(pairs)) == len(pairs):
        return
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise BadRequest(f"the body has {name[:MAX_NAME]!a} twice in one object; keep one of them")
        seen.add(name)


def if_match(request: Asked, current: str | None) -> str | None:
    """Give the etag that the caller insists on, if any: of several, the `current` one. Raises `BadRequest`.

    The etag is that of the file, not of these bytes: one that a proxy has made weak still tells two files apart.
    """
    header = ",".join(request.headers.getall("if-match", []))
    if not header.strip() or header.strip() == "*":
        return None
    found = [ETAG(part) for part in header.split(",")]
    tags = [one[1] if one[1] is not None else one[2] for one in found if one]
    if len(tags) != len(found):
        raise BadRequest('If-Match is an ETag in quotes, such as "5f2b1c9a7d3e", or several with commas between')
    if current is not None and current in tags:
        return current
    # In quotes it is a tag like others; bare it would be: whatever is there.
    return tags[0] if tags[0] != "*" else '"*"'


def _refused(_request: Asked, error: Exception) -> Answer:
    if not isinstance(error, Refused):
        raise error
    return problem(error.status, error.detail, error.problems, RETRY if error.status in {429, 503} else None)


def _bad_request(_request: Asked, error: Exception) -> Answer:
    return problem(400, str(error))


def _unavailable(_request: Asked, error: Exception) -> Answer:
    return problem(503, str(error), headers=RETRY)


def _http(request: Asked, error: Exception) -> Answer:
    """Put what Litestar itself raises into our words."""
    if not isinstance(error, HTTPException) or error.status_code >= 500:  # noqa: PLR2004
        raise error
    path = repr(request.scope["path"][:100])
    match error.status_code:
        case 404:
            return problem(404, f"there is nothing at {path}; GET /openapi.json tells what there is")
        case 405:
            allow = allowed((error.headers or {}).get("allow", ""))
            return problem(405, f"{path} is for {allow}", headers={"Allow": allow})
        case 413:
            return problem(413, "the body is larger than is taken here")
        case _:
            return problem(error.status_code, error.detail)


def allowed(methods: str) -> str:
    """Give the methods of a route as `Allow` names them: HEAD goes wherever GET does, OPTIONS nowhere."""
    names = {name.strip() for name in methods.split(",") if name.strip()} - {"OPTIONS"}
    return ", ".join(sorted(names | ({"HEAD"} if "GET" in names else set())))


def _bug(_request: Asked, error: Exception) -> Answer:
    raise error


HANDLERS: ExceptionHandlersMap = {
    Refused: _refused,
    BadRequest: _bad_request,
    HistoryFailed: _unavailable,
    JournalError: _unavailable,
    HTTPException: _http,
    Exception: _bug,
}
"""For Litestar."""
