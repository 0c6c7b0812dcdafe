"""The line counter of tests/check.py counts what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests import check

if TYPE_CHECKING:
    import pytest


def function(lines: int, docstring: str = "") -> str:
    """Give the source of a function with this many lines besides its docstring."""
    return "class A:\n    async def f(self):\n" + docstring + "        x = 1\n" * (lines - 1)


def test_a_function_of_forty_lines_passes_and_one_of_forty_one_does_not() -> None:
    assert not list(check.too_long("a.py", function(40)))
    (problem,) = check.too_long("a.py", function(41))
    assert problem == "a.py:2: A.f has 41 lines, 40 are allowed"


def test_a_docstring_does_not_count() -> None:
    assert not list(check.too_long("a.py", function(40, '        """One.\n\n        Two.\n        """\n')))


def test_a_module_of_four_hundred_lines_passes_and_one_more_does_not() -> None:
    assert not list(check.too_long("a.py", "x = 1\n" * 400))
    (problem,) = check.too_long("a.py", "x = 1\n" * 401)
    assert problem.startswith("a.py: 401 lines")


def test_a_listed_function_may_be_long_and_must_be_taken_off_when_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "LONGER", {"a.py:A.f": "a table"})
    assert not list(check.too_long("a.py", function(60)))
    (problem,) = check.too_long("a.py", function(10))
    assert "take it off the list" in problem


def test_an_unknown_check_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["spelling"]) == 2
    assert "no check named spelling" in capsys.readouterr().err


def test_one_failing_check_fails_the_command_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []
    checks = {"bad": lambda: bool(ran.append("bad")), "good": lambda: not ran.append("good")}
    monkeypatch.setattr(check, "CHECKS", checks)
    assert check.main([]) == 1
    assert ran == ["bad", "good"]
    assert "FAILED: bad ==" in capsys.readouterr().out


def test_a_tool_that_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert not check.tool("no-such-tool")()
    assert "no-such-tool cannot be run" in capsys.readouterr().out
