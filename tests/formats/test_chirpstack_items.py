"""Ids of queue items: what goes in comes back, and only from ours."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.formats.chirpstack_items import correlation_of, item_id

hex16 = st.text("0123456789abcdefABCDEF", min_size=16, max_size=16)


@given(hex16, st.text("0123456789abcdef", min_size=16, max_size=16))
def test_the_correlation_id_travels_in_a_uuid_of_version_8(correlation_id: str, key: str) -> None:
    item = item_id(correlation_id, key)
    assert (uuid.UUID(item).version, uuid.UUID(item).variant) == (8, uuid.RFC_4122)
    assert correlation_of(item) == correlation_of(item.upper()) == correlation_id.lower()


@given(st.one_of(st.uuids(version=4).map(str), st.text(max_size=40)))
def test_other_ids_have_none(item: str) -> None:
    assert correlation_of(item) == ""


def test_two_downlinks_with_one_correlation_id_have_two_ids() -> None:
    assert item_id("00000000000000aa", "0" * 16) != item_id("00000000000000aa", "1" * 16)
