"""A publisher with QoS 1 in a process of its own: sends packets that were built before.

Task: `port`, `total`, `counter` (see `count`) and `ahead`: at most so many messages are on their way between it and
the subscriber, so that nothing grows without bound and the whole chain works at one pace.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.bench.packets import mqtt_connect, publishes
from tests.bench.worker import Counter, serve

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 100
UNANSWERED = 2000
PUBACK_SIZE = 4
NAP = 0.001
SILENCE = 30.0


def prepare(task: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Connect, and build the packets."""
    total, ahead = task["total"], task["ahead"]
    packets = publishes(total)
    chunks = [b"".join(packets[at : at + CHUNK]) for at in range(0, len(packets), CHUNK)]
    sock = mqtt_connect(task["port"], "bench-publish")
    sock.settimeout(SILENCE)
    counter = Counter(task["counter"])

    def run() -> dict[str, Any]:
        sent = answered = 0
        started = time.monotonic()
        while answered < total * PUBACK_SIZE:
            if sent < total and sent - answered // PUBACK_SIZE <= UNANSWERED:
                if sent - counter.value > ahead:
                    time.sleep(NAP)
                    continue
                sock.sendall(chunks[sent // CHUNK % len(chunks)])
                sent += CHUNK
            else:
                answered += len(sock.recv(64 * 1024))
        return {"started": started, "ended": time.monotonic(), "count": sent}

    return run


if __name__ == "__main__":
    serve(prepare)
