"""Documents of the API into files that a person likes to read. Pure; `documents` is the way back.

A document is a JSON object with the property names of the file. Invariants of what is written:

1. It means what the document says, in this loader and in any other YAML reader: text that one of them would take for
   something else stands in quotes.
2. Nothing in a document becomes a tag, an alias or an anchor. `!file`, `!env` and `!credential` are in the result only
   where they are in the file of before, under a property that the document leaves at `*****`, or as it was shown.
3. What is left as it was shown stays as it stands; if that is all of it, so do the bytes.

Whether the document is right is for the loader to say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec.inspect as types
import yaml
from yaml.emitter import Emitter
from yaml.resolver import Resolver

from mqttbridge.settings.convert import unwrapped
from mqttbridge.settings.documents import known, same
from mqttbridge.settings.problems import Mark, Problems, dotted
from mqttbridge.settings.reader import MAX_DEPTH, Entry, Mapping, Node, Scalar, Sequence, read
from mqttbridge.settings.secret import MASK

if TYPE_CHECKING:
    import collections.abc
    from collections.abc import Iterator
    from collections.abc import Sequence as Items

    from mqttbridge.settings.problems import KeyPath
    from mqttbridge.settings.schema import Connection, Flow

__all__ = ["DraftError", "draft", "with_active"]

NOWHERE: Final = Mark("", 0, 0)
NOTHING_KEPT = f"is {MASK}, which keeps what is there, and nothing is there; give the value itself"
MAX_BITS = 63
EXACT = 2**53
"""Up to here every integer has a number of its own in JSON."""
SHORT = 72
"""Characters of a list that stands on one line."""
PEM: Final = frozenset({"certificate", "privateKey"})

PRINTABLE = re.compile(r"[\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010fffe]*").fullmatch
LITERAL = re.compile(
    r"(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?\n+)*(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?\n?"
).fullmatch
NUMBER_LIKE = re.compile(r"[-+]?(?:\.?[0-9][0-9_.,]*(?:[eE][-+]?[0-9]*)?|0[xob][0-9a-fA-F_]*)|\d{4}-\d.*").fullmatch
WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", ""})


class DraftError(Exception):
    """A document that cannot be written: `problems` has the dotted name of each property, and a sentence."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        """Take every problem."""
        super().__init__("; ".join(f"{name}: {text}" for name, text in problems))
        self.problems = tuple(problems)


# -- document -> file


def draft(
    document: collections.abc.Mapping[str, Any],
    part: type[Connection | Flow],
    old: bytes | None = None,
    shown: collections.abc.Mapping[str, Any] | None = None,
) -> bytes:
    """Give the file for a document. Raises `DraftError`.

    `old`: the bytes of the file that it takes the place of; `shown`: the document that was shown of it.
    """
    struct = known(part)[0]
    before = None if old is None else read(old, "", Problems())
    if isinstance(before, Mapping):
        document = _without_defaults(document, struct, _by_name(before.entries, struct))
    drafting = _Drafting()
    node = drafting.node(document, struct, before, (), shown)
    if drafting.problems:
        raise DraftError(drafting.problems)
    return old if old is not None and node is before else _written(node)


def _without_defaults(
    document: collections.abc.Mapping[str, Any], struct: types.StructType, before: collections.abc.Mapping[str, Any]
) -> dict[str, Any]:
    """Leave out what answers always have at the root, unless it says something or is in the file."""
    defaults = {one.encode_name: one.default for one in struct.fields if not one.required}
    return {
        name: value
        for name, value in document.items()
        if name in before or name not in defaults or not same(value, defaults[name])
    }


class _Drafting:
    """Turns a document into a tree, in the order of the schema, with what is kept in its place."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []

    def node(
        self, value: object, wanted: types.Type | None, old: Node | None, path: KeyPath, shown: object = None
    ) -> Node:
        if old is not None and shown is not None and same(value, shown):
            return old
        return self._new(value, wanted, old, path, shown)

    def _new(self, value: object, wanted: types.Type | None, old: Node | None, path: KeyPath, shown: object) -> Node:
        wanted, extra, _ = unwrapped(wanted) if wanted is not None else (None, {}, "")
        if len(path) >= MAX_DEPTH - 1:
            return self._fail(path, f"is nested more than {MAX_DEPTH} levels deep")
        match value:
            case dict():
                return self._mapping(value, wanted, old, path, shown if isinstance(shown, dict) else {})
            case list() | tuple():
                return self._list(value, wanted, old, path)
            case str() if value == MASK:
                return self._kept(old, path)
            case str():
                return self._text(value, str(extra.get("kind") or ""), path)
            case _:
                return self._number(value, path)

    def _kept(self, old: Node | None, path: KeyPath) -> Node:
        if isinstance(old, Scalar | Sequence | Mapping) and not (isinstance(old, Scalar) and old.null):
            return old
        return self._fail(path, NOTHING_KEPT)

    def _mapping(
        self,
        value: dict[str, Any],
        wanted: types.Type | None,
        old: Node | None,
        path: KeyPath,
        shown: dict[str, Any],
    ) -> Node:
        struct = _struct(wanted, value)
        before = {} if not isinstance(old, Mapping) else _by_name(old.entries, struct)
        entries = {}
        for name, one in _ordered(_by_name(value, struct), struct):
            if one is None:
                # JSON's way to leave a property out.
                continue
            if not _is_text(name):
                self._fail(path, "has a property whose name is no text: half a surrogate pair")
                continue
            inner = next((each.type for each in struct.fields if each.encode_name == name), None) if struct else None
            kept = before[name].node if name in before else None
            entries[name] = Entry(NOWHERE, self.node(one, inner, kept, (*path, name), shown.get(name)))
        return Mapping(NOWHERE, flow=False, entries=entries)

    def _list(self, value: Items[Any], wanted: types.Type | None, old: Node | None, path: KeyPath) -> Node:
        inner = wanted.item_type if isinstance(wanted, types.VarTupleType) else None
        # Which is which is known only while none was added or removed; and of the items alone those from elsewhere are
        # ever shown as a mask.
        before: list[Node | None] = [None] * len(value)
        if isinstance(old, Sequence) and len(old.items) == len(value):
            before = [None if isinstance(one, Scalar) and not one.tag else one for one in old.items]
        items = [
            self.node(one, inner, kept, (*path, f"[{number}]"))
            for number, (one, kept) in enumerate(zip(value, before, strict=True))
        ]
        return Sequence(NOWHERE, flow=_short(items), items=items)

    def _text(self, text: str, kind: str, path: KeyPath) -> Node:
        if not _is_text(text):
            return self._fail(path, "is no text: it holds half a surrogate pair")
        if kind in PEM and "-----BEGIN" in text:
            # Line ends and blanks around mean nothing in PEM; so it stands as people know it.
            text = "\n".join(line.strip() for line in text.strip().splitlines()) + "\n"
        return Scalar(NOWHERE, text, plain=False)

    def _number(self, value: object, path: KeyPath) -> Node:
        if value is None or isinstance(value, bool):
            return Scalar(NOWHERE, {None: "null", True: "true", False: "false"}[value], plain=True)
        if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
            value = int(value)
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            return self._fail(path, "is too large a number")
        if not isinstance(value, int | float):
            raise TypeError(f"not a value of JSON: {type(value)}")
        return Scalar(NOWHERE, str(value), plain=True)

    def _fail(self, path: KeyPath, text: str) -> Node:
        self.problems.append((dotted(path), text))
        return Scalar(NOWHERE, "", plain=False)


