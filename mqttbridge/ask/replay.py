"""`mqttbridge replay`: has the running daemon queue uplinks of the past again for a connection."""

from __future__ import annotations

import re
import textwrap
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.ask.words import clean
from mqttbridge.control.again import ReplayDone, ReplayWish
from mqttbridge.errors import AskError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mqttbridge.ask.client import Daemon

__all__ = ["NONE_FOUND", "Wish", "replay"]

WIDTH = 80
LONG = 600.0
"""Seconds that the uplinks of some days may take."""
NONE_FOUND = 2
"""The exit code when there is nothing to replay."""
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")
"""As the daemon writes it."""


class Wish(msgspec.Struct, frozen=True):
    """What to replay: uplinks received in [start, end), in ms; `end` None: until now."""

    connection: str
    device: str | None
    start: int
    end: int | None
    everything: bool
    dry_run: bool


def replay(daemon: Daemon, wish: Wish, *, as_json: bool) -> int:
    """Have it done, print what came of it, give the exit code. Raises `AskError`."""
    asked = ReplayWish(
        connection=wish.connection,
        device=wish.device,
        start=max(wish.start, 0),
        end=wish.end if wish.end is None else max(wish.end, 0),
        everything=wish.everything,
        dry_run=wish.dry_run,
    )
    try:
        body = daemon.post("/replay", asked, timeout=LONG)
    except AskError as error:
        # The operator wrote times of the clock on the wall, and has to write such again.
        raise AskError(MOMENT.sub(_local, str(error))) from error
    try:
        done = msgspec.json.decode(body, type=ReplayDone)
    except msgspec.DecodeError as error:
        reason = f"the daemon's answer is not understood ({error}); are it and this command of one version?"
        raise AskError(reason) from error
    text = msgspec.json.format(body, indent=2).decode() if as_json else "\n".join(_page(done, wish))
    print(text)  # noqa: T201 (a command speaks)
    return 0 if done.found else NONE_FOUND


def _page(done: ReplayDone, wish: Wish) -> Iterator[str]:
    if done.found:
        number = f"{done.found:,} uplink{'' if done.found == 1 else 's'}"
        verb = "would be" if wish.dry_run else "is" if done.found == 1 else "are"
        yield from _wrapped(f"{number} {verb} queued again for {done.connection}", "")
        yield from _wrapped(f"received from {_when(done.first)} to {_when(done.last)}", "  ")
    else:
        who = "" if wish.device is None else f" of device {wish.device}"
        routed = "is known" if wish.everything else f"that was routed to {done.connection} is known"
        yield from _wrapped(f"there is nothing to replay: no uplink{who} {routed} of that time", "")
        if not done.skipped:
            hint = "journal.retention and journal.maxSize bound how long uplinks are known"
            every = "" if wish.everything else "; --all takes those too that went to other connections alone"
            yield from _wrapped(f"{hint}{every}", "  ")
    if done.skipped:
        yield "left out:"
        for sentence in done.skipped:
            yield from _wrapped(sentence, "  ")


def _when(moment: datetime | None) -> str:
    """Write a moment as the clock on the wall has it."""
    return "?" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _local(found: re.Match[str]) -> str:
    """Write a moment of a refusal so that `--from` takes it: in milliseconds where it is none of a whole second."""
    moment = datetime.fromisoformat(found[0]).astimezone().replace(tzinfo=None)
    return moment.isoformat(" ", "milliseconds" if moment.microsecond else "seconds")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(clean(text), WIDTH, initial_indent=indent, subsequent_indent=indent)
