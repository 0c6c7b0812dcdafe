"""An HTTP client in a process of its own: several keep-alive connections, requests that were built before.

Task: `port`, `total` uplinks, `batch` of each request, `connections`, perhaps of how many `devices`, with numbers from
`first` on, and perhaps `rate` (uplinks a second, single documents): then requests go out by the clock, whether answers
come or not, and each is timed from the moment when it was due. So a daemon that stalls is not spared the requests that
it would have got meanwhile.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.bench.packets import DEVICES, body, posts
from tests.bench.worker import serve

if TYPE_CHECKING:
    from collections.abc import Callable

SILENCE = 60.0
OK = b"HTTP/1.1 200"


class Connection:
    """One keep-alive connection with one request at a time."""

    def __init__(self, port: int) -> None:
        """Connect."""
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=SILENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = -1
        self._answer = b""

    def answered(self) -> bool:
        """Read; tell whether the answer is complete. Raises `RuntimeError` unless it is 200."""
        self._answer += self.sock.recv(4096)
        head, separator, content = self._answer.partition(b"\r\n\r\n")
        if not separator:
            return False
        if not head.startswith(OK):
            raise RuntimeError(self._answer.decode(errors="replace"))
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if len(content) < int(length):
            return False
        self._answer = b""
        return True


def prepare(task: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Connect, and build the requests."""
    connections = [Connection(task["port"]) for _ in range(task["connections"])]
    selector = selectors.DefaultSelector()
    for connection in connections:
        selector.register(connection.sock, selectors.EVENT_READ, connection)
    if rate := task.get("rate"):
        return lambda: _by_the_clock(task, selector, connections, rate)
    requests = posts(task["total"], task["batch"], task["port"], task.get("devices", DEVICES), task.get("first", 0))
    number = -(-task["total"] // task["batch"])
    return lambda: _at_full_speed(number, requests, selector, connections)


def _at_full_speed(
    number: int, requests: list[bytes], selector: selectors.BaseSelector, connections: list[Connection]
) -> dict[str, Any]:
    started = time.monotonic()
    sent = answered = 0
    for connection in connections[:number]:
        connection.sock.sendall(requests[sent % len(requests)])
        sent += 1
    while answered < number:
        for key, _ in _ready(selector, SILENCE):
            if key.data.answered():
                answered += 1
                if sent < number:
                    key.data.sock.sendall(requests[sent % len(requests)])
                    sent += 1
    return {"started": started, "ended": time.monotonic()}


def _by_the_clock(
    task: dict[str, Any], selector: selectors.BaseSelector, connections: list[Connection], rate: float
) -> dict[str, Any]:
    """Send by the clock; the documents are built on the way, a millisecond before they are due or so."""
    total, idle, accepted = task["total"], deque(connections), [0.0] * task["total"]
    started = time.monotonic()
    due = [started + index / rate for index in range(total)]
    sent = answered = 0
    while answered < total:
        while sent < total and idle and due[sent] <= time.monotonic():
            connection = idle.popleft()
            connection.request = sent
            connection.sock.sendall(_single(sent, task["port"]))
            sent += 1
        wait = max(0.0, due[sent] - time.monotonic()) if sent < total and idle else SILENCE
        for key, _ in selector.select(wait):
            if key.data.answered():
                accepted[key.data.request] = time.monotonic()
                answered += 1
                idle.append(key.data)
    return {"started": started, "ended": time.monotonic(), "due": due, "accepted": accepted}


def _single(index: int, port: int) -> bytes:
    content = body(index)
    head = b"POST /uplink/http HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n" % port
    return head + b"Content-Length: %d\r\n\r\n" % len(content) + content


def _ready(selector: selectors.BaseSelector, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
    ready = selector.select(timeout)
    if not ready:
        raise RuntimeError(f"no answer within {timeout:.0f} s")
    return ready


if __name__ == "__main__":
    serve(prepare)
