"""kill -9 amid downlinks: `python -m tests.downlinks.crash [--rounds 100] [--downlinks 500] [--kills 5] [--seed N]`.

A round has a mosquitto with persistence, the daemon as a process, an LRC that fails now and then, and a publisher with
QoS 1. The daemon speaks MQTT 3.1.1 or 5, in most rounds over a slow line, so that acknowledgements are lost; it is
killed at random moments, and the broker is restarted or frozen now and then, until all have ended. Then `check` holds
what the LRC got, the receipts, and the journal against what was published.

A round is drawn from its seed; the command that repeats a failed one is printed. What the system makes of the same
moments differs from run to run all the same.
"""

# ruff: noqa: T201 (a command speaks)
# ruff: noqa: S311 (any random number will do)
from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.brokers.line import slow_line
from tests.brokers.mosquitto import mosquitto
from tests.brokers.recorder import recorder
from tests.downlinks.publisher import publish
from tests.networks.lrc import FakeLrc
from tests.networks.server import Fault
from tests.support.bridge import bridge, to, until

if TYPE_CHECKING:
    from tests.brokers.mosquitto import Mosquitto
    from tests.brokers.recorder import Message, Recorder
    from tests.support.bridge import Bridge

KEY = "00112233445566778899aabbccddeeff"
AS_ID = "TWA_1.2.AS"
DEVICES = 20
DEADLINE = 90.0
"""Seconds that the end of a round may take."""
LATENESS = (0.0, 0.02, 0.1, 0.3)
"""Seconds that an acknowledgement takes to the broker."""
MOMENT = 3.0
"""Seconds until a kill comes in any case."""
FAULTS = (
    *(Fault(status=503), Fault(status=500), Fault(reset=True), Fault(close=True)) * 3,
    *(Fault(take=True, close=True), Fault(take=True, reset=True)) * 6,
    Fault(hang=True),
    Fault(take=True, hang=True),
)
REDELIVERED = re.compile(r"Sending PUBLISH to mqttbridge-acme \(d1,")


@dataclass
class Figures:
    """What happened in a round, or in many."""

    kills: int = 0
    outages: int = 0
    faults: int = 0
    downlinks: int = 0
    arrivals: int = 0
    """At the LRC."""
    redelivered: int = 0
    """What mosquitto sent again, with DUP."""
    known: int = 0
    """Of these: stored before the kill already, and stored again with its former key."""
    receipts: int = 0
    seconds: float = 0.0

    def add(self, other: Figures) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def __str__(self) -> str:
        """Give a line."""
        return ", ".join(
            f"{value:.1f} {name}" if name == "seconds" else f"{value} {name}" for name, value in vars(self).items()
        )


@dataclass
class Round:
    """One round. `rate`: how many of the LRC's requests fail."""

    seed: int
    downlinks: int = 500
    kills: int = 5
    rate: float = 0.02
    outages: bool = True
    hangs: bool = True
    """Whether the LRC may hang, which takes 8 s if no kill comes."""
    figures: Figures = field(default_factory=Figures)

    def __post_init__(self) -> None:
        """Begin with the seed."""
        self.rng = random.Random(self.seed)

    @property
    def command(self) -> str:
        """Give what repeats it."""
        numbers = f"--seed {self.seed} --downlinks {self.downlinks} --kills {self.kills} --faults {self.rate}"
        leave = [f"--no-{name}" for name in ("outages", "hangs") if not getattr(self, name)]
        return " ".join(["python -m tests.downlinks.crash --rounds 1", numbers, *leave])

    def faults(self) -> list[Fault]:
        """Give what the LRC does with each request: it takes a moment, and now and then it fails."""
        kinds = [fault for fault in FAULTS if self.hangs or not fault.hang]
        slow = self.rng.choice((0.002, 0.01, 0.03))
        return [
            self.rng.choice(kinds) if self.rng.random() < self.rate else Fault(self.rng.uniform(0, slow))
            for _ in range(20 * self.downlinks)
        ]


def dev_eui(number: int) -> str:
    return f"{0x0018B20000000000 + number % DEVICES:016X}"


def document(number: int) -> tuple[str, bytes]:
    """Give topic and body of a downlink; every other one has a correlation id of its sender's."""
    fields: dict[str, Any] = {"FPort": 1 + number % 224, "payload_hex": f"{number:08x}"}
    if number % 2:
        fields["CorrelationID"] = own_id(number)
    return f"mqtt/things/{dev_eui(number)}/downlink", json.dumps({"DevEUI_downlink": fields}).encode()


def own_id(number: int) -> str:
    return f"{0xABCD << 48 | number:016X}"


