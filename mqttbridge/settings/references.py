"""Resolve `!file`, `!env` and `!credential`: text that stands elsewhere.

This is also where the configuration's own files are read: regular files only, and never more than a limit, so that a
FIFO, a device or an endless file is an error and not a hang. Raises `ValueError` with a sentence; no sentence holds
what was read.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqttbridge.settings.reader import Scalar

__all__ = ["MAX_REFERENCED", "References", "read_file"]

MAX_REFERENCED = 1024 * 1024
DIRECTORY_ID = "mqttbridge_"
CERTIFICATES = frozenset({"certificate", "privateKey"})
"""Kinds of properties."""


def read_file(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes."""
    try:
        # A FIFO without a writer would block the open.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError("cannot be read: no file can have this name") from None
    try:
        return _bounded(handle, limit)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(handle)


def _bounded(handle: int, limit: int) -> bytes:
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is not a regular file")
    data = bytearray()
    # Some files (in /proc) do not tell their size.
    if status.st_size <= limit:
        while len(data) <= limit and (chunk := os.read(handle, limit + 1 - len(data))):
            data += chunk
    if status.st_size > limit or len(data) > limit:
        raise ValueError(f"is larger than {limit // 1024**2} MiB")
    return bytes(data)


class References:
    """Knows the environment that references point into."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Take the environment variables."""
        self._environ = environ
        self._looked: dict[Path, None] = {}
        self._certificates: dict[Path, None] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file and directory that was looked at, there or not, in the order of looking."""
        return tuple(self._looked)

    @property
    def certificate_files(self) -> tuple[Path, ...]:
        """Those of them that are to hold a certificate or a key."""
        return tuple(self._certificates)

    def look(self, path: Path) -> None:
        """Note that this file or directory is looked at: what the configuration says depends on it."""
        self._looked.setdefault(path)

    def resolve(self, node: Scalar, kind: str = "") -> str:
        """Give the text that a tagged scalar stands for. From files, one newline at the end is taken off.

        `kind`: that of its property, as the schema tells it.
        """
        name = node.text
        if not name:
            raise ValueError(f"!{node.tag} needs a name behind it")
        if node.tag == "env":
            return self._variable(name)
        if node.tag == "credential":
            return self._text(self._credential(name), f"the credential {name}", kind)
        path = Path(node.mark.file).parent / name
        return self._text(path, f"the file {path}", kind)

    def _variable(self, name: str) -> str:
        value = self._environ.get(name)
        if value is None:
            raise ValueError(f"the environment variable {name} is not set")
        if not value:
            raise ValueError(f"the environment variable {name} is empty")
        # Python hides bytes that are no UTF-8 in lone surrogates.
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError(f"the environment variable {name} is not UTF-8 text")
        return value

    def _credential(self, name: str) -> Path:
        directory = self._environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise ValueError(
                "$CREDENTIALS_DIRECTORY is not set; systemd sets it for the service; on a shell set it to the "
                "directory of the credential files, such as CREDENTIALS_DIRECTORY=/etc/mqttbridge/credentials",
            )
        if "/" in name or name in {".", ".."}:
            raise ValueError("!credential takes the name of a credential, not a path; use !file for a path")
        own = Path(directory) / name
        # Where a whole directory is loaded as LoadCredential=mqttbridge:…, systemd puts the id in front of each name.
        loaded = Path(directory) / f"{DIRECTORY_ID}{name}"
        return loaded if loaded.exists() and not own.exists() else own

    def _text(self, path: Path, what: str, kind: str) -> str:
        self.look(path)
        if kind in CERTIFICATES:
            self._certificates.setdefault(path)
        try:
            data = read_file(path, MAX_REFERENCED)
        except ValueError as error:
            raise ValueError(f"{what} {error}") from None
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{what} is not UTF-8 text; certificates and keys must be in PEM form, not DER") from None
        text = text.removesuffix("\n").removesuffix("\r")
        if not text:
            raise ValueError(f"{what} is empty")
        return text
