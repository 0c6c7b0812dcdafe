"""Write a configuration, load it, and look at what the loader says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.errors import ConfigError
from mqttbridge.settings.loader import Loaded, load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "mqttbridge.yaml"


def write(directory: Path, text: str | bytes, name: str = NAME) -> Path:
    """Write a file, with its directories."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def loaded(directory: Path, text: str | bytes, environ: Mapping[str, str] | None = None) -> Loaded:
    """Load a text as the main file."""
    return load(write(directory, text), environ=environ or {})


def complaints(directory: Path, text: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
    """Give the problems of a text that must not load, without the directory in front."""
    path = write(directory, text)
    try:
        load(path, environ=environ or {})
    except ConfigError as error:
        return [line.removeprefix(f"{directory}/") for line in error.problems]
    raise AssertionError("it was expected to be refused")


def connection(*lines: str, identity: str = "acme") -> str:
    """Give a file with one connection of these configuration lines."""
    body = "".join(f"      {line}\n" for line in lines)
    return f"connections:\n  {identity}:\n    configuration:\n{body}"
