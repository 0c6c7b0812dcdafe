"""One body, many documents."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.errors import DocumentError
from mqttbridge.formats.batch import MAX_DOCUMENTS, split


def refusal(body: bytes, *, ndjson: bool = False) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        split(body, ndjson=ndjson)
    return caught.value


def test_one_document_is_given_as_it_is() -> None:
    assert split(b'\xef\xbb\xbf {"a": 1.0}\n', ndjson=False) == [b'{"a": 1.0}']
    assert split(b"not JSON", ndjson=False) == [b"not JSON"]


def test_an_array_is_cut_without_touching_its_documents() -> None:
    assert split(b'[ {"a": 1.0 },\n{"b":"]},["}, 7]', ndjson=False) == [b'{"a": 1.0 }', b'{"b":"]},["}', b"7"]


def test_ndjson_is_cut_at_line_ends_and_blank_lines_are_passed_by() -> None:
    assert split(b'\n{"a": 1}\r\n\n  \n {"b": 2}', ndjson=True) == [b'{"a": 1}', b'{"b": 2}']
    assert split(b"[1]\n[2]", ndjson=True) == [b"[1]", b"[2]"]


@pytest.mark.parametrize(
    ("body", "ndjson"), [(b"", False), (b" \n", False), (b"[]", False), (b"", True), (b"\n \n", True)]
)
def test_where_nothing_is_there_it_says_so(body: bytes, *, ndjson: bool) -> None:
    assert "empty" in str(refusal(body, ndjson=ndjson))


@pytest.mark.parametrize(
    ("body", "index"),
    [
        (b"[x]", 0),
        (b'[{"a":[1,2,{"b":3,"c":4}]},{"d" 1}]', 1),
        (b'["a,b","\\",",{}, }]', 3),
        (b"[1,2", 1),
        (b"[1,2,", 2),
        (b"[1,2,]", 2),
        (b'[1,"', 1),
        (b"[1] 2", None),
    ],
)
def test_a_broken_array_is_refused_with_the_index(body: bytes, index: int | None) -> None:
    error = refusal(body)
    assert error.index == index
    assert str(error)


def test_a_deep_array_is_refused() -> None:
    assert "deep" in str(refusal(b"[" * 100_000 + b"]" * 100_000))


def test_the_number_of_documents_is_bounded() -> None:
    assert len(split(b"1\n" * MAX_DOCUMENTS, ndjson=True)) == MAX_DOCUMENTS
    assert len(split(b"[1" + b",1" * (MAX_DOCUMENTS - 1) + b"]", ndjson=False)) == MAX_DOCUMENTS
    assert "fewer" in str(refusal(b"1\n" * (MAX_DOCUMENTS + 1), ndjson=True))
    assert "fewer" in str(refusal(b"[1" + b",1" * MAX_DOCUMENTS + b"]"))


@given(st.lists(st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=5), min_size=1))
def test_what_was_put_together_is_cut_apart_again(values: list[object]) -> None:
    assert [json.loads(raw) for raw in split(json.dumps(values).encode(), ndjson=False)] == values
    lines = "\n".join(map(json.dumps, values)).encode()
    assert [json.loads(raw) for raw in split(lines, ndjson=True)] == values


@given(
    st.binary() | st.binary().map(lambda raw: b"[" + raw) | st.text(alphabet='[]{},"1:\\ ').map(str.encode),
    st.booleans(),
)
def test_any_bytes_are_cut_or_refused(body: bytes, ndjson: bool) -> None:
    try:
        documents = split(body, ndjson=ndjson)
    except DocumentError:
        return
    assert documents
    assert all(document in body for document in documents)
