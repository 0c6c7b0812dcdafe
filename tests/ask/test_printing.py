"""Printing a line at a time."""

from __future__ import annotations

import io
import re
import sys

import pytest

from mqttbridge.ask import events, tap
from mqttbridge.ask.printing import NobodyReads, Printer
from mqttbridge.ask.wording import Line


class Terminal(io.StringIO):
    """A terminal, or a pipe that is closed."""

    closed_pipe = False

    def isatty(self) -> bool:
        """Say so."""
        return True

    def write(self, text: str) -> int:
        """Write, or fail."""
        if self.closed_pipe:
            raise BrokenPipeError
        return super().write(text)


def test_colour_is_for_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Printer().line(Line("gone [bold]", "bad"))
    assert capsys.readouterr().out == "gone [bold]\n"
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    printer = Printer()
    assert printer.terminal
    printer.line(Line("x" * 200, "bad"))
    assert "\x1b[1;31m" + "x" * 200 in terminal.getvalue(), "a long line is not broken"


def test_on_a_terminal_taps_and_events_are_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Daemon:
        def get(self, _: str) -> bytes:
            return b'[{"at": "2026-11-22T14:03:07Z", "level": "info", "event": "a.b", "reason": "%s"}]' % (b"why " * 40)

        def lines(self, _: str) -> list[bytes]:
            return [b'{"what": "parked", "at": "2026-11-22T14:03:07Z", "reason": "%s"}' % (b"why " * 40)]

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    tap.follow(Daemon(), tap.Wish(), None, as_json=False)
    events.show(Daemon(), events.Wish(), follow=False, as_json=False)
    written = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert len(written) == 6
    assert all(len(line) <= 80 for line in written)


def test_a_closed_pipe_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Terminal()
    broken.closed_pipe = True
    monkeypatch.setattr(broken, "isatty", lambda: False)
    monkeypatch.setattr(sys, "stdout", broken)
    printer = Printer()
    with pytest.raises(NobodyReads):
        printer.line(Line("x"))
    with pytest.raises(NobodyReads):
        printer.text("x")
