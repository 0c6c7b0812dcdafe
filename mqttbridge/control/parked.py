"""GET /parked and /parked/one, POST /parked/retry and /parked/drop on the Unix socket: what no broker takes as it is.

A retry is for connections that get uplinks: where it would only wait, or nobody would ever read it, it is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from mqttbridge.control.again import ParkedDocument, ParkedEntry, ParkedList, UnparkDone, UnparkWish
from mqttbridge.control.presence import Presence
from mqttbridge.control.refusal import Refused, answering, reason_not
from mqttbridge.control.request import BadRequest, body_of, query_of, whole_number
from mqttbridge.errors import JournalError
from mqttbridge.formats.times import moment
from mqttbridge.observe.log import get_logger
from mqttbridge.sources.asgi import answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mqttbridge.control.local import Routes
    from mqttbridge.journal.parked import Parked
    from mqttbridge.journal.protocol import Journal
    from mqttbridge.settings.schema import Connection
    from mqttbridge.sources.asgi import Receive, Scope, Send

__all__ = ["ParkedDesk"]

DEFAULT_LIMIT = 50
MOST = 1000
MOST_NUMBER = 999_999_999
DIGITS = 1000
"""No number that is written longer is looked at."""
NAMES_SAID = 5
"""Numbers that a sentence names."""

log = get_logger()


class ParkedDesk:
    """Answers what is asked about parked uplinks. `connections`: as configured, looked up at each request."""

    def __init__(self, journal: Journal, connections: Mapping[str, Connection]) -> None:
        """Take whom to ask."""
        self._journal = journal
        self._connections = connections

    def routes(self) -> Routes:
        """Give what answers, by path."""
        return {
            "/parked": ("GET", self._list),
            "/parked/one": ("GET", self._one),
            "/parked/retry": ("POST", self._retry),
            "/parked/drop": ("POST", self._drop),
        }

    async def _list(self, scope: Scope, _receive: Receive, send: Send) -> None:
        async with answering(send):
            query = query_of(scope, ("connection", "limit", "before"))
            limit = whole_number(query, "limit", DEFAULT_LIMIT, most=MOST)
            before = whole_number(query, "before", 0, most=MOST_NUMBER)
            connection = query.get("connection")
            self._must_be_known(connection)
            found = await self._journal.parked(connection, limit, before)
            shown = ParkedList(kept=dict(self._journal.parked_kept()), parked=tuple(_entry(one) for one in found))
            await answer(send, 200, msgspec.json.encode(shown))

    async def _one(self, scope: Scope, _receive: Receive, send: Send) -> None:
        async with answering(send):
            written = query_of(scope, ("number",)).get("number", "")
            if not (written.isascii() and written.isdigit()) or len(written) > DIGITS:
                raise BadRequest("say which one: ?number=")
            number = int(written)
            found = await self._journal.parked_one(number) if number <= self._journal.last_parked else None
            if found is None:
                raise _none_of([number])
            entry = msgspec.structs.asdict(_entry(found.parked))
            shown = ParkedDocument(**entry, document=_document(found.body))
            await answer(send, 200, msgspec.json.encode(shown))

    async def _retry(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await self._take_up(receive, send, retry=True)

    async def _drop(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await self._take_up(receive, send, retry=False)

    async def _take_up(self, receive: Receive, send: Send, *, retry: bool) -> None:
        async with answering(send):
            wish = await body_of(receive, UnparkWish)
            if bool(wish.numbers) == wish.everything:
                raise BadRequest("give the numbers of parked uplinks, or everything: true")
            skipped: list[str] = []
            which: list[str | Sequence[int]] = []
            if wish.numbers:
                which = [await self._numbers(wish, retry=retry)]
            else:
                which = [*self._all(wish, skipped, retry=retry)]
            async with Presence(receive) as client:
                counts = await self._portions(which, client, retry=retry)
            done = UnparkDone(count=sum(counts.values()), connections=counts, skipped=tuple(skipped))
            await answer(send, 200, msgspec.json.encode(done))

    async def _portions(self, which: list[str | Sequence[int]], client: Presence, *, retry: bool) -> dict[str, int]:
        """Take up all of these, a portion at a time; what was done is told, however it ends. Raises `Refused`."""
        upto = self._journal.last_parked
        counts: dict[str, int] = {}
        try:
            for one in which if upto else ():
                while not client.gone and (done := await self._journal.unpark(one, retry=retry, upto=upto)).more:
                    for name, number in done.counts.items():
                        counts[name] = counts.get(name, 0) + number
        except JournalError as error:
            what = "retried" if retry else "dropped"
            raise Refused(503, f"{error} {sum(counts.values())} parked uplinks were {what} before.") from error
        finally:
            for name, number in counts.items():
                log.info("parked.retried" if retry else "parked.dropped", connection=name, count=number)
        return counts

    async def _numbers(self, wish: UnparkWish, *, retry: bool) -> tuple[int, ...]:
        """Give the numbers, if each of them may be taken up. Raises `Refused`."""
        numbers = sorted(set(wish.numbers))
        found = await self._journal.parked_named([one for one in numbers if one <= self._journal.last_parked])
        if unknown := sorted(set(numbers) - {one.number for one in found}):
            raise _none_of(unknown)
        for one in found:
            if wish.connection not in (None, one.connection):
                raise Refused(422, f"{one.number} is parked for {one.connection}, not for {wish.connection}")
            if retry and (why := reason_not(self._connections, one.connection)):
                raise Refused(422, f"{one.number} cannot be retried: {why}; `mqttbridge parked drop` gives it up")
        return tuple(numbers)

    def _all(self, wish: UnparkWish, skipped: list[str], *, retry: bool) -> Iterator[str]:
        """Give the connections whose parked uplinks are meant. Raises `Refused`."""
        self._must_be_known(wish.connection)
        kept = self._journal.parked_kept()
        for name in [wish.connection] if wish.connection is not None else sorted(kept):
            why = reason_not(self._connections, name) if retry else ""
            if not why:
                yield name
            elif wish.connection is not None:
                raise Refused(422, f"nothing can be retried: {why}")
            else:
                skipped.append(f"{kept[name]} stay parked: {why}")

    def _must_be_known(self, connection: str | None) -> None:
        if connection is None or connection in self._connections or connection in self._journal.counts():
            return
        raise Refused(404, f"there is no connection {connection[:100]!r}, and there was none that got uplinks")


def _entry(one: Parked) -> ParkedEntry:
    return ParkedEntry(
        number=one.number,
        connection=one.connection,
        parked=moment(one.at),
        reason=one.reason,
        received=moment(one.received),
        source=one.source,
        dev_eui=one.dev_eui,
        fcnt=one.fcnt,
        kind=one.kind,
        size=one.size,
        seq=one.seq,
    )


def _document(body: bytes) -> Raw:
    """Give a document as it stands, or as a string if it is no JSON."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Raw(msgspec.json.encode(body.decode(errors="replace")))
    return Raw(body)


def _none_of(numbers: Sequence[int]) -> Refused:
    some = ", ".join(str(number) for number in numbers[:NAMES_SAID])
    more = f" and {len(numbers) - NAMES_SAID} more" if len(numbers) > NAMES_SAID else ""
    which = f"number{'' if len(numbers) == 1 else 's'} {some}{more}"
    return Refused(404, f"there is no parked uplink with {which}; `mqttbridge parked list` shows those that there are")
