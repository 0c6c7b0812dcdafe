"""The Unix socket that the commands ask the daemon through: where it is, how it is taken, who may use it.

Only the user of the daemon and root: the socket has mode 0600, and whoever connects is asked for by the kernel
(SO_PEERCRED) as well. The functions block a little: not for the event loop.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mqttbridge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["NAME", "UNIT_DIRECTORY", "Listening", "connect", "listen", "may_ask", "socket_path"]

NAME = "mqttbridge.sock"
UNIT_DIRECTORY = Path("/run/mqttbridge")
"""The RuntimeDirectory of the systemd unit."""
BACKLOG = 64
MAX_PATH = 107
"""Bytes of a path in `sockaddr_un`, without its NUL (unix(7))."""
PROBE = 2.0
"""Seconds."""
CREDENTIALS = struct.Struct("3i")


def socket_path(state_directory: Path, environ: Mapping[str, str]) -> Path:
    """Give where the daemon has its socket: the directory that systemd gives it, else its state directory."""
    # systemd separates several directories by colons.
    given = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return (Path(given) if given.startswith("/") else state_directory) / NAME


class Listening(NamedTuple):
    """A socket that was taken, and which file is its own."""

    socket: socket.socket
    path: Path
    inode: int

    def close(self) -> None:
        """Let go of it, and remove the file; never one that another has put there since."""
        with contextlib.suppress(OSError):
            if self.path.lstat().st_ino == self.inode:
                self.path.unlink()
        self.socket.close()


def listen(path: Path) -> Listening:
    """Take the socket. What a crash left there is replaced; a daemon that answers is not. Raises `StartError`."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        _replace(path)
        with _address(path) as address:
            listener.bind(address)
        # Nobody can connect before `listen`, so there is no moment at which others could.
        path.chmod(0o600)
        listener.listen(BACKLOG)
        inode = path.lstat().st_ino
    except OSError as error:
        listener.close()
        raise StartError(
            f"cannot listen on {path}, the socket for the commands: {error.strerror or error}; "
            "make its directory one that this user may write to, or set another stateDirectory"
        ) from error
    except StartError:
        listener.close()
        raise
    listener.setblocking(False)  # noqa: FBT003 (the standard library's own signature)
    return Listening(listener, path, inode)


def connect(path: Path, timeout: float) -> socket.socket:
    """Connect to a daemon. Raises `OSError`."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(timeout)
    try:
        with _address(path) as address:
            client.connect(address)
    except OSError:
        client.close()
        raise
    return client


def may_ask(peer: socket.socket) -> bool:
    """Tell whether the other side is our own user, or root."""
    _, uid, _ = CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return uid in {0, os.geteuid()}


def _replace(path: Path) -> None:
    """Remove what a crash left. Raises `StartError` for what is not that."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{path} is no socket, but the commands ask through a socket of that name: move it away")
    try:
        connect(path, PROBE).close()
    except ConnectionRefusedError:
        path.unlink()
    else:
        raise StartError(f"another mqttbridge answers at {path}: stop it, or give each a RUNTIME_DIRECTORY of its own")


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """Give a short name for a path that is too long for a socket: by its directory, in /proc (Linux)."""
    if len(os.fsencode(path)) <= MAX_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not os.access(f"/proc/self/fd/{directory}", os.X_OK):
            raise OSError(errno.ENAMETOOLONG, f"the path is longer than {MAX_PATH} bytes, and there is no /proc")
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
