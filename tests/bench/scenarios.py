"""What is measured. Each scenario starts its own brokers and daemon, and gives rows for the table."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec

from tests.bench.machine import Broker, Child, Daemon, Worker, free_port, wait_until
from tests.bench.worker import Counter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["SCENARIOS", "Options", "Row"]

AHEAD = 20_000
"""Messages between the publisher and the subscriber, at most."""
SILENCE = 30.0
MIB = 1024 * 1024
IDLE_CONNECTIONS = 500
IDLE_FOR = 10.0
RATE = 1000
SETTLE_WITHIN = 60.0
RECONNECT_WITHIN = 120.0
SHRINK_WITHIN = 60.0
SHRUNK = 4 * MIB


class Row(msgspec.Struct):
    """One line of the table. `unit` says what `value` is; `more` has what belongs to it."""

    name: str
    value: float
    unit: str
    more: dict[str, Any] = {}
    measure: str = ""
    """Rows of one measure are compared with each other."""


class Options(msgspec.Struct, frozen=True):
    """How much of everything."""

    uplinks: int
    backlog: int
    directory: Path
    runner: tuple[str, ...] = ("-m", "mqttbridge")


class Bench(ExitStack):
    """The processes of one measurement, in a directory of their own; all end with the block."""

    def __init__(self, options: Options, name: str) -> None:
        """Make the directory."""
        super().__init__()
        self.options = options
        self.directory = options.directory / name
        self.directory.mkdir(parents=True)
        self.counter = str(self.directory / "counter")
        Counter(self.counter)
        self.children: list[Child] = []

    def broker(self, name: str, **arguments: int) -> Broker:
        """Start a mosquitto."""
        broker = self.enter_context(Broker(self.directory, name, **arguments))
        self.children.append(broker)
        return broker

    def daemon(
        self,
        connections: dict[str, int],
        /,
        *,
        source: int = 0,
        **settings: Any,  # noqa: ANN401 (sections of the configuration)
    ) -> Daemon:
        """Start the daemon with connections to these ports, an HTTP source, and perhaps an MQTT source."""
        sources: dict[str, Any] = {"http": {"transport": "http", "format": "thingpark"}}
        if source:
            host = f"127.0.0.1:{source}"
            sources["mqtt"] = {"transport": "mqtt", "format": "thingpark", "hostName": host, "protocol": "TCP"}
            sources["mqtt"]["topics"] = ["network/+/uplink"]
        config = {name: {"configuration": _configuration(port)} for name, port in connections.items()}
        given = {"sources": sources, "connections": config, **settings}
        daemon = self.enter_context(Daemon(self.directory, given, runner=self.options.runner))
        self.children.append(daemon)
        return daemon

    def worker(self, module: str, **task: object) -> Worker:
        """Start a load generator."""
        worker = self.enter_context(Worker(self.directory, module, **task))
        self.children.append(worker)
        return worker

    def count(self, port: int, total: int, topic: str = "mqtt/#", *, arrivals: bool = False) -> Worker:
        """Start the subscriber."""
        return self.worker(
            "count", port=port, total=total, topic=topic, silence=SILENCE, counter=self.counter, arrivals=arrivals
        )

    def mark(self) -> None:
        """Weigh all processes from here on."""
        for child in self.children:
            child.mark()

    def cpu(self, number: int) -> dict[str, float]:
        """Give microseconds on the CPU per uplink, of each process; the daemon's loop by itself."""
        used = {}
        for child in self.children:
            first, others = child.used()
            if isinstance(child, Daemon):
                used["loop"] = first
                used["threads"] = others
            else:
                used[child.name] = first + others
        return {f"{name} µs": round(seconds / number * 1e6, 1) for name, seconds in used.items()}


def _configuration(port: int) -> dict[str, Any]:
    return {
        "hostName": f"127.0.0.1:{port}",
        "protocol": "TCP",
        "uplinkTopicPattern": "mqtt/things/{DevEUI}/uplink",
        "actionTimeout": "10s",
        "reconnectStrategy": "AGGRESSIVE",
    }


def _delivered(daemon: Daemon, total: int) -> None:
    """Wait until the accounts say so too. Raises `RuntimeError` if anything is missing."""
    wait_until(lambda: daemon.outcomes().get("delivered") == total, f"delivered = {total}", SETTLE_WITHIN)


def _rate(name: str, count: int, seconds: float, more: dict[str, Any], measure: str = "uplinks/s") -> Row:
    return Row(name, round(count / seconds), "uplinks/s", more, measure)


