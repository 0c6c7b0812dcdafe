"""Turn a tree of nodes into the structs of the schema, leaf by leaf, by the type of each property.

Nothing stops at the first problem: what cannot be converted gives `FAILED`, is recorded, and the rest goes on. The
recursion follows the schema, never the file, so its depth is fixed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec.inspect as types

from mqttbridge.settings import scalars
from mqttbridge.settings.alarms import Alarm, contradictions
from mqttbridge.settings.checks import CHECKS, IDENTITY, IDENTITY_RULE
from mqttbridge.settings.links import LinkCheck
from mqttbridge.settings.listening import ListenCheck
from mqttbridge.settings.pem import holds_private_key
from mqttbridge.settings.problems import shown
from mqttbridge.settings.reader import Broken, Entry, Mapping, Scalar, Sequence
from mqttbridge.settings.references import MAX_REFERENCED
from mqttbridge.settings.schema import HttpSource, LinkSettings, MqttSource
from mqttbridge.settings.secret import Secret
from mqttbridge.settings.wayback import WayBackCheck

if TYPE_CHECKING:
    from mqttbridge.settings.problems import KeyPath, Mark, Problems
    from mqttbridge.settings.reader import Node
    from mqttbridge.settings.references import References

__all__ = ["FAILED", "Converter", "unwrapped"]

FAILED: Final = object()
"""Instead of a value: the problem has been recorded."""

NO_BLANK = re.compile(r"\s*[A-Za-z][A-Za-z0-9]*:(?!//)\S").match
EMPTY_SECRET = "is empty; quote a value that begins with #, or leave the line out"  # noqa: S105 - no password
NEEDS_QUOTES = "text that begins with [ or { needs quotes"

Types = types.Type


class Converter:
    """Converts the nodes of one load. `secrets` and `marks` (where each property stands) fill up on the way."""

    def __init__(self, problems: Problems, references: References, now: int) -> None:
        """Take where problems go, what references point to, and the wall time in ms."""
        self.problems = problems
        self.references = references
        self.secrets: set[str] = set()
        self.marks: dict[KeyPath, Mark] = {}
        self._links = LinkCheck(problems, self.marks, now)
        self._way_back = WayBackCheck(problems, self.marks, FAILED)
        self._listen = ListenCheck(problems, self.marks, self._links, FAILED)
        self._listed: dict[tuple[str, type], Mark] = {}
        self._variants: dict[type, dict[str, types.StructType]] = {}

    def convert(self, entry: Entry, wanted: Types, path: KeyPath) -> Any:  # noqa: ANN401 - any type of the schema
        """Give the value of a property, or `FAILED`."""
        node = entry.node
        # A list or an empty value has no telling place of its own: its name has.
        self.marks[path] = node.mark if isinstance(node, Scalar) and not node.null else entry.mark
        if isinstance(node, Broken):
            return FAILED
        wanted, extra, rule = unwrapped(wanted)
        match wanted:
            case types.StructType() | types.UnionType():
                return self._struct(node, wanted, path)
            case types.VarTupleType():
                return self._list(node, wanted, path)
            case types.DictType():
                return self._dict(node, wanted, path)
            case _:
                return self._leaf(node, wanted, extra, rule, path)

    def _struct(self, node: Node, wanted: types.StructType | types.UnionType, path: KeyPath) -> Any:  # noqa: ANN401
        if isinstance(node, Scalar) and node.null:
            node = Mapping(self.marks[path], flow=False, entries={})
        if not isinstance(node, Mapping):
            return self._fail(path, f"must be a mapping of properties, not {_kind(node)}{_blank_missing(node)}")
        struct = wanted if isinstance(wanted, types.StructType) else self._variant(node, wanted, path)
        if struct is None:
            return FAILED
        given, sound = self._given(node, struct, path)
        values = {}
        for field in struct.fields:
            here = (*path, field.encode_name)
            entry = given.get(field.encode_name)
            if entry is None:
                continue
            if not field.required and isinstance(entry.node, Scalar) and entry.node.null:
                if isinstance(unwrapped(field.type)[0], types.CustomType):
                    # A password may begin with #, and would silently not be there.
                    sound = self._fail(here, EMPTY_SECRET, entry.mark) is not FAILED
                continue
            value = self.convert(entry, field.type, here)
            sound = sound and value is not FAILED
            values[field.name] = value
        sound = self._agrees(struct, values, path, sound=sound)
        return struct.cls(**values) if sound else FAILED

    def _agrees(self, struct: types.StructType, values: dict[str, Any], path: KeyPath, *, sound: bool) -> bool:
        """Look at what must fit together; `sound`: every value itself is right."""
        if issubclass(struct.cls, LinkSettings):
            sound = self._links.check(struct, values, path, FAILED) and sound
        if issubclass(struct.cls, HttpSource | MqttSource):
            authorities = values.get("api_ca_certificate")
            sound = self._links.authorities(authorities, (*path, "apiCaCertificate"), FAILED) and sound
        if issubclass(struct.cls, Alarm) and sound:
            for name, text in contradictions(Alarm(**values)):
                here = (*path, name)
                sound = self._fail(here, text, self.marks.get(here, self.marks[path])) is not FAILED
        sound = self._listen.check(struct, values, path) and sound
        return self._way_back.check(struct, values, path) and sound

    def _variant(self, node: Mapping, union: types.UnionType, path: KeyPath) -> types.StructType | None:
        """Choose between structs by the property that names the kind, such as `transport`."""
        structs = {str(one.tag): one for one in union.types if isinstance(one, types.StructType)}
        self._variants.update((one.cls, structs) for one in structs.values())
        tag_field = str(next(iter(structs.values())).tag_field)
        choices = _one_of(sorted(structs))
        entry = node.entries.get(tag_field)
        if entry is None or (isinstance(entry.node, Scalar) and entry.node.null):
            near = self.problems.suggest(tag_field, node.entries)
            hint = f"; did you mean it by {shown(near)}?" if near else ""
            self._fail((*path, tag_field), f"is missing; it must be {choices}{hint}", self.marks[path])
            return None
        wanted = types.LiteralType(tuple(sorted(structs)))
        tag = self.convert(entry, wanted, (*path, tag_field))
        return None if tag is FAILED else structs[tag]

    def _given(self, node: Mapping, struct: types.StructType, path: KeyPath) -> tuple[dict[str, Entry], bool]:
        """Sort out names: aliases, unknown ones, missing ones."""
        fields = {field.encode_name: field for field in struct.fields}
        aliases = {alias: field.encode_name for field in struct.fields if (alias := _alias(field))}
        given: dict[str, Entry] = {}
        meant = set()
        sound = True
        for key, entry in node.entries.items():
            name = aliases.get(key, key)
            if name in given:
                text = f"is the same property as {name} under another name; keep one of them"
                sound = self._fail((*path, key), text, entry.mark) is not FAILED
            elif name in fields:
                given[name] = entry
            elif key != struct.tag_field:
                near = self._unknown(key, entry, struct, path)
                meant.add(near)
                sound = False
        for name, field in fields.items():
            if field.required and name not in given and name not in meant:
                self._fail((*path, name), f"is missing{_hint(field)}", self.marks[path])
                sound = False
        return given, sound

    def _unknown(self, key: str, entry: Entry, struct: types.StructType, path: KeyPath) -> str | None:
        """Report a name that does not exist here; gives the name that was probably meant."""
        names = [field.encode_name for field in struct.fields]
        for field in struct.fields:
            inner = unwrapped(field.type)[0]
            if isinstance(inner, types.StructType) and any(key == one.encode_name for one in inner.fields):
                self._fail((*path, key), f"does not belong here but under {field.encode_name}", entry.mark)
                return None
        for tag, other in self._variants.get(struct.cls, {}).items():
            if any(key == field.encode_name for field in other.fields):
                kind = struct.tag_field
                self._fail((*path, key), f"is for {kind} {tag}, and here it is {struct.tag}", entry.mark)
                return None
        name, colon, _ = key.partition(":")
        if colon:
            # What follows may be a password: it is not shown.
            self._fail((*path, name), "a blank is missing after the colon", entry.mark)
            return name
        near = self.problems.suggest(key, [*names, struct.tag_field] if struct.tag_field else names)
        if near:
            text = f"is not a known property; did you mean {near}?"
        else:
            text = f"is not a known property{self._known(entry, struct, names)}"
        self._fail((*path, key), text, entry.mark)
        return near

    def _known(self, entry: Entry, struct: types.StructType, names: list[str]) -> str:
        """List the names that are known, once per file and section."""
        first = self._listed.setdefault((entry.mark.file, struct.cls), entry.mark)
        if first is not entry.mark:
            return f"; the message on line {first.line} lists those that are"
        return f"; known here: {', '.join(names)}"

    def _list(self, node: Node, wanted: types.VarTupleType, path: KeyPath) -> Any:  # noqa: ANN401
        if not isinstance(node, Sequence):
            return self._fail(path, f"must be a list, such as [a, b], not {_kind(node)}")
        if len(node.items) < (wanted.min_length or 0):
            return self._fail(path, "must be a list with at least one item")
        values = [
            self.convert(Entry(item.mark, item), wanted.item_type, (*path, f"[{number}]"))
            for number, item in enumerate(node.items)
        ]
        return FAILED if any(value is FAILED for value in values) else tuple(values)

    def _dict(self, node: Node, wanted: types.DictType, path: KeyPath) -> Any:  # noqa: ANN401
        if not isinstance(node, Mapping):
            return self._fail(
                path, f"must be a mapping from ids to their properties, not {_kind(node)}{_blank_missing(node)}"
            )
        values = {}
        for key, entry in node.entries.items():
            here = (*path, key)
            values[key] = self.convert(entry, wanted.value_type, here)
            if not IDENTITY(key):
                values[key] = self._fail(here, f"cannot be an id; an id has {IDENTITY_RULE}", entry.mark)
        return FAILED if any(value is FAILED for value in values.values()) else values

    def _leaf(self, node: Node, wanted: Types, extra: dict[str, Any], rule: str, path: KeyPath) -> Any:  # noqa: ANN401
        """Convert one scalar."""
        if not isinstance(node, Scalar):
            hint = f"; {NEEDS_QUOTES}" if isinstance(node, Sequence | Mapping) and node.flow else ""
            return self._fail(path, f"must be {_leaf_name(wanted)}, not {_kind(node)}{hint}")
        if node.null:
            return self._fail(path, f"is empty{rule and f'; wanted: {rule}'}")
        text = node.text
        if node.tag:
            try:
                text = self.references.resolve(node, extra.get("kind") or "")
            except ValueError as error:
                return self._fail(path, str(error))
        secret = bool(node.tag) or isinstance(wanted, types.CustomType)
        try:
            if isinstance(wanted, types.StrType | types.CustomType):
                return self._string(text, extra.get("kind"), secret=secret)
            return _value(text, wanted, extra, secret=secret)
        except ValueError as error:
            problem = str(error)
        if node.tag and isinstance(wanted, types.StrType):
            # The words of a check may quote what was read.
            problem = f"what !{node.tag} {shown(node.text)} gives is not usable here{rule and f'; wanted: {rule}'}"
        return self._fail(path, problem)

    def _string(self, text: str, kind: str | None, *, secret: bool) -> str:
        """Check a string, and keep it as a secret if it is one."""
        if len(text) > MAX_REFERENCED:
            raise ValueError("is longer than 1 MiB")
        if kind is None:
            value = text
        elif not text:
            raise ValueError("is empty; give a value, or leave the property out")
        else:
            value = CHECKS[kind](text)
        if kind == "certificate":
            secret = holds_private_key(text)
        if not secret:
            return value
        self.secrets.update(one for one in (text, value) if one)
        return Secret(value)

    def _fail(self, path: KeyPath, text: str, mark: Mark | None = None) -> object:
        self.problems.add(mark or self.marks[path], path, text)
        return FAILED


def _value(text: str, wanted: Types, extra: dict[str, Any], *, secret: bool) -> Any:  # noqa: ANN401
    """Convert what is not a string. Raises `ValueError` with a sentence."""
    try:
        match wanted:
            case types.BoolType():
                return scalars.boolean(text)
            case types.LiteralType():
                return _choice(text, wanted)
            case types.IntType() if extra.get("kind") == "duration":
                return scalars.duration(text, extra["low"], extra["high"])
            case types.IntType() if extra.get("kind") == "size":
                return scalars.size(text, extra["low"], extra["high"])
            case types.IntType():
                return scalars.integer(text, _int(wanted.ge), _int(wanted.le))
    except ValueError as error:
        raise ValueError(f"must be {error}" + ("" if secret else f", not {shown(text)}")) from None
    raise TypeError(f"the schema has a type that the loader does not know: {wanted}")


def _choice(text: str, wanted: types.LiteralType) -> str:
    names = [str(value) for value in wanted.values]
    if text in names:
        return text
    by_case = [name for name in names if name.casefold() == text.casefold()]
    raise ValueError(by_case[0] if by_case else _one_of(names))


def unwrapped(wanted: Types) -> tuple[Types, dict[str, Any], str]:
    """Take off what surrounds a type: gives the bare type, what `Meta.extra` says, and the description."""
    extra: dict[str, Any] = {}
    rule = ""
    while True:
        if isinstance(wanted, types.Metadata):
            extra |= wanted.extra or {}
            rule = (wanted.extra_json_schema or {}).get("description", rule)
            wanted = wanted.type
            continue
        if isinstance(wanted, types.UnionType):
            inner = [one for one in wanted.types if not isinstance(one, types.NoneType)]
            if len(inner) == 1:
                wanted = inner[0]
                continue
        return wanted, extra, rule


def _alias(field: types.Field) -> str | None:
    alias = unwrapped(field.type)[1].get("alias")
    return None if alias is None else str(alias)


def _hint(field: types.Field) -> str:
    rule = unwrapped(field.type)[2]
    return f"; it must be given: {rule}" if rule else "; it must be given"


def _leaf_name(wanted: Types) -> str:
    match wanted:
        case types.BoolType():
            return "true or false"
        case types.IntType():
            return "a number"
        case types.LiteralType():
            return _one_of([str(value) for value in wanted.values])
        case _:
            return "text"


def _one_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _kind(node: Node) -> str:
    """Name what stands there, without quoting it."""
    match node:
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"
        case Scalar() if node.null:
            return "nothing"
        case _:
            return "a single value"


def _blank_missing(node: Node) -> str:
    """Recognise `password:x`, which YAML takes for a text."""
    missing = isinstance(node, Scalar) and node.plain and not node.tag and NO_BLANK(node.text)
    return "; a blank is missing after the colon" if missing else ""


def _int(bound: float | None) -> int | None:
    return None if bound is None else int(bound)
