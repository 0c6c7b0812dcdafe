"""What the log says of single uplinks: a line each at DEBUG or with `debug: true`, else only of what is not delivered.

Used by `delivery`. Nothing is spent on lines that nobody wants.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mqttbridge.model import Outcome
from mqttbridge.observe.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mqttbridge.model import Settled, Uplink
    from mqttbridge.observe.throttle import Throttle

__all__ = ["Teller"]

log = get_logger()


class Teller:
    """Tells of the uplinks of one connection. `debug` may change at any moment."""

    def __init__(self, connection: str, throttle: Throttle, *, debug: bool) -> None:
        """Prepare."""
        self._connection = connection
        self._throttle = throttle
        self.debug = debug

    @property
    def wanted(self) -> bool:
        """Whether anybody wants a line per uplink."""
        return self.debug or log.is_enabled_for(logging.DEBUG)

    def passed(self, event: str, uplinks: Iterable[tuple[Uplink, str]]) -> None:
        """Tell what happened to uplinks, with the topic of each. Ask first whether it is wanted."""
        tell: Callable[..., None] = log.info if self.debug else log.debug
        for uplink, topic in uplinks:
            tell(event, connection=self._connection, dev_eui=uplink.dev_eui, fcnt=uplink.fcnt, topic=topic)

    def ended(self, uplink: Uplink, end: Settled) -> None:
        """Tell of an uplink that is not delivered."""
        fields: dict[str, Any] = {"connection": self._connection, "dev_eui": uplink.dev_eui, "fcnt": uplink.fcnt}
        if end.topic:
            fields["topic"] = end.topic
        name = "uplink.expired" if end.outcome is Outcome.EXPIRED else "uplink.parked"
        if self.debug:
            log.warning(name, reason=end.reason, **fields)
        else:
            self._throttle.tell("warning", name, self._connection, reason=end.reason, **fields)