def _struct(wanted: types.Type | None, value: collections.abc.Mapping[str, Any]) -> types.StructType | None:
    """Give the struct that a mapping is, as far as that is clear."""
    if isinstance(wanted, types.StructType):
        return wanted
    if not isinstance(wanted, types.UnionType):
        return None
    structs = [one for one in wanted.types if isinstance(one, types.StructType)]
    return next((one for one in structs if value.get(str(one.tag_field)) == one.tag), None)


def _by_name(given: collections.abc.Mapping[str, Any], struct: types.StructType | None) -> dict[str, Any]:
    """Give what stands under another spelling its usual name; not where both are given, which the loader refuses."""
    aliases = {unwrapped(one.type)[1].get("alias"): one.encode_name for one in struct.fields} if struct else {}
    return {
        (aliases[name] if name in aliases and aliases[name] not in given else name): value
        for name, value in given.items()
    }


def _ordered(given: dict[str, Any], struct: types.StructType | None) -> Iterator[tuple[str, Any]]:
    """Go through properties as the schema has them, then through those that it does not know."""
    names = [one.encode_name for one in struct.fields] if struct else []
    if struct and struct.tag_field:
        names.insert(0, struct.tag_field)
    for name in dict.fromkeys([*names, *given]):
        if name in given:
            yield name, given[name]


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(items: list[Node]) -> bool:
    """Whether a list is pleasant to read on one line."""
    if not all(isinstance(one, Scalar) and "\n" not in one.text for one in items):
        return False
    return sum(len(one.text) + 2 for one in items if isinstance(one, Scalar)) <= SHORT


# -- tree -> bytes


