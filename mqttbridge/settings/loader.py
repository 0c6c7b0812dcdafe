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
from mqttbridge.settings.secret import Secret

if TYPE_CHECKING:
    import collections.abc
    from pathlib import Path

    from mqttbridge.settings.problems import KeyPath
    from mqttbridge.settings.reader import Node
    from mqttbridge.settings.schema import LinkSettings

__all__ = ["CONNECTIONS_DIRECTORY", "Loaded", "load"]

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


def load(path: Path, *, environ: collections.abc.Mapping[str, str], clock: Clock | None = None) -> Loaded:
    """Read and check the configuration in `path` (design, section 3). Raises `ConfigError`."""
    problems = Problems()
    now = (clock or SystemClock()).now()
    root = _merged(_file(path, (), problems), path, problems)
    converter = Converter(problems, References(environ), now)
    settings = FAILED
    if not isinstance(root, Broken):
        wanted = msgspec.inspect.type_info(Settings)
        settings = converter.convert(Entry(root.mark, root), wanted, ())
        _check_flows(root, converter)
    if isinstance(settings, Settings):
        _check_hidden_flows(settings, converter)
        check_client_ids(_links(settings), converter.marks, problems)
    problems.raise_if_any()
    if not isinstance(settings, Settings):
        raise TypeError("a configuration without problems was not converted")
    return Loaded(
        settings=settings,
        path=path,
        state_directory=_state_directory(settings, path, environ),
        secrets=tuple(sorted(converter.secrets, key=lambda secret: (-len(secret), secret))),
        warnings=problems.warnings(),
    )


def _file(path: Path, prefix: KeyPath, problems: Problems) -> Node | None:
    """Read one file into nodes; its root stands at `prefix`."""
    name = str(path)
    problems.file(name)
    try:
        data = read_file(path, MAX_BYTES)
    except ValueError as error:
        problems.add(Mark(name, 1, 1), prefix, f"the file {error}")
        return Broken(Mark(name, 1, 1))
    return read(data, name, problems, prefix)


def _merged(root: Node | None, path: Path, problems: Problems) -> Node:
    """Put the connections of `connections.d` among those of the file."""
    start = Mark(str(path), 1, 1)
    beside = _connections_beside(path, problems)
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


def _connections_beside(path: Path, problems: Problems) -> dict[str, Entry]:
    """Read the files of `connections.d`, in the order of their names."""
    directory = path.parent / CONNECTIONS_DIRECTORY
    try:
        files = sorted(file for file in directory.iterdir() if _is_connection(file))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no directory can have this name"
        problems.file(str(directory))
        problems.add(Mark(str(directory), 1, 1), (), f"the directory cannot be read: {reason}")
        return {}
    entries = {}
    for file in files:
        mark = Mark(str(file), 1, 1)
        node = _file(file, ("connections", file.stem), problems)
        entries[file.stem] = Entry(mark, Mapping(mark, flow=False, entries={}) if node is None else node)
    return entries


def _is_connection(file: Path) -> bool:
    return file.suffix == ".yaml" and not file.name.startswith(".")


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


def _state_directory(settings: Settings, path: Path, environ: collections.abc.Mapping[str, str]) -> Path:
    """Find where the daemon keeps its files: as configured, else where systemd says, else beside the file."""
    beside = path.absolute().parent
    if settings.state_directory:
        return beside / "".join(settings.state_directory)
    # systemd separates several directories by colons.
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return beside / (given or "state")
