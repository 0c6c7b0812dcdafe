"""The YAML reader: text stays text, places are exact, and nothing that a file holds can hurt."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.errors import ConfigError
from mqttbridge.settings import reader
from mqttbridge.settings.problems import Problems
from mqttbridge.settings.reader import Broken, Mapping, Scalar, Sequence, read


def tree(text: str) -> reader.Node | None:
    problems = Problems()
    node = read(text.encode(), "f", problems)
    problems.raise_if_any()
    return node


def recorded(problems: Problems) -> tuple[str, ...]:
    try:
        problems.raise_if_any()
    except ConfigError as error:
        return error.problems
    return ()


def refused(data: bytes | str) -> list[str]:
    problems = Problems()
    read(data.encode() if isinstance(data, str) else data, "f", problems)
    with pytest.raises(ConfigError) as caught:
        problems.raise_if_any()
    return list(caught.value.problems)


@pytest.mark.parametrize(
    "text",
    ["0011223344556677", "0123", "no", "1e3", "0x10", "1_000", "12:30:45", "2024-01-01", ".inf", "=", "true", "+1"],
)
def test_a_scalar_keeps_its_text_as_written(text: str) -> None:
    node = tree(f"a: {text}\n")
    assert isinstance(node, Mapping)
    value = node.entries["a"].node
    assert isinstance(value, Scalar)
    assert (value.text, value.plain) == (text, True)


@pytest.mark.parametrize(("text", "null"), [("", True), ("~", True), ("null", True), ("NULL", True), ("'~'", False)])
def test_only_unquoted_nothing_is_nothing(text: str, *, null: bool) -> None:
    node = tree(f"a: {text}\n")
    assert isinstance(node, Mapping)
    value = node.entries["a"].node
    assert isinstance(value, Scalar)
    assert value.null is null


def test_places_count_lines_and_characters_from_one() -> None:
    node = tree("ä: x\nb:\n  - 😀\n  - {c: d}\n")
    assert isinstance(node, Mapping)
    items = node.entries["b"].node
    assert isinstance(items, Sequence)
    inner = items.items[1]
    assert isinstance(inner, Mapping)
    assert (node.entries["ä"].node.mark.line, node.entries["ä"].node.mark.column) == (1, 4)
    assert (inner.entries["c"].node.mark.line, inner.entries["c"].node.mark.column) == (4, 9)


def test_the_three_tags_are_kept() -> None:
    node = tree("[!file a, !env b, !credential c]")
    assert isinstance(node, Sequence)
    assert [item.tag for item in node.items if isinstance(item, Scalar)] == ["file", "env", "credential"]


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    assert isinstance(tree("\ufeffa: 1\r\nb: 2\r\n"), Mapping)


def test_a_file_without_content_is_none() -> None:
    assert tree("# nothing\n") is None


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\na: 2\n", "f:2:1: a:", "second time, after line 1"),
        ("x:\n  a: 1\n  a: 2\n", "f:3:3: x.a:", "keep one"),
        ("a: &x 1\nb: *x\n", "f:1:4: a:", "aliases"),
        ("a: &x [1]\n", "f:1:4: a:", "aliases"),
        ("a: *x\n", "f:1:4: a:", "aliases"),
        ("<<: {a: 1}\n", "f:1:1:", "merge keys"),
        ("a: !fil x\n", "f:1:4: a:", "did you mean “!file”"),
        ("a: !!int 3\n", "f:1:4: a:", "only the tags"),
        ("a: !file [x]\n", "f:1:4: a:", "one name"),
        ("- [a, !!python/object:os.system x]\n", "f:1:7: [0][1]:", "only the tags"),
        ("a: 1\n---\nb: 2\n", "f:2:1:", "second document"),
        ("%YAML 1.1\n---\na: 1\n", "f:1:1:", "directives"),
        ("[a]: 1\n", "f:1:1:", "plain text"),
        ("a:\n\tb: 1\n", "f:2:1:", "not tabs"),
        ("a: [1\nb: 2\n", "f:2:2:", "not valid YAML"),
        ("hostName: [::1]:1883\n", "f:1:12:", "needs quotes"),
        ("a: @b\n", "f:1:4:", "needs quotes"),
        ("a: 'b\n", "f:2:1:", "not valid YAML"),
        ("a: \x07\n", "f:1:4:", "U+0007"),
        ("a: 1\nb: \ufeff\n", "f:2:4:", "U+FEFF"),
    ],
)
def test_what_is_refused_is_named_with_its_place(text: str, place: str, words: str) -> None:
    problems = refused(text)
    assert problems[0].startswith(place), problems
    assert words in problems[0]


def test_all_refusals_of_a_file_come_together() -> None:
    assert len(refused("a: !x 1\na: 2\nb: *c\nd: {<<: 1}\n")) == 4


@pytest.mark.parametrize("data", ["a: b".encode("utf-16"), b"a: \xff", b"a: \xed\xa0\x80"])
def test_only_utf8_is_read(data: bytes) -> None:
    assert "UTF-8" in refused(data)[0]


def test_the_place_of_a_wrong_byte_is_given() -> None:
    assert refused(b"a: 1\nb: \xff\n")[0].startswith("f:2:4:")


@pytest.mark.parametrize(
    "text", ["a: !hunter2 \n", "a: &hunter2 \n", "a: *hunter2 \n", "a: !hun!ter2 x\n", "a: %hunter2\n"]
)
def test_a_password_that_looks_like_yaml_is_not_quoted(text: str) -> None:
    assert "unter2" not in "\n".join(refused(text))


HOSTILE = {
    "brackets": b"[" * 100_000,
    "braces": b"{a: " * 100_000,
    "dashes": b"- " * 100_000,
    "questions": b"? " * 100_000,
    "indents": b"".join(b" " * n + b"a:\n" for n in range(3000)),
    "bomb": b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (n + 1, n + 1, n, n) for n in range(97, 121)),
    "directives": b"".join(b"%%TAG !a%d! x:\n" % n for n in range(200_000)),
    "escape": b'a: "\\UFFFFFFFF"',
    "surrogate": b'a: "\\uD800"',
    "values": b"[" + b"a, " * 600_000 + b"]",
    "pairs": b"a: {" + b"? a, " * 600_000 + b"}",
    "duplicates": b"a: 1\n" * 100_000,
    "newlines": b"\n" * 15_000_000,
    "scalar": b"a: '" + b"x" * 15_000_000,
    "key": b"a" * 15_000_000 + b": 1",
    "tag": b"a: !" + b"%41" * 4_000_000 + b" x",
    "large": b"#" * (reader.MAX_BYTES + 1),
    "nul": b"\0" * 1000,
}
CHILD = """
import sys, time
from mqttbridge.settings.problems import Problems
from mqttbridge.settings.reader import read
from mqttbridge.errors import ConfigError
problems = Problems()
started = time.perf_counter()
node = read(sys.stdin.buffer.read(), "f", problems)
try:
    problems.raise_if_any()
    print("read", type(node).__name__)
