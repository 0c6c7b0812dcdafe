"""The mark of a replayed document: where it stands, and that nothing else is changed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.control.replayed import is_replay, mark
from mqttbridge.formats.shape import shape
from mqttbridge.model import DocumentKind
from tests.journal.samples import uplink

UPLINK = DocumentKind.UPLINK


@pytest.mark.parametrize(
    ("body", "marked"),
    [
        (b'{"DevEUI_uplink": {"FCntUp": 1.50} }', b'{"DevEUI_uplink": {"Replayed":true,"FCntUp": 1.50} }'),
        (b'\n{ "DevEUI_uplink" :{ } }', b'\n{ "DevEUI_uplink" :{ "Replayed":true} }'),
        (b'{"object": {"a": 1}}', b'{"Replayed":true,"object": {"a": 1}}'),
        (b"{}", b'{"Replayed":true}'),
        (b'{"DevEUI_uplink": 3}', b'{"Replayed":true,"DevEUI_uplink": 3}'),
        (b'{"x":{"a":1},"DevEUI_uplink":{"a":1}}', b'{"x":{"a":1},"DevEUI_uplink":{"Replayed":true,"a":1}}'),
        (b'{"DevEUI_uplink":{"Replayed":true,"a":1}}', b'{"DevEUI_uplink":{"Replayed":true,"a":1}}'),
        (b'{"DevEUI_uplink":{"a":1,"Replayed":"x"}}', b'{"DevEUI_uplink":{"Replayed":true,"a":1}}'),
    ],
)
def test_the_mark_is_the_first_member_and_stands_once(body: bytes, marked: bytes) -> None:
    assert mark(body, UPLINK) == marked
    assert mark(marked, UPLINK) == marked, "never twice"


def test_a_report_is_marked_within_its_own_root() -> None:
    body = b'{"DevEUI_location": {"DevLAT": "1.0"}}'
    assert mark(body, DocumentKind.LOCATION) == b'{"DevEUI_location": {"Replayed":true,"DevLAT": "1.0"}}'


@pytest.mark.parametrize("body", [b"", b"[1]", b"3", b'{"a":', b"{" * 100_000, b"null"])
def test_what_is_no_object_cannot_be_marked(body: bytes) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        mark(body, UPLINK)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.text(max_size=8) | st.sampled_from(["Replayed", "DevEUI_uplink"]), values, max_size=4)


@given(documents, st.booleans(), st.sampled_from([None, 2]))
def test_all_else_stays_as_it_was(document: dict[str, object], rooted: bool, indent: int | None) -> None:
    whole = {"DevEUI_uplink": document} if rooted else document
    found = json.loads(mark(json.dumps(whole, indent=indent).encode(), UPLINK))
    inner = whole.get("DevEUI_uplink")
    if isinstance(inner, dict):
        assert found == whole | {"DevEUI_uplink": inner | {"Replayed": True}}
        assert next(iter(found["DevEUI_uplink"])) == "Replayed"
    else:
        assert found == whole | {"Replayed": True}
        assert next(iter(found)) == "Replayed"


def test_the_mark_goes_with_the_metadata_and_not_with_the_decoded_payload() -> None:
    body = mark(b'{"DevEUI_uplink": {"FPort": 1, "payload": {"t": 20}}}', UPLINK)
    replayed = uplink(1, body=body)
    sent = shape(replayed, send_metadata=True, send_raw_decoded=False)
    assert sent == b'{"Replayed":true,"FPort": 1, "payload": {"t": 20}}'
    assert shape(replayed, send_metadata=False, send_raw_decoded=True) == b'{"t": 20}'


def test_a_replay_and_a_retry_are_told_by_their_origin() -> None:
    assert is_replay("replay of the uplink received 2026-01-01T00:00:00.000+00:00")
    assert is_replay("retry of the parked uplink received 2026-01-01T00:00:00.000+00:00")
    assert not is_replay("POST from 10.0.0.7, Token verified")
