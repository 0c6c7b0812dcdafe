"""Hostile messages for the intake of downlinks; `python -m tests.downlinks.hostile [NUMBER [SEED]]` sends 50,000.

Each must end with exactly one outcome, and a receipt (or be pending), in less than 100 ms.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import structlog

from mqttbridge.downlinks.intake import MAX_CORRELATION, DownlinkIntake
from mqttbridge.downlinks.receipts import Ended, receipt
from mqttbridge.errors import DocumentError
from mqttbridge.model import Device, DownlinkOutcome
from mqttbridge.mqtt.link import Received
from mqttbridge.observe.throttle import Throttle
from mqttbridge.routing import Router
from mqttbridge.settings.schema import HttpSource
from tests.downlinks.memory import DEV_EUI, NOW, CountedMetrics, Hands, MemoryDownlinks, connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from mqttbridge.downlinks.network import Answer
    from mqttbridge.journal.downlink_protocol import AcceptedDownlink, PendingDownlink
    from mqttbridge.model import Downlink

LIMIT = 0.1
"""Seconds."""
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    224,
    225,
    1e308,
    10**400,
    "",
    "0x10",
    "\0",
    "\ud800",
    "ö" * 1000,
    "9" * 10_000,
    [],
    {},
    [[]] * 50,
    "2023-11-14T22:13:19Z",
    "2099-01-01T00:00:00+99:99",
    "-1",
    "60",
    3600,
    DEV_EUI,
    DEV_EUI.lower(),
    "00-18-b2-00-00-00-0b-20",
    "70B3D5E75E000001",
    "0102",
    "010",
    "zz",
    "00" * 242,
    "00" * 243,
    "00" * 30_000,
)
FIELDS = (
    "DevEUI",
    "FPort",
    "payload_hex",
    "payload",
    "Confirmed",
    "FlushDownlinkQueue",
    "ValidityTime",
    "CorrelationID",
    "AS_KEY",
    "Token",
    "Time",
    "FPrt",
)
BYTES = (
    b"",
    b"\xff\xfe\x00",
    b"null",
    b"[" * 60_000,
    b'{"DevEUI_downlink":' * 3000,
    b'{"a":' * 13_000,
    b'{"DevEUI_downlink":{"payload_hex":"' + b"\\u0000" * 10_000,
    b"\xef\xbb\xbf{}",
    b"1" * 65_536,
    b"1" * 70_000,
    b" " * 65_536,
    b'"' * 65_000,
    b"-" * 65_000,
    b'{"DevEUI":' * 6000,
    b"DevEUI" * 10_000,
    b"DevEUI:" + b"-" * 60_000,
    b"DevEUI" + b" " * 60_000,
    b"<html>" * 1000,
)
TOPICS = (
    f"mqtt/things/{DEV_EUI}/downlink",
    f"mqtt/things/{DEV_EUI.lower()}/downlink",
    "mqtt/things/70B3D5E75E000001/downlink",
    "mqtt/things/x/downlink",
    "mqtt/things//downlink",
    "other",
    "",
    "/" * 60_000,
    "mqtt/things/\0\ud800/downlink",
    "ö" * 30_000,
)


class RefusingNetwork:
    """Takes everything but FPort 13, and has a bug at FPort 14."""

    def refusal(self, downlink: Downlink, way: str) -> DocumentError | None:
        if downlink.fport == 14:
            raise ZeroDivisionError(way)
        return DocumentError("FPort 13 is unlucky", field="DevEUI_downlink.FPort") if downlink.fport == 13 else None

    async def send(self, pending: PendingDownlink) -> Answer:
        raise NotImplementedError

    async def close(self) -> None: ...


class Desk:
    """An intake and all around it."""

    def __init__(self, *, sources: tuple[str, ...] = ("lrc",), **configuration: Any) -> None:  # noqa: ANN401
        self.hands = Hands()
        self.journal = MemoryDownlinks()
        self.metrics = CountedMetrics()
        self.kicked: list[str] = []
        self.connections = {
            "acme": connection(**configuration),
            "quiet": connection(receipts=False),
        }
        self.sources = {name: HttpSource(api_url="https://lrc.example") for name in sources}
        self.networks: dict[str, Any] = {name: RefusingNetwork() for name in sources}
        self.keys = 0
        self.intake = self.make()

    def make(self, **other: Any) -> DownlinkIntake:  # noqa: ANN401 (any argument)
        arguments: dict[str, Any] = {
            "clock": self.hands,
            "metrics": self.metrics,
            "throttle": Throttle(self.hands),
            "random_key": self.key,
            "sleep": self.hands.sleep,
            **other,
        }
        router = Router({}, self.connections)
        return DownlinkIntake(
            self.journal, self.connections, self.networks, self.sources, router, self.kicked.append, **arguments
        )

    def key(self) -> str:
        self.keys += 1
        return f"{self.keys:016x}"


def made(rng: random.Random) -> Received:
    """Make one message: some are good, most are not."""
    kind = rng.randrange(10)
    if kind == 0:
        payload = rng.choice(BYTES)
    elif kind == 1:
        payload = rng.randbytes(rng.choice((1, 10, 1000, 65_536)))
    elif kind == 2:
        outcome = rng.choice(list(DownlinkOutcome))
        payload = receipt(Ended("acme", f"{rng.getrandbits(64):016x}", outcome, NOW, reason=str(rng.choice(ODD)))).body
    else:
        payload = document(rng)
        if kind == 3:
            cut = bytearray(payload)
            for _ in range(rng.randrange(1, 5)):
                cut[rng.randrange(len(cut))] = rng.randrange(256)
            payload = bytes(cut)
        elif kind == 4:
            payload = payload[: rng.randrange(len(payload))]
    mid = rng.randrange(0, 100)
    return Received(
        rng.choice(TOPICS) if rng.random() < 0.3 else TOPICS[0],
        payload,
        qos=1 if mid else 0,
        retain=rng.random() < 0.05,
        mid=mid,
        dup=mid > 0 and rng.random() < 0.2,
        correlation=rng.choice((b"", b"x", rng.randbytes(20), b"y" * 65_535 if rng.random() < 0.01 else b"")),
    )


def document(rng: random.Random) -> bytes:
    """Make a downlink document, with something wrong as a rule."""
    fields: dict[str, Any] = {"DevEUI": DEV_EUI, "FPort": rng.randrange(1, 20), "payload_hex": "0102"}
    for _ in range(rng.choice((0, 0, 1, 1, 2, 5))):
        fields[rng.choice(FIELDS)] = rng.choice(ODD)
    if rng.random() < 0.1:
        del fields[rng.choice(sorted(fields))]
    if rng.random() < 0.02:
        fields |= {f"field{number}": number for number in range(3000)}
    roots: dict[str, Any] = {"DevEUI_downlink" if rng.random() < 0.95 else rng.choice(("", "DevEUI_uplink")): fields}
    if rng.random() < 0.05:
        roots[rng.choice(("x", "outcome", "key", "Time"))] = rng.choice(ODD)
    return json.dumps(roots).encode("utf-8", "surrogatepass")


def check(desk: Desk, message: Received, stored: AcceptedDownlink, counted: int) -> str:
    """Check the one outcome of one message; gives it."""
    if stored.downlink is not None:
        assert stored.receipt is None
        assert counted == 0
        assert stored.source in desk.sources
        return "pending"
    assert counted == 1
    if stored.receipt is None:
        return "receipt of ours"
    told = json.loads(stored.receipt.body)
    assert told["outcome"] in {"rejected", "expired"}
    assert told["key"] == stored.key
    assert told["reason"]
    assert "internal error" not in told["reason"] or "ZeroDivisionError" in told["reason"], "the planted bug alone"
    assert told["CorrelationID"]
    kept = len(message.correlation) <= MAX_CORRELATION
    assert stored.receipt.correlation == (message.correlation if kept else b"")
    return str(told["outcome"])


async def run(number: int, seed: int) -> tuple[Counter[str], float]:
    """Send so many; gives the outcomes and the longest time that one took, in seconds."""
    rng = random.Random(seed)  # noqa: S311 (test data)
    desk = Desk(downlink_rate=100_000)
    desk.journal.learn([Device(DEV_EUI, "lrc")])
    outcomes: Counter[str] = Counter()
    longest = 0.0
    for _ in range(number):
        message = made(rng)
        before, counted = len(desk.journal.accepted), desk.metrics.ended.total()
        started = time.perf_counter()
        await desk.intake.take("acme", [message])
        took = time.perf_counter() - started
        if took > LIMIT:  # somebody else had the machine, perhaps: it is slow if it is slow three times
            took = min(took, *[await _again(message) for _ in range(3)])
        assert took < LIMIT, f"{took * 1000:.0f} ms for {message.payload[:80]!r}"
        longest = max(longest, took)
        (stored,) = desk.journal.accepted[before:]
        outcomes[check(desk, message, stored, desk.metrics.ended.total() - counted)] += 1
        desk.journal.queue.clear()
        desk.journal.waiting_receipts.clear()
        desk.journal.accepted.clear()
        desk.hands.turn(0.001)
    assert desk.metrics.received == {"acme": number}
    return outcomes, longest


async def _again(message: Received) -> float:
    desk = Desk()
    started = time.perf_counter()
    await desk.intake.take("acme", [message])
    return time.perf_counter() - started


def main(report: Callable[[str], object] = print) -> None:
    """Send 50,000, or as many as are asked for."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)  # noqa: S311 (test data)
    report(f"{number} messages, seed {seed}")
    outcomes, longest = asyncio.run(run(number, seed))
    report(f"{dict(outcomes)}, the slowest took {longest * 1000:.1f} ms")


if __name__ == "__main__":
    main()
