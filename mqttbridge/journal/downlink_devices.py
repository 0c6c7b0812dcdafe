"""What is known of devices in memory: those heard last, and those that are still to be written. Pure; for `downlinks`.

What is known is dropped again when it could not be written, so that the next uplink of the device teaches it anew.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mqttbridge.model import Device

__all__ = ["Devices"]

KNOWN = 16_384
UNWRITTEN = 10_000
MAX_TAGS = 4096
"""Characters of all tags of a device. With more it is known without any: documents may be large, and devices many."""
TAG_SETS = 1000
NO_TAGS: frozenset[str] = frozenset()


class Devices:
    """An LRU cache of devices with a bounded buffer behind it."""

    def __init__(self) -> None:
        """Know nothing."""
        self._known: OrderedDict[str, Device] = OrderedDict()
        self._tags: dict[frozenset[str], frozenset[str]] = {}
        self._new: dict[str, Device] = {}
        self._writing: dict[str, Device] = {}

    def learn(self, devices: Iterable[Device]) -> bool:
        """Note these, the newest last; tell whether some are to be written."""
        known = self._known
        for device in devices:
            name = device.dev_eui
            if known.get(name) == device:
                known.move_to_end(name)
            else:
                self._note(name, device)
        return bool(self._new)

    def _note(self, name: str, device: Device) -> None:
        if sum(map(len, device.tags)) + len(device.tags) > MAX_TAGS:
            device = replace(device, tags=NO_TAGS)
            if self._known.get(name) == device:
                return
        if device.tags:
            # Devices by the thousand have the same few sets of tags.
            device = replace(device, tags=self._tags.setdefault(device.tags, device.tags))
            if len(self._tags) > TAG_SETS:
                self._tags.clear()
        if len(self._new) >= UNWRITTEN and name not in self._new:
            # The disk is slow or broken: not known, until it is heard again.
            self._known.pop(name, None)
            return
        self._new[name] = device
        self._known[name] = device
        self._known.move_to_end(name)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)

    def find(self, dev_eui: str) -> Device | None:
        """Give what is known without asking the disk."""
        return self._known.get(dev_eui) or self._new.get(dev_eui) or self._writing.get(dev_eui)

    def take(self) -> list[Device]:
        """Give what is to be written, once; `written` or `failed` follows."""
        taken = list(self._new.values())
        self._writing.update(self._new)
        self._new.clear()
        return taken

    def written(self) -> None:
        """Note that what was taken is on disk."""
        self._writing.clear()

    def failed(self) -> None:
        """Forget what was taken, unless something newer is known."""
        for name, device in self._writing.items():
            if self._known.get(name) is device:
                del self._known[name]
        self._writing.clear()
