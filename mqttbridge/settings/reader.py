"""The only YAML reader: bytes to a tree of nodes that know where they stand.

Invariants, whatever the bytes are:

1. It never crashes the process, and it takes time and memory in proportion to the size of the file, which is bounded.
   So the tree is built from libyaml's events, without recursion: PyYAML's composer recurses in C, expands aliases,
   and lets the second of two equal keys win. PyYAML's parser in Python is no refuge: it raises OverflowError on some
   escapes and takes minutes.
2. A scalar keeps its text as it was written. No type is guessed here.
3. What it refuses is a problem with a line and a column, and no problem quotes a value: it may be a password.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import msgspec
import yaml
from yaml import CSafeLoader

from mqttbridge.settings.problems import KeyPath, Mark, Problems, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_NODES",
    "Broken",
    "Entry",
    "Mapping",
    "Node",
    "Scalar",
    "Sequence",
    "etag",
    "read",
]

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 50
MAX_NODES = 500_000
"""Some 100 MiB of nodes; a thousand connections need a tenth of it."""

TAGS = {"!file": "file", "!env": "env", "!credential": "credential"}
NULLS = frozenset({"", "~", "null", "Null", "NULL"})

# What YAML 1.1 (section 4.1.1) does not allow in a file.
UNACCEPTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
# libyaml compares every %TAG line with all others: a large file of them takes hours.
DIRECTIVE = re.compile(r"^%", re.MULTILINE)
OPENING = re.compile(r"(?:^|[:\-]\s+)[\[{]")
NO_BLANK = re.compile(r"\s*[A-Za-z][A-Za-z0-9]*:(?!//)(?=\S)").match

QUOTES = "text that begins with one of [ ] { } & * ! % @ ` | > # , ' \" or with - or ? and a blank needs quotes"


NO_TEXT = frozenset({
    "block sequence entries are not allowed in this context",
    "did not find expected node content",
    "found character that cannot start any token",
    "mapping keys are not allowed in this context",
})  # fmt: skip
PROPERTY = "a property is a name, a colon, a blank and a value; check the indentation too"


class Scalar(msgspec.Struct, frozen=True, gc=False):
    """A value, as text. `tag` is `file`, `env` or `credential`, or empty."""

    mark: Mark
    text: str
    plain: bool
    tag: str = ""

    @property
    def null(self) -> bool:
        """Whether it says: nothing."""
        return self.plain and not self.tag and self.text in NULLS


class Sequence(msgspec.Struct, frozen=True):
    """A list."""

    mark: Mark
    flow: bool
    items: list[Node]


class Mapping(msgspec.Struct, frozen=True):
    """Names with values, in the order of the file."""

    mark: Mark
    flow: bool
    entries: dict[str, Entry]


class Broken(msgspec.Struct, frozen=True):
    """Something that has been reported already."""

    mark: Mark


Node = Scalar | Sequence | Mapping | Broken


class Entry(msgspec.Struct, frozen=True):
    """One name in a mapping: where the name stands, and its value."""

    mark: Mark
    node: Node


class _Refused(Exception):
    """The rest of this file cannot be read; the problem is recorded."""


class _Open:
    """A list or mapping that has not ended yet."""

    __slots__ = ("key", "node", "step")

    def __init__(self, node: Sequence | Mapping, step: str) -> None:
        self.node = node
        self.step = step
        self.key: tuple[Mark, str] | None = None


class _Builder:
    """Takes events, one at a time, and builds the tree."""

    def __init__(self, name: str, prefix: KeyPath, problems: Problems) -> None:
        self.name = name
        self.prefix = prefix
        self.problems = problems
        self.root: Node | None = None
        self.stack: list[_Open] = []
        self.nodes = 0
        self.documents = 0

    def take(self, event: yaml.Event) -> None:
        mark = self._mark(event)
        if isinstance(event, yaml.CollectionEndEvent):
            self.stack.pop()
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self._refuse(mark, "a second document begins here; a configuration is one document without ---")
        elif isinstance(event, yaml.NodeEvent):
            self._node(event, mark)

    def _node(self, event: yaml.NodeEvent, mark: Mark) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self._refuse(mark, f"the file holds more than {MAX_NODES} values; split it into connections.d/<id>.yaml")
        if len(self.stack) >= MAX_DEPTH:
            self._refuse(mark, f"nested more than {MAX_DEPTH} levels deep; no property needs that")
        node = self._built(event, mark)
        step = self._step()
        self._attach(node)
        if isinstance(node, Sequence | Mapping):
            self.stack.append(_Open(node, step))

    def _built(self, event: yaml.NodeEvent, mark: Mark) -> Node:
        collection = isinstance(event, yaml.CollectionStartEvent)
        if event.anchor is not None:
            self.problems.add(mark, self._path(), f"anchors and aliases (& and *) are not supported; {QUOTES}")
            if not collection:
                return Broken(mark)
        tag = self._tag(event, mark)
        if isinstance(event, yaml.SequenceStartEvent):
            return Sequence(mark, bool(event.flow_style), [])
        if isinstance(event, yaml.MappingStartEvent):
            return Mapping(mark, bool(event.flow_style), {})
        if tag is None or not isinstance(event, yaml.ScalarEvent):
            return Broken(mark)
        return Scalar(mark, event.value, plain=not event.style, tag=tag)

    def _tag(self, event: yaml.NodeEvent, mark: Mark) -> str | None:
        """Give the reference that a tag asks for, empty for none; None if the tag was refused."""
        raw = getattr(event, "tag", None)
        if raw is None:
            return ""
        if raw in TAGS and isinstance(event, yaml.ScalarEvent):
            return TAGS[raw]
        if raw in TAGS:
            text = f"{raw} takes one name, not a list or mapping"
        else:
            # The tag itself is not quoted: it may be a password that begins with an exclamation mark.
            near = self.problems.suggest(raw, TAGS)
            text = f"only the tags !file, !env and !credential exist{_did_you_mean(near)}; {QUOTES}"
        self.problems.add(mark, self._path(), text)
        return None

    def _attach(self, node: Node) -> None:
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if isinstance(top.node, Sequence):
            top.node.items.append(node)
        elif isinstance(top.node, Mapping):
            if top.key is None:
                top.key = (node.mark, self._key(node))
            else:
                mark, name = top.key
                top.key = None
                self._enter(top.node, mark, name, node)

    def _key(self, node: Node) -> str:
        """Give a name; empty if it cannot be one, which is then recorded."""
        if not isinstance(node, Scalar):
            if not isinstance(node, Broken):
                self.problems.add(node.mark, self._path(), "a property name must be plain text")
            return ""
        if node.plain and node.text == "<<":
            self.problems.add(node.mark, self._path(), "merge keys (<<) are not supported; write the properties out")
            return ""
        if node.tag or not node.text:
            self.problems.add(node.mark, self._path(), "a property name must be plain text")
            return ""
        return node.text

    def _enter(self, mapping: Mapping, mark: Mark, name: str, node: Node) -> None:
        if not name:
            return
        earlier = mapping.entries.get(name)
        if earlier is None:
            mapping.entries[name] = Entry(mark, node)
            return
        text = f"stands here a second time, after line {earlier.mark.line}; keep one of them"
        self.problems.add(mark, (*self._path(), name), text)

    def _path(self) -> KeyPath:
        """Say where we are."""
        steps = (*(level.step for level in self.stack), self._step())
        return (*self.prefix, *(step for step in steps if step))

    def _step(self) -> str:
        """Say where we are in the innermost list or mapping."""
        if not self.stack:
            return ""
        top = self.stack[-1]
        if isinstance(top.node, Sequence):
            return f"[{len(top.node.items)}]"
        return top.key[1] if top.key else ""

    def _mark(self, event: yaml.Event) -> Mark:
        start = event.start_mark
        return Mark(self.name, start.line + 1, start.column + 1) if start else Mark(self.name, 1, 1)

    def _refuse(self, mark: Mark, text: str) -> None:
        self.problems.add(mark, (), text)
        raise _Refused


def etag(data: bytes) -> str:
    """Give a tag of a file's bytes: other bytes have another tag. 32 hex digits, without quotes."""
    return hashlib.sha256(data).hexdigest()[:32]


