"""`mqttbridge parked`: lists what no broker would take as it is, shows one, retries or drops them."""

from __future__ import annotations

import itertools
import textwrap
import urllib.parse
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
from rich.console import Console

from mqttbridge.ask.trace import print_page
from mqttbridge.ask.wording import Line, size
from mqttbridge.ask.words import clean
from mqttbridge.control.again import ParkedDocument, ParkedEntry, ParkedList, UnparkDone, UnparkWish
from mqttbridge.errors import AskError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from mqttbridge.ask.client import Daemon

__all__ = ["Selection", "drop", "retry", "show_list", "show_one"]

T = TypeVar("T")
WIDTH = 80
LONG = 600.0
"""Seconds that a million parked uplinks may take."""
NONE_TAKEN = 1
"""The exit code when something is parked, and none of it could be retried."""
ROW = "{:>9}  {:<19}  {:<16}  {:>9}  {:>8}"


class Selection(msgspec.Struct, frozen=True):
    """Which parked uplinks are meant: these numbers, or everything (of the connection, if one is given)."""

    numbers: tuple[int, ...]
    connection: str | None
    everything: bool


def show_list(daemon: Daemon, connection: str | None, limit: int, *, as_json: bool) -> int:
    """Print the newest, by reason; give the exit code. Raises `AskError`."""
    query = {"limit": str(limit)} | ({"connection": connection} if connection is not None else {})
    body = daemon.get(f"/parked?{urllib.parse.urlencode(query)}")
    found = _decoded(body, ParkedList)
    if as_json:
        _print_json(body)
    else:
        _print([*_list(found, connection)])
    return 0


def show_one(daemon: Daemon, number: int, *, as_json: bool) -> int:
    """Print one with its document; give the exit code. Raises `AskError`."""
    body = daemon.get(f"/parked/one?number={number}")
    found = _decoded(body, ParkedDocument)
    if as_json:
        _print_json(body)
    else:
        _print([*_one(found)])
    return 0


def retry(daemon: Daemon, selection: Selection, *, as_json: bool) -> int:
    """Have them queued again; give the exit code. Raises `AskError`."""
    return _take_up(daemon, selection, retry=True, as_json=as_json)


def drop(daemon: Daemon, selection: Selection, *, as_json: bool) -> int:
    """Have them given up; give the exit code. Raises `AskError`."""
    return _take_up(daemon, selection, retry=False, as_json=as_json)


def _take_up(daemon: Daemon, selection: Selection, *, retry: bool, as_json: bool) -> int:
    wish = UnparkWish(numbers=selection.numbers, connection=selection.connection, everything=selection.everything)
    body = daemon.post("/parked/retry" if retry else "/parked/drop", wish, timeout=LONG)
    done = _decoded(body, UnparkDone)
    if as_json:
        _print_json(body)
    else:
        lines = [line for name, number in sorted(done.connections.items()) for line in _did(number, name, retry=retry)]
        lines += [line for sentence in done.skipped for line in _wrapped(sentence)]
        _print(lines or [Line(_nothing(selection.connection))])
    return NONE_TAKEN if done.skipped and not done.count else 0


def _did(number: int, name: str, *, retry: bool) -> Iterator[Line]:
    many, are = ("", "is") if number == 1 else ("s", "are")
    if retry:
        yield from _wrapped(f"{number:,} uplink{many} {are} queued again for {name}")
    else:
        yield from _wrapped(f"{number:,} parked uplink{many} of {name} {are} given up")


def _list(found: ParkedList, connection: str | None) -> Iterator[Line]:
    """Give a heading for each reason, and a line for each uplink."""
    kept = {name: number for name, number in found.kept.items() if connection in (None, name)}
    total = sum(kept.values())
    if not found.parked:
        yield Line(_nothing(connection))
        return
    yield Line(ROW.format("number", "parked", "device", "FCnt", "size"), "head")
    for (name, reason), group in itertools.groupby(found.parked, lambda one: (one.connection, one.reason)):
        yield Line("")
        yield from _wrapped(f"{name}: {reason or 'no reason is known'}", style="bad")
        yield from (_row(one) for one in group)
    yield Line("")
    shown = len(found.parked)
    if total > shown:
        yield from _wrapped(f"the newest {shown:,} of {total:,}; --limit shows more, --connection those of one")
    if len(kept) > 1:
        by_number = sorted(kept.items(), key=lambda item: (-item[1], item[0]))
        yield from _wrapped("parked: " + ", ".join(f"{number:,} for {name}" for name, number in by_number))
    yield from _wrapped("`mqttbridge parked show NUMBER` has the document, `retry` and `drop` take numbers or --all")


def _row(one: ParkedEntry) -> Line:
    fcnt = "-" if one.fcnt is None else str(one.fcnt)
    return Line(ROW.format(one.number, _when(one.parked), clean(one.dev_eui), fcnt, size(one.size)))


def _one(found: ParkedDocument) -> Iterator[Line]:
    yield Line(f"parked uplink {found.number}", "head")
    fcnt = "" if found.fcnt is None else f", FCnt {found.fcnt}"
    facts = {
        "connection": found.connection,
        "reason": found.reason or "none is known",
        "parked": _when(found.parked),
        "received": f"{_when(found.received)} from source {found.source}",
        "device": f"{found.dev_eui}{fcnt}",
        "document": f"{found.kind}, {found.size:,} bytes",
    }
    for name, value in facts.items():
        lines = textwrap.wrap(clean(value), WIDTH - 14) or [""]
        for at, line in enumerate(lines):
            yield Line(f"  {'' if at else name:<12}{line}")
    yield Line("")
    for text in msgspec.json.format(bytes(found.document), indent=2).decode(errors="replace").splitlines():
        yield Line(clean(text))


def _nothing(connection: str | None) -> str:
    return "nothing is parked" if connection is None else f"nothing is parked for {clean(connection)}"


def _when(moment: datetime) -> str:
    """Write a moment as the clock on the wall has it."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _wrapped(text: str, style: Literal["bad", "plain"] = "plain") -> Iterator[Line]:
    for line in textwrap.wrap(clean(text), WIDTH):
        yield Line(line, style)


def _print(lines: Sequence[Line]) -> None:
    print_page(lines, Console(highlight=False, soft_wrap=True))


def _print_json(body: bytes) -> None:
    print(msgspec.json.format(body, indent=2).decode())  # noqa: T201 (a command speaks)


def _decoded(body: bytes, wanted: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=wanted)
    except msgspec.DecodeError as error:
        reason = f"the daemon's answer is not understood ({error}); are it and this command of one version?"
        raise AskError(reason) from error
