"""How commands that go on print: a line at a time, at once, and without a fuss when nobody reads on (`| head`)."""

from __future__ import annotations

import os
import select
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mqttbridge.ask.wording import Line

__all__ = ["NobodyReads", "Printer", "ended", "while_read"]

STYLES = {"bad": "bold red", "head": "bold", "plain": ""}


class NobodyReads(Exception):
    """Whoever read what is printed is gone; stdout is led to nowhere."""


class Printer:
    """Prints to stdout; in colour on a terminal alone."""

    def __init__(self) -> None:
        """Look what stdout is."""
        self._console = Console(highlight=False, soft_wrap=True)
        self.terminal = self._console.is_terminal

    def line(self, line: Line) -> None:
        """Print a line. Raises `NobodyReads`."""
        try:
            if self.terminal:
                self._console.print(Text(line.text, style=STYLES[line.style], no_wrap=True, overflow="ignore"))
            else:
                print(line.text, flush=True)  # noqa: T201 (a command speaks)
        except BrokenPipeError as error:
            _to_nowhere()
            raise NobodyReads from error

    def text(self, text: str) -> None:
        """Print text as it is. Raises `NobodyReads`."""
        try:
            print(text, flush=True)  # noqa: T201 (a command speaks)
        except BrokenPipeError as error:
            _to_nowhere()
            raise NobodyReads from error


def ended() -> int:
    """Say that the daemon is gone while its answer went on; give the exit code."""
    print("mqttbridge has ended, or begins anew: nothing more comes from it", file=sys.stderr)  # noqa: T201 (likewise)
    return 1


@contextmanager
def while_read() -> Iterator[None]:
    """Run what prints and ends; when nobody reads stdout any more, it ends with 0 and without a word."""
    try:
        try:
            yield
        except SystemExit as ending:
            if isinstance(ending.__context__, BrokenPipeError):
                # Rich has noticed it by itself, and led stdout to nowhere.
                raise SystemExit(0) from None
            print(end="", flush=True)  # noqa: T201 (what is printed is written now, or not at all)
            raise
        print(end="", flush=True)  # noqa: T201 (likewise)
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        _to_nowhere()
        raise SystemExit(0) from None


def _nobody_reads() -> bool:
    """Tell whether it is stdout whose reader is gone."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _to_nowhere() -> None:
    """Have what is still buffered go nowhere, so that nobody complains about the pipe when the process ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
