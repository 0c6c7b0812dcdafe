"""The table of operations that the OpenAPI document is made of. Data alone."""

from __future__ import annotations

from typing import Any, Final

import msgspec

__all__ = ["ERRORS", "EXAMPLE", "OPERATIONS", "PARAMETERS", "Operation"]

ERRORS: Final = {
    400: "the body is not JSON, or the query is not what it should be",
    401: "no token, or none that is known",
    403: "the token is read-only, or the request comes from another web site",
    404: "there is no such connection or flow",
    409: "it exists already, the main file owns it, something refers to it, or the files cannot be changed now",
    412: "If-Match is not its ETag any more",
    413: "the body is larger than 1 MiB",
    415: "the body is not application/json",
    422: "the document is wrong; `errors` names the properties; nothing was written",
    429: "too many wrong tokens",
    500: "a bug: the log has the cause",
    503: "the disk fails, or too many requests are under way",
}
EXAMPLE: Final = {
    "connectorId": "actility-mqtt-iot",
    "name": "Actility MQTT (SSL) Connection",
    "configuration": {
        "description": "MQTT (SSL) connection example",
        "uplinkTopicPattern": "mqtt/things/{DevEUI}/uplink",
        "downlinkTopicPattern": "mqtt/things/{DevEUI}/downlink",
        "hostName": "broker.example.com:8883",
        "protocol": "SSL",
        "username": "mycompany",
        "password": "bar",
    },
}
"""ThingPark's, without certificate and key: nobody can make those up."""
FLOW: Final = {
    "name": "Test Flow",
    "description": "This is a flow of test",
    "driver": {"id": "actility:auto:1"},
    "matchers": [
        {"type": "thing", "tags": ["TemperatureService", "MyBestCustomer"]},
        {"type": "key", "key": "lora:0018b20000000b20"},
    ],
    "connectors": [{"id": "actility-mqtt-iot", "connectionId": "acme", "uplinkTimeValidity": "72h"}],
}
DOWNLINK: Final = {"DevEUI_downlink": {"DevEUI": "0018B20000000B20", "FPort": 2, "payload_hex": "0103", "Confirmed": 1}}