def from_mqtt(options: Options) -> list[Row]:
    """Carry uplinks from an MQTT source, through the journal, to a broker with QoS 1."""
    rows = []
    for name, shared in (("MQTT source -> MQTT, two mosquittos", False), ("MQTT source -> MQTT, one mosquitto", True)):
        with Bench(options, f"mqtt-{shared}") as bench:
            source = bench.broker("source")
            destination = source if shared else bench.broker("destination")
            daemon = bench.daemon({"one": destination.port}, source=source.port)
            wait_until(lambda: daemon.told("source.opened") and daemon.open_connections() == 1, "the connections")  # noqa: B023
            rows.append(_through(bench, name, source, destination, "mqtt/#"))
            _delivered(daemon, options.uplinks)
    return rows


def _through(bench: Bench, name: str, source: Broker, destination: Broker, topic: str) -> Row:
    """Publish at `source` and count at `destination`."""
    total = bench.options.uplinks
    count = bench.count(destination.port, total, topic)
    publish = bench.worker("publish", port=source.port, total=total, counter=bench.counter, ahead=AHEAD)
    bench.mark()
    count.go()
    publish.go()
    sent = publish.result()
    wait_until(lambda: Counter(bench.counter).value >= total, f"{total} arrivals", 20 * SILENCE)
    cpu = bench.cpu(total)
    arrived = count.result()
    return _rate(name, arrived["count"], arrived["last"] - sent["started"], cpu)


def from_http(options: Options) -> list[Row]:
    """Carry uplinks from HTTP, one by one and in batches, through the journal, to a broker with QoS 1."""
    rows = []
    for batch, connections in ((1, 64), (100, 8), (1000, 4)):
        label = "single documents" if batch == 1 else f"NDJSON of {batch}"
        with Bench(options, f"http-{batch}") as bench:
            destination = bench.broker("destination")
            daemon = bench.daemon({"one": destination.port})
            wait_until(lambda: daemon.open_connections() == 1, "the connection")  # noqa: B023
            total = options.uplinks
            count = bench.count(destination.port, total)
            post = bench.worker("post", port=daemon.port, total=total, batch=batch, connections=connections)
            bench.mark()
            count.go()
            post.go()
            sent = post.result()
            wait_until(lambda: Counter(bench.counter).value >= total, f"{total} arrivals", 20 * SILENCE)  # noqa: B023
            cpu = bench.cpu(total)
            arrived = count.result()
            more = {"accepted/s": round(total / (sent["ended"] - sent["started"])), **cpu}
            rows.append(_rate(f"HTTP {label} -> MQTT", total, arrived["last"] - sent["started"], more))
            _delivered(daemon, total)
    return rows