def read(data: bytes, name: str, problems: Problems, prefix: KeyPath = ()) -> Node | None:
    """Read a file's bytes; `name` is the file as the operator named it, `prefix` the path that its root stands for.

    Gives None for a file without content. What is wrong goes to `problems`; where nothing can be made of the file,
    the result is `Broken`.
    """
    problems.file(name)
    builder = _Builder(name, prefix, problems)
    try:
        text = _text(data, name, problems)
        for event in _events(text, name, problems):
            builder.take(event)
    except _Refused:
        return Broken(Mark(name, 1, 1))
    return builder.root


def _text(data: bytes, name: str, problems: Problems) -> str:
    """Decode, and refuse what YAML does not allow in a file."""
    if len(data) > MAX_BYTES:
        problems.add(Mark(name, 1, 1), (), f"the file is larger than {MAX_BYTES // 1024**2} MiB")
        raise _Refused
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", errors="replace")
        problems.add(_place(name, before, len(before)), (), "the file is not UTF-8 text from here on; save it as UTF-8")
        raise _Refused from None
    if found := UNACCEPTABLE.search(text):
        code = f"U+{ord(found.group()):04X}"
        problems.add(_place(name, text, found.start()), (), f"the character {code} must not stand in a YAML file")
        raise _Refused
    if found := DIRECTIVE.search(text):
        problems.add(_place(name, text, found.start()), (), "directives (lines that begin with %) are not supported")
        raise _Refused
    return text


