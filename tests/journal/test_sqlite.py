"""The SQLite journal: conformance, and what is its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mqttbridge.journal.sqlite import SqliteJournal
from tests.journal.conformance import JournalConformance, OpenJournal
from tests.journal.samples import FixedClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def open_journal(tmp_path: Path) -> AsyncIterator[OpenJournal]:
    opened: list[SqliteJournal] = []

    async def open_(**options: object) -> SqliteJournal:
        chosen = {"max_size": 2**30, "when_full": "block", "clock": FixedClock()} | options
        journal = await SqliteJournal.open(tmp_path / "state", **chosen)
        opened.append(journal)
        return journal

    yield open_
    for journal in opened:
        await journal.close()


class TestSqliteJournal(JournalConformance):
    """The suite that every journal passes."""