async def play(round_: Round, directory: Path) -> Figures:
    """Play one round. Raises `AssertionError`: what was not kept."""
    started = time.monotonic()
    persistent = ["persistence true", f"persistence_location {directory}/"]
    patterns = {
        "downlinkTopicPattern": "mqtt/things/{DevEUI}/downlink",
        "downlinkReceiptTopicPattern": "mqtt/things/{DevEUI}/receipt",
    }
    async with (
        mosquitto(directory, config=persistent) as broker,
        slow_line(broker, round_.rng.choice(LATENESS)) as line,
        FakeLrc({AS_ID: KEY}) as server,
    ):
        source = {"transport": "http", "apiUrl": server.url, "downlinkAsId": AS_ID, "downlinkAsKey": KEY}
        connections = {"acme": to(line, mqttVersion=round_.rng.choice(("3.1.1", "5")), **patterns)}
        async with (
            recorder(broker, "mqtt/things/+/receipt", args=["-i", "recorder", "-c"]) as record,
            bridge(directory, sources={"lrc": source}, connections=connections) as daemon,
        ):
            server.faults = faults = round_.faults()
            dealt = list(faults)
            await daemon.until_said("connection.subscribed")
            await torment(round_, broker, server, daemon)
            await finished(round_, server, record, daemon)
            await daemon.kill()
            check(round_, server.queued, record.messages, daemon.state)
        log = await broker.read_log()
        round_.figures.redelivered = len(REDELIVERED.findall(log))
        round_.figures.faults = sum(not fault.only_slow for fault in dealt[: len(dealt) - len(faults)])
    round_.figures.seconds = time.monotonic() - started
    return round_.figures


# --- the torment


async def torment(round_: Round, broker: Mosquitto, server: FakeLrc, daemon: Bridge) -> None:
    """Publish all, part by part, and kill the daemon meanwhile; the broker is there whenever something is published."""
    rng = round_.rng
    cuts = sorted(rng.randrange(round_.downlinks + 1) for _ in range(round_.kills))
    parts = list(zip([0, *cuts], [*cuts, round_.downlinks], strict=True))
    for first, last in parts:
        documents = [document(number) for number in range(first, last)]
        publishing = asyncio.create_task(asyncio.to_thread(publish, broker, documents, rng.choice((0.0, 0.001))))
        try:
            if (first, last) != parts[-1]:
                await moment(round_, server, last)
                await daemon.kill()
                round_.figures.kills += 1
                await start(round_, daemon)
        finally:
            await publishing
        if round_.outages and rng.random() < 0.3:
            round_.figures.outages += 1
            await outage(rng, broker)


async def moment(round_: Round, server: FakeLrc, published: int) -> None:
    """Wait for the moment of a kill: a random time, or a random progress and a little."""
    rng = round_.rng
    if rng.random() < 0.5:
        await asyncio.sleep(rng.uniform(0, 0.5))
        return
    goal = rng.randint(0, published)
    with contextlib.suppress(TimeoutError):
        await server.wait_for(goal, MOMENT)
    await asyncio.sleep(rng.uniform(0, 0.02))


async def start(round_: Round, daemon: Bridge) -> None:
    """Start it again; some are killed while they start."""
    while round_.rng.random() < 0.2:
        await daemon.start(wait=False)
        await asyncio.sleep(round_.rng.uniform(0, 1.0))
        await daemon.kill()
        round_.figures.kills += 1
    await daemon.start()


async def outage(rng: random.Random, broker: Mosquitto) -> None:
    """Have the broker restarted, in an orderly way (else it loses messages itself), or frozen for a while."""
    if rng.random() < 0.5:
        await broker.restart()
    else:
        broker.freeze()
        await asyncio.sleep(rng.uniform(0, 1.5))
        broker.thaw()


# --- the end


async def finished(round_: Round, server: FakeLrc, record: Recorder, daemon: Bridge) -> None:
    """Wait until all reached the LRC, and nothing is left to do; what is wrong then `check` tells."""

    def state() -> tuple[int, int, int]:
        """Give how many were not taken, are unfinished, have no receipt that has arrived; keys count for the last."""
        taken = len({one["Payload"] for one in server.queued})
        stored = len(rows(daemon.state, "SELECT DISTINCT key FROM downlink"))
        return round_.downlinks - taken, unfinished(daemon.state), stored - len(keys_of(record.messages))

    async def holds() -> bool:
        return not any(await asyncio.to_thread(state))

    def more() -> str:
        return "{} are not taken, {} unfinished, {} without a receipt\n".format(*state()) + daemon.text[-3000:]

    await until(holds, "the end", DEADLINE, more)
    metrics = await daemon.metrics()
    assert metrics["mqttbridge_connection_downlinks_waiting", "acme"] == 0


