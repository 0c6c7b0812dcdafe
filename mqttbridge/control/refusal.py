"""How what was asked about uplinks of the past is refused: a status and a sentence, as problem details."""

from __future__ import annotations

import contextlib
import difflib
from typing import TYPE_CHECKING

from mqttbridge.control.request import BadRequest, TooLarge
from mqttbridge.errors import HistoryFailed, JournalError
from mqttbridge.sources.asgi import problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from mqttbridge.settings.schema import Connection
    from mqttbridge.sources.asgi import Send

__all__ = ["Refused", "answering", "reason_not"]


class Refused(Exception):
    """The request gets this status, with this sentence."""

    def __init__(self, status: int, detail: str) -> None:
        """Take them."""
        super().__init__(detail)
        self.status = status


@contextlib.asynccontextmanager
async def answering(send: Send) -> AsyncIterator[None]:
    """Answer with problem details where what stands in it raises; nothing was answered before."""
    try:
        yield
    except BadRequest as error:
        await problem(send, 413 if isinstance(error, TooLarge) else 400, str(error))
    except Refused as error:
        await problem(send, error.status, str(error))
    except (JournalError, HistoryFailed) as error:
        await problem(send, 503, str(error))


def reason_not(connections: Mapping[str, Connection], name: str) -> str:
    """Say why uplinks cannot be queued for a connection; empty: they can."""
    connection = connections.get(name)
    if connection is None:
        near = difflib.get_close_matches(name, connections, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"there is no connection {name[:100]!r} in the configuration{hint}"
    return "" if connection.active else f"connection {name} has `active: false`, so nothing would be sent"
