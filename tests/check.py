"""All static checks in one command: `python -m tests.check`. Exit code 0, or 1 with what is wrong.

It needs nothing but the `test` extra. Names of checks may be given to run only those: `python -m tests.check mypy`.
"""

# ruff: noqa: T201 (a command speaks)
from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mqttbridge"
MODULE_LINES = 400
FUNCTION_LINES = 40
LONGER: dict[str, str] = {
    "formats/sample.py:uplink": "a document, which is read best in one piece",
    "formats/sample_tts.py:uplink": "likewise",
}
"""Functions that may be longer than 40 lines, as `path/from/package.py:Class.function`, each with its reason."""

Check = Callable[[], bool]


def tool(*command: str) -> Check:
    """Give a check that runs a program of this environment."""

    def run() -> bool:
        scripts = sysconfig.get_path("scripts")
        environment = {**os.environ, "PATH": os.pathsep.join((scripts, os.environ.get("PATH", "")))}
        program = Path(scripts) / command[0]
        try:
            return subprocess.run([program, *command[1:]], cwd=ROOT, env=environment, check=False).returncode == 0
        except OSError as error:
            print(f"{command[0]} cannot be run ({error.strerror}): pip install -e '.[test]'")
            return False

    return run


def too_long(path: str, source: str) -> Iterator[str]:
    """Name what is too long in one module; its docstring does not count for a function, its decorators neither."""
    lines = len(source.splitlines())
    if lines > MODULE_LINES:
        yield f"{path}: {lines} lines, {MODULE_LINES} are allowed: split it by what it does"
    for name, node in functions(ast.parse(source), ""):
        length = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring_lines(node)
        reason = LONGER.get(f"{path}:{name}")
        if length > FUNCTION_LINES and reason is None:
            yield f"{path}:{node.lineno}: {name} has {length} lines, {FUNCTION_LINES} are allowed"
        elif length <= FUNCTION_LINES and reason is not None:
            yield f"{path}:{node.lineno}: {name} is short enough again: take it off the list in tests/check.py"


def functions(node: ast.AST, above: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Give every function with its dotted name."""
    for child in ast.iter_child_nodes(node):
        name = above
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            name = f"{above}.{child.name}".lstrip(".")
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield name, child
        yield from functions(child, name)


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a docstring."""
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return (first.end_lineno or first.lineno) - first.lineno + 1
    return 0


def check_lengths() -> bool:
    """Check every module of the package, and that each exception still names something."""
    problems: list[str] = []
    names: set[str] = set()
    for file in sorted(PACKAGE.rglob("*.py")):
        path = file.relative_to(PACKAGE).as_posix()
        source = file.read_text(encoding="utf-8")
        problems += too_long(path, source)
        names |= {f"{path}:{name}" for name, _ in functions(ast.parse(source), "")}
    problems += [f"tests/check.py lists {gone}, which is gone" for gone in LONGER if gone not in names]
    print("\n".join(problems) or f"No module over {MODULE_LINES} lines, no function over {FUNCTION_LINES}.")
    return not problems


CHECKS: dict[str, Check] = {
    "ruff check": tool("ruff", "check", "."),
    "ruff format": tool("ruff", "format", "--check", "."),
    "mypy": tool("mypy"),
    "import-linter": tool("lint-imports"),
    "lengths": check_lengths,
}


def main(wanted: list[str]) -> int:
    """Run the checks, all of them even if one fails; give the exit code."""
    unknown = [name for name in wanted if name not in CHECKS]
    if unknown:
        print(f"no check named {', '.join(unknown)}; there are: {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    failed = []
    for name in wanted or CHECKS:
        print(f"\n== {name} ==", flush=True)
        if not CHECKS[name]():
            failed.append(name)
        sys.stdout.flush()
    print(f"\n== {'FAILED: ' + ', '.join(failed) if failed else 'all checks passed'} ==", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
