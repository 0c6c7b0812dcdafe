"""A real mqttbridge in a process of its own, with a configuration, a state directory and a log of a test's.

async with bridge(tmp_path, sources=..., connections=...) as daemon:
    await daemon.post("lrc", uplink(1))
    assert (await daemon.account("acme"))["delivered"] == 1
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from mqttbridge.clock import SystemClock
from mqttbridge.formats import sample
from tests.brokers.mosquitto import find

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from tests.brokers.recorder import Address

ROOT = Path(__file__).parents[2]
DEADLINE = 15.0
NOBODY = 1
"""A port where nobody listens, and where no test can begin to."""
DEV_EUI = "0018B20000000B20"
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}


def uplink(fcnt: int, dev_eui: str = DEV_EUI, *, age: int = 0, **more: Any) -> bytes:  # noqa: ANN401 (fields of any kind)
    """Give a fresh uplink document; `age` in ms. `more` are arguments of the sample."""
    return sample.uplink(dev_eui, fcnt=fcnt, time_ms=SystemClock().now() - age, **more)


def names(directory: Path) -> list[str]:
    """Give what stands in a directory."""
    return sorted(entry.name for entry in directory.iterdir())


def edited(document: bytes, **fields: Any) -> bytes:  # noqa: ANN401 (fields of any kind)
    """Give the document with other fields under its root; None takes a field away."""
    ((kind, content),) = json.loads(document).items()
    content = {name: value for name, value in {**content, **fields}.items() if value is not None}
    return json.dumps({kind: content}).encode()


def fcnts(payloads: list[bytes]) -> list[int]:
    """Give the FCntUp of each uplink."""
    return [json.loads(payload)["DevEUI_uplink"]["FCntUp"] for payload in payloads]


def to(broker: Address | int, **configuration: Any) -> dict[str, Any]:  # noqa: ANN401 (properties of any kind)
    """Give a connection to a broker (or to a port where nobody is)."""
    port = broker if isinstance(broker, int) else broker.port
    return {"configuration": {"hostName": f"127.0.0.1:{port}", "protocol": "TCP", **configuration}}


def subscribed(broker: Address, *topics: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 (properties of any kind)
    """Give an MQTT source at a broker."""
    host = f"127.0.0.1:{broker.port}"
    return {"transport": "mqtt", "hostName": host, "protocol": "TCP", "topics": list(topics or ["ns/+/up"]), **more}


class Command:
    """One run of the command line, whose output is collected."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.arguments = arguments
        self.env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})}
        self.process: asyncio.subprocess.Process | None = None
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._changed = asyncio.Condition()
        self._readers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mqttbridge", *self.arguments,
            cwd=ROOT, env=self.env, limit=64 * 1024 * 1024, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        pipes = ((self.process.stdout, self.stdout), (self.process.stderr, self.stderr))
        self._readers = [asyncio.create_task(self._read(stream, lines)) for stream, lines in pipes if stream]

    async def _read(self, stream: asyncio.StreamReader, lines: list[str]) -> None:
        async for line in stream:
            async with self._changed:
                lines.append(line.decode().rstrip("\n"))
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def text(self) -> str:
        """Everything that it printed."""
        return "\n".join([*self.stdout, *self.stderr])

    async def until(self, holds: Callable[[], Any], what: str, timeout: float = DEADLINE) -> Any:  # noqa: ANN401
        """Wait until `holds`, looked at with every line, is true; gives its value."""
        try:
            async with asyncio.timeout(timeout), self._changed:
                while not (value := holds()):
                    if all(reader.done() for reader in self._readers):
                        break
                    await self._changed.wait()
                else:
                    return value
        except TimeoutError:
            pass
        if value := holds():
            return value
        raise AssertionError(f"no {what}; it said:\n{self.text[-5000:]}")

    def signal(self, number: int) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def wait(self, timeout: float = DEADLINE) -> int:
        """Wait for its end; gives the exit code."""
        assert self.process is not None
        async with asyncio.timeout(timeout):
            code = await self.process.wait()
            await asyncio.gather(*self._readers)
        return code

    async def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            await self.wait()

    async def stop(self, timeout: float = DEADLINE) -> int:
        """Ask it to end; gives the exit code."""
        self.signal(signal.SIGTERM)
        return await self.wait(timeout)


@asynccontextmanager
async def command(*arguments: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Command]:
    """Start a command; it is gone when the block ends."""
    running = Command(*arguments, env=env)
    await running.start()
    try:
        yield running
    finally:
        await running.kill()


async def run(*arguments: str, env: Mapping[str, str] | None = None) -> Command:
    """Run a command to its end; `process.returncode` has the exit code."""
    async with command(*arguments, env=env) as running:
        await running.wait()
    return running


