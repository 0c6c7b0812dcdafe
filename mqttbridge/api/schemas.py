"""The JSON Schemas of what the API takes and gives. Pure.

What it gives follows from the structs of the seam. What it takes follows from the schema of the configuration file,
as `shapes` reads it: with the properties that are ignored, and with the types that JSON has and YAML guesses.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from mqttbridge.api.seam import ConnectionView, Counters, FlowView, RecentUplink, Submitted, Tested
from mqttbridge.api.shapes import FOREIGN, READ_ONLY
from mqttbridge.control.status import Status
from mqttbridge.settings.checks import IDENTITY_PATTERN
from mqttbridge.settings.jsonschema import json_schema
from mqttbridge.settings.schema import Configuration, Connection, Flow

__all__ = ["connectors", "schemas"]

VIEWS: Final = (ConnectionView, FlowView, Tested, Counters, RecentUplink, Submitted, Status)
TAKEN: Final = ("Connection", "Configuration", "Alarm", "Recurrence", "Flow", "ThingMatcher", "KeyMatcher")
"""Parts of the configuration file that the API takes."""
REF: Final = "#/components/schemas/"
NULL: Final = {"type": "null"}
FROM_YAML: Final = ["string", "number", "boolean"]
CONNECTOR_IDS: Final = ("actility-mqtt-iot", "mqtt")


def schemas() -> dict[str, Any]:
    """Give all schemas, by name, for `components` of an OpenAPI document."""
    _, given = msgspec.json.schema_components(VIEWS, ref_template=REF + "{name}")
    definitions = json_schema()["$defs"]
    taken = {f"{name}Document": _taken(definitions[name]) for name in TAKEN}
    _open(taken["ConnectionDocument"], READ_ONLY[Connection], FOREIGN[Connection])
    _open(taken["ConfigurationDocument"], (), FOREIGN[Configuration])
    _open(taken["FlowDocument"], READ_ONLY[Flow], FOREIGN[Flow])
    for name in ("ConnectionDocument", "FlowDocument"):
        taken[name]["properties"]["id"] = {
            "description": "1 to 64 letters, digits, . _ or -; without it one is made of the name",
            "anyOf": [{"type": "string", "pattern": IDENTITY_PATTERN}, NULL],
        }
    _with_connectors(taken["FlowDocument"])
    return {**given, **taken, **_answers(), "Problem": _problem(), "Event": _event(), "Downlink": _downlink()}


def connectors() -> list[dict[str, Any]]:
    """Give the kinds of connections: two names for one, with the schema of `configuration`."""
    configuration = _taken(json_schema()["$defs"]["Configuration"])
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **configuration}
    text = "Publishes uplinks to an MQTT broker, and takes downlinks from it."
    return [
        {"id": id_, "name": "MQTT", "description": text, "configurationSchema": schema} for id_ in CONNECTOR_IDS[:1]
    ]


def _taken(schema: Any) -> Any:  # noqa: ANN401 - JSON
    """Put a schema of the configuration file into the types of JSON."""
    if isinstance(schema, list):
        return [_taken(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _taken(value) for key, value in schema.items() if key != "discriminator"}
    if isinstance(reference := found.get("$ref"), str):
        found["$ref"] = f"{REF}{reference.rpartition('/')[2]}Document"
    if found.get("type") == FROM_YAML:
        # How a fraction was written is lost, and `true` is no name.
        found["type"] = ["string", "integer"]
    elif found.get("type") == "string" and found.get("writeOnly"):
        return {"anyOf": [{**found, "type": ["string", "integer"]}, NULL]}
    elif found.get("type") == "integer":
        digits = {"type": "string", "pattern": "^\\s*[+-]?[0-9]{1,18}\\s*$"}
        bounds = {key: found.pop(key) for key in ("type", "minimum", "maximum") if key in found}
        found["anyOf"] = [bounds, digits]
    return found


def _open(schema: dict[str, Any], read_only: Any, foreign: Any) -> None:  # noqa: ANN401 - collections of names
    """Let in what is ignored."""
    for name in sorted(read_only):
        schema["properties"][name] = {"description": "as an answer has it; ignored"}
    for name in sorted(foreign):
        schema["properties"][name] = {"description": "a property of ThingPark; left out, with a warning"}


def _with_connectors(flow: dict[str, Any]) -> None:
    item = {
        "type": "object",
        "properties": {"id": {}, "connectionId": {"type": "string"}, "uplinkTimeValidity": {}},
        "required": ["connectionId"],
        "additionalProperties": False,
    }
    text = "as ThingPark has them, instead of `connections`"
    flow["properties"]["connectors"] = {
        "description": text,
        "anyOf": [{"type": "array", "items": item, "minItems": 1}, NULL],
    }
    required = [name for name in flow.pop("required") if name != "connections"]
    if required:
        flow["required"] = required
    listed = flow["properties"]["connections"]
    flow["properties"]["connections"] = {"description": listed.pop("description", ""), "anyOf": [listed, NULL]}
    flow["anyOf"] = [
        {"required": [name], "properties": {name: {"type": "array"}}} for name in ("connections", "connectors")
    ]


def _answers() -> dict[str, Any]:
    warnings = {"type": "array", "items": {"type": "string"}}
    found: dict[str, Any] = {
        f"{name}Written": {
            "allOf": [
                {"$ref": f"{REF}{name}View"},
                {"type": "object", "properties": {"warnings": warnings}, "required": ["warnings"]},
            ]
        }
        for name in ("Connection", "Flow")
    }
    lists = {
        "connections": "ConnectionView", "flows": "FlowView", "uplinks": "RecentUplink", "events": "Event",
        "connectors": "Connector",
    }  # fmt: skip
    for name, item in lists.items():
        found[f"List_{name}"] = _object({name: {"type": "array", "items": {"$ref": f"{REF}{item}"}}})
    text = {"type": "string"}
    found["Connector"] = _object(
        {"id": text, "name": text, "description": text, "configurationSchema": {"type": "object"}}
    )
    found["Session"] = _object({"role": {"enum": ["admin", "read-only"]}})
    found["OpenApi"] = _object({"openapi": text, "info": {"type": "object"}, "paths": {"type": "object"}})
    return found


def _problem() -> dict[str, Any]:
    text = {"type": "string"}
    problem = _object({"type": text, "title": text, "status": {"type": "integer"}, "detail": text})
    problem["properties"]["errors"] = {
        "type": "array",
        "items": _object({"property": {**text, "description": "its path from the document down"}, "detail": text}),
    }
    return {"description": "RFC 9457", **problem}


def _event() -> dict[str, Any]:
    moment = {"type": "string", "format": "date-time"}
    level = {"enum": ["debug", "info", "warning", "error", "critical"]}
    return _object({"id": {"type": "integer"}, "at": moment, "level": level, "event": {"type": "string"}})


def _downlink() -> dict[str, Any]:
    inner = {
        "type": "object",
        "properties": {
            "DevEUI": {"type": "string", "description": "16 hex digits"},
            "FPort": {"type": ["integer", "string", "null"], "description": "1 to 224"},
            "payload_hex": {"type": ["string", "null"], "description": "hex digits; or `payload`"},
            "payload": {"type": ["object", "null"], "description": "what the network server's driver encodes"},
            "Confirmed": {"description": "1 or 0"},
            "FlushDownlinkQueue": {"description": "1 or 0"},
            "ValidityTime": {"description": "seconds, or ISO 8601"},
            "CorrelationID": {"description": "16 hex digits"},
        },
        "required": ["DevEUI"],
    }
    return {**_object({"DevEUI_downlink": inner}), "description": "as ThingPark documents it"}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}
