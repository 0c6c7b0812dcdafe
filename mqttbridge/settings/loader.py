"""Load the configuration: the file, the connections and flows beside it, and all that they refer to.

`load` is what other rooms call. It either returns settings that are right, or raises `ConfigError` with every problem
of every file at once; no other exception comes out of it, whatever stands in the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec
import msgspec.inspect

from mqttbridge.clock import Clock, SystemClock
from mqttbridge.settings.convert import FAILED, Converter
from mqttbridge.settings.documents import Outline, outline
from mqttbridge.settings.links import check_client_ids
from mqttbridge.settings.problems import Mark, Problems, shown
from mqttbridge.settings.reader import MAX_BYTES, Broken, Entry, Mapping, Scalar, etag, read
from mqttbridge.settings.references import References, read_file
from mqttbridge.settings.schema import MqttSource, Settings
from mqttbridge.settings.secret import Secret, plain

if TYPE_CHECKING:
    import collections.abc
    from pathlib import Path

    from mqttbridge.settings.problems import KeyPath
    from mqttbridge.settings.reader import Node
    from mqttbridge.settings.schema import LinkSettings

    Overlay = collections.abc.Mapping[Path, bytes | None]
    """Files of `connections.d` and `flows.d` as if they were so: other bytes, or None for one that is not there."""

__all__ = ["CONNECTIONS_DIRECTORY", "FLOWS_DIRECTORY", "Loaded", "Overlay", "PartKey", "find_state_directory", "load"]

CONNECTIONS_DIRECTORY = "connections.d"
FLOWS_DIRECTORY = "flows.d"
BESIDE: Final = {"connections": CONNECTIONS_DIRECTORY, "flows": FLOWS_DIRECTORY}
"""Sections of the file that may also stand in files of their own."""
KINDS: Final[dict[str, Literal["connection", "flow"]]] = {"connections": "connection", "flows": "flow"}

PartKey = tuple[Literal["connection", "flow"], str]
"""A part and its id."""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that is right, and what was learned on the way."""

    settings: Settings
    path: Path
    """The file, as given."""
    state_directory: Path
    """Absolute."""
    secrets: tuple[str, ...]
    """Every plain secret value, the longest first."""
    warnings: tuple[str, ...]
    """Problems that must not keep the daemon from starting, as lines like those of `ConfigError`."""
    files: tuple[Path, ...] = ()
    """Every file and directory that was looked at, there or not: a change of any may change the configuration."""
    certificate_files: tuple[Path, ...] = ()
    """Those of `files` that gave a certificate or a key."""
    owners: dict[PartKey, Path] = {}
    """The file that has each connection and flow: `path`, or one of its own beside it."""
    etags: dict[PartKey, str] = {}
    """Of each that has a file of its own: the tag of its bytes (`reader.etag`)."""
    outlines: dict[PartKey, Outline] = {}
    """Which properties of each connection and flow are written."""


def load(
    path: Path,
    *,
    environ: collections.abc.Mapping[str, str],
    clock: Clock | None = None,
    overlay: Overlay | None = None,
    problems: Problems | None = None,
) -> Loaded:
    """Read and check the configuration in `path` (design, section 3). Raises `ConfigError`.

    `overlay`: how it would be with other files in `connections.d` and `flows.d`. `problems`: an empty collection to
    fill, for who wants to look at each problem and warning by itself.
    """
    problems = Problems() if problems is None else problems
    references = References(environ)
    files = _Files(path, problems, references, overlay or {})
    main = files.read(path, ())
    root = _merged(main, files)
    converter = Converter(problems, references, (clock or SystemClock()).now())
    settings = FAILED
    state_directory: Path | None = None
    if not isinstance(root, Broken):
        wanted = msgspec.inspect.type_info(Settings)
        settings = converter.convert(Entry(root.mark, root), wanted, ())
        if not isinstance(main, Broken):
            _check_flows(root, converter)
    if isinstance(settings, Settings):
        _check_hidden_flows(settings, converter)
        check_client_ids(_links(settings), converter.marks, problems)
        state_directory = _state_directory(settings, path, environ, converter)
    problems.raise_if_any(references.files)
    if not isinstance(settings, Settings) or state_directory is None:
        raise TypeError("a configuration without problems was not converted")
    return Loaded(
        settings=settings,
        path=path,
        state_directory=state_directory,
        secrets=tuple(sorted(converter.secrets, key=lambda secret: (-len(secret), secret))),
        warnings=problems.warnings(),
        files=references.files,
        certificate_files=references.certificate_files,
        owners=_owners(settings, files, path),
        etags=files.etags,
        outlines=_outlines(root),
    )


