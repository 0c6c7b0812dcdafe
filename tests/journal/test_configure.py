"""A journal that gets another size, or another way of being full, while it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from mqttbridge.errors import JournalFailed, JournalFull
from mqttbridge.journal import writer
from tests.journal.samples import drain, entries, until
from tests.journal.test_faults import IO_ERRORS, WORK, Disk
from tests.journal.test_parked import KIB, MIB, fill, opened

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_full_journal_that_may_be_larger_takes_uplinks_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size=64 * KIB) as journal:
        number = await fill(journal, "a")
        assert "full" in journal.health().problem
        await journal.configure(max_size=MIB, when_full="block")
        assert journal.health().problem == ""
        assert journal.health().max_size == MIB
        await journal.append(entries(range(100), "a", size=1100))
        assert journal.counts()["a"].queued == number + 100
        await journal.configure(max_size=64 * KIB, when_full="block")
        with pytest.raises(JournalFull, match="of 65536 bytes"):
            await journal.append(entries([1], "a"))
        await drain(journal, "a")
        await journal.append(entries([1], "a"))
        await until(lambda: journal.health().problem == "")


async def test_a_smaller_journal_drops_its_oldest_with_the_next_uplink_if_it_shall(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size=16 * MIB) as journal:
        await journal.append(entries(range(2000), "a", size=1100))
        await journal.configure(max_size=MIB, when_full="drop-oldest")
        assert journal.counts()["a"].queued == 2000
        await journal.append(entries([2000], "a", size=1100))
        assert journal.health().size <= MIB
        left = await drain(journal, "a")
        assert left == list(range(2001 - len(left), 2001))
        assert len(left) > 100


async def test_to_drop_the_oldest_from_now_on_ends_the_complaint(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size=64 * KIB) as journal:
        number = await fill(journal, "a")
        await journal.configure(max_size=64 * KIB, when_full="drop-oldest")
        assert journal.health().problem == ""
        await journal.append(entries([number], "a", size=1100))
        assert journal.counts()["a"].dropped >= 1


async def test_a_size_can_be_set_while_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PROBE_EVERY", 0.02)
    disk = Disk()
    async with opened(tmp_path, connect=disk.connect) as journal:
        disk.broken = True
        disk.before[WORK] = [IO_ERRORS[0]]
        with pytest.raises(JournalFailed):
            await journal.append(entries([1], "a"))
        await asyncio.wait_for(journal.configure(max_size=MIB, when_full="block"), 5)
        disk.broken = False
        await until(lambda: not journal.health().problem)
        assert journal.health().max_size == MIB
