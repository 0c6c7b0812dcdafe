"""What all load generators share: they get their task as JSON, say when they are ready, wait for "go", and report.

Each runs in a process of its own, so that its work is not that of the daemon, and can be weighed by itself.
"""

from __future__ import annotations

import json
import mmap
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Counter", "serve"]

SIZE = 8


class Counter:
    """A number in a file that several processes map: the subscriber writes it, publishers read it."""

    def __init__(self, path: str) -> None:
        """Map the file, which is made if need be."""
        file = Path(path)
        if not file.exists():
            file.write_bytes(bytes(SIZE))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), SIZE)

    @property
    def value(self) -> int:
        """The number."""
        return int(struct.unpack_from("<q", self._map)[0])

    @value.setter
    def value(self, number: int) -> None:
        struct.pack_into("<q", self._map, 0, number)


def serve(prepare: Callable[[dict[str, Any]], Callable[[], dict[str, Any]]]) -> None:
    """Prepare the task of the command line, run it on "go", and print what came of it."""
    run = prepare(json.loads(sys.argv[1]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(json.dumps(run()) + "\n")
    sys.stdout.flush()