def _outlines(root: Node) -> dict[PartKey, Outline]:
    """Give which properties of each connection and flow are written."""
    written = ((section, id_, entry) for section in BESIDE for id_, entry in _names(root, section).items())
    return {(KINDS[section], id_): outline(entry.node) for section, id_, entry in written}


def _owners(settings: Settings, files: _Files, path: Path) -> dict[PartKey, Path]:
    """Give the file that has each connection and flow."""
    keys = [(KINDS[section], id_) for section in BESIDE for id_ in getattr(settings, section)]
    return {key: files.owners.get(key, path) for key in keys}


def find_state_directory(path: Path, *, environ: collections.abc.Mapping[str, str]) -> Path:
    """Find where a daemon with this configuration keeps its files, whatever else may be wrong in the file.

    For who asks a running daemon: it runs on while its file is edited. Gives the default if the file tells nothing.
    """
    problems = Problems()
    references = References(environ)
    converter = Converter(problems, references, 0)
    root = _Files(path, problems, references, {}).read(path, ())
    given = root.entries.get("stateDirectory") if isinstance(root, Mapping) else None
    settings: object = FAILED
    if given is not None:
        alone = Mapping(given.mark, flow=False, entries={"stateDirectory": given})
        settings = converter.convert(Entry(given.mark, alone), msgspec.inspect.type_info(Settings), ())
    return _state_directory(settings if isinstance(settings, Settings) else Settings(), path, environ, converter)


class _Files:
    """Reads the files of one load into nodes, and remembers which has what."""

    def __init__(self, main: Path, problems: Problems, references: References, overlay: Overlay) -> None:
        self.main = main
        self.problems = problems
        self.owners: dict[PartKey, Path] = {}
        self.etags: dict[PartKey, str] = {}
        self._references = references
        self._overlay = overlay

    def read(self, path: Path, prefix: KeyPath) -> Node | None:
        """Read one file; its root stands at `prefix`."""
        name = str(path)
        self._references.look(path)
        self.problems.file(name)
        data = self._overlay.get(path)
        try:
            data = read_file(path, MAX_BYTES) if data is None else data
        except ValueError as error:
            self.problems.add(Mark(name, 0, 0), prefix, f"the file {error}" if prefix else _unread(str(error)))
            return Broken(Mark(name, 1, 1))
        if prefix:
            self.etags[KINDS[prefix[0]], prefix[1]] = etag(data)
        return read(data, name, self.problems, prefix)

    def beside(self, section: str) -> dict[str, Entry]:
        """Read the files of `connections.d` or `flows.d`, in the order of their names."""
        entries = {}
        for file in self._listed(self.main.parent / BESIDE[section]):
            mark = Mark(str(file), 1, 1)
            if file.name.startswith("."):
                continue
            if file.suffix == ".yaml":
                id_ = file.stem
                self.owners[KINDS[section], id_] = file
                node = _one_part(self.read(file, (section, id_)), section, id_, self.problems)
                entries[id_] = Entry(mark, Mapping(mark, flow=False, entries={}) if node is None else node)
            elif file.suffix.lower() in {".yaml", ".yml"} and _is_file(file):
                self.problems.file(str(file))
                self.problems.warn(mark, (), "is not read: the name must end in .yaml")
        return entries

    def _listed(self, directory: Path) -> list[Path]:
        self._references.look(directory)
        laid = {file: data for file, data in self._overlay.items() if file.parent == directory}
        try:
            there = set(directory.iterdir())
        except FileNotFoundError:
            there = set()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no directory can have this name"
            self.problems.file(str(directory))
            self.problems.add(Mark(str(directory), 0, 0), (), f"the directory cannot be read: {reason}")
            there = set()
        return sorted((there - laid.keys()) | {file for file, data in laid.items() if data is not None})


def _unread(reason: str) -> str:
    """Say what is wrong with the main file itself, which may be another than the operator thinks of."""
    return f"{reason}; name the file with --config or $MQTTBRIDGE_CONFIG" if reason.startswith("cannot") else reason


def _merged(root: Node | None, files: _Files) -> Node:
    """Put what stands in `connections.d` and `flows.d` among what stands in the file."""
    start = Mark(str(files.main), 1, 1)
    beside = {section: entries for section in BESIDE if (entries := files.beside(section))}
    if root is None or (isinstance(root, Scalar) and root.null):
        root = Mapping(start, flow=False, entries={})
    if not isinstance(root, Mapping):
        if not beside:
            return root
        if not isinstance(root, Broken):
            files.problems.add(start, (), "the file must be a mapping of properties")
        # What stands beside is still looked at.
        root = Mapping(start, flow=False, entries={})
    merged = {section: _group(section, root, entries, files.problems) for section, entries in beside.items()}
    return Mapping(root.mark, root.flow, root.entries | merged)


