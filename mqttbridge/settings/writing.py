"""Write and remove files of the configuration so that there is always the old file or the new one, whatever happens.

Invariants:

1. The bytes go into a file beside it whose name begins with a dot, which the loader passes over; they are on disk
   before it takes the name of the file (rename(2)), and the name is on disk before `write` returns.
2. What is written may hold secrets: nobody but the daemon's user can read it, from its first byte on (mode 0600).
3. A crash leaves a file with a dot at most; `sweep` removes it. One writer at a time: the caller sees to that.
4. No link is followed or replaced: whoever made one edits the file behind it.

Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from mqttbridge.errors import WriteFailed
from mqttbridge.settings.problems import one_line
from mqttbridge.settings.reader import MAX_BYTES
from mqttbridge.settings.references import read_file

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["present", "remove", "sweep", "write"]

PREFIX: Final = ".mqttbridge-"
SUFFIX: Final = ".tmp"
FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o750
CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM})
LET_IT = "docs/api.md tells how to let the daemon edit its files"


def present(path: Path) -> bytes | None:
    """Give the bytes of a file, None if there is none. Raises `WriteFailed` for what is no file to be edited."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failed(error, path, "read") from None
    if stat.S_ISLNK(status.st_mode):
        raise WriteFailed(f"{_name(path)} is a link, and is not replaced: edit the file behind it by hand")
    try:
        return read_file(path, MAX_BYTES)
    except ValueError as error:
        raise WriteFailed(f"{_name(path)} {error}") from None


def write(path: Path, data: bytes) -> None:
    """Put a file in place of what is there, or make it, and its directory too.

    Raises `WriteFailed`: what was there still is, unless the disk failed after the file had taken its name.
    """
    temporary = path.parent / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
    try:
        _directory(path.parent)
        try:
            _fill(temporary, data)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync(path.parent)
    except OSError as error:
        raise _failed(error, path, "written") from None


def remove(path: Path) -> None:
    """Remove a file; that it is not there is no error. Raises `WriteFailed`."""
    try:
        path.unlink(missing_ok=True)
        _sync(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed(error, path, "removed") from None


def sweep(directory: Path) -> None:
    """Remove what a crash has left in a directory, as far as that goes."""
    with contextlib.suppress(OSError):
        for one in directory.iterdir():
            if one.name.startswith(PREFIX) and one.name.endswith(SUFFIX):
                with contextlib.suppress(OSError):
                    one.unlink()


def _fill(path: Path, data: bytes) -> None:
    handle = os.open(path, CREATE, FILE_MODE)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _directory(path: Path) -> None:
    """Make the directory, if there is none; a link to one is one."""
    if path.is_dir():
        return
    if path.is_symlink():
        raise WriteFailed(f"{_name(path)} is a link that leads to no directory; make the one behind it")
    path.mkdir(DIRECTORY_MODE)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _failed(error: OSError, path: Path, what: str) -> WriteFailed:
    """Say why it does not go, and what to do."""
    name = _name(path)
    if error.errno in FULL:
        return WriteFailed(f"{name} cannot be {what}: there is no space left on its disk", passing=True)
    if error.errno == errno.EROFS:
        return WriteFailed(f"{name} cannot be {what}: its directory is read-only for the daemon; {LET_IT}")
    if error.errno in FORBIDDEN:
        return WriteFailed(f"{name} cannot be {what}: the daemon has no permission for that; {LET_IT}")
    return WriteFailed(f"{name} cannot be {what}: {error.strerror or type(error).__name__}", passing=True)


def _name(path: Path) -> str:
    return one_line(str(path))
