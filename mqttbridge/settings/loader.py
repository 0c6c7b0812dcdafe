"""Load the configuration: the file, the connections beside it, and all that they refer to.

`load` is what other rooms call. It either returns settings that are right, or raises `ConfigError` with every problem
of every file at once; no other exception comes out of it, whatever stands in the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import msgspec.inspect

from mqttbridge.clock import Clock, SystemClock
from mqttbridge.settings.convert import FAILED, Converter
from mqttbridge.settings.links import check_client_ids
from mqttbridge.settings.problems import Mark, Problems, shown
from mqttbridge.settings.reader import MAX_BYTES, Broken, Entry, Mapping, Scalar, read
from mqttbridge.settings.references import References, read_file
from mqttbridge.settings.schema import MqttSource, Settings
from mqttbridge.settings.secret import Secret, plain

if TYPE_CHECKING:
    import collections.abc
    from pathlib import Path

    from mqttbridge.settings.problems import KeyPath
    from mqttbridge.settings.reader import Node
    from mqttbridge.settings.schema import LinkSettings

__all__ = ["CONNECTIONS_DIRECTORY", "Loaded", "find_state_directory", "load"]

CONNECTIONS_DIRECTORY = "connections.d"


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


def load(path: Path, *, environ: collections.abc.Mapping[str, str], clock: Clock | None = None) -> Loaded:
    """Read and check the configuration in `path` (design, section 3). Raises `ConfigError`."""
    problems = Problems()
    now = (clock or SystemClock()).now()
    references = References(environ)
    root = _merged(_file(path, (), problems, references), path, problems, references)
    converter = Converter(problems, references, now)
    settings = FAILED
    state_directory: Path | None = None
    if not isinstance(root, Broken):
        wanted = msgspec.inspect.type_info(Settings)
        settings = converter.convert(Entry(root.mark, root), wanted, ())
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
    )


def find_state_directory(path: Path, *, environ: collections.abc.Mapping[str, str]) -> Path:
    """Find where a daemon with this configuration keeps its files, whatever else may be wrong in the file.

    For who asks a running daemon: it runs on while its file is edited. Gives the default if the file tells nothing.
    """
    problems = Problems()
    references = References(environ)
    converter = Converter(problems, references, 0)
    root = _file(path, (), problems, references)
    given = root.entries.get("stateDirectory") if isinstance(root, Mapping) else None
    settings: object = FAILED
    if given is not None:
        alone = Mapping(given.mark, flow=False, entries={"stateDirectory": given})
        settings = converter.convert(Entry(given.mark, alone), msgspec.inspect.type_info(Settings), ())
    return _state_directory(settings if isinstance(settings, Settings) else Settings(), path, environ, converter)


def _file(path: Path, prefix: KeyPath, problems: Problems, references: References) -> Node | None:
    """Read one file into nodes; its root stands at `prefix`."""
    name = str(path)
    references.look(path)
    problems.file(name)
    try:
        data = read_file(path, MAX_BYTES)
    except ValueError as error:
        problems.add(Mark(name, 0, 0), prefix, f"the file {error}" if prefix else _unread(str(error)))
        return Broken(Mark(name, 1, 1))
    return read(data, name, problems, prefix)


def _unread(reason: str) -> str:
    """Say what is wrong with the main file itself, which may be another than the operator thinks of."""
    return f"{reason}; name the file with --config or $MQTTBRIDGE_CONFIG" if reason.startswith("cannot") else reason


def _merged(root: Node | None, path: Path, problems: Problems, references: References) -> Node:
    """Put the connections of `connections.d` among those of the file."""
    start = Mark(str(path), 1, 1)
    beside = _connections_beside(path, problems, references)
    if root is None or (isinstance(root, Scalar) and root.null):
        root = Mapping(start, flow=False, entries={})
    if not isinstance(root, Mapping):
        if not beside:
            return root
        if not isinstance(root, Broken):
            problems.add(start, (), "the file must be a mapping of properties")
        # What stands beside is still looked at.
        return Mapping(start, flow=False, entries={"connections": _group(start, {}, beside)})
    section = root.entries.get("connections")
    if not beside:
        return root
    own: dict[str, Entry] = {}
    if section is not None and isinstance(section.node, Mapping):
        own = section.node.entries
    elif section is not None and not (isinstance(section.node, Scalar) and section.node.null):
        problems.add(section.mark, ("connections",), "must be a mapping from ids to connections")
    for identity in own.keys() & beside.keys():
        text = f"is defined here and in {beside[identity].mark.file}; keep one of them"
        problems.add(own[identity].mark, ("connections", identity), text)
    mark = section.mark if section else start
    return Mapping(root.mark, root.flow, root.entries | {"connections": _group(mark, own, beside)})


def _group(mark: Mark, own: dict[str, Entry], beside: dict[str, Entry]) -> Entry:
    return Entry(mark, Mapping(mark, flow=False, entries=own | {k: v for k, v in beside.items() if k not in own}))


def _connections_beside(path: Path, problems: Problems, references: References) -> dict[str, Entry]:
    """Read the files of `connections.d`, in the order of their names."""
    directory = path.parent / CONNECTIONS_DIRECTORY
    references.look(directory)
    try:
        files = sorted(directory.iterdir())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no directory can have this name"
        problems.file(str(directory))
        problems.add(Mark(str(directory), 0, 0), (), f"the directory cannot be read: {reason}")
        return {}
    entries = {}
    for file in files:
        mark = Mark(str(file), 1, 1)
        if file.name.startswith("."):
            continue
        if file.suffix == ".yaml":
            node = _one_connection(_file(file, ("connections", file.stem), problems, references), file.stem, problems)
            entries[file.stem] = Entry(mark, Mapping(mark, flow=False, entries={}) if node is None else node)
        elif file.suffix.lower() in {".yaml", ".yml"} and _is_file(file):
            problems.file(str(file))
            problems.warn(mark, (), "is not read: the name must end in .yaml")
    return entries


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _one_connection(node: Node | None, identity: str, problems: Problems) -> Node | None:
    """Refuse a connection's file that repeats what stands around a connection in the main file."""
    if not isinstance(node, Mapping) or "configuration" in node.entries:
        return node
    wrapper = node.entries.get("connections") or node.entries.get(identity)
    # A connection may have the id `name`, which is a property too.
    if wrapper is None or not isinstance(wrapper.node, Mapping):
        return node
    text = "the file is one connection: write its properties (configuration: …) at the top level"
    problems.add(wrapper.mark, ("connections", identity), text)
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
