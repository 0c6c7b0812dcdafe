"""Random edits, valid and invalid, each followed by a reload, under load: nothing is lost, nobody is disturbed.

The long form is `python -m tests.reload_storm --edits 500 [--seed N]`; tests/test_reload_storm.py runs the short one.
The witnesses are others: mosquitto's own log counts the connects of each client, mosquitto_sub records what arrives.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from tests.brokers.mosquitto import mosquitto
from tests.brokers.recorder import recorder
from tests.support.bridge import bridge, to, uplink

if TYPE_CHECKING:
    from tests.brokers.mosquitto import Mosquitto
    from tests.support.bridge import Bridge

STEADY = ("steady-1", "steady-2", "steady-3")
"""Connections that no edit touches."""
BUSY = tuple(f"busy-{number}" for number in range(1, 7))
ENDS = ("config.reloaded", "config.unchanged", "config.rejected")
BROKEN = (
    "connections: [",
    "nonsense: true\n",
    "connections: {acme: {configuration: {hostName: 'http://x', protocol: TCP}}}\n",
    "flows: {f: {connections: [nobody]}}\n",
    "\x00",
    "journal: {maxSize: lots}\n",
)


class Outcome(NamedTuple):
    """What a storm did."""

    edits: int
    refused: int
    accepted: int
    restarts: int
    repeats: int
    longest: float
    """Seconds of the longest reload, from the request to the answer."""
    slowest_post: float
    """Seconds."""


class Storm:
    """One run."""

    def __init__(self, daemon: Bridge, broker: Mosquitto, seed: int) -> None:
        self.daemon = daemon
        self.broker = broker
        self.random = random.Random(seed)  # noqa: S311 (to be repeated, not to be kept secret)
        self.connections = {name: self._connection(name) for name in (*STEADY, *BUSY)}
        self.flows: dict[str, Any] = {}
        self.accepted: list[int] = []
        self.refused = 0
        self.longest = self.slowest_post = 0.0
        self._over = asyncio.Event()
        transport = httpx.AsyncHTTPTransport(uds=str(daemon.state / "mqttbridge.sock"))
        self.socket = httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=30.0)

    def _connection(self, name: str) -> dict[str, Any]:
        return to(self.broker, uplinkTopicPattern=name + "/{DevEUI}", clientId=name)

    def config(self) -> dict[str, Any]:
        sources = {"lrc": {"transport": "http"}}
        return {"sources": sources, "connections": self.connections, "flows": self.flows}

    async def load(self) -> None:
        """Post uplinks, one after the other, until the edits are over."""
        number = 0
        while not self._over.is_set():
            began = time.monotonic()
            await self.daemon.accept("lrc", uplink(number))
            self.slowest_post = max(self.slowest_post, time.monotonic() - began)
            self.accepted.append(number)
            number += 1
            await asyncio.sleep(0.002)

    async def run(self, edits: int) -> None:
        """Edit and reload, again and again; at last every connection is there again, and gets everything."""
        loading = asyncio.create_task(self.load())
        try:
            for _ in range(edits):
                if self.random.random() < 0.2:
                    self.daemon.write(self.random.choice(BROKEN))
                    await self._reload(valid=False)
                else:
                    self._edit()
                    self.daemon.write(self.config())
                    await self._reload(valid=True)
        finally:
            self._over.set()
            await loading
        self.connections |= {name: self._connection(name) for name in BUSY}
        self.flows = {}
        self.daemon.write(self.config())
        await self._reload(valid=True)
        await self.socket.aclose()

    def _edit(self) -> None:
        """Change one thing: a connection comes, goes, sleeps, changes in place or for its broker; or the flows."""
        name = self.random.choice(BUSY)
        connection = self.connections.get(name)
        if connection is None:
            self.connections[name] = self._connection(name)
            return
        configuration = connection["configuration"]
        match self.random.randrange(7):
            case 0:
                del self.connections[name]
                self._forget(name)
            case 1:
                connection["active"] = not connection.get("active", True)
            case 2:
                configuration["uplinkTopicPattern"] = f"{name}/{self.random.choice(['{DevEUI}', 'x/{DevEUI}'])}"
            case 3:
                configuration["clientId"] = f"{name}-{self.random.randrange(1000)}"
            case 4:
                configuration["maxInflight"] = self.random.choice([1, 2, 10, 100])
                configuration["reconnectStrategy"] = self.random.choice(["CALM", "NORMAL", "AGGRESSIVE"])
            case 5:
                configuration["keepAlive"] = f"{self.random.randrange(10, 60)}s"
            case _:
                some = self.random.sample(sorted(self.connections), 3)
                self.flows = self.random.choice([{}, {"all": {"connections": sorted({*STEADY, *some})}}])

    def _forget(self, name: str) -> None:
        """Take what is gone out of the flows."""
        for flow in self.flows.values():
            flow["connections"] = [each for each in flow["connections"] if each != name]

    async def _reload(self, *, valid: bool) -> None:
        began = time.monotonic()
        if self.random.random() < 0.5:
            answer = await self.socket.post("/reload")
            assert answer.status_code == (200 if valid else 422), answer.text
        else:
            before = sum(len(self.daemon.said(end)) for end in ENDS)
            self.daemon.signal(signal.SIGHUP)
            await self.daemon.until(lambda: sum(len(self.daemon.said(end)) for end in ENDS) > before, "end of a reload")
        self.longest = max(self.longest, time.monotonic() - began)
        self.refused += not valid


async def storm(directory: Path, *, edits: int, seed: int) -> Outcome:
    """Run one, and judge it."""
    async with mosquitto(directory / "broker") as broker, recorder(broker) as record:
        async with bridge(directory, start=False) as daemon:
            this = Storm(daemon, broker, seed)
            daemon.write(this.config())
            await daemon.start()
            for name in STEADY:
                await daemon.until_state(name, "OPENED")
            await this.run(edits)
            accounts = {name: await daemon.until_account(name, queued=0) for name in (*STEADY, *BUSY)}
            delivered = sum(account["delivered"] for account in accounts.values())
            await record.wait_for(delivered, timeout=60.0)
            came: dict[str, list[int]] = {name: [] for name in accounts}
            for message in record.messages:
                came[message.topic.partition("/")[0]].append(json.loads(message.payload)["DevEUI_uplink"]["FCntUp"])
            log = await broker.read_log()
        for name in STEADY:
            assert came[name] == this.accepted, f"{name} did not get each uplink once, in order"
            assert log.count(f" as {name} ") == 1, f"{name} was disturbed"
        repeats = 0
        for name, account in accounts.items():
            assert account["expired"] == account["parked"] == account["dropped"] == 0, (name, account)
            assert len(set(came[name])) == account["routed"], f"{name}: {len(set(came[name]))} came, {account}"
            repeats += sum(Counter(came[name]).values()) - len(set(came[name]))
        restarts = sum(line.get("change", "").startswith("restart") for line in daemon.said("config.applied"))
        return Outcome(edits, this.refused, len(this.accepted), restarts, repeats, this.longest, this.slowest_post)


def main() -> None:
    """Run the long form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=500)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(2**32)  # noqa: S311 (likewise)
    print(f"seed {seed}", flush=True)  # noqa: T201 (a program of its own)
    with tempfile.TemporaryDirectory() as directory:
        outcome = asyncio.run(storm(Path(directory), edits=options.edits, seed=seed))
    print("\n".join(f"{name:>14}  {value:g}" for name, value in outcome._asdict().items()))  # noqa: T201 (likewise)


if __name__ == "__main__":
    main()
