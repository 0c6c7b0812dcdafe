"""How JSON nests."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.formats.outline import deeper_than, element_at_end

KEYS = st.text(alphabet='[{"\\', max_size=3)
TREES: Any = st.recursive(
    st.text(alphabet='[]{},"\\:a\n') | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(TREES, st.booleans())
def test_it_knows_how_deep_a_document_is(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    for limit in range(7):
        assert deeper_than(text, limit) is (depth(value) > limit)


@given(st.lists(TREES, min_size=1, max_size=5), st.data())
def test_it_knows_in_which_element_an_array_breaks_off(values: list[object], data: st.DataObject) -> None:
    pieces = [json.dumps(value).encode() for value in values]
    index = data.draw(st.integers(0, len(pieces) - 1))
    before = b"[" + b"".join(piece + b"," for piece in pieces[:index])
    cut = data.draw(st.integers(0, len(pieces[index])))
    broken = before + pieces[index][:cut]
    assert element_at_end(broken) == index
    assert element_at_end(b"[" + b",".join(pieces) + b"]") is None
    assert msgspec.json.decode(b"[" + b",".join(pieces) + b"]") == values


def test_megabytes_do_not_take_long() -> None:
    body = b"[" + b",".join([b'{"a":"x","b":[1,2,{"c":"d"}]}'] * 250_000) + b"]"
    started = time.perf_counter()
    assert not deeper_than(body, 64)
    assert element_at_end(body[:-1]) == 249_999
    assert time.perf_counter() - started < 3
