"""Gaps in the frame counters of devices: how many uplinks did not come here. Pure; the intake of the sources calls it.

A gap is only told when it is one: repeats, late arrivals, rejoins, resets and counters that roll over are none. It must
never hold up an uplink, and never hold more than `MAX_DEVICES` devices.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_DEVICES", "MAX_FCNT_GAP", "FrameCounters"]

MAX_DEVICES: Final = 65_536
"""Devices whose counter is known; the one not seen for longest is forgotten first."""

MAX_FCNT_GAP: Final = 16_384
"""A larger leap is no loss but another session (LoRaWAN 1.0.x, regional parameters: MAX_FCNT_GAP)."""

_ROLLOVER: Final = 65_536
"""Where a counter of 16 bits starts again; LoRaWAN 1.0 allows these."""

_NEAR: Final = 64
"""How near to its end a 16-bit counter must have been, for a small one after it to be its continuation."""

_Counters = tuple[int, ...]
"""One or two counters of a device, the one seen last first. The second keeps the old place when a lower one comes,
which may be a new session (it goes on from there) or a late arrival (the old one goes on)."""


class FrameCounters:
    """The last FCntUp of each device, over all sources: a device that two sources hear has one counter."""

    def __init__(self, known: Mapping[str, int] | None = None) -> None:
        """Start with where the devices stood before, by DevEUI: what was missed meanwhile is then told."""
        self._devices: OrderedDict[str, int | _Counters] = OrderedDict()
        """One counter, which is all that most have, stands there by itself: 56 bytes less for each device."""
        for dev_eui, fcnt in (known or {}).items():
            self._remember(dev_eui, fcnt)

    def __len__(self) -> int:
        """Tell how many devices are known."""
        return len(self._devices)

    def note(self, dev_eui: str, fcnt: int) -> int:
        """Take note of an uplink that came; gives how many of the device's uplinks are missing right before it.

        0: none, or it cannot be told. For uplinks alone: a downlink report has the counter of downlinks.
        """
        counters = self._devices.get(dev_eui)
        if counters is None:
            self._remember(dev_eui, fcnt)
            return 0
        after, missing = _advance((counters,) if isinstance(counters, int) else counters, fcnt)
        self._devices[dev_eui] = after[0] if len(after) == 1 else after
        self._devices.move_to_end(dev_eui)
        return missing

    def _remember(self, dev_eui: str, fcnt: int) -> None:
        self._devices[dev_eui] = fcnt
        if len(self._devices) > MAX_DEVICES:
            self._devices.popitem(last=False)


def _advance(counters: _Counters, fcnt: int) -> tuple[_Counters, int]:
    """Give the counters after an uplink with this one, and how many are missing before it."""
    if len(counters) == 1 and fcnt == counters[0] + 1:  # what nearly all are
        return (fcnt,), 0
    steps = {counter: _step(counter, fcnt) for counter in counters}
    if 0 in steps.values():
        return counters, 0
    below = min((step for step in steps.values() if 0 < step <= MAX_FCNT_GAP), default=None)
    above = min((-step for step in steps.values() if -MAX_FCNT_GAP <= step < 0), default=None)
    if below is not None and above is not None and above < below:
        return counters, 0  # more likely a late one of the counter above than a leap of the one below
    if below is not None:
        return (fcnt, *(counter for counter, step in steps.items() if step != below)), below - 1
    nearest = min(counters, key=lambda counter: abs(steps[counter]))
    kept = counters if len(counters) == 1 else tuple(counter for counter in counters if counter != nearest)
    return (fcnt, *kept), 0


def _step(counter: int, fcnt: int) -> int:
    """Give how far `fcnt` lies ahead of `counter`, over the end of a 16-bit counter if that is what happened."""
    if _ROLLOVER - _NEAR <= counter < _ROLLOVER and fcnt < _NEAR:
        return fcnt + _ROLLOVER - counter
    return fcnt - counter