def rows(directory: Path, query: str) -> list[tuple[Any, ...]]:
    """Read the journal from outside."""
    with contextlib.closing(sqlite3.connect(f"file:{directory}/downlinks.db?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()


def unfinished(directory: Path) -> int:
    ((count,),) = rows(directory, "SELECT count(*) FROM downlink WHERE state != 2")
    return int(count)


def keys_of(messages: list[Message]) -> set[str]:
    return {json.loads(message.payload)["key"] for message in messages}


def check(round_: Round, queued: list[dict[str, str]], messages: list[Message], state: Path) -> None:
    """Hold what came out against what was published."""
    count = round_.downlinks
    numbers = [int(one["Payload"], 16) for one in queued]
    assert set(numbers) == set(range(count)), f"never taken: {sorted(set(range(count)) - set(numbers))}"
    ids: dict[int, set[str]] = defaultdict(set)
    lanes: dict[str, list[int]] = defaultdict(list)
    for number, one in zip(numbers, queued, strict=True):
        assert one["DevEUI"].upper() == dev_eui(number)
        ids[number].add(one["CorrelationID"].upper())
        lanes[dev_eui(number)].append(number)
    for number, found in ids.items():
        assert len(found) == 1, f"{number} came with several ids: {found}"
        assert not number % 2 or found == {own_id(number)}, f"{number} lost its sender's id: {found}"
    assert len({min(found) for found in ids.values()}) == count, "two downlinks have one id"
    for device, lane in lanes.items():
        first = list(dict.fromkeys(lane))
        assert first == sorted(first), f"the order of {device}: {first}"
    _check_receipts(ids, messages)
    assert unfinished(state) == 0
    stored = rows(state, "SELECT digest, count(*), count(DISTINCT key), max(key) FROM downlink GROUP BY digest")
    assert len(stored) == count
    assert not [digest for digest, _, keys, _ in stored if keys != 1], "one message got several keys"
    assert len({key for *_, key in stored}) == count, "two messages got one key"
    figures = round_.figures
    figures.downlinks, figures.arrivals, figures.receipts = count, len(queued), len(messages)
    figures.known = sum(number - 1 for _, number, _, _ in stored)


def _check_receipts(ids: dict[int, set[str]], messages: list[Message]) -> None:
    """Each has receipts of one key, which say queued and have the id that the LRC got."""
    by_id = {min(found): number for number, found in ids.items()}
    keys: dict[int, set[str]] = defaultdict(set)
    for message in messages:
        receipt = json.loads(message.payload)
        assert receipt["outcome"] == "queued", receipt
        number = by_id[receipt["CorrelationID"].upper()]
        assert message.topic == f"mqtt/things/{dev_eui(number)}/receipt"
        assert receipt["DevEUI"] == dev_eui(number)
        keys[number].add(receipt["key"])
        assert number % 2 or ids[number] == {receipt["key"].upper()}, receipt
    assert set(keys) == set(ids), f"without a receipt: {sorted(set(ids) - set(keys))}"
    assert not [number for number, found in keys.items() if len(found) != 1], "receipts of one have several keys"


# --- the command


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.downlinks.crash", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--downlinks", type=int, default=500, help="in a round (500)")
    parser.add_argument("--kills", type=int, default=5, help="in a round, at least (5)")
    parser.add_argument("--faults", type=float, default=0.02, help="how many of the LRC's answers fail (0.02)")
    parser.add_argument("--no-outages", action="store_true", help="leave the broker alone")
    parser.add_argument("--no-hangs", action="store_true", help="have no request of the LRC hang")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; the next has the next one")
    parser.add_argument("--jobs", type=int, default=2, help="rounds at a time (2)")
    return parser.parse_args()


async def main() -> int:
    """Play the rounds; gives how many failed."""
    given = arguments()
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    total, failed, room = Figures(), Counter[str](), asyncio.Semaphore(given.jobs)

    async def one(number: int) -> None:
        leave = not given.no_outages, not given.no_hangs
        round_ = Round(number, given.downlinks, given.kills, given.faults, *leave)
        async with room:
            with tempfile.TemporaryDirectory() as directory:
                try:
                    figures = await play(round_, Path(directory))
                except Exception as error:  # noqa: BLE001 (the other rounds go on)
                    failed[type(error).__name__] += 1
                    print(f"FAILED; again: {round_.command}")
                    print("".join(traceback.format_exception(error))[-6000:], flush=True)
                    return
        total.add(figures)
        print(f"seed {number}: {figures}", flush=True)

    started = time.monotonic()
    await asyncio.gather(*(one(seed + number) for number in range(given.rounds)))
    print(f"{given.rounds} rounds, {failed.total()} failed, in {time.monotonic() - started:.0f} s: {total}")
    return failed.total()


if __name__ == "__main__":
    sys.exit(min(1, asyncio.run(main())))
