"""The OpenAPI 3.1 document of the API: every route, and every answer that can come of it. Pure.

It is written here by hand, as a table, and not made from the handlers: what a handler answers is decided in several
rooms (who may, what the loader says, what the disk does). A test compares it with the router.
"""

from __future__ import annotations

from typing import Any, Final

from mqttbridge.api.operations import ERRORS, OPERATIONS, PARAMETERS, Operation
from mqttbridge.api.schemas import REF, schemas
from mqttbridge.sources.asgi import title

__all__ = ["openapi"]

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
TEXT: Final = {"schema": {"type": "string"}}
HEADERS: Final = {
    "ETag": {"description": "what If-Match compares", "required": True, **TEXT},
    "Location": {"description": "where it is", "required": True, "schema": {"type": "string"}},
    "Retry-After": {"description": "seconds", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "Bearer", **TEXT},
}
OF_ERRORS: Final = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
TAGS: Final = {
    "Connections": "connections to MQTT brokers",
    "Flows": "which uplinks go to which connections",
    "Daemon": "what happens, and who asks",
}


def openapi(version: str) -> dict[str, Any]:
    """Give the document."""
    paths: dict[str, Any] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = _operation(one)
    for path, item in paths.items():
        if "{id}" in path:
            item["parameters"] = [_id(path)]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mqttbridge",
            "version": version,
            "description": "Connections and flows, as ThingPark X IoT Flow knows them. HEAD works wherever GET does.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "a token of api.adminTokens or api.readOnlyTokens; none on the Unix socket",
                }
            },
            "responses": {f"E{status}": _error(status, text) for status, text in ERRORS.items()},
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": one.id,
        "summary": one.summary,
        "tags": [one.tag],
        "responses": {str(one.status): _success(one)},
    }
    if one.description:
        found["description"] = one.description
    if parameters := [PARAMETERS[name] for name in one.parameters]:
        found["parameters"] = parameters
    if one.takes:
        content: dict[str, Any] = {"schema": {"$ref": REF + one.takes}}
        if one.example is not None:
            content["examples"] = {"documented": {"summary": "as documented", "value": one.example}}
        found["requestBody"] = {"required": True, "content": {JSON: content}}
    if one.tries:
        text = "with dryRun: what came of trying it out"
        found["responses"]["200"] = _either(found["responses"].get("200"), _answer("Tested", text))
    for status in sorted({*one.errors, 400, 401, 403, 429, 500, 503, *((413, 415) if one.takes else ())}):
        found["responses"][str(status)] = {"$ref": f"#/components/responses/E{status}"}
    if one.id == "sendDownlink":
        submitted = {JSON: {"schema": {"$ref": f"{REF}Submitted"}}, PROBLEM: {"schema": {"$ref": f"{REF}Problem"}}}
        found["responses"]["422"] = {"description": "it ended at once, and why", "content": submitted}
    return found


def _success(one: Operation) -> dict[str, Any]:
    if not one.gives:
        return {"description": one.told}
    found = _answer(one.gives, one.told)
    if one.headers:
        found["headers"] = {name: HEADERS[name] for name in one.headers}
    return found


def _answer(schema: str, told: str) -> dict[str, Any]:
    return {"description": told, "content": {JSON: {"schema": {"$ref": REF + schema}}}}


def _either(first: dict[str, Any] | None, second: dict[str, Any]) -> dict[str, Any]:
    """Join two answers with one status; a header of the first may then be missing."""
    if first is None:
        return second
    each = [one["content"][JSON]["schema"] for one in (first, second)]
    headers = {name: {**header, "required": False} for name, header in first.get("headers", {}).items()}
    told = f"{first['description']}; {second['description']}"
    return {"description": told, "headers": headers, "content": {JSON: {"schema": {"anyOf": each}}}}


def _error(status: int, text: str) -> dict[str, Any]:
    example = {"type": "about:blank", "title": title(status), "status": status, "detail": text}
    found: dict[str, Any] = {
        "description": text,
        "content": {PROBLEM: {"schema": {"$ref": f"{REF}Problem"}, "example": example}},
    }
    if status in OF_ERRORS:
        found["headers"] = {name: HEADERS[name] for name in OF_ERRORS[status]}
    return found


def _id(path: str) -> dict[str, Any]:
    what, example = ("flow", "temperature") if path.startswith("/flows") else ("connection", "acme")
    schema = {"type": "string", "minLength": 1}
    text = f"the id of the {what}"
    return {"name": "id", "in": "path", "required": True, "description": text, "schema": schema, "example": example}