def _query(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _number(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


BOOLEAN: Final = {"type": "boolean", "default": False}
PARAMETERS: Final = {
    "dryRun": _query("dryRun", "true: try it out, and keep nothing", BOOLEAN),
    "If-Match": {
        "name": "If-Match",
        "in": "header",
        "description": "the ETag that it must still have",
        "schema": {"type": "string"},
        "example": '"5f2b1c9a7d3e"',
    },
    "uplinks": _query("limit", "how many at most", {**_number(1, 200), "default": 50}),
    "limit": _query("limit", "how many at most", {**_number(1, 1000), "default": 50}),
    "after": _query("after", "an id: only what came after it", _number(0, 10**18 - 1)),
    "documents": _query("documents", "true: with the documents themselves", BOOLEAN),
    "level": _query("level", "this one and worse", {"enum": ["info", "warning", "error"], "default": "info"}),
    "name": _query("name", "the name of an event, or all of a kind: connection.*", {"type": "string"}),
    "connection": _query("connection", "the id of a connection", {"type": "string"}),
    "since": _query(
        "since",
        "milliseconds since 1970, or ISO 8601 with an offset",
        {"anyOf": [_number(0, 10**15 - 1), {"type": "string", "format": "date-time"}]},
    ),
}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One route with one method. `takes` and `gives` name schemas; `told` describes the answer with `status`."""

    method: str
    path: str
    id: str
    summary: str
    tag: str = "Connections"
    description: str = ""
    parameters: tuple[str, ...] = ()
    takes: str = ""
    example: Any = None
    status: int = 200
    gives: str = ""
    told: str
    headers: tuple[str, ...] = ()
    tries: bool = False
    """With dryRun it answers 200 Tested."""
    errors: tuple[int, ...] = ()


KEEP_SECRETS = "The whole document; a secret that is `*****` stays as it is."
OPERATIONS: Final = (
    Operation(
        method="get", path="/connections", id="listConnections", summary="List connections",
        gives="List_connections", told="all of them, in the order of the file",
    ),
    Operation(
        method="post", path="/connections", id="createConnection", summary="Make a connection",
        description="Unknown properties of ThingPark are left out, with a warning.",
        parameters=("dryRun",), takes="ConnectionDocument", example=EXAMPLE, status=201, gives="ConnectionWritten",
        told="it is made, and in force", headers=("Location", "ETag"), tries=True, errors=(409, 422),
    ),
    Operation(
        method="get", path="/connections/{id}", id="getConnection", summary="Show a connection",
        gives="ConnectionView", told="the connection", headers=("ETag",), errors=(404,),
    ),
    Operation(
        method="put", path="/connections/{id}", id="replaceConnection", summary="Replace a connection",
        description=KEEP_SECRETS, parameters=("dryRun", "If-Match"), takes="ConnectionDocument", example=EXAMPLE,
        gives="ConnectionWritten", told="it is replaced, and in force", headers=("ETag",), tries=True,
        errors=(404, 409, 412, 422),
    ),
    Operation(
        method="delete", path="/connections/{id}", id="deleteConnection", summary="Delete a connection",
        parameters=("If-Match",), status=204, told="it is gone", errors=(404, 409, 412),
    ),
    Operation(
        method="post", path="/connections/{id}/start", id="startConnection", summary="Start a connection",
        description="Sets `active` in its file.", gives="ConnectionView", told="the connection",
        headers=("ETag",), errors=(404, 409, 422),
    ),
    Operation(
        method="post", path="/connections/{id}/stop", id="stopConnection", summary="Stop a connection",
        description="Sets `active` in its file.", gives="ConnectionView", told="the connection",
        headers=("ETag",), errors=(404, 409, 422),
    ),
    Operation(
        method="post", path="/connections/{id}/restart", id="restartConnection", summary="Restart a connection",
        description="Ends its session, and begins another.", gives="ConnectionView", told="the connection",
        headers=("ETag",), errors=(404, 409),
    ),
    Operation(
        method="get", path="/connections/{id}/uplinks", id="listUplinks", summary="List the last uplinks",
        parameters=("uplinks", "after", "documents"), gives="List_uplinks", told="newest first", errors=(404,),
    ),
    Operation(
        method="get", path="/connections/{id}/counters", id="getCounters", summary="Show what was counted",
        gives="Counters", told="the last hour by minutes, the last day by hours", errors=(404,),
    ),
    Operation(
        method="get", path="/connectors", id="listConnectors", summary="List the kinds of connections",
        gives="List_connectors", told="with the JSON Schema of `configuration`",
    ),
    Operation(
        method="get", path="/flows", id="listFlows", summary="List flows", tag="Flows",
        gives="List_flows", told="all of them",
    ),
    Operation(
        method="post", path="/flows", id="createFlow", summary="Make a flow", tag="Flows",
        takes="FlowDocument", example=FLOW, status=201, gives="FlowWritten", told="it is made, and in force",
        headers=("Location", "ETag"), errors=(409, 422),
    ),
    Operation(
        method="get", path="/flows/{id}", id="getFlow", summary="Show a flow", tag="Flows",
        gives="FlowView", told="the flow", headers=("ETag",), errors=(404,),
    ),
    Operation(
        method="put", path="/flows/{id}", id="replaceFlow", summary="Replace a flow", tag="Flows",
        parameters=("If-Match",), takes="FlowDocument", example=FLOW, gives="FlowWritten",
        told="it is replaced, and in force", headers=("ETag",), errors=(404, 409, 412, 422),
    ),
    Operation(
        method="delete", path="/flows/{id}", id="deleteFlow", summary="Delete a flow", tag="Flows",
        parameters=("If-Match",), status=204, told="it is gone", errors=(404, 409, 412),
    ),
    Operation(
        method="get", path="/events", id="listEvents", summary="List what happened", tag="Daemon",
        parameters=("limit", "level", "name", "connection", "since", "after"),
        gives="List_events", told="oldest first",
    ),
    Operation(
        method="post", path="/downlinkMessages/{id}", id="sendDownlink", summary="Send a downlink", tag="Connections",
        description="As if the broker of the connection had sent it.", takes="Downlink", example=DOWNLINK, status=202,
        gives="Submitted", told="it is on disk, and goes on", errors=(404, 409, 422),
    ),
    Operation(
        method="get", path="/status", id="getStatus", summary="Show the daemon", tag="Daemon",
        gives="Status", told="every part of it, now",
    ),
    Operation(
        method="get", path="/session", id="getSession", summary="Tell who asks", tag="Daemon",
        gives="Session", told="the role of the token",
    ),
    Operation(
        method="get", path="/openapi.json", id="getOpenApi", summary="Give this document", tag="Daemon",
        gives="OpenApi", told="OpenAPI 3.1",
    ),
)  # fmt: skip
