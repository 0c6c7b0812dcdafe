"""What was counted for each connection in the last 60 minutes and 24 hours, and how many devices were active there.

Run by the daemon: `run` closes a minute when it is over, and the journal's news come to `stored`. Both are bounded:
some 2 KB a connection, and `MOST_DEVICES` entries for the devices of all of them.

Spans are those of the wall clock. One that steps forward, or a machine that slept, leaves spans in which nothing was
counted. One that steps back takes the spans with it, so that they still end now; a step of some seconds is waited out.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from mqttbridge.model import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mqttbridge.clock import Clock
    from mqttbridge.model import Connections, Queued

__all__ = ["Tallied", "Tallies", "Tally"]

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
"""In ms."""
MINUTES: Final = 60
HOURS: Final = 24
MOST_DEVICES: Final = 65_536
"""Devices, each counted once for every set of connections that its uplinks go to."""
LOOK_EVERY: Final = 5.0
"""Seconds between two looks at the clock, at most."""
HOLD: Final = 10_000
"""In ms: a clock that is set back by less is waited for."""
FIELDS: Final = 5
NOTHING: Final = Counts()
ZEROS: Final = array("Q", bytes(8 * FIELDS))


class Tally(msgspec.Struct, frozen=True, gc=False):
    """What was counted in one span of time, which began at `start` (ms)."""

    start: int
    routed: int
    delivered: int
    expired: int
    parked: int
    dropped: int


class Tallied(msgspec.Struct, frozen=True):
    """One connection: its minutes and hours, oldest first, the last of them not over yet.

    `devices`: how many had an uplink routed to it in the last 24 hours, or since the start; None: nobody knows.
    """

    minutes: tuple[Tally, ...]
    hours: tuple[Tally, ...]
    devices: int | None


class _Spans:
    """The last spans of one length, of all connections: a ring for each, and one place in all of them is open."""

    def __init__(self, length: int, number: int, now: int) -> None:
        self.length = length
        self._number = number
        self._rows: dict[str, array[int]] = {}
        self._labels: list[int | None] = [None] * number
        """By place: which span is there, counted in spans since 1970."""
        self._at = 0
        self.current = self._began = self._labels[0] = now // length

    def add(self, name: str, more: tuple[int, ...]) -> None:
        """Add to the open span of a connection."""
        row = self._rows.get(name)
        if row is None:
            row = self._rows[name] = ZEROS * self._number
        for place, number in enumerate(more, self._at * FIELDS):
            row[place] += number

    def turn(self, now: int) -> None:
        """Open the span of this moment, if the open one is over."""
        if now // self.length <= self.current:
            return
        self._at = (self._at + 1) % self._number
        self.current = self._labels[self._at] = now // self.length
        at = slice(self._at * FIELDS, (self._at + 1) * FIELDS)
        for row in self._rows.values():
            row[at] = ZEROS

    def shift(self, now: int) -> int:
        """Have the open span be that of this moment, and all others keep their distance; gives the distance."""
        by = now // self.length - self.current
        self.current += by
        self._began += by
        self._labels = [None if label is None else label + by for label in self._labels]
        return by

    def keep(self, known: Mapping[str, Counts]) -> None:
        """Forget connections that nobody knows any more."""
        for name in self._rows.keys() - known.keys():
            del self._rows[name]

    def shown(self, name: str, more: tuple[int, ...]) -> tuple[Tally, ...]:
        """Show those of a connection; `more` was counted in the open one and not added yet."""
        row = self._rows.get(name, ZEROS * self._number)
        places = {label: place for place, label in enumerate(self._labels) if label is not None}
        found = []
        for label in range(max(self._began, self.current - self._number + 1), self.current + 1):
            place = places.get(label)
            counted = ZEROS if place is None else row[place * FIELDS : (place + 1) * FIELDS]
            extra = more if label == self.current else ZEROS
            found.append(Tally(label * self.length, *map(int.__add__, counted, extra)))
        return tuple(found)


class _Devices:
    """Which devices had uplinks, by where these go, and when: to the hour."""

    def __init__(self, hour: int) -> None:
        self._hour = hour
        self._by_route: dict[Connections, dict[str, int]] = {}
        """The hour of each device's last uplink."""
        self._number = 0
        self._known_from = hour
        """Before this hour something is missing that would still count."""

    def stored(self, queued: Mapping[Connections, Sequence[Queued]]) -> None:
        """Hear of uplinks. Called for each batch, in the way of every uplink."""
        hour = self._hour
        for route, uplinks in queued.items():
            devices = self._by_route.get(route)
            if devices is None:
                devices = self._by_route[route] = {}
            before = len(devices)
            for one in uplinks:
                devices[one.uplink.dev_eui] = hour
            self._number += len(devices) - before
        if self._number > MOST_DEVICES:
            self._give_up()

    def _give_up(self) -> None:
        """Begin anew: nobody knows how many there are before a day has been seen whole."""
        self._by_route = {}
        self._number = 0
        self._known_from = self._hour + HOURS

    def turn(self, hour: int) -> None:
        """Forget who had no uplink for 24 hours."""
        self._hour = hour
        kept: dict[Connections, dict[str, int]] = {}
        for route, devices in self._by_route.items():
            active = {name: last for name, last in devices.items() if hour - last < HOURS}
            if active:
                kept[route] = active
        self._by_route = kept
        self._number = sum(map(len, kept.values()))

    def shift(self, by: int) -> None:
        """Follow a clock that was set back."""
        self._hour += by
        self._known_from += by
        for devices in self._by_route.values():
            for name in devices:
                devices[name] += by

    def count(self, connection: str) -> int | None:
        """Tell how many there are; None: nobody knows."""
        if self._hour < self._known_from:
            return None
        found = [devices for route, devices in self._by_route.items() if _goes_to(route, connection)]
        return len(found[0]) if len(found) == 1 else len(set[str]().union(*found))