def _events(text: str, name: str, problems: Problems) -> Iterator[yaml.Event]:
    """Give libyaml's events, and its complaints as problems."""
    try:
        yield from yaml.parse(text, Loader=CSafeLoader)
    except yaml.MarkedYAMLError as error:
        line, column, words = _syntax(error, text.splitlines())
        problems.add(Mark(name, line + 1, column + 1), (), f"not valid YAML: {words}")
        raise _Refused from None
    except (yaml.YAMLError, ValueError, OverflowError):
        problems.add(Mark(name, 1, 1), (), "this is not YAML")
        raise _Refused from None


def _syntax(error: yaml.MarkedYAMLError, lines: list[str]) -> tuple[int, int, str]:
    """Place and word a syntax error; line and column count from 0. libyaml's own words quote nothing of the file."""
    place = error.problem_mark or error.context_mark
    line, column = (place.line, place.column) if place else (0, 0)
    begin, begin_column = (error.context_mark.line, error.context_mark.column) if error.context_mark else (line, column)
    if glued := _glued(error.problem, line, begin, lines):
        return *glued, "a blank is missing after the colon"
    if error.problem == "could not find expected ':'":
        return begin, begin_column, f"no property is read here; {PROPERTY}"
    words = ", ".join(part for part in (error.context, error.problem) if part) or "it cannot be parsed"
    suspects = [lines[number] for number in {line, begin} if number < len(lines)]
    if any(one.lstrip(" ").startswith("\t") for one in suspects):
        hint = "indent with spaces, not tabs"
    elif error.problem == "found unexpected end of stream":
        hint = f"the quote that begins in line {begin + 1} has no end"
    elif error.problem in NO_TEXT or any(map(OPENING.search, suspects)):
        hint = QUOTES
    elif error.problem == "found unknown escape character":
        hint = "in double quotes a backslash begins an escape: write single quotes"
    else:
        hint = _layout(lines[line][:column] if line < len(lines) else "")
    return line, column, f"{words}; {hint}"


def _glued(problem: str | None, line: int, begin: int, lines: list[str]) -> tuple[int, int] | None:
    """Find a name, a colon and a value without a blank, which libyaml notices only in the lines behind."""
    if problem == "could not find expected ':'":
        suspect = begin
    elif problem in {"mapping values are not allowed in this context", "did not find expected <document start>"}:
        suspect = next(
            (number for number in range(line - 1, -1, -1) if number < len(lines) and lines[number].strip()), -1
        )
    else:
        return None
    found = NO_BLANK(lines[suspect]) if 0 <= suspect < len(lines) else None
    return (suspect, found.end() - 1) if found else None


def _layout(before: str) -> str:
    """Say what is probably wrong with a line that does not fit; `before` is the line up to there."""
    if not before.strip():
        return "check the indentation of this line"
    if ": " in before or before.rstrip().endswith(("'", '"')):
        return "quote a value that holds ': ', all of it in one pair of quotes"
    return "check the indentation of this line and of the one before, and quote a value that holds ': '"


def _place(name: str, text: str, position: int) -> Mark:
    """Give the line and column of a position in the text."""
    begin = text.rfind("\n", 0, position) + 1
    return Mark(name, text.count("\n", 0, position) + 1, position - begin + 1)


def _did_you_mean(near: str | None) -> str:
    return f" (did you mean {shown(near)}?)" if near else ""
