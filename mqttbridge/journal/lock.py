"""One daemon a state directory: flock on the file `lock`, which holds the owner's pid. It blocks: not for the loop."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from mqttbridge.errors import JournalInUse, StartError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["acquire"]


def acquire(directory: Path) -> int:
    """Create the directory if need be and lock it; closing the returned descriptor lets go.

    Raises `JournalInUse` if another process has it, `StartError` if the directory cannot be used.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(
            f"The state directory {directory} cannot be used: {error.strerror}. "
            "Make it a directory that this user may write to, or set another stateDirectory."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise JournalInUse(
            f"Another mqttbridge (pid {owner}) uses the state directory {directory}: "
            "stop it, or set another stateDirectory."
        ) from None
    except OSError as error:
        os.close(descriptor)
        raise StartError(f"The state directory {directory} cannot be locked: {error.strerror}.") from error
    return descriptor
