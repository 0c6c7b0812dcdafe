"""Tell systemd how we are (sd_notify), for `Type=notify` and `WatchdogSec=`.

Outside of systemd ($NOTIFY_SOCKET is absent) everything here does nothing. Called by the daemon alone. Never raises
and never blocks: a service manager that does not listen is no reason to stop delivering.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Notifier", "watchdog_interval"]

STATUS_LENGTH = 200
MICROSECONDS = 1_000_000
NANOSECONDS = 1_000
"""In a microsecond."""


class Notifier:
    """Speaks to the socket that the environment names; one for the process."""

    def __init__(self, environ: Mapping[str, str], monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Take the environment. A name that begins with `@` is in Linux' abstract namespace (sd_notify(3)).

        `monotonic_ns` must read CLOCK_MONOTONIC, as `time.monotonic_ns` does on Linux: systemd compares it with its
        own.
        """
        self._monotonic_ns = monotonic_ns
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name if name.startswith("/") else ""

    @property
    def active(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._address)

    def ready(self, status: str = "") -> bool:
        """Say that the daemon serves: at the start, and at the end of each reload, whatever became of it."""
        return self._send("READY=1", status)

    def reloading(self, status: str = "") -> bool:
        """Say that a reload begins; `ready` ends it. Call it after the signal came, before anything is read.

        systemd takes the message for the answer to its own signal if its time is not before it (sd_notify(3)), so
        the time is in the same datagram. It waits TimeoutStartSec= for `ready`.
        """
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={self._monotonic_ns() // NANOSECONDS}", status)

    def stopping(self, status: str = "") -> bool:
        """Say that it is about to end."""
        return self._send("STOPPING=1", status)

    def watchdog(self) -> bool:
        """Say that the loop is alive; due every `watchdog_interval` seconds."""
        return self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """Show one line in `systemctl status`."""
        return self._send("", text)

    def _send(self, state: str, status: str = "") -> bool:
        """Send one datagram; give whether it went out."""
        # A line break would begin another assignment.
        line = " ".join(status.split())[:STATUS_LENGTH]
        message = "\n".join(part for part in (state, f"STATUS={line}" if line else "") if part)
        if not self._address or not message:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(0)
                sender.sendto(message.encode("utf-8", "replace"), self._address)
        except (OSError, ValueError):
            return False
        return True


def watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Give seconds between two `Notifier.watchdog()`: half of $WATCHDOG_USEC, or None when nobody watches us.

    $WATCHDOG_PID, if set, names the process that is watched (sd_watchdog_enabled(3)).
    """
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
        watched = int(environ.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    if microseconds <= 0 or watched != os.getpid():
        return None
    return microseconds / MICROSECONDS / 2