def beside(options: Options) -> list[Row]:
    """Carry the same messages by other means: a mosquitto bridge, which keeps nothing on disk, and plain aiomqtt."""
    rows = []
    with Bench(options, "bridge") as bench:
        destination = bench.broker("destination")
        source = bench.broker("source", bridge_to=destination.port)
        # The bridge connects by itself; until then its messages wait.
        rows.append(_through(bench, "mosquitto bridge, two mosquittos", source, destination, "network/#"))
    for together, part in ((1, 10), (100, 4)):
        total = max(1000, options.uplinks // part)
        with Bench(options, f"aiomqtt-{together}") as bench:
            destination = bench.broker("destination")
            count = bench.count(destination.port, total, "network/#")
            loop = bench.worker("loop", port=destination.port, total=total, together=together)
            bench.mark()
            count.go()
            loop.go()
            sent = loop.result()
            wait_until(lambda: Counter(bench.counter).value >= total, f"{total} arrivals")  # noqa: B023
            cpu = bench.cpu(total)
            arrived = count.result()
            name = "aiomqtt, publish one by one" if together == 1 else f"aiomqtt, gather of {together}"
            rows.append(_rate(name, total, arrived["last"] - sent["started"], cpu))
    return rows


def latency(options: Options) -> list[Row]:
    """Tell how long an uplink takes at 1,000 a second: to the 200, and to a subscriber of the destination."""
    total = min(options.uplinks, 20 * RATE)
    with Bench(options, "latency") as bench:
        destination = bench.broker("destination")
        daemon = bench.daemon({"one": destination.port})
        wait_until(lambda: daemon.open_connections() == 1, "the connection")
        count = bench.count(destination.port, total, arrivals=True)
        post = bench.worker("post", port=daemon.port, total=total, batch=1, connections=64, rate=RATE)
        bench.mark()
        count.go()
        post.go()
        sent = post.result()
        arrived = dict(count.result()["arrivals"])
        used = sum(daemon.used())
        _delivered(daemon, total)
    due = sent["due"]
    accepted = [at - since for at, since in zip(sent["accepted"], due, strict=True)]
    through = [arrived[index] - due[index] for index in range(total)]
    busy = {"daemon CPU %": round(100 * used / (sent["ended"] - sent["started"]))}
    return [
        _percentiles(f"POST to 200 at {RATE} uplinks/s", accepted, busy),
        _percentiles(f"POST to subscriber at {RATE} uplinks/s", through, {}),
    ]


def _percentiles(name: str, seconds: list[float], more: dict[str, Any]) -> Row:
    ordered = sorted(seconds)
    named = {"p99 ms": 0.99, "p99.9 ms": 0.999, "max ms": 1.0}
    last = len(ordered) - 1
    figures = {key: round(ordered[min(last, int(len(ordered) * part))] * 1000, 1) for key, part in named.items()}
    return Row(name, round(ordered[len(ordered) // 2] * 1000, 2), "ms (p50)", {**figures, **more})


def idle(options: Options) -> list[Row]:
    """Tell memory and CPU of the daemon with idle connections."""
    rows = []
    for number in (1, IDLE_CONNECTIONS):
        with Bench(options, f"idle-{number}") as bench:
            broker = bench.broker("destination")
            daemon = bench.daemon({f"c{index:03}": broker.port for index in range(number)})
            since = time.monotonic()
            wait_until(lambda: daemon.open_connections() == number, f"{number} connections", SETTLE_WITHIN)  # noqa: B023
            opened = time.monotonic() - since
            daemon.mark()
            time.sleep(IDLE_FOR)  # to be idle is what is measured
            busy = round(100 * sum(daemon.used()) / IDLE_FOR, 2)
            more = {"CPU %": busy, "all open after s": round(opened, 1)}
            rows.append(Row(f"RSS, {number} idle connections", round(daemon.rss() / MIB, 1), "MiB", more))
    return rows


def backlog(options: Options) -> list[Row]:
    """Tell what a backlog costs while the destination is down, and how fast it drains when the broker is back."""
    total, port = options.backlog, free_port()
    with Bench(options, "backlog") as bench:
        daemon = bench.daemon({"one": port}, journal={"maxSize": "8GiB"})
        wait_until(lambda: daemon.told("connection.failed"), "the failure of the connection")
        before = daemon.rss()
        post = bench.worker("post", port=daemon.port, total=total, batch=1000, connections=4)
        bench.mark()
        post.go()
        sent = post.result()
        rows = [
            _rate(
                f"queue {total} uplinks, NDJSON of 1000", total, sent["ended"] - sent["started"], bench.cpu(total), ""
            )
        ]
        queued = daemon.rss()
        more = {"before MiB": round(before / MIB, 1), "more MiB": round((queued - before) / MIB, 1)}
        rows.append(Row(f"RSS with {total} queued", round(queued / MIB, 1), "MiB", more))
        rows.append(Row(f"files with {total} queued", round(daemon.files() / MIB, 1), "MiB"))
        rows += _drain(bench, daemon, port, total)
    return rows


def _drain(bench: Bench, daemon: Daemon, port: int, total: int) -> list[Row]:
    destination = bench.broker("destination", port=port)
    counter = Counter(bench.counter)
    count = bench.count(destination.port, total)
    count.go()
    since = time.monotonic()
    # Like any subscriber it may miss what was delivered before it came: so the accounts tell when all is done.
    wait_until(lambda: counter.value > 0, "the first arrival", RECONNECT_WITHIN)
    bench.mark()
    first, started = counter.value, time.monotonic()
    wait_until(lambda: daemon.outcomes().get("delivered") == total, "the end of the drain", 20 * SILENCE)
    ended = time.monotonic()
    more = {"reconnected after s": round(started - since, 1), "peak RSS MiB": round(daemon.peak() / MIB, 1)}
    more |= bench.cpu(total - first)
    rows = [_rate("drain", total - first, ended - started, more, "uplinks/s")]
    rows.append(Row("RSS after the drain", round(daemon.rss() / MIB, 1), "MiB"))
    at_once = daemon.files()
    wait_until(lambda: daemon.files() < SHRUNK, "the shrinking of the journal", SHRINK_WITHIN)
    shrunk = {"at once MiB": round(at_once / MIB, 1), "shrunk after s": round(time.monotonic() - ended, 1)}
    rows.append(Row("files after the drain", round(daemon.files() / MIB, 1), "MiB", shrunk))
    return rows


SCENARIOS: dict[str, Callable[[Options], list[Row]]] = {
    "mqtt": from_mqtt,
    "http": from_http,
    "beside": beside,
    "latency": latency,
    "idle": idle,
    "backlog": backlog,
}
