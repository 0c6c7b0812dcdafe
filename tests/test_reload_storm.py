"""The short form of the storm of edits; the long one is `python -m tests.reload_storm`."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.reload_storm import storm

if TYPE_CHECKING:
    from pathlib import Path

EDITS = 25


@pytest.mark.timeout(90)
async def test_random_edits_under_load_lose_nothing_and_disturb_nobody(tmp_path: Path) -> None:
    seed = random.randrange(2**32)  # noqa: S311 (to find what no other run found)
    print(f"seed {seed}")  # noqa: T201 (pytest shows it with a failure)
    outcome = await storm(tmp_path, edits=EDITS, seed=seed)
    assert outcome.accepted > EDITS
