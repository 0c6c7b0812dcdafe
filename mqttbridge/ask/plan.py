"""`mqttbridge plan` and `mqttbridge reload`: ask the running daemon, print what it says, tell the rest by exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.text import Text

from mqttbridge.ask.plan_wording import page
from mqttbridge.control.plan import PlanReport
from mqttbridge.errors import AskError

if TYPE_CHECKING:
    from mqttbridge.ask.client import Answer, Daemon

__all__ = ["CHANGES", "WRONG", "reload", "show"]

CHANGES = 2
"""The exit code of a plan that is not empty."""
WRONG = 1
"""The exit code when the file is wrong."""
TIMEOUT = 60.0
"""Seconds: a thousand connections may have to end."""
INVALID = 422
STYLES = {"bad": "bold red", "head": "bold", "plain": ""}


def show(daemon: Daemon, *, as_json: bool) -> int:
    """Print what a reload would do; give the exit code."""
    report = _fetched(daemon.ask("GET", "/plan", timeout=TIMEOUT))
    _print(report, as_json=as_json)
    if report.problems:
        return WRONG
    return 0 if report.empty else CHANGES


def reload(daemon: Daemon, *, as_json: bool) -> int:
    """Have the file taken up, and print what that did; give the exit code."""
    report = _fetched(daemon.ask("POST", "/reload", timeout=TIMEOUT))
    _print(report, as_json=as_json)
    return WRONG if report.problems else 0


def _fetched(answer: Answer) -> PlanReport:
    """Read an answer; that the file is wrong is one too. Raises `AskError`."""
    if answer.problem and answer.status != INVALID:
        raise AskError(answer.problem)
    try:
        report = msgspec.json.decode(answer.body, type=PlanReport)
    except msgspec.DecodeError as error:
        reason = f"the daemon's answer is not understood ({error}); are it and this command of one version?"
        raise AskError(reason) from error
    if answer.problem and not report.problems:
        raise AskError(answer.problem)
    return report


def _print(report: PlanReport, *, as_json: bool) -> None:
    """Print a report; what is wrong with the file goes to stderr, a line each."""
    for line in report.problems:
        print(line, file=sys.stderr)  # noqa: T201 (a command speaks)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())  # noqa: T201 (likewise)
    if as_json or report.problems:
        return
    lines = page(report)
    console = Console(highlight=False, soft_wrap=True)
    if console.is_terminal:
        styled = (Text(line.text, style=STYLES[line.style], no_wrap=True, overflow="crop") for line in lines)
        console.print(Text("\n").join(styled))
    else:
        print("\n".join(line.text for line in lines))  # noqa: T201 (likewise)
