"""What passes, told to all who want to know: the history, and whoever watches right now. For the composition root."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mqttbridge.control.journal_watch import JournalWatch
    from mqttbridge.control.tallies import Tallies
    from mqttbridge.history.history import History
    from mqttbridge.model import Connections, Queued, Settled, Uplink
    from mqttbridge.observe.tap import Taps

__all__ = ["Passage"]


class Passage:
    """The journal's `Witness`, and the sources' `Passage`. Called in the loop, a batch at a time."""

    def __init__(self, history: History, taps: Taps) -> None:
        """Tell these."""
        self._history = history
        self._taps = taps
        self._watch: JournalWatch | None = None
        self._tallies: Tallies | None = None

    def listen(self, watch: JournalWatch, tallies: Tallies) -> None:
        """Tell these too, from now on."""
        self._watch = watch
        self._tallies = tallies

    def stored(self, queued: Mapping[Connections, Sequence[Queued]]) -> None:
        """Hear of new uplinks, by where they go."""
        self._history.stored(queued)
        self._taps.stored(queued)
        if self._tallies is not None:
            self._tallies.stored(queued)

    def settled(self, connection: str, settled: Sequence[Settled]) -> None:
        """Hear how uplinks ended."""
        self._history.settled(connection, settled)
        self._taps.settled(connection, settled)
        if self._watch is not None:
            self._watch.settled(connection, settled)

    def unrouted(self, uplinks: Sequence[Uplink]) -> None:
        """Hear of uplinks that no connection gets."""
        self._history.unrouted(uplinks)
        self._taps.unrouted(uplinks)

    def duplicates(self, _source: str, uplinks: Sequence[Uplink]) -> None:
        """Hear of uplinks that had come before."""
        self._taps.duplicates(uplinks)

    def seen(self, connection: str, queued: Sequence[Queued]) -> None:
        """Hear of uplinks that a session takes from its backlog."""
        self._taps.seen(connection, queued)
