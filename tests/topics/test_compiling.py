"""Which patterns are taken, and what is said about the others."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mqttbridge.errors import PatternError
from mqttbridge.topics import MAX_TOPIC_BYTES, compile_pattern

ALPHABET = st.one_of(
    st.sampled_from(["{", "}", "<", ">", "'", '"', "|", "[", "]", "(", ")", "$", "$..", "@", "?", ".", "/", "+", "#"]),
    st.sampled_from(["DevEUI", "{DevEUI}", "tags", "\\", "1e99999", "99999999999999999999", "*", "==", "match", ":"]),
    st.characters(),
)


@pytest.mark.parametrize(
    ("text", "subscription"),
    [
        ("mqtt/things/{DevEUI}/uplink", "mqtt/things/+/uplink"),
        ("mqtt/things/<DevEUI>/uplink", "mqtt/things/+/uplink"),
        ("dev-{DevEUI}-up/a", "+/a"),
        ("$aws/rules/up/{CustomerData.name}", "$aws/rules/up/+"),
        ("a/{$..tags[0]}", "a/+"),
        ("a/{$['x/y']}/b", "a/+/b"),
        ("a/{$[?@.a > 1 || @.b == '}'].c}/b", "a/+/b"),
        ("a/<$[?@.a > 1].c>/b", "a/+/b"),
        ("a/{x|y.z|'none'}", "a/+"),
        ("a/{ DevEUI }", "a/+"),
        ("{a}{b}/{c}", "+/+"),
        ("/a//b/", "/a//b/"),
        ("no placeholder", "no placeholder"),
    ],
)
def test_each_level_with_a_placeholder_is_a_plus_in_the_subscription(text: str, subscription: str) -> None:
    assert compile_pattern(text).subscription == subscription


@pytest.mark.parametrize(
    ("text", "says", "position"),
    [
        ("", "empty", 0),
        ("a/{DevEUI", "not closed", 2),
        ("a/<DevEUI", "not closed", 2),
        ("a/{DevEUI>", "not closed", 2),
        ("a/{a{b}}", "not closed", 2),
        ("a/DevEUI}", "never opened", 8),
        ("a/DevEUI>", "never opened", 8),
        ("a/{}", "is empty", 2),
        ("a/< >", "is empty", 2),
        ("a/+/b", "wildcard", 2),
        ("a/#", "wildcard", 2),
        ("a\x00b", "U+0000", 1),
        ("a\nb", "U+000A", 1),
        ("a\x85b", "U+0085", 1),
        ("a\ud800", "U+D800", 1),
        ("a\uffff", "U+FFFF", 1),
        ("a\U0010fffe", "U+10FFFE", 1),
        ("a/{$..tags[}", "not closed", 2),
        ("a/{$..[}]}", "not a JSONPath", 3),
        ("a/{$.tags[01]}", "not a JSONPath", 3),
        ("a/{$.nope(}", "not closed", 2),
        ("a/{$[?nope(@.a)]}", "not a JSONPath", 3),
        ("a/{$[?@.a==1e99999999]}", "not a JSONPath", 3),
        ("a/{a|}", "between two |", 5),
        ("a/{|a}", "between two |", 3),
        ("a/{a..b}", "empty name", 3),
        ("a/{a.}", "empty name", 3),
        ("a/{a b}", "JSONPath", 3),
        ("a/{a/b}", "JSONPath", 3),
        ("a/{'none'}", "names no field", 2),
        ("a/{'none'|a}", "put it last", 2),
        ("a/{a|''}", "empty", 5),
        ("a/{a|'x/y'}", "holds /", 5),
        ("a/{a|'+'}", "holds +", 5),
        ("a/{a|'x'y}", "put a |", 5),
        ("a/{a|'x}", "quote", 5),
        ("a/{deveui}", "did you mean DevEUI", 3),
        ("a/{devEUI}", "did you mean DevEUI", 3),
        ("$share/g/a/{DevEUI}", "$share", 0),
        ("{a}" * 65, "placeholders", 192),
        ("{" + "a" * 1025 + "}", "1024", 0),
        ("a" * 65536, "65535", 0),
        ("é" * 40000, "80000", 0),
        ("é" * 32760 + "{DevEUI}", "65536", 0),
    ],
)
def test_a_pattern_that_cannot_work_is_refused_with_a_sentence_and_a_place(text: str, says: str, position: int) -> None:
    with pytest.raises(PatternError) as caught:
        compile_pattern(text)
    assert says in str(caught.value)
    assert abs(caught.value.position - position) <= (8 if says == "not a JSONPath" else 0)
    assert str(caught.value).isprintable()


def test_the_longest_topic_that_fits_is_taken() -> None:
    assert len(compile_pattern("a" * (MAX_TOPIC_BYTES - 16) + "{DevEUI}").text) == MAX_TOPIC_BYTES - 8


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a/b", True),
        ("a/{DevEUI}/<DevEUI>", True),
        ("a/{DevEUI|'never'}", True),
        ("a/{DevEUI}/{x}", False),
        ("a/{x|DevEUI}", False),
        ("a/{$.DevEUI}", False),
    ],
)
def test_plain_means_that_the_dev_eui_is_all_it_needs(text: str, *, plain: bool) -> None:
    assert compile_pattern(text).plain is plain


@given(st.lists(ALPHABET, max_size=30).map("".join))
@example("{$" + "[?" * 300 + "}")
@example("{$[?" + "(" * 900 + "}")
@example("{$[?" + "!(" * 400 + "@.a" + ")" * 400 + "]}")
@example("{$[" + "9" * 1000 + "]}")
@example("{'\\'}")
@example("{a|'\\'}")
def test_no_text_crashes_the_compiler(text: str) -> None:
    with contextlib.suppress(PatternError):
        pattern = compile_pattern(text)
        assert pattern.subscription.count("/") == len(pattern.levels) - 1
        pattern.leads_back()
        pattern.match(text)