class Tallies:
    """The tallies of one daemon: a task, and a part of the journal's witness."""

    def __init__(self, counts: Callable[[], Mapping[str, Counts]], clock: Clock) -> None:
        """Begin now. `counts`: the accounts, as the journal has them; an account that appears later begins at zero."""
        self._counts = counts
        self._clock = clock
        self._before = dict(counts())
        now = self._last = clock.now()
        self._minutes = _Spans(MINUTE, MINUTES, now)
        self._hours = _Spans(HOUR, HOURS, now)
        self._devices = _Devices(self._hours.current)
        self.stored: Callable[[Mapping[Connections, Sequence[Queued]]], None] = self._devices.stored
        """To be called with what the journal's witness hears; costs some 50 ns an uplink."""

    async def run(self) -> None:
        """Close each minute when it is over, until cancelled."""
        while True:
            left = (MINUTE - self._clock.now() % MINUTE) / 1000
            await anyio.sleep(min(left + 0.001, LOOK_EVERY))
            self.look()

    def look(self) -> None:
        """Look at the clock: close the minute that is over. Costs nothing as long as none is."""
        now = self._clock.now()
        if now < self._last - HOLD:
            self._minutes.shift(now)
            self._devices.shift(self._hours.shift(now))
            self._last = now
        self._last = max(now, self._last)
        if now // MINUTE <= self._minutes.current:
            return
        self._close()
        self._minutes.turn(now)
        if now // HOUR > self._hours.current:
            self._hours.turn(now)
            self._devices.turn(self._hours.current)

    def of(self, connection: str) -> Tallied:
        """Show a connection, up to this moment. Of one that nobody knows there is nothing but zeros."""
        self.look()
        more = self._more(connection, self._counts().get(connection, NOTHING))
        minutes, hours = self._minutes.shown(connection, more), self._hours.shown(connection, more)
        return Tallied(minutes, hours, self._devices.count(connection))

    def _close(self) -> None:
        """Add what was counted since the last time to the open spans."""
        counts = self._counts()
        for name, one in counts.items():
            if one != self._before.get(name, NOTHING):
                more = self._more(name, one)
                self._minutes.add(name, more)
                self._hours.add(name, more)
        self._before = dict(counts)
        self._minutes.keep(counts)
        self._hours.keep(counts)

    def _more(self, name: str, now: Counts) -> tuple[int, ...]:
        """Give what an account has more than the last time. One that has less of anything was begun anew."""
        before = self._before.get(name, NOTHING)
        more = tuple(map(int.__sub__, _numbers(now), _numbers(before)))
        return more if min(more) >= 0 else _numbers(now)


def _numbers(counts: Counts) -> tuple[int, ...]:
    """Give them in the order of a `Tally`."""
    return counts.routed, counts.delivered, counts.expired, counts.parked, counts.dropped


def _goes_to(route: Connections, connection: str) -> bool:
    """Tell whether a connection is among these, which are sorted."""
    place = bisect_left(route, connection)
    return place < len(route) and route[place] == connection
