"""Blocks give back what was packed; keys are found where they are, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.history.blocks import (
    BLOCK_BYTES,
    FULL,
    UPLINK_LIMIT,
    BlockDamagedError,
    chunks,
    device_key,
    grade,
    join,
    pack_ends,
    pack_uplinks,
    places,
    prefix,
    seqs_of,
    unpack_ends,
    unpack_uplinks,
)
from mqttbridge.model import DocumentKind

BIG = st.integers(0, 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
RECORD = st.tuples(
    BIG,
    BIG,
    st.integers(-(2**63), 2**63 - 1),
    TEXT,
    st.sampled_from(DocumentKind),
    st.none() | st.integers(0, 2**32),
    TEXT,
    st.integers(0, 99),
    st.binary(max_size=200),
)
DEVICES = st.binary(min_size=8, max_size=8)
UPLINKS = st.lists(st.tuples(DEVICES, RECORD), min_size=1, max_size=40)
ENDS = st.lists(st.tuples(BIG, st.tuples(BIG, st.integers(0, 3), BIG, BIG, TEXT, TEXT)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(UPLINKS, min_size=1, max_size=4))
def test_uplinks_come_back_as_they_were_also_from_joined_blocks(parts: list[list[tuple[bytes, tuple]]]) -> None:
    blocks = [pack_uplinks([key.hex().upper() for key, _ in part], [one for _, one in part]) for part in parts]
    block = join(blocks)
    everything = [pair for part in parts for pair in part]
    assert block.number == len(everything)
    assert unpack_uplinks(block.number, block.data) == [one for _, one in everything]
    assert block.keys == b"".join(key for key, _ in everything)
    moments = [one[1] for _, one in everything]
    assert (block.low, block.high, block.last) == (min(moments), max(moments), max(moments))
    assert block.routes == "," + ",".join(map(str, sorted({one[7] for _, one in everything}))) + ","
    assert block.size == sum(each.size for each in blocks)


@settings(max_examples=60, deadline=None)
@given(st.lists(ENDS, min_size=1, max_size=4))
def test_ends_come_back_as_they_were_also_from_joined_blocks(parts: list[list[tuple[int, tuple]]]) -> None:
    block = join([pack_ends([seq for seq, _ in part], [one for _, one in part]) for part in parts])
    everything = [pair for part in parts for pair in part]
    assert unpack_ends(block.number, block.data) == [one for _, one in everything]
    assert list(seqs_of(block.keys)) == [seq for seq, _ in everything]
    assert (block.low, block.high) == (min(seqs_of(block.keys)), max(seqs_of(block.keys)))
    assert block.last == max(one[3] for _, one in everything)


@settings(max_examples=200)
@given(st.lists(st.lists(st.integers(0, 1), min_size=8, max_size=8).map(bytes), max_size=30), st.data())
def test_a_key_is_found_at_all_its_places_and_never_between_two(keys: list[bytes], data: st.DataObject) -> None:
    # Of zeros and ones alone: there are many hits that straddle two keys.
    key = data.draw(st.lists(st.integers(0, 1), min_size=8, max_size=8).map(bytes))
    assert list(places(b"".join(keys), key)) == [place for place, one in enumerate(keys) if one == key]


@pytest.mark.parametrize("text", ["", "0018B2", "0018B20000000B2G", "0018B20000000B2000"])
def test_what_is_no_dev_eui_has_no_key(text: str) -> None:
    with pytest.raises(ValueError):
        device_key(text)


def test_a_damaged_block_is_told_of() -> None:
    block = pack_uplinks(["00" * 8], [(1, 2, 3, "s", DocumentKind.UPLINK, None, "", 0, b"{}")])
    for number, data in ((1, b"damaged"), (2, block.data), (1, block.data[:-4])):
        with pytest.raises(BlockDamagedError, match="damaged"):
            unpack_uplinks(number, data)


@given(st.lists(st.integers(0, BLOCK_BYTES * 2), max_size=50), st.integers(1, 10))
def test_chunks_hold_everything_in_order_and_not_too_much(sizes: list[int], limit: int) -> None:
    items = list(range(len(sizes)))
    cut = list(chunks(items, sizes, limit))
    assert [one for part in cut for one in part] == items
    for part in cut:
        assert 1 <= len(part) <= limit
        assert len(part) == 1 or sum(sizes[one] for one in part) <= BLOCK_BYTES


def test_eight_blocks_of_one_grade_make_one_of_a_higher() -> None:
    for number in range(1, UPLINK_LIMIT // 2):
        for size in (100 * number, 1000 * number):
            before = grade(number, size, UPLINK_LIMIT)
            if before == FULL:
                continue
            fitting = prefix([(number, size)] * 8, UPLINK_LIMIT)
            assert fitting > 1
            assert grade(fitting * number, fitting * size, UPLINK_LIMIT) > before