class Bridge(Command):
    """The daemon."""

    def __init__(
        self, directory: Path, config: Mapping[str, Any] | str, *, level: str, env: Mapping[str, str] | None
    ) -> None:
        self.path = directory / "mqttbridge.yaml"
        self.state = directory / "state"
        super().__init__("run", "--config", str(self.path), "--log-level", level, env=env)
        self.write(config)
        self.url = ""
        self.client = httpx.AsyncClient(trust_env=False, timeout=DEADLINE)

    def write(self, config: Mapping[str, Any] | str) -> None:
        """Write the configuration; JSON is YAML. The port is the system's choice."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(config, str):
            config = json.dumps({"http": {"listen": "127.0.0.1:0"}, **config})
        self.path.write_text(config)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log, parsed."""
        return [json.loads(line) for line in self.stderr if line.startswith("{")]

    def said(self, event: str, **fields: Any) -> list[dict[str, Any]]:  # noqa: ANN401 (fields of any kind)
        """Give the log lines of an event that have these fields."""
        lines = (line for line in self.events if line["event"] == event)
        return [line for line in lines if all(line.get(name) == value for name, value in fields.items())]

    async def until_said(self, event: str, count: int = 1, **fields: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        """Wait for log lines of an event."""
        return await self.until(
            lambda: len(found := self.said(event, **fields)) >= count and found, f"{event} {fields}"
        )

    async def start(self, *, wait: bool = True) -> None:
        """Start, and wait until it says that it has."""
        self.stdout, self.stderr = [], []
        await super().start()
        if wait:
            await self.until_said("daemon.started")
            self.url = f"http://{self.said('http.listening')[0]['address']}"

    async def restart(self) -> None:
        """Start again after `stop` or `kill`; the log begins anew."""
        await self.start()

    async def post(self, source: str, body: bytes, query: str = "", **more: Any) -> httpx.Response:  # noqa: ANN401
        """POST uplinks."""
        headers = more.pop("headers", JSON)
        return await self.client.post(f"{self.url}/uplink/{source}{query}", content=body, headers=headers, **more)

    async def accept(self, source: str, *documents: bytes) -> None:
        """POST uplinks that must be accepted, as NDJSON."""
        answer = await self.post(source, b"\n".join(documents), headers=NDJSON)
        assert (answer.status_code, answer.json()) == (200, {"accepted": len(documents)}), answer.text

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(self.url + path)

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """Give the metrics by name and label values, which stand in the order of their labels' names."""
        text = (await self.get("/metrics")).text
        found = SAMPLE.findall(text)
        return {(name, *(value for _, value in LABEL.findall(labels))): float(value) for name, labels, value in found}

    async def rejected(self, source: str, reason: str) -> int:
        """Give how often a source brought what was not taken, for this reason."""
        return int((await self.metrics())["mqttbridge_source_uplinks_rejected_total", reason, source])

    async def account(self, connection: str) -> dict[str, int]:
        """Give a connection's account; the equation is checked every time."""
        metrics = await self.metrics()
        name = "mqttbridge_connection_uplinks"
        outcomes = ("routed", "delivered", "expired", "parked", "dropped")
        account = {outcome: int(metrics[f"{name}_total", connection, outcome]) for outcome in outcomes}
        account["queued"] = int(metrics[f"{name}_queued", connection])
        assert account["routed"] == sum(account.values()) - account["routed"], account
        return account

    async def until_account(self, connection: str, timeout: float = DEADLINE, **wanted: int) -> dict[str, int]:
        """Wait until an account has these numbers."""
        account: dict[str, int] = {}

        async def holds() -> bool:
            account.update(await self.account(connection))
            return all(account[name] == value for name, value in wanted.items())

        await until(holds, f"account {wanted}", timeout, lambda: f"{account}\n{self.text[-3000:]}")
        return account

    async def until_state(self, connection: str, state: str) -> None:
        """Wait until a connection is in a state."""

        async def holds() -> bool:
            return (await self.metrics())["mqttbridge_connection_state", connection, state] == 1

        await until(holds, f"{connection} {state}", DEADLINE, lambda: self.text[-3000:])


async def until(
    holds: Callable[[], Any], what: str, timeout: float = DEADLINE, more: Callable[[], str] = lambda: ""
) -> None:
    """Poll an async condition until it is true."""
    try:
        async with asyncio.timeout(timeout):
            while not await holds():  # noqa: ASYNC110 (what is awaited lies in another process)
                await asyncio.sleep(0.03)
    except TimeoutError:
        raise AssertionError(f"not within {timeout} s: {what}; {more()}") from None


@asynccontextmanager
async def bridge(
    directory: Path,
    config: str | None = None,
    *,
    level: str = "info",
    env: Mapping[str, str] | None = None,
    start: bool = True,
    **sections: Any,  # noqa: ANN401 (sections of the configuration)
) -> AsyncIterator[Bridge]:
    """Run the daemon with a configuration: as text, or as sections. Without sources there is an HTTP source `lrc`."""
    whole = {"sources": {"lrc": {"transport": "http"}}, **sections}
    daemon = Bridge(directory, whole if config is None else config, level=level, env=env)
    try:
        if start:
            await daemon.start()
        yield daemon
    finally:
        await daemon.kill()
        await daemon.client.aclose()


async def publish_lines(broker: Address, topic: str, documents: list[bytes], *, qos: int = 1) -> None:
    """Publish each document as a message of its own, in order, as a network server does; returns when all are taken."""
    process = await asyncio.create_subprocess_exec(
        find("mosquitto_pub"), "-h", broker.host, "-p", str(broker.port), "-t", topic, "-q", str(qos), "-l",
        stdin=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await process.communicate(b"\n".join(documents) + b"\n")
    assert process.returncode == 0