class _Emitter(Emitter):
    """Indents lists below their name."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT002 - as PyYAML has it
        super().increase_indent(flow=flow, indentless=False)

    def choose_scalar_style(self) -> str:
        """Leave the quotes off behind a tag too, where nothing needs them."""
        event = self.event
        if isinstance(event, yaml.ScalarEvent) and event.tag and not event.style:
            analysis = self.analysis = self.analyze_scalar(event.value)
            if analysis.allow_flow_plain and not analysis.empty:
                return ""
        style: str = super().choose_scalar_style()
        return style


def _written(root: Node) -> bytes:
    events = [
        yaml.StreamStartEvent(),
        yaml.DocumentStartEvent(explicit=False),
        *_events(root),
        yaml.DocumentEndEvent(explicit=False),
        yaml.StreamEndEvent(),
    ]
    text: str = yaml.emit(events, Dumper=_Emitter, allow_unicode=True, width=2**30, indent=2)
    return text.encode()


def _events(node: Node) -> Iterator[yaml.Event]:
    match node:
        case Mapping():
            yield yaml.MappingStartEvent(None, None, implicit=True, flow_style=node.flow)
            for name, entry in node.entries.items():
                yield _scalar(name, name=True)
                yield from _events(entry.node)
            yield yaml.MappingEndEvent()
        case Sequence():
            yield yaml.SequenceStartEvent(None, None, implicit=True, flow_style=node.flow)
            for item in node.items:
                yield from _events(item)
            yield yaml.SequenceEndEvent()
        case Scalar(tag=tag) if tag:
            style = None if PRINTABLE(node.text) else '"'
            yield yaml.ScalarEvent(None, f"!{tag}", (False, False), node.text, style=style)
        case Scalar(plain=True):
            # Numbers, truth values and nothing; and what is kept as it was written, in quotes where its new place asks
            # for these.
            text = "null" if node.null else node.text
            yield yaml.ScalarEvent(None, None, (True, True), text, style=None if PRINTABLE(text) else '"')
        case Scalar():
            yield _scalar(node.text)


def _scalar(text: str, *, name: bool = False) -> yaml.Event:
    """Write text so that nobody takes it for anything else."""
    style = None
    if "\n" in text and not name and LITERAL(text):
        style = "|"
    elif not PRINTABLE(text):
        style = '"'
    elif _guessed(text):
        style = "'"
    return yaml.ScalarEvent(None, None, (True, True), text, style=style)


_RESOLVER = Resolver()


def _guessed(text: str) -> bool:
    """Whether YAML 1.1, YAML 1.2 or a hasty reader would see something else than text in it."""
    if text.lower() in WORDS or NUMBER_LIKE(text):
        return True
    tag: str = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return tag != "tag:yaml.org,2002:str"


# -- a single property


def with_active(data: bytes, *, active: bool) -> bytes:
    """Change the property `active` in the bytes of a connection's file, and nothing else of it, comments included.

    Raises `ValueError` with a sentence if that cannot be done.
    """
    problems = Problems()
    before = read(data, "", problems)
    if problems.errors or not isinstance(before, Mapping):
        raise ValueError("the file cannot be read; mend it first")
    if active and "active" not in before.entries:
        # So it is.
        return data
    text = data.decode("utf-8-sig")
    value = "true" if active else "false"
    found = _place_of(text, "active")
    if found is None:
        raise ValueError("the file cannot be changed by itself; write `active` into it")
    start, end, lead, tail = found
    changed = (text[:start] + lead + value + tail + text[end:]).encode()
    after = read(changed, "", problems)
    if problems.errors or _bare(after, without="active") != _bare(before, without="active"):
        raise ValueError("the file cannot be changed by itself; write `active` into it")
    return changed


def _place_of(text: str, wanted: str) -> tuple[int, int, str, str] | None:
    """Find where the value of a property of the root stands, or shall stand: begin, end, and what goes around it."""
    depth, key = 0, None
    first: tuple[int, str, str] | None = None
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        begin, end = event.start_mark, event.end_mark
        if begin is None or end is None:
            return None
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth == 1 and event.flow_style:
                first = begin.index + 1, f"{wanted}: ", ", "
            elif depth == 1:
                first = begin.index, f"{wanted}: ", "\n" + " " * begin.column
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            key = None
        elif depth == 1 and isinstance(event, yaml.ScalarEvent):
            if key == wanted:
                # Where there is no value, nothing stands directly behind the colon.
                return begin.index, end.index, " " if begin.index == end.index else "", ""
            key = event.value if key is None else None
    return None if first is None else (first[0], *first)


def _bare(node: Node | None, *, without: str = "") -> object:
    """Give what a tree says, without where it stands."""
    match node:
        case Mapping():
            return {name: _bare(entry.node) for name, entry in node.entries.items() if name != without}
        case Sequence():
            return [_bare(item) for item in node.items]
        case Scalar():
            return node.tag, node.text, node.null
        case _:
            return None
