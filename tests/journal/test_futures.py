"""Who waits gets the result or the error; who went away gets nothing."""

from __future__ import annotations

import asyncio

import pytest

from mqttbridge.errors import JournalFailed
from mqttbridge.journal.futures import resolve


async def test_a_result_is_given_and_an_error_is_raised() -> None:
    loop = asyncio.get_running_loop()
    good, bad = loop.create_future(), loop.create_future()
    resolve(good, [1])
    resolve(bad, JournalFailed("the disk"))
    assert await good == [1]
    with pytest.raises(JournalFailed, match="the disk"):
        await bad


async def test_whoever_went_away_is_left_alone() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    resolve(future, 1)
    assert future.cancelled()
