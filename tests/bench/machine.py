"""The processes of a benchmark: brokers, the daemon, load generators; their time on the CPU, memory and files.

Everything is started here and ended here, by its own handle, and lives on loopback in a temporary directory.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Broker", "Child", "Daemon", "Worker", "free_port", "wait_until"]

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
START_WITHIN = 30.0
END_WITHIN = 60.0
ROOT = Path(__file__).parents[2]
_ports = itertools.chain(range(20_000 + os.getpid() % 10_000, 32_000), range(10_000, 20_000))


def free_port() -> int:
    """Give a loopback port that nobody uses now, below those that the kernel gives to clients (and so takes away)."""
    for port in _ports:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


def wait_until(condition: Callable[[], bool], what: str, within: float = START_WITHIN) -> None:
    """Look every 20 ms whether it is so. Raises `RuntimeError` with what did not come."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come within {within:.0f} s")
        time.sleep(0.02)


class Child(AbstractContextManager["Child"]):
    """A process that ends with its `with` block."""

    def __init__(self, name: str, command: Sequence[str], log: Path, *, talk: bool = False) -> None:
        """Start it. `talk`: stdin and stdout are pipes; else stdout goes to the log, as stderr does."""
        self.name = name
        self.log = log
        with log.open("ab") as out:
            pipe = subprocess.PIPE if talk else None
            self.process = subprocess.Popen(
                command, stdin=pipe or subprocess.DEVNULL, stdout=pipe or out, stderr=out, cwd=ROOT, text=talk
            )
        self._before = 0.0, 0.0

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.end()

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it in an orderly way, if it takes no longer than a minute."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def text(self) -> str:
        """Give its log."""
        return self.log.read_text(errors="replace")

    def _cpu(self) -> tuple[float, float]:
        """Give seconds on the CPU: of the first thread, and of the others."""
        path = f"/proc/{self.process.pid}"
        first = _seconds(Path(f"{path}/task/{self.process.pid}/stat"))
        return first, _seconds(Path(f"{path}/stat")) - first

    def mark(self) -> None:
        """Begin to count time on the CPU here."""
        self._before = self._cpu()

    def used(self) -> tuple[float, float]:
        """Give seconds on the CPU since `mark`: of the first thread, and of the others."""
        now = self._cpu()
        return now[0] - self._before[0], now[1] - self._before[1]

    def rss(self) -> int:
        """Give the memory that it holds, in bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE

    def peak(self) -> int:
        """Give the most memory that it ever held, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _seconds(stat: Path) -> float:
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Worker(Child):
    """A load generator; see `worker.serve`."""

    def __init__(self, directory: Path, module: str, **task: object) -> None:
        """Start it with its task, and wait until it is ready."""
        command = [sys.executable, "-m", f"tests.bench.{module}", json.dumps(task)]
        super().__init__(module, command, directory / f"{module}.log", talk=True)
        if self._line() != "ready\n":
            raise RuntimeError(f"{module} did not start:\n{self.text()}")

    def go(self) -> None:
        """Have it begin."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Wait for what came of it. Its time on the CPU is lost with it: ask before."""
        line = self._line()
        if not line:
            raise RuntimeError(f"{self.name} failed:\n{self.text()}")
        return dict(json.loads(line))

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


class Broker(Child):
    """A mosquitto without limits on what it queues and has in flight, and without persistence."""

    def __init__(self, directory: Path, name: str, *, port: int = 0, bridge_to: int = 0) -> None:
        """Start it and wait until it listens. `bridge_to`: it carries `network/#` to the broker on that port."""
        self.port = port or free_port()
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "persistence false",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "max_inflight_messages 0",
            "max_queued_messages 0",
            "set_tcp_nodelay true",
        ]
        if os.geteuid() == 0:
            lines.insert(0, "user root")
        if bridge_to:
            lines += [
                "connection bench",
                f"address 127.0.0.1:{bridge_to}",
                "topic network/# out 1",
                "cleansession false",
                "restart_timeout 1",
                "notifications false",
            ]
        path = directory / f"{name}.conf"
        path.write_text("\n".join(lines) + "\n")
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise RuntimeError("mosquitto is not installed: the benchmark needs it")
        super().__init__(name, [program, "-c", str(path)], directory / f"{name}.log")
        wait_until(self._listens, f"{name} on port {self.port}")

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False


class Daemon(Child):
    """A running mqttbridge with a configuration of the benchmark's."""

    def __init__(
        self, directory: Path, settings: dict[str, Any], *, runner: Sequence[str] = ("-m", "mqttbridge")
    ) -> None:
        """Write the configuration, start it, and wait until it has started."""
        self.port = free_port()
        self.state = directory / "state"
        path = directory / "mqttbridge.yaml"
        settings = {"stateDirectory": str(self.state), "http": {"listen": f"127.0.0.1:{self.port}"}, **settings}
        path.write_text(json.dumps(settings, indent=1))  # JSON is YAML
        command = [sys.executable, *runner, "run", "--config", str(path)]
        super().__init__("daemon", command, directory / "daemon.log")
        wait_until(lambda: self.told("daemon.started"), "the start of the daemon")

    def told(self, event: str) -> bool:
        """Tell whether its log has this event. Raises `RuntimeError` if it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the daemon ended:\n{self.text()}")
        return f'"{event}"' in self.text()

    def get(self, path: str) -> str:
        """Give what it answers, whatever the status."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return str(error.read().decode())

    def post(self, path: str, body: bytes) -> None:
        """Post a JSON document. Raises `urllib.error.HTTPError` unless it is taken."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 (http)
            return

    def open_connections(self) -> int:
        """Give how many connections are open."""
        return int(json.loads(self.get("/health"))["connections"].get("OPENED", 0))

    def outcomes(self) -> dict[str, int]:
        """Give the sums of the accounts by outcome: routed, delivered, expired, parked, dropped."""
        sums: dict[str, int] = {}
        for line in self.get("/metrics").splitlines():
            if line.startswith("mqttbridge_connection_uplinks_total{"):
                name = line.partition('outcome="')[2].partition('"')[0]
                sums[name] = sums.get(name, 0) + int(float(line.split()[-1]))
        return sums

    def files(self) -> int:
        """Give the bytes of the journal's files."""
        return sum(path.stat().st_size for path in self.state.glob("journal.db*"))
