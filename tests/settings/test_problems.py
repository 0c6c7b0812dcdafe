"""Problems: their order, their shape, their near misses."""

from __future__ import annotations

import pytest

from mqttbridge.errors import ConfigError
from mqttbridge.settings.problems import MAX_ERRORS, Mark, Problems, dotted, shown


def lines(problems: Problems) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        problems.raise_if_any()
    return list(caught.value.problems)


def test_problems_come_in_the_order_of_the_files() -> None:
    problems = Problems()
    problems.file("z")
    problems.file("a")
    problems.add(Mark("a", 1, 1), (), "third")
    problems.add(Mark("z", 10, 1), (), "second")
    problems.add(Mark("z", 9, 3), ("k", "[0]", "l"), "first")
    assert lines(problems) == ["z:9:3: k[0].l: first", "z:10:1: second", "a:1:1: third"]


def test_the_same_problem_is_told_once() -> None:
    problems = Problems()
    for _ in range(2):
        problems.add(Mark("a", 1, 1), ("x",), "wrong")
    assert len(lines(problems)) == 1


def test_a_problem_is_one_line_of_bounded_length() -> None:
    problems = Problems()
    problems.add(Mark("a\nb", 1, 1), ("k\n" * 999, "\x1b[31m"), "\n" * 99_999)
    (line,) = lines(problems)
    assert line.isprintable()
    assert len(line) < 3000


def test_their_number_is_bounded_and_that_is_said() -> None:
    problems = Problems()
    for number in range(MAX_ERRORS + 100):
        problems.add(Mark("a", number + 1, 1), (), "wrong")
    assert len(lines(problems)) == MAX_ERRORS + 1
    assert "many more" in lines(problems)[-1]


def test_warnings_do_not_raise() -> None:
    problems = Problems()
    problems.warn(Mark("a", 1, 2), ("k",), "old")
    problems.raise_if_any()
    assert problems.warnings() == ("a:1:2: k: old",)


@pytest.mark.parametrize(
    ("name", "near"),
    [("hostname", "hostName"), ("hostNme", "hostName"), ("HOSTNAME", "hostName"), ("zzz", None), ("x" * 10**6, None)],
)
def test_a_near_miss_is_found(name: str, near: str | None) -> None:
    assert Problems().suggest(name, ["hostName", "protocol"]) == near


def test_looking_for_near_misses_has_an_end() -> None:
    problems = Problems()
    found = [problems.suggest("hostname", ["hostName"]) for _ in range(1000)]
    assert found[0] == "hostName"
    assert found[-1] is None


def test_paths_and_texts_are_written_for_people() -> None:
    assert dotted(("a", "b", "[2]", "c")) == "a.b[2].c"
    assert shown("a\x00b") == "“a\\x00b”"
    assert len(shown("x" * 1000)) < 70
