"""What it costs to look: each command of operating in front of a daemon with many connections and a long queue.

A command is timed as a user waits for it, with the start of its process. What it costs the daemon is the time on the
CPU of the loop's steps meanwhile (`steps`), less what the loop does anyhow.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.formats.sample import uplink
from tests.bench.machine import ROOT, free_port, wait_until
from tests.bench.scenarios import MIB, SETTLE_WITHIN, SILENCE, Bench, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.bench.machine import Daemon, Worker
    from tests.bench.scenarios import Options

__all__ = ["operate"]

CONNECTIONS = 500
DEAD = 25
"""Connections whose broker does not run: these get the queue."""
DEVICES = 2000
EVERYWHERE = "0018B20000000B20"
"""A device whose uplinks go to all connections."""
OF_IT = 20
"""Uplinks of that device."""
IDLE = 2.0
"""Seconds."""
TIMES = 5
FILL_WITHIN = 600.0
PARKS = "c000"
"""A connection whose topic pattern suits no uplink: all that it gets is parked."""


def _settings(port: int, dead: int) -> dict[str, Any]:
    names = [f"c{index:03}" for index in range(CONNECTIONS)]
    given = {
        "hostName": f"127.0.0.1:{port}",
        "protocol": "TCP",
        "uplinkTopicPattern": "mqtt/things/{DevEUI}/uplink",
        "actionTimeout": "10s",
    }
    connections = {name: {"configuration": dict(given)} for name in names}
    for name in names[-DEAD:]:
        connections[name]["configuration"]["hostName"] = f"127.0.0.1:{dead}"
    connections[PARKS]["configuration"]["uplinkTopicPattern"] = "mqtt/{nothing}"
    everywhere = {"matchers": [{"type": "key", "key": f"lora:{EVERYWHERE.lower()}"}], "connections": names}
    flows = {"all": {"connections": names[-DEAD:]}, "everywhere": everywhere}
    return {"journal": {"maxSize": "8GiB"}, "connections": connections, "flows": flows}


class _Looking:
    """Runs commands, and weighs them."""

    def __init__(self, daemon: Daemon, directory: Path) -> None:
        self._daemon = daemon
        self._config = directory / "mqttbridge.yaml"
        self._figures = directory / "steps.json"
        self._idle = 0.0
        """Milliseconds of the loop in a second, with nobody looking."""

    def figures(self) -> dict[str, Any]:
        """Give what the loop's steps cost since the last time."""
        self._figures.unlink(missing_ok=True)
        self._daemon.process.send_signal(signal.SIGUSR1)
        wait_until(self._figures.exists, "the figures of the steps")
        return dict(json.loads(self._figures.read_text()))

    def idle(self) -> Row:
        """See what the loop does with nobody looking."""
        self.figures()
        time.sleep(IDLE)  # to be idle is what is measured
        figures = self.figures()
        self._idle = figures["sum"] / IDLE
        more = {"longest step ms": round(figures["longest"], 2)}
        return Row("loop with nobody looking", round(self._idle, 2), "ms/s", more)

    def command(self, *words: str, codes: Sequence[int] = (0,), times: int = TIMES, note: str = "") -> Row:
        """Run a command some times; give the median second that it took, and what it cost the loop."""
        took, costs, longest, size = [], [], [], 0
        for _ in range(times):
            self.figures()
            since = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", "mqttbridge", *words, "--config", str(self._config)],
                cwd=ROOT,
                capture_output=True,
                check=False,
            )
            took.append(time.monotonic() - since)
            figures = self.figures()
            if done.returncode not in codes:
                raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.decode()}")
            costs.append(max(figures["sum"] - self._idle * took[-1], 0.0))
            longest.append(figures["longest"])
            size = len(done.stdout)
        more = {
            "loop ms": round(sorted(costs)[times // 2], 1),
            "most": round(max(costs), 1),
            "longest step ms": round(max(longest), 2),
            "KiB": round(size / 1024, 1),
        }
        return Row(" ".join(words) + note, round(sorted(took)[times // 2], 2), "s", more)

    @contextmanager
    def tapping(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Have a tap open, whose output goes nowhere."""
        command = [sys.executable, "-m", "mqttbridge", "tap", *words, "--config", str(self._config)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tap:
            try:
                time.sleep(1.0)  # no one outside can see that it is there
                if tap.poll() is not None:
                    raise RuntimeError("the tap has ended")
                yield tap
            finally:
                tap.terminate()

    def rewrite(self, settings: dict[str, Any]) -> None:
        """Change the configuration's file."""
        before = json.loads(self._config.read_text())
        self._config.write_text(json.dumps(before | settings, indent=1))


def operate(options: Options) -> list[Row]:
    """Look at a daemon with 500 connections and a million queued, by each command: how long, and what it costs."""
    with Bench(options, "operate") as bench:
        figures = bench.directory / "steps.json"
        bench.options = msgspec.structs.replace(options, runner=("-m", "tests.bench.steps", str(figures)))
        broker = bench.broker("destination")
        settings = _settings(broker.port, free_port())
        daemon = bench.daemon({}, **settings)
        alive = CONNECTIONS - DEAD
        wait_until(lambda: daemon.open_connections() == alive, f"{alive} connections", SETTLE_WITHIN)
        before = daemon.rss()
        rows = [_fill(bench, daemon)]
        more = {"before MiB": round(before / MIB, 1)}
        rows.append(Row("RSS, all queued", round(daemon.rss() / MIB, 1), "MiB", more))
        looking = _Looking(daemon, bench.directory)
        rows.append(looking.idle())
        rows += _looked(looking)
        rows.append(Row("RSS, all looked at", round(daemon.rss() / MIB, 1), "MiB"))
        settings["flows"]["all"] = {"connections": ["c001"]}
        looking.rewrite(settings)
        rows.append(looking.command("plan", codes=(2,), note=" (a flow changed)"))
        rows.append(looking.command("reload", times=1))
        rows += _tapped(bench, daemon, looking)
        rows.append(Row("RSS at the end", round(daemon.rss() / MIB, 1), "MiB", {"peak": round(daemon.peak() / MIB, 1)}))
        return rows


def _fill(bench: Bench, daemon: Daemon) -> Row:
    """Queue the backlog, and then some uplinks that go everywhere."""
    total = bench.options.backlog
    post = bench.worker("post", port=daemon.port, total=total, batch=1000, connections=4, devices=DEVICES)
    bench.mark()
    post.go()
    sent = post.result()
    row = Row("queued", round(total / (sent["ended"] - sent["started"])), "uplinks/s", bench.cpu(total), "uplinks/s")
    now = int(time.time() * 1000)
    for fcnt in range(OF_IT):
        daemon.post("/uplink/http", uplink(EVERYWHERE, fcnt=fcnt, time_ms=now))
    ended = OF_IT * (CONNECTIONS - DEAD)
    wait_until(lambda: daemon.outcomes().get("delivered", 0) >= ended - OF_IT, f"{ended} ends", FILL_WITHIN)
    return row


def _looked(looking: _Looking) -> list[Row]:
    device = f"{DEVICES // 2:016X}"
    replay = ("replay", "--connection", "c001", "--all", "--dry-run")
    return [
        looking.command("status", codes=(2,)),
        looking.command("status", "--json", codes=(2,)),
        looking.command("trace", device),
        looking.command("trace", EVERYWHERE),
        looking.command("trace", EVERYWHERE, "--limit", "20", "--json"),
        looking.command("events"),
        looking.command("events", "--connection", "c499"),
        looking.command("parked", "list"),
        looking.command("plan"),
        looking.command(*replay, "--device", device, "--from", "1h"),
        looking.command(*replay, "--from", "1h", times=1),
    ]


def _tapped(bench: Bench, daemon: Daemon, looking: _Looking) -> list[Row]:
    """Carry uplinks at the highest rate, with nobody watching, and then with taps."""
    rows = []
    ways = ("no tap", ()), ("a tap of all", ("--json",)), ("a tap of one device", ("--device", f"{1:016X}"))
    total = bench.options.uplinks
    for place, (name, words) in enumerate(ways, 1):
        base = daemon.outcomes()["delivered"]
        post = bench.worker("post", port=daemon.port, total=total, batch=100, connections=8, first=place * total)
        if words:
            with looking.tapping(*words):
                rows.append(_carried(bench, daemon, looking, post, base, f"carried, {name}"))
        else:
            rows.append(_carried(bench, daemon, looking, post, base, f"carried, {name}"))
    return rows


def _carried(bench: Bench, daemon: Daemon, looking: _Looking, post: Worker, base: int, name: str) -> Row:
    total = bench.options.uplinks
    looking.figures()
    bench.mark()
    post.go()
    sent = post.result()
    wait_until(lambda: daemon.outcomes()["delivered"] >= base + total, f"{total} deliveries", 20 * SILENCE)
    ended = time.monotonic()
    more = {"longest step ms": round(looking.figures()["longest"], 2), **bench.cpu(total)}
    return Row(name, round(total / (ended - sent["started"])), "uplinks/s", more, "uplinks/s")
