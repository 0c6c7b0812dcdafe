"""A real mosquitto on free loopback ports, for one test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from pathlib import Path

DEADLINE = 10.0
PORTS = range(10_000, 32_000)
WORKERS = 4


def find(program: str) -> str:
    """Give the path of a program; without it the test is skipped, or fails where CI says that it must be there."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        message = f"{program} is not installed: its tests need the real thing"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


def _own_ports() -> Iterator[int]:
    """Go round the ports of this process of the tests, below those that the kernel gives to clients."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    first = PORTS.start + worker * (len(PORTS) // WORKERS)
    own = range(first, first + len(PORTS) // WORKERS)
    start = random.SystemRandom().randrange(len(own))  # other runs of the tests may be under way
    return itertools.cycle([*own[start:], *own[:start]])


def free_port() -> int:
    """Give a loopback port that nobody uses now, and that no other process of the tests takes before this one does."""
    for port in itertools.islice(_ports, len(PORTS)):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


_ports = _own_ports()


async def until_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a port answers; fails with the log when the process ends or takes too long."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        await writer.wait_closed()
        return
    text = await asyncio.to_thread(log.read_text, errors="replace")
    pytest.fail(f"the broker did not start (exit {process.poll()}):\n{text}")


class Process:
    """A broker process that can be stopped, killed, frozen and started again on the same ports."""

    def __init__(self, command: Sequence[str], log: Path, ports: Iterable[int]) -> None:
        self.command = list(command)
        self.log = log
        self.ports = tuple(ports)
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start and wait until every port answers."""
        self.process = await asyncio.to_thread(self._spawn)
        for port in self.ports:
            await until_listening(port, self.process, self.log)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    async def _end(self, signal_number: int) -> None:
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal_number)
            try:
                await asyncio.to_thread(process.wait, DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)

    async def stop(self) -> None:
        """End it in an orderly way."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it at once."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop and start on the same ports."""
        await self.stop()
        await self.start()

    def freeze(self) -> None:
        """SIGSTOP: it keeps its sockets and says nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def read_log(self) -> str:
        """Give what it has logged."""
        return await asyncio.to_thread(self.log.read_text, errors="replace")


class Mosquitto(Process):
    """A mosquitto. `port` is the first listener's; `listeners` has one by its name."""

    host = "127.0.0.1"

    def __init__(self, command: Sequence[str], log: Path, listeners: dict[str, int]) -> None:
        super().__init__(command, log, listeners.values())
        self.listeners = listeners
        self.port = next(iter(listeners.values()))


@asynccontextmanager
async def mosquitto(
    directory: Path,
    *,
    listeners: dict[str, Sequence[str]] | None = None,
    config: Sequence[str] = (),
    users: dict[str, str] | None = None,
    acl: str | None = None,
) -> AsyncIterator[Mosquitto]:
    """Run a mosquitto.

    `listeners`: name -> its configuration lines (default: one plain listener, `plain`); each gets a port of its own.
    `config`: global lines. `users`: name -> password, and nobody else may enter. `acl`: the ACL file.
    """
    program = find("mosquitto")
    listeners = listeners or {"plain": []}
    if all("protocol websockets" in own for own in listeners.values()):
        listeners = {**listeners, "beside": []}  # 2.0.11 does not start with WebSocket listeners alone
    ports = {name: free_port() for name in listeners}
    lines = [
        "per_listener_settings false",
        "log_dest stderr",
        "log_type all",
        "max_inflight_messages 0",
        "max_queued_messages 0",
        "set_tcp_nodelay true",
        *config,
    ]
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    if users is None:
        lines.append("allow_anonymous true")
    else:
        lines += ["allow_anonymous false", f"password_file {await asyncio.to_thread(_passwords, directory, users)}"]
    if acl is not None:
        path = directory / "acl"
        await asyncio.to_thread(path.write_text, acl)
        lines.append(f"acl_file {path}")
    for name, own in listeners.items():
        lines += [f"listener {ports[name]} 127.0.0.1", *own]
    if os.geteuid() == 0:
        lines.insert(0, "user root")  # it would give up root and lose the test's directory
    path = directory / "mosquitto.conf"
    await asyncio.to_thread(path.write_text, "\n".join(lines) + "\n")
    broker = Mosquitto([program, "-c", str(path)], directory / "mosquitto.log", ports)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.kill()  # an orderly end takes it 0.1 s


def _passwords(directory: Path, users: dict[str, str]) -> Path:
    path = directory / "passwords"
    path.touch(mode=0o600)
    for name, password in users.items():
        subprocess.run([find("mosquitto_passwd"), "-b", str(path), name, password], check=True, capture_output=True)
    return path
