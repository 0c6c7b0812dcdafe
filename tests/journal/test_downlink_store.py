"""The statements by themselves: each uses its index, transactions come whole, every step of tidying is bounded."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from mqttbridge.journal import downlink_store, schema
from mqttbridge.journal.downlink_store import DownlinkStore
from mqttbridge.model import Downlink
from tests.journal.downlink_samples import DAY, NOW, device, downlink, ends, eui, query, rejected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DownlinkStore]:
    opened = DownlinkStore(tmp_path / "downlinks.db", schema.connect)
    yield opened
    opened.close()


PLANS = [
    (downlink_store.PENDING_OF, ("lrc", 0, 9), "USING INDEX downlink_pending (source=? AND seq>?)"),
    (downlink_store.RECEIPTS_OF, ("a", 0, 9), "USING INDEX downlink_receipt (connection=? AND seq>?)"),
    (downlink_store.FORMER_KEY, ("a", 1, "00", 0), "USING INDEX downlink_message (connection=? AND mid=?)"),
    (downlink_store.SENDER, ("D", "c"), "downlink_sender (dev_eui=? AND correlation_id=?)"),
    (downlink_store.SENDER_BY_REFERENCE, ("D", "c"), "downlink_reference (dev_eui=? AND reference=?)"),
    (downlink_store.OLD, (0, 9), "USING INDEX downlink_ended (ended<?)"),
    (downlink_store.TOO_MANY, ("a", 9), "USING INDEX downlink_done (connection=?)"),
    (downlink_store.SOURCES, (), "INDEX downlink_pending"),
    (downlink_store.COUNT_ENDS, ("[]",), "SEARCH downlink USING INTEGER PRIMARY KEY (rowid=?)"),
    (downlink_store.CONCLUDE, (0, "[]"), "SEARCH downlink USING INTEGER PRIMARY KEY (rowid=?)"),
    (downlink_store.COUNT_RECEIPTED, ("[]",), "SEARCH downlink USING INTEGER PRIMARY KEY (rowid=?)"),
    (downlink_store.RECEIPTED, ("[]",), "SEARCH downlink USING INTEGER PRIMARY KEY (rowid=?)"),
    (downlink_store.COUNT_NEW, ("[]",), "USING COVERING INDEX sqlite_autoindex_device_1 (dev_eui=?)"),
    (downlink_store.DEVICES_AFTER, ("D", 9), "USING INDEX sqlite_autoindex_device_1 (dev_eui>?)"),
    (downlink_store.DROP_DEVICES, (1,), "SEARCH device USING INTEGER PRIMARY KEY (rowid=?)"),
]


@pytest.mark.parametrize(("sql", "arguments", "plan"), PLANS, ids=[plan for _, _, plan in PLANS])
def test_no_statement_reads_more_than_it_needs(
    store: DownlinkStore, sql: str, arguments: tuple[object, ...], plan: str
) -> None:
    steps = [row[3] for row in store._db.execute(f"EXPLAIN QUERY PLAN {sql}", arguments)]
    assert any(plan in step for step in steps), steps
    assert not any("TEMP B-TREE FOR ORDER BY" in step for step in steps), steps


def test_what_is_pending_for_a_device_is_found_among_its_downlinks_alone(store: DownlinkStore) -> None:
    plan = [row[3] for row in store._db.execute(f"EXPLAIN QUERY PLAN {downlink_store.PENDING_FOR}", ("D", 9))]
    assert any("downlink_sender (dev_eui=?)" in step for step in plan), plan
    store.begin()
    ours = {"downlink": Downlink(eui(1), 1, payload_hex="00"), "correlation": b"\x00"}
    other = [downlink(number, source="gone") for number in (7, 8)]
    store.accept([downlink(9, connection="b", **ours), *other, *(downlink(n, **ours) for n in (1, 2, 3))], NOW)
    store.accept([rejected(4)], NOW)
    store.conclude(ends([4]), NOW)
    store.commit()
    found = store.pending_of(eui(1), 100)
    assert [(one.seq, one.connection, one.key) for one in found] == [
        (1, "b", f"{9:016x}"),
        (5, "a", f"{2:016x}"),
        (6, "a", f"{3:016x}"),
    ]
    assert found[1] == next(one for one in store.pending("lrc", 0, 9) if one.seq == 5)
    assert [one.seq for one in store.pending_of(eui(1), 2)] == [1, 5]
    assert [one.source for one in store.pending_of(eui(7), 9)] == ["gone"]
    assert store.pending_of(eui(2), 9) == []


def test_devices_are_given_in_pages_by_their_deveui(store: DownlinkStore) -> None:
    store.begin()
    store.learn([device(number) for number in (5, 1, 4, 2, 3)])
    store.learn([device(1, "tts")])
    store.commit()
    pages, after = [], ""
    while page := store.devices(after, 2):
        pages.append(page)
        after = page[-1].dev_eui
    assert pages == [[device(1, "tts"), device(2)], [device(3), device(4)], [device(5)]]
    assert store.devices("", 0) == []


def test_what_is_rolled_back_leaves_no_trace(store: DownlinkStore) -> None:
    store.begin()
    store.accept([downlink(1), rejected(2)], NOW)
    assert store.commit() == {"a": (1, 1)}
    store.begin()
    store.accept([downlink(3)], NOW)
    store.conclude(ends([1]), NOW)
    store.receipted([2])
    store.learn([device(1)])
    store.rollback()
    store.rollback()
    assert store.last == 2
    assert store.load() == {"a": (1, 1)}
    assert store.device(eui(1)) is None
    store.begin()
    assert store.commit() == {}


def test_changes_of_one_transaction_are_added_up(store: DownlinkStore) -> None:
    store.begin()
    store.accept([downlink(1), downlink(2), downlink(3, connection="b"), rejected(4, None, connection="c")], NOW)
    store.conclude(ends([1, 2]), NOW)
    store.receipted([2])
    store.conclude(ends([3], silent=True), NOW)
    assert store.commit() == {"a": (0, 1)}
    assert store.load() == {"a": (0, 1)}


def test_a_seq_never_comes_twice(store: DownlinkStore, tmp_path: Path) -> None:
    store.begin()
    store.accept([downlink(1), downlink(2)], NOW)
    store.commit()
    store.undo(1)
    assert [one.seq for one in store.pending("lrc", 0, 9)] == [1]
    store.close()
    again = DownlinkStore(tmp_path / "downlinks.db", schema.connect)
    assert again.load() == {"a": (1, 0)}
    again.begin()
    again.accept([downlink(3)], NOW)
    again.commit()
    assert [one.seq for one in again.pending("lrc", 0, 9)] == [1, 3]
    again.close()


def test_each_step_of_tidying_is_bounded_and_pending_downlinks_stay(
    store: DownlinkStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlink_store, "TIDY_ROWS", 4)
    store.begin()
    store.accept([downlink(0), *(rejected(number) for number in range(1, 10))], NOW)
    store.commit()
    steps = []
    for _ in range(4):
        store.begin()
        more = store.tidy(NOW + 7 * DAY + 1)
        steps.append((more, store.commit().get("a")))
    assert steps == [(True, (0, -4)), (True, (0, -4)), (False, (0, -1)), (False, None)]
    assert store.load() == {"a": (1, 0)}


def test_it_counts_what_is_done_as_it_is(store: DownlinkStore) -> None:
    store.begin()
    store.accept([downlink(1), downlink(2), rejected(3), rejected(4, None)], NOW)
    store.conclude(ends([1], silent=True), NOW)
    store.conclude(ends([2]), NOW)
    store.receipted([2, 3])
    store.tidy(NOW)
    store.learn([device(1), device(2)])
    store.learn([device(2, "tts"), device(3)])
    store.commit()
    counted = (store._done.total(), store._devices)
    store.load()
    assert counted == (store._done.total(), store._devices) == (4, 3)


def test_a_device_learnt_again_counts_as_the_newest(store: DownlinkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downlink_store, "DEVICES", 3)
    store.begin()
    store.learn([device(1), device(2), device(3)])
    store.learn([device(1, "tts")])
    store.learn([device(4)])
    store.commit()
    assert [store.device(eui(number)) for number in range(1, 5)] == [device(1, "tts"), None, device(3), device(4)]


def test_texts_survive_whatever_is_in_them(store: DownlinkStore, tmp_path: Path) -> None:
    strange = "\x00\x01\"\\'\u2028\U0001f600 é"
    given = replace(device(1), way=strange, tags=frozenset({strange, ""}))
    store.begin()
    store.learn([given])
    store.accept([downlink(1, way=strange, correlation=bytes(range(256)))], NOW)
    store.accept([rejected(2, strange.encode() + bytes(range(256)))], NOW)
    store.commit()
    assert store.device(eui(1)) == given
    (found,) = store.pending("lrc", 0, 9)
    assert (found.way, found.correlation) == (strange, bytes(range(256)))
    (told,) = store.receipts("a", 0, 9)
    assert told.content.body == strange.encode() + bytes(range(256))
    assert query(tmp_path, "PRAGMA integrity_check") == [("ok",)]


def test_another_reader_keeps_a_strict_sync_from_being_believed(store: DownlinkStore, tmp_path: Path) -> None:
    store._db.execute("PRAGMA busy_timeout = 0")
    store.begin()
    store.accept([downlink(1)], NOW)
    store.commit()
    reader = sqlite3.connect(tmp_path / "downlinks.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM downlink").fetchone()
    store.sync(strict=False)
    with pytest.raises(sqlite3.OperationalError):
        store.sync(strict=True)
    reader.close()
    store.sync(strict=True)
