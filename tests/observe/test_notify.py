"""sd_notify over a real datagram socket."""

from __future__ import annotations

import os
import secrets
import socket
import time
from typing import TYPE_CHECKING

import pytest

from mqttbridge.observe.notify import Notifier, watchdog_interval

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """Give a service manager: its socket, and $NOTIFY_SOCKET for it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@mqttbridge-test-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.settimeout(5)
        yield listener, name


def test_each_message_is_one_datagram_as_systemd_reads_it(manager: tuple[socket.socket, str]) -> None:
    listener, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier.active
    assert notifier.ready("3 connections")
    assert notifier.watchdog()
    assert notifier.status("2 of 3 open")
    assert notifier.stopping()
    received = [listener.recv(4096) for _ in range(4)]
    assert received == [b"READY=1\nSTATUS=3 connections", b"WATCHDOG=1", b"STATUS=2 of 3 open", b"STOPPING=1"]


def test_a_reload_begins_with_its_time_in_one_datagram_and_ends_with_ready(manager: tuple[socket.socket, str]) -> None:
    listener, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert notifier.reloading("reading the configuration")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert notifier.ready("3 connections")
    lines = listener.recv(4096).decode().split("\n")
    assert lines[0] == "RELOADING=1"
    assert lines[1].startswith("MONOTONIC_USEC=")
    assert before <= int(lines[1].removeprefix("MONOTONIC_USEC=")) <= after
    assert lines[2:] == ["STATUS=reading the configuration"]
    assert listener.recv(4096) == b"READY=1\nSTATUS=3 connections"


def test_the_time_of_a_reload_is_in_whole_microseconds(manager: tuple[socket.socket, str]) -> None:
    listener, name = manager
    assert Notifier({"NOTIFY_SOCKET": name}, monotonic_ns=lambda: 5_000_001_999).reloading()
    assert listener.recv(4096) == b"RELOADING=1\nMONOTONIC_USEC=5000001"


def test_a_status_cannot_smuggle_in_another_assignment(manager: tuple[socket.socket, str]) -> None:
    listener, name = manager
    assert Notifier({"NOTIFY_SOCKET": name}).status("broken\nMAINPID=1\r\nFDSTORE=1 " + "x" * 10_000)
    message = listener.recv(65536)
    assert b"\n" not in message
    assert message.startswith(b"STATUS=broken MAINPID=1 FDSTORE=1 xxx")
    assert len(message) < 300


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}])
def test_without_systemd_nothing_happens(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    assert not notifier.active
    assert not notifier.ready("x")
    assert not notifier.watchdog()
    assert not notifier.reloading()
    assert not notifier.stopping()


def test_a_manager_that_is_gone_is_not_an_error(tmp_path: Path) -> None:
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()
    assert not Notifier({"NOTIFY_SOCKET": "/" + "long" * 100}).ready()
    assert not Notifier({"NOTIFY_SOCKET": "/nul\0l"}).ready()


def test_a_manager_that_does_not_listen_does_not_block(manager: tuple[socket.socket, str]) -> None:
    _, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    sent = 0
    while notifier.status("full"):
        sent += 1
        assert sent < 100_000, "the queue of a datagram socket is bounded"
    assert sent > 0


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ""}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "me"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time_if_it_is_ours(environ: dict[str, str], expected: float | None) -> None:
    assert watchdog_interval(environ) == expected