def _group(section: str, root: Mapping, beside: dict[str, Entry], problems: Problems) -> Entry:
    """Put one section together; an id that is in both places is an error."""
    given = root.entries.get(section)
    own: dict[str, Entry] = {}
    if given is not None and isinstance(given.node, Mapping):
        own = given.node.entries
    elif given is not None and not (isinstance(given.node, Scalar) and given.node.null):
        problems.add(given.mark, (section,), f"must be a mapping from ids to {section}")
    for identity in own.keys() & beside.keys():
        text = f"is defined here and in {beside[identity].mark.file}; keep one of them"
        problems.add(own[identity].mark, (section, identity), text)
    mark = given.mark if given else root.mark
    return Entry(mark, Mapping(mark, flow=False, entries=own | {k: v for k, v in beside.items() if k not in own}))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _one_part(node: Node | None, section: str, identity: str, problems: Problems) -> Node | None:
    """Refuse a connection's or flow's file that repeats what stands around it in the main file."""
    if not isinstance(node, Mapping) or "configuration" in node.entries:
        return node
    wrapper = node.entries.get(section) or node.entries.get(identity)
    # A connection may have the id `name`, which is a property too; `connections` of a flow is a list.
    if wrapper is None or not isinstance(wrapper.node, Mapping):
        return node
    inner = "configuration: …" if section == "connections" else "matchers: …"
    text = f"the file is one {KINDS[section]}: write its properties ({inner}) at the top level"
    problems.add(wrapper.mark, (section, identity), text)
    return Broken(wrapper.mark)


def _check_flows(root: Node, converter: Converter) -> None:
    """Refuse flows that name no connection. Looks at the nodes, so that a broken connection still counts."""
    known = _names(root, "connections")
    for flow, entry in _names(root, "flows").items():
        listed = entry.node.entries.get("connections") if isinstance(entry.node, Mapping) else None
        items = getattr(listed.node, "items", None) if listed else None
        for number, item in enumerate(items if isinstance(items, list) else ()):
            if not isinstance(item, Scalar) or item.null or item.tag or not item.text or item.text in known:
                continue
            near = converter.problems.suggest(item.text, known)
            hint = f"did you mean {shown(near)}?" if near else "define it under connections"
            path: KeyPath = ("flows", flow, "connections", f"[{number}]")
            converter.problems.add(item.mark, path, f"there is no connection {shown(item.text)}; {hint}")


def _check_hidden_flows(settings: Settings, converter: Converter) -> None:
    """Refuse flows that name no connection where the name came by reference, without showing it."""
    for flow, one in settings.flows.items():
        for number, identity in enumerate(one.connections):
            if isinstance(identity, Secret) and identity not in settings.connections:
                path: KeyPath = ("flows", flow, "connections", f"[{number}]")
                converter.problems.add(converter.marks[path], path, "what it refers to gives no id of a connection")


def _names(root: Node, section: str) -> dict[str, Entry]:
    entry = root.entries.get(section) if isinstance(root, Mapping) else None
    return entry.node.entries if entry and isinstance(entry.node, Mapping) else {}


def _links(settings: Settings) -> list[tuple[KeyPath, str, LinkSettings]]:
    """List every client that will connect to a broker."""
    links: list[tuple[KeyPath, str, LinkSettings]] = [
        (("sources", identity), identity, source)
        for identity, source in settings.sources.items()
        if isinstance(source, MqttSource)
    ]
    links += [
        (("connections", identity, "configuration"), identity, connection.configuration)
        for identity, connection in settings.connections.items()
        if connection.active
    ]
    return links


def _state_directory(
    settings: Settings, path: Path, environ: collections.abc.Mapping[str, str], converter: Converter
) -> Path:
    """Find where the daemon keeps its files: as configured, else where systemd says, else beside the file."""
    beside = path.absolute().parent
    if settings.state_directory:
        configured = plain(settings.state_directory)
        first, _, rest = configured.partition("/")
        if first != "~":
            return beside / configured
        if home := environ.get("HOME"):
            return beside / home / rest.lstrip("/")
        at = ("stateDirectory",)
        converter.problems.add(converter.marks[at], at, "begins with ~, but $HOME is not set; write the whole path")
    # systemd separates several directories by colons.
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return beside / (given or "state")
