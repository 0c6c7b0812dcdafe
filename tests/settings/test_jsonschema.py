"""The JSON Schema: what the loader takes, the schema takes; what it refuses by shape, the schema refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mqttbridge.settings.jsonschema import connection_schema, json_schema

CONFIG = Path(__file__).parents[2] / "config"
SCHEMA = json_schema()
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
KEYWORDS = {
    *("$schema", "$ref", "$defs", "title", "description", "default", "deprecated", "discriminator", "anyOf", "type"),
    *("enum", "writeOnly", "minimum", "maximum", "minLength", "pattern", "items", "minItems", "properties", "required"),
    *("additionalProperties", "propertyNames"),
}


def is_a(value: Any, name: str) -> bool:  # noqa: ANN401 - JSON
    if isinstance(value, bool) and name != "boolean":
        return False
    return isinstance(value, TYPES[name])


def valid(schema: dict[str, Any], value: Any, root: dict[str, Any] = SCHEMA) -> bool:  # noqa: ANN401 - JSON
    """Validate by the keywords that the schema uses, as JSON Schema 2020-12 defines them."""
    assert set(schema) <= KEYWORDS, "a keyword that this validator does not know"
    kinds = schema.get("type", [])
    checks = [
        "$ref" not in schema or valid(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root),
        "anyOf" not in schema or any(valid(one, value, root) for one in schema["anyOf"]),
        not kinds or any(is_a(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)),
        "enum" not in schema or value in schema["enum"],
    ]
    if isinstance(value, str):
        checks.append(len(value) >= schema.get("minLength", 0))
        checks.append(re.search(schema.get("pattern", ""), value) is not None)
    if is_a(value, "number"):
        checks.append(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    if isinstance(value, list):
        checks.append(len(value) >= schema.get("minItems", 0))
        checks.extend(valid(schema.get("items", {}), item, root) for item in value)
    if isinstance(value, dict):
        checks.append(set(schema.get("required", ())) <= set(value))
        checks.extend(valid_property(schema, name, item, root) for name, item in value.items())
    return all(checks)


def valid_property(schema: dict[str, Any], name: str, value: Any, root: dict[str, Any]) -> bool:  # noqa: ANN401 - JSON
    known = schema.get("properties", {})
    other = schema.get("additionalProperties", {})
    if "propertyNames" in schema and not valid(schema["propertyNames"], name, root):
        return False
    if name in known:
        return valid(known[name], value, root)
    return other is not False and valid(other, value, root)


class Editor(yaml.SafeLoader):
    """Sees a file as an editor does: with guessed types, and references as text."""


for tag in ("!file", "!env", "!credential"):
    Editor.add_constructor(tag, lambda loader, node: loader.construct_scalar(node))


def seen(text: str) -> Any:  # noqa: ANN401 - YAML
    return yaml.load(text, Editor)  # noqa: S506 - a SafeLoader


@pytest.mark.parametrize("name", ["mqttbridge.yaml", "full.yaml"])
def test_the_examples_are_valid(name: str) -> None:
    assert valid(SCHEMA, seen((CONFIG / name).read_text()))


def test_the_connection_example_is_valid() -> None:
    schema = connection_schema()
    assert valid(schema, seen((CONFIG / "connections.d" / "example.yaml").read_text()), schema)
    assert not valid(schema, {}, schema)


def test_it_is_plain_json() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def configured(line: str) -> Any:  # noqa: ANN401 - YAML
    return seen(f"connections: {{a: {{configuration: {{hostName: h, {line}}}}}}}")


@pytest.mark.parametrize(
    "line",
    [
        "password: 0123",
        "password: no",
        "password: 1e3",
        "qos: ",
        "qos: 2",
        "retain: 'YES'",
        "retain: on",
        "mqttVersion: 5",
        "mqttVersion: '3.1.1'",
        "connectionTimeout: 5s",
        "connectionTimeout: 250",
        "uplinkTimeValidity: 7d",
        "trustedCaCertficate: x",
        "alpn: [a]",
        "downlinkPort: 5",
    ],
)
def test_what_the_loader_takes_is_valid(line: str) -> None:
    assert valid(SCHEMA, configured(line))


@pytest.mark.parametrize(
    "line",
    [
        "zzz: 1",
        "qos: 3",
        "qos: a",
        "retain: maybe",
        "mqttVersion: 4",
        "connectionTimeout: 10001",
        "connectionTimeout: 5 s",
        "protocol: ssl",
        "alpn: a",
        "username: ''",
        "password: ",
        "downlinkAsKey: ",
        "username: [a]",
        "hostName: ",
        "downlinkPort: 225",
    ],
)
def test_what_the_loader_refuses_by_shape_is_invalid(line: str) -> None:
    assert not valid(SCHEMA, configured(line))


@pytest.mark.parametrize(
    "text",
    [
        "connections: {a b: {configuration: {hostName: h}}}",
        "connections: {a: {}}",
        "sources: {a: {transport: udp}}",
        "sources: {a: {transport: mqtt, hostName: h}}",
        "sources: {a: {transport: http, format: lora}}",
        "flows: {a: {connections: []}}",
        "journal: {maxSize: 1GB}",
        "zzz: 1",
    ],
)
def test_wrong_files_are_invalid(text: str) -> None:
    assert not valid(SCHEMA, seen(text))


def test_every_struct_is_closed() -> None:
    for name, definition in SCHEMA["$defs"].items():
        assert definition["additionalProperties"] is False, name
