"""The thread that reads backlogs from disk, for sessions that do not keep up.

One connection of its own beside the writer's: in WAL mode neither waits for the other. Each read is one statement
of one step (see `store`), and costs the same however long the backlog is: a k-way merge over the (route, seq) index.
The event loop submits; the writer closes the connection with `reset`, holding `lock`, whenever nobody may be reading.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.errors import JournalFailed
from mqttbridge.journal.schema import prepare
from mqttbridge.journal.tail import READ_BYTES
from mqttbridge.model import DocumentKind, Queued, Uplink

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from mqttbridge.journal.schema import Connect

    Future = asyncio.Future[Any]
    Query = Callable[[sqlite3.Connection], Any]
    Answer = Callable[[Future, Any], None]

__all__ = ["Reader", "backlog"]

NEVER = 2**63 - 1
"""Stands for "no further uplink" while merging, because NULL would sort first."""
READ = f"""
WITH RECURSIVE
next(seq, route) AS (
    SELECT coalesce((SELECT min(u.seq) FROM uplink u WHERE u.route = r.value AND u.seq > ?2), {NEVER}), r.value
    FROM json_each(?1) r
    UNION ALL
    SELECT coalesce((SELECT min(u.seq) FROM uplink u WHERE u.route = next.route AND u.seq > next.seq), {NEVER}),
           next.route
    FROM next WHERE next.seq < {NEVER}
    ORDER BY 1 LIMIT ?3),
sized(seq, before) AS (
    SELECT u.seq, sum(length(u.body)) OVER (ORDER BY u.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    FROM next CROSS JOIN uplink u ON u.seq = next.seq),
found AS (
    SELECT u.* FROM sized CROSS JOIN uplink u ON u.seq = sized.seq
    WHERE coalesce(before, 0) < {READ_BYTES} ORDER BY u.seq)
SELECT json_group_array(json_array(seq, source, kind, dev_eui, time, received, fcnt, length(body))),
       CAST(group_concat(body, '') AS BLOB)
FROM found
"""  # noqa: S608 - numbers of ours

Row = tuple[int, str, DocumentKind, str, int, int, int | None, int]
decoder = msgspec.json.Decoder(list[Row])


class Reader:
    """Answers reads in the order in which they come."""

    def __init__(self, path: Path, max_size: int, connect: Connect, answer: Answer) -> None:
        """Take where to read and whom to tell; `answer` is called in the reader's thread."""
        self.lock = threading.Lock()
        self._path = path
        self.max_size = max_size
        """Of the journal, for the next connection."""
        self._connect = connect
        self._answer = answer
        self._db: sqlite3.Connection | None = None
        self._requests: queue.SimpleQueue[tuple[Query, Future] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal-reader", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def submit(self, query: Query, future: Future) -> None:
        """Ask for what this query finds, which changes nothing. Does not block."""
        self._requests.put((query, future))

    def stop(self) -> None:
        """Answer what was asked and end. Blocks."""
        self._requests.put(None)
        self._thread.join()
        with self.lock:
            self.reset()

    def reset(self) -> None:
        """Close the connection; the next read opens another. The caller holds `lock`."""
        if self._db is not None:
            db, self._db = self._db, None
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            query, future = request
            try:
                with self.lock:
                    found = query(self._opened())
            except Exception as error:  # noqa: BLE001 - whatever it is, the reader must go on and say so
                with self.lock:
                    self.reset()
                found = JournalFailed(f"The journal {self._path} cannot be read: {error}. Check the disk.")
            self._answer(future, found)

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = self._connect(self._path)
            prepare(self._db, self.max_size)
        return self._db


def backlog(db: sqlite3.Connection, routes: list[int], after: int, limit: int) -> list[Queued]:
    """Give the uplinks of these routes with `seq > after`."""
    text, bodies = db.execute(READ, (msgspec.json.encode(routes).decode(), after, limit)).fetchone()
    found = []
    start = 0
    for seq, source, kind, dev_eui, time, received, fcnt, length in decoder.decode(text):
        end = start + length
        found.append(Queued(seq, Uplink(source, kind, dev_eui, time, received, fcnt, bodies[start:end])))
        start = end
    return found
