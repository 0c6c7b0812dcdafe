"""Finds the Unix socket of a running daemon and asks it: HTTP with JSON, as `control/local.py` answers.

Whatever goes wrong becomes an `AskError` with one sentence: which socket, what is wrong, what to do.
"""

from __future__ import annotations

import contextlib
import http.client
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.control import unix
from mqttbridge.control.local import HEADER, quoted
from mqttbridge.errors import AskError
from mqttbridge.settings.loader import find_state_directory

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Answer", "Daemon"]

TIMEOUT = 10.0
"""Seconds."""


class Answer(msgspec.Struct, frozen=True):
    """What the daemon said; `problem` is the `detail` of problem details, empty if all went well."""

    where: Path
    status: int
    body: bytes
    problem: str = ""


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket that is connected already."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self.sock = connected


class Daemon:
    """The daemon that runs a configuration."""

    def __init__(self, config: Path, environ: Mapping[str, str]) -> None:
        """Nothing is asked yet."""
        self._config = config
        own = unix.socket_path(find_state_directory(config, environ=environ), environ)
        self.sockets = tuple(dict.fromkeys((own, unix.UNIT_DIRECTORY / unix.NAME)))
        """Where it may listen: its own place, then that of the systemd unit."""

    def ask(self, method: str, path: str, body: object = None, *, timeout: float | None = None) -> Answer:
        """Ask it one thing; `body` is sent as JSON. Raises `AskError` if it cannot be asked, or gives no answer."""
        with self._asked(method, path, body, timeout) as (where, response):
            given = response.read()
        if response.status == http.client.MISDIRECTED_REQUEST:
            raise _misdirected(where, method, path, _detail(given))
        problem = _detail(given) if response.status >= http.client.BAD_REQUEST else ""
        return Answer(where, response.status, given, problem)

    def lines(self, path: str) -> Iterator[bytes]:
        """Give the lines of an answer that goes on until the daemon ends, or who reads it. Raises `AskError`."""
        with self._asked("GET", path, None, None) as (where, response):
            if response.status == http.client.MISDIRECTED_REQUEST:
                raise _misdirected(where, "GET", path, _detail(response.read()))
            if response.status >= http.client.BAD_REQUEST:
                raise _refused(where, "GET", path, _detail(response.read()))
            while line := response.readline():
                yield line

    @contextlib.contextmanager
    def _asked(
        self, method: str, path: str, body: object, timeout: float | None
    ) -> Iterator[tuple[Path, http.client.HTTPResponse]]:
        """Send a request; give who got it, and the answer, of which the head is read."""
        where, connected = self._connected()
        try:
            connected.settimeout(TIMEOUT if timeout is None else timeout)
            connection = _Connection(connected)
            headers = self._meant()
            if body is not None:
                headers["Content-Type"] = "application/json"
            connection.request(method, path, None if body is None else msgspec.json.encode(body), headers)
            yield where, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            raise AskError(f"the mqttbridge at {where} gave no answer: {reason}; its log may tell more") from error
        finally:
            connected.close()

    def _meant(self) -> dict[str, str]:
        """Say whom we mean: two configurations may name one state directory, so that any daemon may be anywhere."""
        return {HEADER.decode(): quoted(self._config).decode()}

    def get(self, path: str) -> bytes:
        """Give the body of a good answer. Raises `AskError`."""
        answer = self.ask("GET", path)
        if answer.problem:
            raise _refused(answer.where, "GET", path, answer.problem)
        return answer.body

    def post(self, path: str, body: object, *, timeout: float | None = None) -> bytes:
        """Give the body of a good answer to a POST with this JSON. Raises `AskError`."""
        answer = self.ask("POST", path, body, timeout=timeout)
        if answer.problem:
            raise _refused(answer.where, "POST", path, answer.problem)
        return answer.body

    def _connected(self) -> tuple[Path, socket.socket]:
        failed: list[tuple[Path, OSError]] = []
        for where in self.sockets:
            try:
                return where, unix.connect(where, TIMEOUT)
            except OSError as error:
                failed.append((where, error))
        raise AskError(_why(failed, self._config)) from failed[0][1]


def _misdirected(where: Path, method: str, path: str, problem: str) -> AskError:
    """Say who answers there instead."""
    return AskError(f"the mqttbridge at {where} does not answer {method} {path.partition('?')[0]}: {problem}")


def _refused(where: Path, method: str, path: str, problem: str) -> AskError:
    """Say what the daemon does not do, without what was asked in detail."""
    if path.startswith("/status"):
        return AskError(f"the mqttbridge at {where} does not answer {method} {path}: {problem}")
    return AskError(problem)


def _why(failed: Sequence[tuple[Path, OSError]], config: Path) -> str:
    """Say why no daemon can be asked: what may well be a running one first."""
    for where, error in failed:
        if isinstance(error, PermissionError):
            return f"{where} may not be used by this user: only root and the user that mqttbridge runs as may ask it"
    for where, error in failed:
        if isinstance(error, ConnectionRefusedError):
            return f"nobody answers at {where}: mqttbridge has ended without removing it; start it again"
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return f"mqttbridge cannot be asked at {where}: {error.strerror or error}"
    places = " nor ".join(str(where) for where, _ in failed)
    return f"there is no socket {places}: is mqttbridge running, and with {config} (else name its file with --config)?"


def _detail(body: bytes) -> str:
    """Give what problem details say."""
    try:
        detail = msgspec.json.decode(body, type=dict[str, object]).get("detail")
    except msgspec.DecodeError:
        detail = None
    return str(detail or "an error without an explanation")
