"""Which uplink makes the broker hang up: pure. One such uplink must not block all behind it for ever.

After each lost link, `after_loss` judges by what was in flight. Two links lost in a row with the same first uplink in
flight and not one answer: from then on uplinks go one by one (`narrow`), each link beginning with a quiet moment
(`QUIET`), so that a broker that is dying anyway loses an idle link, which clears everybody. An uplink that is alone
in flight at three such losses is `guilty`: the session parks it.

Must never accuse an uplink when the broker is frozen (a timeout), cannot be reached, ends idle links, or says that
it hung up for a reason of its own: none of that is the uplink's doing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mqttbridge.errors import LinkTimeout

if TYPE_CHECKING:
    from collections.abc import Collection

    from mqttbridge.errors import LinkError

__all__ = ["NOBODY", "QUIET", "TRIES", "Suspicion", "accuses", "after_answer", "after_loss"]

SUSPICIOUS = 2
"""So many losses in a row narrow the window to one uplink."""
TRIES = 3
"""So often an uplink is sent alone before it is parked."""
QUIET = 1.0
"""Seconds that a link must live before a suspect is sent."""

ABOUT_UPLINKS = frozenset({None, 0x80, 0x81, 0x82, 0x83, 0x87, 0x90, 0x95, 0x99, 0x9A, 0x9B})
"""Codes of DISCONNECT that an uplink can be the cause of (MQTT 5, section 3.14.2.1); None: no word, or MQTT 3.1.1."""


class Suspicion(msgspec.Struct, frozen=True):
    """What is known so far. `suspect` is the seq that was first in flight, `last` the last that was."""

    suspect: int = 0
    last: int = 0
    losses: int = 0
    alone: int = 0
    """Losses with nothing but the suspect in flight."""

    @property
    def narrow(self) -> bool:
        """Whether uplinks are to be sent one by one."""
        return self.losses >= SUSPICIOUS

    @property
    def guilty(self) -> int | None:
        """The seq of the uplink to park."""
        return self.suspect if self.alone >= TRIES else None


NOBODY = Suspicion()


def accuses(error: LinkError) -> bool:
    """Tell whether a link ended in a way that an uplink can be the cause of."""
    return not isinstance(error, LinkTimeout) and error.code in ABOUT_UPLINKS


def after_loss(before: Suspicion, in_flight: Collection[int], *, answered: bool) -> Suspicion:
    """Judge a link that ended in such a way. `in_flight`: the seqs that had no answer; `answered`: others had one."""
    if not in_flight:
        return NOBODY
    first, last = min(in_flight), max(in_flight)
    again = first == before.suspect
    if before.narrow:
        return Suspicion(first, max(before.last, last), before.losses, before.alone + 1 if again else 1)
    if answered:
        return NOBODY
    return Suspicion(first, last, before.losses + 1 if again else 1)


def after_answer(before: Suspicion, seq: int) -> Suspicion:
    """Clear an uplink that was answered or parked; behind the last that was in flight, everybody."""
    if seq >= before.last:
        return NOBODY
    return msgspec.structs.replace(before, suspect=0, alone=0) if before.suspect == seq else before
