"""The memory of fingerprints: bounded in number, bytes and age, and the same as a plain model of it."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mqttbridge.journal import seen as seen_module
from mqttbridge.journal.seen import LIMIT, LONGEST, Seen, Sieve, pack, unpack
from mqttbridge.model import Entry
from tests.journal.samples import uplink

LARGE = 2**40
MIB = 2**20


def entry(fingerprint: int, received: int = 0, window: int = 100) -> Entry:
    return Entry(replace(uplink(1, received=received), fingerprint=fingerprint), ("a",), window)


def store(seen: Seen, seq: int, now: int, *entries: Entry) -> list[int]:
    """Store an append as the writer does."""
    sieve = Sieve(seen, now)
    places = sieve.sift(entries)
    sieve.take()
    row = sieve.row(seq)
    if row is not None:
        seen.apply(row)
    return places


def held(seen: Seen) -> set[int]:
    """Give all that it knows."""
    return {fingerprint for part in seen._parts for fingerprint in part.moments}


def fill(seen: Seen, rows: int, each: int, first: int = 0) -> None:
    for number in range(first, first + rows):
        prints = list(range(2**62 + number * each, 2**62 + (number + 1) * each))
        seen.forget(seen.outdated(0, len(prints)))
        seen.add(number + 1, 0, prints)


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_what_is_packed_is_8_bytes_each_and_comes_back(numbers: list[int]) -> None:
    blob = pack(numbers)
    assert blob == b"".join(number.to_bytes(8, "little") for number in numbers)
    assert unpack(blob) == numbers


@pytest.mark.parametrize(
    ("received", "now", "copy"),
    [(0, 0, True), (100, 100, True), (101, 101, False), (-5000, 1, True), (50, -100, True), (-101, -101, False)],
)
def test_a_copy_is_what_was_stored_no_longer_than_the_window_ago(received: int, now: int, *, copy: bool) -> None:
    seen = Seen(LARGE)
    store(seen, 1, 0, entry(5))
    assert Sieve(seen, now).sift([entry(5, received)]) == ([0] if copy else [])


@pytest.mark.parametrize("later", [500, LONGEST // 2])
def test_what_is_stored_again_counts_from_then_on(later: int) -> None:
    seen = Seen(LARGE)
    store(seen, 1, 0, entry(5), entry(6))
    assert store(seen, 2, later, entry(5, later)) == []
    assert (seen.moment(5), seen.moment(6), seen.moment(7)) == (later, 0, None)
    seen.forget(1)
    assert seen.moment(5) == later
    seen.forget(2)
    assert (held(seen), seen.number, seen.size, seen.last) == (set(), 0, 0, 0)


def test_what_was_sifted_and_not_taken_is_not_seen() -> None:
    sieve = Sieve(Seen(LARGE), 0)
    assert sieve.sift([entry(5), entry(5)]) == [1]
    assert sieve.sift([entry(5)]) == []
    sieve.take()
    assert sieve.sift([entry(5)]) == [0]
    assert sieve.sift([entry(0), entry(0)]) == []
    sieve.take()
    row = sieve.row(9)
    assert row is not None
    assert row.prints == [5]
    assert Sieve(Seen(LARGE), 0).row(9) is None


def test_what_has_more_than_64_bits_cannot_be_packed() -> None:
    with pytest.raises(OverflowError):
        pack([2**64])


def test_what_is_older_than_a_day_is_forgotten() -> None:
    """By the quarter of a day."""
    seen = Seen(LARGE)
    hour = LONGEST // 24
    for seq in range(1, 100):
        store(seen, seq, seq * hour, entry(seq, seq * hour))
        assert set(range(max(1, seq - 23), seq + 1)) <= held(seen)
        assert len(held(seen)) <= 31
    assert seen.outdated(99 * hour) == 0
    assert seen.outdated(125 * hour) == 99


def test_a_clock_that_is_set_to_and_fro_does_not_make_it_grow() -> None:
    seen = Seen(LARGE)
    for seq in range(1, 200):
        store(seen, seq, seq % 2 * LONGEST // 2, entry(seq))
    assert 10 <= seen.number <= 20
    assert 199 in held(seen)


@pytest.mark.parametrize("each", [1, 700])
def test_the_newest_are_held_and_no_more_than_the_limit(each: int) -> None:
    seen = Seen(LARGE)
    rows = LIMIT * 2 // each
    for first in range(0, rows, 10):
        fill(seen, 10, each, first)
        assert seen.number <= LIMIT
    newest = 2**62 + rows * each
    assert set(range(newest - LIMIT * 3 // 4, newest)) <= held(seen)
    assert seen.number == len(held(seen))
    assert seen.moment(newest - 1) == 0


@pytest.mark.parametrize("each", [1, 20])
@pytest.mark.parametrize("max_size", [64 * 1024, MIB])
def test_in_a_small_journal_they_take_a_sixteenth_of_it(max_size: int, each: int) -> None:
    seen = Seen(max_size)
    for first in range(2000):
        fill(seen, 1, each, first)
        assert seen.size <= max_size // 16
    assert seen.size > max_size // 16 * 0.75


def test_a_transaction_of_too_many_leaves_what_there_is_room_for() -> None:
    seen = Seen(64 * 1024)
    store(seen, 1, 0, *(entry(number) for number in range(1, 2000)))
    assert 0 < seen.number == seen.most <= 64 * 1024 // 16 // 8
    store(seen, 2, 0, *(entry(number) for number in range(3000, 5000)))
    assert seen.number == seen.most
    assert min(held(seen)) >= 3000


def test_memory_stays_below_16_mib_in_the_worst_case() -> None:
    """One uplink a transaction, and as many as fit three times over."""
    tracemalloc.start()
    try:
        seen = Seen(LARGE)
        for number in range(LIMIT * 5 // 2):
            # Each moment is an object of its own.
            seen.forget(seen.outdated(0, 1))
            seen.add(number + 1, 1_000 + number, [2**62 + number])
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert LIMIT * 3 // 4 <= seen.number <= LIMIT
    assert used < 16 * MIB, used


steps = st.lists(
    st.tuples(st.integers(0, 60), st.lists(st.tuples(st.integers(0, 12), st.sampled_from([0, 50, 100])), max_size=6)),
    max_size=30,
)


@given(steps, st.integers(1, 20))
def test_any_order_of_appends_finds_what_a_plain_list_finds(
    sequence: list[tuple[int, list[tuple[int, int]]]], limit: int
) -> None:
    """The model: (fingerprint, moment) in order. What the bound has let go of may be missed, nothing else."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(seen_module, "LIMIT", limit)
        seen = Seen(LARGE)
        now = 0
        model: dict[int, int] = {}
        for seq, (later, batch) in enumerate(sequence, 1):
            now += later
            entries = [entry(fingerprint, now, window) for fingerprint, window in batch]
            known = {fingerprint: seen.moment(fingerprint) for fingerprint in model}
            assert all(moment in (None, model[fingerprint]) for fingerprint, moment in known.items())
            model = {fingerprint: moment for fingerprint, moment in known.items() if moment is not None}
            expected = []
            for place, (fingerprint, window) in enumerate(batch):
                if fingerprint and window and fingerprint in model and now - model[fingerprint] <= window:
                    expected.append(place)
                elif fingerprint:
                    model[fingerprint] = now
            assert store(seen, seq, now, *entries) == expected
            assert len(held(seen)) <= seen.number <= limit
