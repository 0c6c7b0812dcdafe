"""The file: small blocks are joined where their ids follow, numbers go on, a bad file is told from a bad disk."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from mqttbridge.history import schema
from mqttbridge.history.packing import pack_given, pack_settled
from mqttbridge.history.store import Store
from mqttbridge.history.waiting import Ends, Given
from tests.history.samples import NOW, ended, queued

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "history.db", schema.connect)
    yield store
    store.close()


def write(store: Store, numbers: range, *connections: str, received: int = NOW) -> None:
    """Write uplinks and their ends in one transaction."""
    given = Given({connections: queued(numbers, received=received)}, (), len(numbers), 0)
    uplinks, _ = pack_given([given], store.names)
    ends, _ = pack_settled([Ends(connections[0], ended(numbers))], store.names, NOW)
    store.write(uplinks, ends, [(NOW, 1, "info", "a.b", "", "", "", "{}")])


def rows(store: Store, table: str = "uplinks") -> list[tuple[int, int]]:
    """Give id and number of records of each block."""
    return store._db.execute(f"SELECT id, number FROM {table} ORDER BY id").fetchall()  # noqa: S608 - a table of ours


def test_numbers_go_on_after_it_was_opened_again(store: Store, tmp_path: Path) -> None:
    write(store, range(1, 4), "a", "b")
    again = Store(tmp_path / "history.db", schema.connect)
    assert (again.batch, again.uplink, again.event) == (store.batch, store.uplink, store.event) == (1, 4, 2)
    assert again.names == store.names
    write(again, range(4, 6), "b")
    assert (again.uplink, again.names.routes) == (6, {(): 0, ("a", "b"): 1, ("b",): 2})
    again.close()


def test_eight_small_blocks_become_one(store: Store) -> None:
    for number in range(1, 8):
        write(store, range(number, number + 1), "a")
        assert not store.merge()
    write(store, range(8, 9), "a")
    assert store.merge()
    assert (rows(store), rows(store, "ends")) == ([(1, 8)], [(1, 8)])
    assert not store.merge()


def test_blocks_of_uplinks_are_not_joined_over_a_gap(store: Store) -> None:
    for number in range(1, 17):
        write(store, range(number, number + 1), "a", received=1 if number == 8 else NOW)
    assert store.forget(2)
    while store.merge():
        pass
    assert rows(store) == [(one, 1) for one in range(1, 8)] + [(9, 8)]


def test_a_record_is_packed_a_few_times_at_most_however_slowly_they_come(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = 0
    replace = Store._replace

    def count(self: Store, table: str, idents: list[int]) -> None:
        nonlocal packed
        before = dict(rows(store, table))
        packed += sum(before[ident] for ident in idents)
        replace(self, table, idents)

    monkeypatch.setattr(Store, "_replace", count)
    for number in range(1, 1001):
        write(store, range(number, number + 1), "a")
        while store.merge():
            pass
    assert len(rows(store)) < 40
    assert packed < 2 * 4 * 1000
    assert sum(number for _, number in rows(store)) == 1000


def test_the_oldest_goes_first_and_events_when_nothing_else_is_left(store: Store) -> None:
    for start in range(1, 100, 5):
        write(store, range(start, start + 5), "a", received=NOW + start * 1000)
    kept = []
    while store.drop_oldest():
        kept.append((len(rows(store)), len(rows(store, "ends"))))
    # The ends are older here.
    assert kept[0] == (20, 12)
    assert kept[2:5] == [(20, 0), (12, 0), (4, 0)]
    assert kept[-1] == (0, 0)
    assert store._db.execute("SELECT count(*) FROM event").fetchone() == (0,)


def test_a_damaged_file_is_told_from_a_disk_that_fails() -> None:
    def error(code: int) -> sqlite3.DatabaseError:
        made = sqlite3.DatabaseError("x")
        made.sqlite_errorcode = code
        return made

    assert schema.damaged(error(sqlite3.SQLITE_CORRUPT))
    assert schema.damaged(error(sqlite3.SQLITE_CORRUPT_VTAB))
    assert schema.damaged(schema.NotOursError("x"))
    for code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_BUSY):
        assert not schema.damaged(error(code))
    assert not schema.damaged(OSError(5, "x"))


def test_what_is_moved_aside_keeps_its_log_and_never_covers_another(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    names = []
    for number in range(3):
        for suffix in ("", "-wal"):
            file.with_name(f"history.db{suffix}").write_text(f"{number}{suffix}")
        names.append(schema.move_aside(file, "T").name)
    assert names == ["history.db.damaged-T", "history.db.damaged-T-2", "history.db.damaged-T-3"]
    assert [(tmp_path / f"{name}-wal").read_text() for name in names] == ["0-wal", "1-wal", "2-wal"]
    assert not file.exists()
