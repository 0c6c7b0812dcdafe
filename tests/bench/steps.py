"""Runs the command line with each step of the loop timed: `python -m tests.bench.steps FILE run --config FILE`.

On SIGUSR1 it writes to FILE what the steps cost since the last time, as JSON: `longest` and `sum` (milliseconds on the
CPU of the loop's thread), and how many there were. The clock of a thread does not see what other programs take.
asyncio's own loop stands in for uvloop, whose steps cannot be timed from outside: it is the slower one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from mqttbridge.cli import main

__all__ = ["Steps"]


class Steps:
    """Times what the loop runs, by standing in for `asyncio.Handle._run`."""

    def __init__(self, path: Path) -> None:
        """Begin. Figures go to this file."""
        self._path = path
        self._run = asyncio.events.Handle._run
        self._longest = self._sum = 0.0
        self._what = ""
        self._count = 0
        run, clock = self._run, time.thread_time

        def timed(handle: Any) -> None:  # noqa: ANN401 (asyncio.Handle, whose fields are private)
            before = clock()
            run(handle)
            took = clock() - before
            self._sum += took
            self._count += 1
            if took > self._longest:
                self._longest, self._what = took, repr(getattr(handle, "_callback", None))[:300]

        asyncio.events.Handle._run = timed  # type: ignore[method-assign]

    def tell(self, *_: object) -> None:
        """Write what there was, and begin anew."""
        figures = {"longest": self._longest * 1000, "sum": self._sum * 1000, "steps": self._count, "what": self._what}
        self._longest = self._sum = 0.0
        self._count = 0
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(figures))
        os.replace(beside, self._path)  # noqa: PTH105 (one call that does not look before)


if __name__ == "__main__":
    steps = Steps(Path(sys.argv.pop(1)))
    uvloop.new_event_loop = asyncio.new_event_loop
    signal.signal(signal.SIGUSR1, steps.tell)
    main()
