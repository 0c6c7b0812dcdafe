"""What a document makes of a pattern, and that no value leaves its level."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mqttbridge.errors import TopicError
from mqttbridge.topics import MAX_TOPIC_BYTES, compile_pattern

DEV_EUI = "0018B20000000B20"
DOCUMENT = {
    "DevEUI_uplink": {
        "DevEUI": "00-18-b2-00-00-00-0b-20",
        "CustomerID": "100000001",
        "FPort": 2,
        "LrrSNR": -7.5,
        "Late": False,
        "Nothing": None,
        "Empty": "",
        "CustomerData": {"name": "Cellar", "tags": ["First", "Second"], "loc": {"lat": 1.5}},
        "Lrrs": {"Lrr": [{"Lrrid": "69606FD0"}, {"Lrrid": "65746869"}]},
        "x/y": "slash",
    },
}


def render(pattern: str, document: Any = DOCUMENT) -> str:  # noqa: ANN401  any JSON value
    return compile_pattern(pattern).render(DEV_EUI, lambda: document)


def attempt(pattern: str, document: Any) -> str | None:  # noqa: ANN401  any JSON value
    try:
        return render(pattern, document)
    except TopicError as error:
        if not str(error).isprintable():
            raise AssertionError(str(error)) from error
        return None


def refusal(pattern: str, document: Any = DOCUMENT) -> str:  # noqa: ANN401  any JSON value
    with pytest.raises(TopicError) as caught:
        render(pattern, document)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("a/{DevEUI}/b", f"a/{DEV_EUI}/b"),
        ("<DevEUI>", DEV_EUI),
        ("dev-{DevEUI}-up/{DevEUI}", f"dev-{DEV_EUI}-up/{DEV_EUI}"),
        ("a/{CustomerData.name}", "a/Cellar"),
        ("a/{DevEUI_uplink.CustomerData.name}", "a/Cellar"),
        ("a/{CustomerData.tags.1}", "a/Second"),
        ("a/{Lrrs.Lrr.0.Lrrid}", "a/69606FD0"),
        ("a/{FPort}", "a/2"),
        ("a/{LrrSNR}", "a/-7.5"),
        ("a/{Late}", "a/false"),
        ("a/{$..tags[0]}", "a/First"),
        ("a/{$.CustomerID}", "a/100000001"),
        ("a/{$.DevEUI_uplink.CustomerID}", "a/100000001"),
        ("a/{$['DevEUI_uplink']['x/y']}", "a/slash"),
        ("a/{$..Lrr[?@.Lrrid == '65746869' || @.x > 1].Lrrid}", "a/65746869"),
        ("a/{DevEUI_uplink.DevEUI}/{$..DevEUI}", f"a/{DEV_EUI}/{DEV_EUI}"),
        ("a/{Missing|Nothing|'none'}", "a/none"),
        ("a/{Missing|CustomerID|'none'}", "a/100000001"),
        ("a/{Missing|DevEUI}", f"a/{DEV_EUI}"),
        ("a/{$..nope|CustomerData.tags.7|CustomerData.tags.0}", "a/First"),
        ("a/{x|'it\\'s'}", "a/it's"),
        ("$aws/rules/{FPort}", "$aws/rules/2"),
        ("/{FPort}//", "/2//"),
    ],
)
def test_a_pattern_is_filled_from_the_document(pattern: str, topic: str) -> None:
    assert render(pattern) == topic


def test_a_path_prefers_the_content_and_a_jsonpath_the_whole_document() -> None:
    document = {"a": {"a": "inner", "b": "content"}}
    assert render("{a}", document) == "inner"
    assert render("{$..a|'none'}", {"a": {"a": {"a": "deep"}, "b": 1}, "c": 1} | {"a": "outer"}) == "outer"
    assert render("{$.b}", document) == "content"
    assert render("{b}", {"a": {"b": "inside"}, "b": "outside"}) == "outside"


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("a/{Missing}", "no value"),
        ("a/{Nothing}", "no value"),
        ("a/{CustomerData.tags.2}", "no value"),
        ("a/{CustomerData.tags.-1}", "no value"),
        ("a/{CustomerData.tags.99999999999999999999}", "no value"),
        ("a/{CustomerData.name.0}", "no value"),
        ("a/{CustomerData}", "an object"),
        ("a/{CustomerData.tags}", "an array"),
        ("a/{CustomerData|'none'}", "an object"),
        ("a/{Empty}", "empty"),
        ("a/{Empty|'none'}", "empty"),
    ],
)
def test_what_gives_no_topic_level_is_refused_by_name(pattern: str, says: str) -> None:
    assert says in refusal(pattern)


@pytest.mark.parametrize(
    "code", [*b"/+#", 0, 0x1F, 0x7F, 0x80, 0x9F, 0xD800, 0xDFFF, 0xFDD0, 0xFFFE, 0x1FFFF, 0x10FFFE]
)
def test_a_value_that_is_not_one_level_is_refused_and_not_shown_raw(code: int) -> None:
    bad = chr(code)
    reason = refusal("a/{v}", {"v": "x" * 10 + bad + "y" * 100})
    assert "y" * 60 not in reason
    assert f"U+{code:04X}" in reason or bad in "/+#"
    assert refusal("a/{$.v}", {"v": bad})


@pytest.mark.parametrize("value", [1e300, float("inf"), float("nan"), pytest.param(10**5000, id="huge")])
def test_a_number_that_is_no_topic_level_is_refused(value: float) -> None:
    refusal("a/{v}", {"v": value})


def test_a_value_must_not_make_the_topic_start_with_a_dollar() -> None:
    assert "start with $" in refusal("{v}/a", {"v": "$SYS"})
    assert render("a/{v}", {"v": "$SYS"}) == "a/$SYS"


def test_a_topic_has_65535_bytes_at_most() -> None:
    assert len(render("a/{v}", {"v": "é" * 32766 + "x"}).encode()) == MAX_TOPIC_BYTES
    assert "65536" in refusal("a/{v}", {"v": "é" * 32767})


def test_a_plain_pattern_never_asks_for_the_document() -> None:
    def never() -> NoReturn:
        raise AssertionError

    assert compile_pattern("a/{DevEUI}/b").render(DEV_EUI.lower(), never) == f"a/{DEV_EUI}/b"


@pytest.mark.parametrize("dev_eui", ["", "0018B20000000B2", "0018B20000000B2/", "0018B20000000B20\n", "\uff10" * 16])
def test_a_dev_eui_that_is_none_is_refused(dev_eui: str) -> None:
    with pytest.raises(TopicError, match="16 hex digits"):
        compile_pattern("a/{DevEUI}").render(dev_eui, dict)


@pytest.mark.parametrize("body", [b"{", b'{"a": 1e999}', b'{"a": "\xff"}', b'{"a":' * 100000])
def test_a_document_that_cannot_be_decoded_parks_the_uplink(body: bytes) -> None:
    with pytest.raises(TopicError, match="cannot be decoded"):
        compile_pattern("a/{x}").render(DEV_EUI, lambda: msgspec.json.decode(body))


def test_a_document_too_deep_for_jsonpath_parks_the_uplink() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = {"a": deep}
    assert "cannot be worked out" in refusal("a/{$..nope}", deep)


HOSTILE = st.one_of(
    st.text(max_size=20),
    st.text(alphabet=st.sampled_from("/+#$ab\x00\x1f\x7f\x85\ud800\ufffe\uffff\U0001fffe{}<>"), max_size=8),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=4),
)
TREES = st.recursive(
    HOSTILE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


@settings(max_examples=200, deadline=None)
@given(st.lists(TREES, min_size=10, max_size=10))
@example(["/", "+", "#", "a/b", "\x00", "", "$", "\ufdd0", "a" * 70000, 1e300])
def test_no_value_ever_leaves_its_level(values: list[Any]) -> None:
    patterns = [compile_pattern(text) for text in ("p/{v}/s", "{v}", "p-{v}-{v}/{$..v}", "{$.v|w|'none'}/x")]
    for value in values:
        for pattern in patterns:
            topic = attempt(pattern.text, {"DevEUI_uplink": {"v": value, "w": 1}})
            if topic is None:
                continue
            assert topic.count("/") == pattern.text.count("/")
            assert not re.search(r"[+#\x00]", topic)
            assert not any(unicodedata.category(char) in {"Cc", "Cs"} for char in topic)
            assert not topic.startswith("$")
            assert all(topic.split("/"))
            assert len(topic.encode()) <= MAX_TOPIC_BYTES
            assert pattern.match(topic) is not None


@given(st.dictionaries(st.text(max_size=3), TREES, max_size=3))
def test_no_document_crashes_the_renderer(document: dict[str, Any]) -> None:
    for text in (
        "{a}/{$..*}",
        "{$[?match(@.a, '[a-z]*')]}",
        "{$[?length(@) > 2 && search(@, @)]}",
        "{a.0.b|$[0][-1:]}",
    ):
        attempt(text, document)
