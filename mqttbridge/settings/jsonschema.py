"""The JSON Schema of the configuration file, for editors and for those who write the file with a program. Pure.

It is generated from the structs. What the loader takes and an editor would not guess is added: an unquoted `0123` is
a fine password, an empty value means that a property (but no secret) is not set, and some names have a second
spelling. It describes one value at a time; only the loader sees what must fit together.
"""

from __future__ import annotations

from typing import Any

import msgspec
import msgspec.inspect as types

from mqttbridge.settings.checks import IDENTITY_PATTERN
from mqttbridge.settings.scalars import BOOLEANS
from mqttbridge.settings.schema import Connection, Settings
from mqttbridge.settings.secret import Secret

__all__ = ["connection_schema", "json_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TEXT = ["string", "number", "boolean"]
"""What an editor may take unquoted text for."""
NOTHING = {"type": "null"}
# JavaScript knows no (?i:…).
ANY_CASE = "|".join("".join(f"[{letter.upper()}{letter}]" for letter in word) for word in BOOLEANS)
BOOLEAN = {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": f"^({ANY_CASE})$"}]}


def json_schema() -> dict[str, Any]:
    """Give the schema of `mqttbridge.yaml`."""
    return _schema(Settings, "mqttbridge configuration")


def connection_schema() -> dict[str, Any]:
    """Give the schema of a file in `connections.d`."""
    return _schema(Connection, "mqttbridge connection")


def _schema(root: type[msgspec.Struct], title: str) -> dict[str, Any]:
    (schema,), components = msgspec.json.schema_components(
        [root],
        schema_hook=_custom,
        ref_template="#/$defs/{name}",
    )
    definitions = {name: _relaxed(component) for name, component in components.items()}
    for name, alias in _aliases(root).items():
        for definition in definitions.values():
            if name in definition.get("properties", {}):
                definition["properties"][alias] = definition["properties"][name] | {"deprecated": True}
    return {"$schema": DIALECT, "title": title, **schema, "$defs": definitions}


def _custom(kind: type) -> dict[str, Any]:
    if kind is Secret:
        return {"type": "string", "writeOnly": True}
    raise NotImplementedError(kind)


def _relaxed(schema: Any) -> Any:  # noqa: ANN401 - JSON
    """Widen a generated schema to what the loader takes."""
    if isinstance(schema, list):
        return [_relaxed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "properties" in schema:
        return _object(schema)
    wide = {key: _relaxed(value) for key, value in schema.items() if key not in {"enum", "default"}}
    if "anyOf" in wide and wide.get("type") == "integer":
        # A duration or size: the alternatives replace the type of the struct's field.
        del wide["type"]
    if "enum" in schema:
        # An editor takes an unquoted 5 for a number.
        numbers = [int(value) for value in schema["enum"] if isinstance(value, str) and value.isdecimal()]
        wide["enum"] = [*schema["enum"], *numbers]
    elif wide.get("type") == "string" and "pattern" not in wide:
        wide["type"] = TEXT
    elif wide.get("type") == "boolean":
        del wide["type"]
        wide |= BOOLEAN
    elif wide.get("type") == "object" and "additionalProperties" in wide:
        wide["propertyNames"] = {"pattern": IDENTITY_PATTERN}
    if schema.get("default") is not None:
        # A tuple is not yet JSON.
        wide["default"] = msgspec.json.decode(msgspec.json.encode(schema["default"]))
    return wide


def _object(schema: dict[str, Any]) -> dict[str, Any]:
    """Widen a struct: what need not be given may be left empty."""
    required = set(schema.get("required", ()))
    properties = {}
    for name, value in schema["properties"].items():
        wide = _relaxed(value)
        properties[name] = _something(wide) if _is_secret(value) else wide if name in required else _or_nothing(wide)
    return {**schema, "properties": properties}


def _is_secret(schema: dict[str, Any]) -> bool:
    return any(one.get("writeOnly") for one in schema.get("anyOf", ()))


def _something(schema: dict[str, Any]) -> dict[str, Any]:
    """Allow no empty value: a secret that is silently not there is hardly ever meant."""
    return {**schema, "anyOf": [one for one in schema["anyOf"] if one != NOTHING]}


def _or_nothing(schema: dict[str, Any]) -> dict[str, Any]:
    """Allow an empty value as well, and keep what editors show beside the alternatives."""
    beside = {key: value for key, value in schema.items() if key in {"description", "default"}}
    inner = {key: value for key, value in schema.items() if key not in beside}
    if NOTHING in inner.get("anyOf", ()):
        return schema
    alternatives = inner["anyOf"] if set(inner) == {"anyOf"} else [inner]
    return {**beside, "anyOf": [*alternatives, NOTHING]}


def _aliases(root: type[msgspec.Struct]) -> dict[str, str]:
    """Collect the second spellings, by the name that they stand for."""
    found: dict[str, str] = {}
    waiting: list[Any] = [types.type_info(root)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, types.StructType):
            waiting += [field.type for field in one.fields]
            found |= {
                field.encode_name: str(alias)
                for field in one.fields
                if isinstance(field.type, types.Metadata) and (alias := (field.type.extra or {}).get("alias"))
            }
        elif isinstance(one, types.UnionType):
            waiting += one.types
        elif isinstance(one, types.Metadata):
            waiting.append(one.type)
        elif isinstance(one, types.VarTupleType):
            waiting.append(one.item_type)
        elif isinstance(one, types.DictType):
            waiting.append(one.value_type)
    return found
