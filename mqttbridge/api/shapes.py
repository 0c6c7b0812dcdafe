"""ThingPark's JSON into our documents: which properties there are, and of which JSON type. Pure.

The structs of the configuration say what is known, so that nothing is declared twice. What a value may be (ranges,
certificates, patterns) is for the loader to say, who sees the file that comes of it. Nothing stops at the first
problem. The recursion follows the structs, never the input.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

import msgspec
import msgspec.inspect as types

from mqttbridge.api.seam import ConnectionView, FlowView, Problem
from mqttbridge.settings.checks import IDENTITY, IDENTITY_RULE
from mqttbridge.settings.convert import unwrapped
from mqttbridge.settings.schema import Configuration, Connection, Flow

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FOREIGN", "READ_ONLY", "Misshapen", "Shaped", "connection_of", "flow_of"]

READ_ONLY: Final = {
    Connection: (
        frozenset((*ConnectionView.__struct_encode_fields__, "warnings"))
        - frozenset((*Connection.__struct_encode_fields__, "id"))
    ),
    Flow: frozenset((*FlowView.__struct_encode_fields__, "warnings"))
    - frozenset((*Flow.__struct_encode_fields__, "id")),
}
"""What our own answers have beside the document: it may come back, and says nothing."""
FOREIGN: Final = {
    Connection: frozenset({"brand", "scope", "subscriberId", "customerId", "createdAt", "updatedAt"}),
    Configuration: frozenset(
        {"createDevices", "uplinkRateLimiter", "downlinkRateLimiter", "deviceType", "appargs", "sharedSubscription"}
    ),
    Flow: frozenset({"driver", "brand", "scope", "subscriberId", "customerId", "createdAt", "updatedAt"}),
}
"""Properties of ThingPark X IoT Flow that mean nothing here."""
CONNECTOR: Final = frozenset({"id", "connectionId", "uplinkTimeValidity"})
"""Of an item of a flow's `connectors`."""
MAX_NAME = 64
"""Characters of a property's name that are shown."""
MAX_ITEMS = 10_000
MAX_PROBLEMS = 100
"""Beyond these nothing more is told of unknown properties: to tell takes 50 µs each, and it is done in the loop."""

_MISSING: Final = object()


