"""Random edits, valid and invalid, each followed by a reload, under load: nothing is lost, nobody is disturbed.

The load: uplinks over HTTP and from a broker, downlinks to a network server, and another broker that ends again and
again. Edits come to connections, flows and sources; signals come in the middle of reloads.

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
from tests.networks.lrc import FakeLrc
from tests.support.bridge import DEV_EUI, bridge, publish_lines, subscribed, to, uplink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.brokers.mosquitto import Mosquitto
    from tests.brokers.recorder import Message, Recorder
    from tests.support.bridge import Bridge

STEADY = ("steady-1", "steady-2", "steady-3")
"""Connections that no edit touches."""
BUSY = tuple(f"busy-{number}" for number in range(1, 7))
SHAKY = ("shaky-1", "shaky-2")
"""Connections whose broker ends again and again; nobody records what arrives there but the accounts."""
DOWN = "down"
"""The connection that brings downlinks; it restarts, and keeps its client id."""
OTHER_EUI = "0018B20000000B21"
"""The device whose uplinks come from a broker."""
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
    by_mqtt: int
    """Uplinks that a broker brought."""
    downlinks: int
    sent_again: int
    """Downlinks that the network server got more than once."""
    broker_restarts: int


class Storm:
    """One run."""

    def __init__(self, daemon: Bridge, broker: Mosquitto, shaky: Mosquitto, server: FakeLrc, seed: int) -> None:
        self.daemon = daemon
        self.broker = broker
        self.shaky = shaky
        self.random = random.Random(seed)  # noqa: S311 (to be repeated, not to be kept secret)
        self.connections = {name: self._connection(name) for name in (*STEADY, *BUSY, *SHAKY)}
        topics = {f"downlink{kind}TopicPattern": f"{DOWN}/{{DevEUI}}/{topic}" for kind, topic in
                  (("", "down"), ("Receipt", "receipt"))}  # fmt: skip
        self.connections[DOWN] = to(broker, uplinkTopicPattern=DOWN + "/{DevEUI}", clientId=DOWN, **topics)
        self.flows: dict[str, Any] = {}
        self.sources: dict[str, Any] = {"lrc": {"transport": "http", "apiUrl": server.url}, "ns": self._source()}
        self.accepted: list[int] = []
        self.by_mqtt = self.downlinks = self.broker_restarts = 0
        self.refused = 0
        self.longest = self.slowest_post = 0.0
        self._over = asyncio.Event()
        transport = httpx.AsyncHTTPTransport(uds=str(daemon.state / "mqttbridge.sock"))
        self.socket = httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=30.0)

    def _connection(self, name: str) -> dict[str, Any]:
        broker = self.shaky if name in SHAKY else self.broker
        return to(broker, uplinkTopicPattern=name + "/{DevEUI}", clientId=name)

    def _source(self) -> dict[str, Any]:
        return subscribed(self.broker, "ns/+/up", duplicateWindow="1h")

    def config(self) -> dict[str, Any]:
        return {"sources": self.sources, "connections": self.connections, "flows": self.flows}

    def write(self, config: dict[str, Any] | str) -> None:
        """Put a file in place at once: another signal may be under way."""
        path = self.daemon.path
        self.daemon.path = path.with_suffix(".new")
        self.daemon.write(config)
        self.daemon.path.replace(path)
        self.daemon.path = path

    async def load(self) -> None:
        """Post uplinks, one after the other, until the edits are over."""
        number = 1
        while not self._over.is_set():
            began = time.monotonic()
            await self.daemon.accept("lrc", uplink(number))
            self.slowest_post = max(self.slowest_post, time.monotonic() - began)
            self.accepted.append(number)
            number += 1
            await asyncio.sleep(0.002)

    async def load_once(self) -> None:
        """Have it known which source each device belongs to."""
        await self.daemon.accept("lrc", uplink(0))
        self.accepted.append(0)

    async def load_by_mqtt(self) -> None:
        """Publish uplinks as a network server does, and downlinks as an application."""
        while not self._over.is_set():
            numbers = range(self.by_mqtt, self.by_mqtt + 10)
            await publish_lines(self.broker, "ns/1/up", [uplink(number, OTHER_EUI) for number in numbers])
            self.by_mqtt += 10
            numbers = range(self.downlinks, self.downlinks + 5)
            await publish_lines(self.broker, f"{DOWN}/{DEV_EUI}/down", [_downlink(number) for number in numbers])
            self.downlinks += 5
            await asyncio.sleep(0.05)

    async def shake(self) -> None:
        """End and begin the other broker."""
        while not self._over.is_set():
            await asyncio.sleep(self.random.uniform(0.2, 1.0))
            await (self.shaky.kill() if self.broker_restarts % 2 else self.shaky.stop())
            await asyncio.sleep(self.random.uniform(0.0, 0.5))
            await self.shaky.start()
            self.broker_restarts += 1

    async def run(self, edits: int) -> None:
        """Edit and reload, again and again; at last every connection is there again, and gets everything."""
        loading = asyncio.gather(self.load(), self.load_by_mqtt(), self.shake())
        try:
            for _ in range(edits):
                if self.random.random() < 0.2:
                    self.write(self.random.choice(BROKEN))
                    await self._reload(valid=False)
                else:
                    self._edit()
                    self.write(self.config())
                    await self._reload(valid=True)
        finally:
            self._over.set()
            await loading
        self.connections |= {name: self._connection(name) for name in (*BUSY, *SHAKY)}
        self.flows, self.sources["ns"] = {}, self._source()
        self.write(self.config())
        assert (await self.socket.post("/reload")).status_code == 200
        await self.socket.aclose()

    def _edit(self) -> None:
        """Change one thing: a connection comes, goes, sleeps, changes in place or for its broker; or the flows."""
        if self.random.random() < 0.15:
            self._edit_way()
            return
        name = self.random.choice((*BUSY, *SHAKY))
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
                self.flows = self.random.choice([{}, {"all": {"connections": sorted({*STEADY, DOWN, *some})}}])

    def _edit_way(self) -> None:
        """Change a source, or the connection of the downlinks."""
        match self.random.randrange(5):
            case 0:
                if "ns" in self.sources:
                    del self.sources["ns"]  # its broker keeps what comes meanwhile
                else:
                    self.sources["ns"] = self._source()
            case 1:
                self.sources["ns"] = {**self._source(), "keepAlive": f"{self.random.randrange(10, 60)}s"}
            case 2:
                self.sources["lrc"]["duplicateWindow"] = self.random.choice(["0s", "1s", "2s"])
            case 3:
                self.connections[DOWN]["configuration"]["keepAlive"] = f"{self.random.randrange(10, 60)}s"
            case _:
                self.connections[DOWN]["configuration"]["downlinkRate"] = self.random.choice([500, 1000])

    def _forget(self, name: str) -> None:
        """Take what is gone out of the flows."""
        for flow in self.flows.values():
            flow["connections"] = [each for each in flow["connections"] if each != name]

    async def _reload(self, *, valid: bool) -> None:
        began = time.monotonic()
        if self.random.random() < 0.5:
            asking = asyncio.create_task(self.socket.post("/reload"))
            if self.random.random() < 0.3:
                await asyncio.sleep(self.random.uniform(0.0, 0.02))
                self.daemon.signal(signal.SIGHUP)
            answer = await asking
            assert answer.status_code == (200 if valid else 422), answer.text
        else:
            before = sum(len(self.daemon.said(end)) for end in ENDS)
            self.daemon.signal(signal.SIGHUP)
            await self.daemon.until(lambda: sum(len(self.daemon.said(end)) for end in ENDS) > before, "end of a reload")
        self.longest = max(self.longest, time.monotonic() - began)
        self.refused += not valid


def _downlink(number: int) -> bytes:
    document = {"FPort": 2, "payload_hex": f"{number:08x}", "CorrelationID": f"{number:016X}"}
    return json.dumps({"DevEUI_downlink": document}).encode()


async def storm(directory: Path, *, edits: int, seed: int) -> Outcome:
    """Run one, and judge it."""
    async with (
        FakeLrc() as server,
        mosquitto(directory / "shaky") as shaky,
        mosquitto(directory / "broker") as broker,
        recorder(broker) as record,
        bridge(directory, start=False) as daemon,
    ):
        this = Storm(daemon, broker, shaky, server, seed)
        this.write(this.config())
        await daemon.start()
        for name in (*STEADY, *SHAKY):
            await daemon.until_state(name, "OPENED")
        await daemon.until_said("connection.subscribed")
        await daemon.until_said("source.opened")
        await this.load_once()
        await this.run(edits)
        # What the source's broker kept is still coming.
        whole = {"routed": len(this.accepted) + this.by_mqtt, "queued": 0}
        await daemon.until_account(STEADY[0], timeout=60.0, **whole)
        accounts = {
            name: await daemon.until_account(name, timeout=60.0, queued=0) for name in (*STEADY, *BUSY, *SHAKY, DOWN)
        }
        repeats = await _judge_uplinks(this, accounts, record, await broker.read_log())
        sent_again = await _judge_downlinks(this, server, record)
        restarts = sum(line.get("change", "").startswith("restart") for line in daemon.said("config.applied"))
        assert not daemon.said("config.crashed")
        return Outcome(
            edits, this.refused, len(this.accepted), restarts, repeats, this.longest, this.slowest_post,
            this.by_mqtt, this.downlinks, sent_again, this.broker_restarts,
        )  # fmt: skip


async def _judge_uplinks(this: Storm, accounts: dict[str, dict[str, int]], record: Recorder, log: str) -> int:
    """Compare what came with the accounts, and with what was sent. Gives how many came again."""
    recorded = {name: account for name, account in accounts.items() if name not in SHAKY}

    def came(messages: Sequence[Message]) -> dict[str, list[tuple[str, int]]]:
        found: dict[str, list[tuple[str, int]]] = {name: [] for name in recorded}
        for message in messages:
            name, _, rest = message.topic.partition("/")
            if name in found and "DevEUI_uplink" in (document := json.loads(message.payload)):
                found[name].append((rest.rpartition("/")[2], document["DevEUI_uplink"]["FCntUp"]))
        return found

    def whole(messages: list[Message]) -> bool:
        found = came(messages)
        return all(len(set(found[name])) >= account["routed"] for name, account in recorded.items())

    uplinks = came(await record.wait_until(whole, timeout=60.0))
    for name in STEADY:
        for device, numbers in ((DEV_EUI, this.accepted), (OTHER_EUI, list(range(this.by_mqtt)))):
            got = [number for eui, number in uplinks[name] if eui == device]
            assert got == numbers, f"{name} did not get each uplink of {device} once, in order"
        assert log.count(f" as {name} ") == 1, f"{name} was disturbed"
    for name, account in accounts.items():
        assert account["expired"] == account["parked"] == account["dropped"] == 0, (name, account)
    for name, account in recorded.items():
        assert len(set(uplinks[name])) == account["routed"], f"{name}: {len(set(uplinks[name]))} came, {account}"
    return sum(len(numbers) - len(set(numbers)) for numbers in uplinks.values())


async def _judge_downlinks(this: Storm, server: FakeLrc, record: Recorder) -> int:
    """See that each downlink reached the network server, and was answered once. Gives how many reached it again."""

    def answered(messages: list[Message]) -> Counter[str]:
        receipts = (json.loads(one.payload) for one in messages if one.topic.endswith("/receipt"))
        return Counter(receipt["CorrelationID"] for receipt in receipts if receipt["outcome"] == "queued")

    everything = {f"{number:016X}" for number in range(this.downlinks)}
    try:
        await record.wait_until(lambda messages: answered(messages).keys() >= everything, timeout=60.0)
    except AssertionError:
        missing = sorted(everything - answered(record.messages).keys())
        sent = {one["CorrelationID"] for one in server.queued}
        others = [
            one.payload for one in record.messages if one.topic.endswith("/receipt") and b'"queued"' not in one.payload
        ]
        raise AssertionError(
            f"{len(missing)} of {this.downlinks} not answered, {len(sent.intersection(missing))} of them sent: "
            f"{missing[:5]}; {others[:3]}; {this.daemon.text[-3000:]}"
        ) from None
    taken = Counter(one["CorrelationID"] for one in server.queued)
    assert taken.keys() == everything
    return sum(taken.values()) - len(taken)


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
