"""A subscriber in a process of its own: counts what arrives, by packet lengths alone, over a plain socket.

Task: `port`, `topic`, `total` (it ends there), `silence` (or after so many seconds without an arrival), `counter`
(a file that always holds the count), `arrivals` (give the time of each device's arrival too). Times are monotonic.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.bench.packets import Splitter, mqtt_connect, subscribe
from tests.bench.worker import Counter, serve

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 256 * 1024


def prepare(task: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Connect and subscribe."""
    sock = mqtt_connect(task["port"], "bench-count")
    subscribe(sock, task["topic"])
    sock.settimeout(task["silence"])
    counter = Counter(task["counter"])
    total, wanted = task["total"], task.get("arrivals", False)

    def run() -> dict[str, Any]:
        splitter, count, first, last = Splitter(), 0, 0.0, 0.0
        arrivals: dict[int, float] = {}
        while count < total:
            try:
                data = sock.recv(CHUNK)
            except TimeoutError:
                break
            if not data:
                break
            last = time.monotonic()
            if wanted:
                for packet in splitter.packets(data):
                    count += 1
                    arrivals.setdefault(int(packet.split(b"/")[2], 16), last)
            else:
                count += splitter.feed(data)
            first = first or last
            counter.value = count
        return {"count": count, "first": first, "last": last, "arrivals": list(arrivals.items())}

    return run


if __name__ == "__main__":
    serve(prepare)