class Misshapen(Exception):
    """The document has not the shape that is asked for: what is wrong, property by property."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        """Take them."""
        super().__init__(problems[0].detail)
        self.problems = problems


class Shaped(msgspec.Struct, frozen=True):
    """A document as the configuration file has it, the id that it names, and sentences about what was left out."""

    id: str | None
    document: dict[str, Any]
    warnings: tuple[str, ...]


def connection_of(body: object, id_: str | None = None) -> Shaped:
    """Give the document of a connection; `id_`: the one that is replaced. Raises `Misshapen`."""
    return _shaped(body, Connection, id_)


def flow_of(body: object, id_: str | None = None) -> Shaped:
    """Give the document of a flow; `connectors` becomes `connections`. Raises `Misshapen`."""
    return _shaped(body, Flow, id_)


def _shaped(body: object, kind: type[Connection | Flow], id_: str | None) -> Shaped:
    if not isinstance(body, dict):
        raise Misshapen((Problem("", f"must be an object, not {_kind(body)}"),))
    walk = _Walk()
    given = dict(body)
    named = walk.identity(given.pop("id", None), id_)
    if kind is Flow:
        walk.connectors(given)
    struct = types.type_info(kind)
    if not isinstance(struct, types.StructType):
        raise TypeError("a struct is asked for")
    document = walk.struct(given, struct, "")
    if walk.problems:
        raise Misshapen(tuple(walk.problems))
    return Shaped(named, document, tuple(walk.warnings))


class _Walk:
    """One document on its way; problems and warnings gather."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def struct(self, given: Mapping[str, Any], wanted: types.StructType, at: str) -> dict[str, Any]:
        fields = {field.encode_name: field for field in wanted.fields}
        aliases = {str(alias): name for name, field in fields.items() if (alias := _extra(field).get("alias"))}
        found: dict[str, Any] = {}
        for key, value in given.items():
            name = aliases.get(key, key)
            if name not in fields:
                if key != wanted.tag_field:
                    self._stranger(key, value, wanted, at)
            elif name in found:
                self._wrong(_join(at, key), f"is the same property as {name} under another name; keep one of them")
            elif value is not None:
                found[name] = self._value(value, fields[name].type, _join(at, key))
        if wanted.tag_field and wanted.tag_field in given:
            found[wanted.tag_field] = given[wanted.tag_field]
        for name, field in fields.items():
            if field.required and name not in found:
                rule = unwrapped(field.type)[2]
                self._wrong(_join(at, name), "is missing; it must be given" + (rule and f": {rule}"))
        return found

    def _value(self, value: object, wanted: types.Type, at: str) -> Any:  # noqa: ANN401, PLR0911 - JSON; one per type
        bare = unwrapped(wanted)[0]
        match bare:
            case types.StructType():
                return self.struct(value, bare, at) if isinstance(value, dict) else self._no(at, "an object", value)
            case types.UnionType():
                return self._variant(value, bare, at)
            case types.VarTupleType():
                return self._list(value, bare, at)
            case types.BoolType():
                fits = isinstance(value, bool | str)
                return value if fits else self._no(at, "true or false", value)
            case types.IntType():
                if isinstance(value, float) and value.is_integer():
                    value = int(value)
                fits = isinstance(value, int | str) and not isinstance(value, bool)
                return value if fits else self._no(at, _number(wanted), value)
            case types.LiteralType():
                text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
                choices = [str(one) for one in bare.values]
                return text if text in choices else self._no(at, " or ".join(choices), value)
            case _:
                # A number is fine as a password or a user name; how a fraction was written is lost.
                fits = isinstance(value, int | str) and not isinstance(value, bool)
                return str(value) if fits else self._no(at, "text", value)

    def _list(self, value: object, wanted: types.VarTupleType, at: str) -> list[Any]:
        if not isinstance(value, list):
            self._no(at, "a list", value)
            return []
        if len(value) > MAX_ITEMS:
            self._wrong(at, f"has more than {MAX_ITEMS} items")
            return []
        return [self._value(item, wanted.item_type, f"{at}[{number}]") for number, item in enumerate(value)]

    def _variant(self, value: object, wanted: types.UnionType, at: str) -> Any:  # noqa: ANN401 - JSON
        structs = {str(one.tag): one for one in wanted.types if isinstance(one, types.StructType)}
        tag_field = str(next(iter(structs.values())).tag_field)
        if not isinstance(value, dict):
            return self._no(at, "an object", value)
        tag = value.get(tag_field)
        if not isinstance(tag, str) or tag not in structs:
            return self._no(_join(at, tag_field), " or ".join(sorted(structs)), tag)
        return self.struct(value, structs[tag], at)

    def _stranger(self, key: str, value: object, wanted: types.StructType, at: str) -> None:
        """Say what is to be said of a property that we do not have."""
        if len(self.problems) >= MAX_PROBLEMS:
            return
        path = _join(at, key)
        if key in READ_ONLY.get(wanted.cls, ()):
            return
        if key in FOREIGN.get(wanted.cls, ()):
            if value is not None:
                self.warnings.append(f"{path} means nothing to mqttbridge, and was left out")
            return
        names = [field.encode_name for field in wanted.fields]
        for field in wanted.fields:
            inner = unwrapped(field.type)[0]
            if isinstance(inner, types.StructType) and any(key == one.encode_name for one in inner.fields):
                self._wrong(path, f"does not belong here but under {field.encode_name}")
                return
        near = difflib.get_close_matches(key[:MAX_NAME], names, n=1)
        self._wrong(path, f"is not a known property; {f'did you mean {near[0]}?' if near else _known(names)}")

    def identity(self, given: object, id_: str | None) -> str | None:
        """Give the id that the document names; it cannot be changed."""
        if given is None:
            return id_
        if not isinstance(given, str) or not IDENTITY(given):
            self._wrong("id", f"cannot be an id; an id has {IDENTITY_RULE}")
        elif id_ is not None and given != id_:
            self._wrong("id", "is not the one in the path, and an id cannot be changed: make another, and delete this")
        else:
            return given
        return id_

    def connectors(self, given: dict[str, Any]) -> None:
        """Put the ids of a flow's `connectors` in place, as `connections`."""
        listed = given.pop("connectors", None)
        if listed is None:
            return
        if given.get("connections") is not None:
            self._wrong("connectors", "says the same as connections; keep one of them")
        elif not isinstance(listed, list) or len(listed) > MAX_ITEMS:
            self._no("connectors", "a list", listed)
        else:
            given["connections"] = [self._connector(item, f"connectors[{n}]") for n, item in enumerate(listed)]

    def _connector(self, item: object, at: str) -> str:
        if not isinstance(item, dict):
            self._no(at, "an object", item)
            return ""
        for key in item:
            if key not in CONNECTOR:
                self._wrong(_join(at, key), f"is not a known property; {_known(sorted(CONNECTOR))}")
        if item.get("uplinkTimeValidity") is not None:
            where = "it is a property of the connection"
            self.warnings.append(f"{at}.uplinkTimeValidity means nothing here, and was left out: {where}")
        connection = item.get("connectionId")
        if isinstance(connection, str):
            return connection
        self._no(f"{at}.connectionId", "the id of a connection", connection)
        return ""

    def _no(self, at: str, wanted: str, value: object) -> Any:  # noqa: ANN401 - stands for any value
        self._wrong(at, f"must be {wanted}, not {_kind(value)}")
        return _MISSING

    def _wrong(self, at: str, text: str) -> None:
        self.problems.append(Problem(at, text))


def _extra(field: types.Field) -> dict[str, Any]:
    return unwrapped(field.type)[1]


def _number(wanted: types.Type) -> str:
    kind = unwrapped(wanted)[1].get("kind")
    return "milliseconds, or a duration such as 5s" if kind == "duration" else "an integer"


def _join(at: str, key: str) -> str:
    """Write a path; a name that is too long for a sentence is cut."""
    name = key if len(key) <= MAX_NAME else f"{key[:MAX_NAME]}…"
    return f"{at}.{name}" if at else name


def _known(names: list[str]) -> str:
    return f"known here: {', '.join(names)}"


def _kind(value: object) -> str:
    """Name what stands there, without quoting it: it may be a secret."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "this text"
        case list():
            return "a list"
        case _:
            return "an object"