except ConfigError as error:
    print("refused", len(error.problems), max(map(len, error.problems)))
assert time.perf_counter() - started < 15
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_neither_crash_nor_hang(name: str) -> None:
    # In a process of its own: a crash would be a segmentation fault.
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=HOSTILE[name], capture_output=True, timeout=40, check=False
    )
    assert done.returncode == 0, done.stderr
    verdict, *rest = done.stdout.decode().split()
    assert verdict == ("read" if name == "newlines" else "refused")
    if verdict == "refused":
        assert int(rest[1]) < 2000


def test_depth_has_a_limit_and_up_to_it_all_is_well() -> None:
    assert isinstance(tree("[" * reader.MAX_DEPTH + "]" * reader.MAX_DEPTH), Sequence)
    assert "levels deep" in refused("[" * (reader.MAX_DEPTH + 1) + "]" * (reader.MAX_DEPTH + 1))[0]


YAML_LIKE = st.text(alphabet=st.sampled_from("ab:-?[]{},&*!|>'\"%@`#~<= \n\t0\\"), max_size=60)


@settings(max_examples=400, deadline=None)
@given(YAML_LIKE | st.binary(max_size=40) | st.text(max_size=40))
def test_any_input_gives_a_tree_or_problems(data: str | bytes) -> None:
    problems = Problems()
    node = read(data.encode(errors="surrogatepass") if isinstance(data, str) else data, "f", problems)
    assert node is None or isinstance(node, Scalar | Sequence | Mapping | Broken)
    found = recorded(problems)
    assert all(line.startswith("f:") and "\n" not in line for line in found)
    assert found or not isinstance(node, Broken)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a:\n  username: u\n  password:hunter2\n  x: 1\n", "f:3:11:"),
        ("a:\n  password:hunter2\n\n  x: 1\n", "f:2:11:"),
        ("a:\n  username: u\n  password:hunter2\n", "f:3:11:"),
        ("password:hunter2\nusername: x\n", "f:1:9:"),
        ("password:hunter2 # mine\nusername: x\n", "f:1:9:"),
    ],
)
def test_a_missing_blank_after_a_colon_is_told_at_its_own_line(text: str, place: str) -> None:
    (found,) = refused(text)
    assert found == f"{place} not valid YAML: a blank is missing after the colon"


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("a: b: c\n", "f:1:5:", "quote a value that holds ': '"),
        ("a: 'b' c\n", "f:1:8:", "in one pair of quotes"),
        ("a:\n  b: 1\n c: 2\n", "f:3:2:", "check the indentation of this line"),
        ("a:\n  b: 1\n   c: 2\n", "f:3:5:", "check the indentation of this line and of the one before"),
        ("a:\n  text\n  http://x\n  b: c\n", "f:4:4:", "check the indentation"),
        ("a:\n - b\n c: 1\n", "f:3:2:", "check the indentation"),
        ("a: 1\nb\nc: 2\n", "f:2:1:", "a property is a name, a colon, a blank and a value"),
        ("a: 1\nb: 'c\nd: 2\n", "f:4:1:", "the quote that begins in line 2 has no end"),
        ('a: "\\q"\n', "f:1:5:", "write single quotes"),
        ("a: - b\n", "f:1:4:", "needs quotes"),
        ("a: }b\n", "f:1:4:", "needs quotes"),
    ],
)
def test_a_syntax_error_says_what_to_look_for(text: str, place: str, hint: str) -> None:
    (found,) = refused(text)
    assert found.startswith(place), found
    assert hint in found
