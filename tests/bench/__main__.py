"""The benchmark: `python -m tests.bench [scenario…] [--uplinks N] [--quick] [--repeat N] [--json]`.

docs/benchmark.md tells what is measured, and what came out.

It is not a test: figures depend on the machine, and only ratios from one run mean something. All processes share the
machine with the daemon.
"""

# ruff: noqa: T201 (a command speaks)
from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tests.bench.operate import operate
from tests.bench.scenarios import SCENARIOS as TRAFFIC
from tests.bench.scenarios import Options

if TYPE_CHECKING:
    from tests.bench.scenarios import Row

SCENARIOS = {**TRAFFIC, "operate": operate}
REFERENCE = "MQTT source -> MQTT, two mosquittos"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures mqttbridge on this machine.")
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; all, if none is named")
    parser.add_argument("--uplinks", type=int, default=0, help="uplinks a measurement (100000; --quick: 20000)")
    parser.add_argument("--backlog", type=int, default=0, help="uplinks in the backlog (1000000; --quick: 50000)")
    parser.add_argument("--quick", action="store_true", help="smaller numbers")
    parser.add_argument("--repeat", type=int, default=1, help="go through all so often, and give medians")
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of the table")
    parser.add_argument("--directory", type=Path, help="where journals are written (a temporary directory)")
    parser.add_argument("--profile", type=Path, help="run the daemon under cProfile; one file a run, in this directory")
    given = parser.parse_args()
    if unknown := set(given.scenario) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are: {', '.join(SCENARIOS)}")
    return given


def shown(rows: list[Row]) -> str:
    """Give the table; rates are compared with the first scenario, where it ran."""
    base = next((row.value for row in rows if row.name == REFERENCE), 0)
    width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        ratio = f"{row.value / base:6.2f}x" if base and row.measure else " " * 7
        more = "  ".join(f"{key} {value}" for key, value in row.more.items())
        lines.append(f"{row.name:{width}}  {row.value:>10,}  {row.unit:9}  {ratio}  {more}")
    return "\n".join(lines)


def middle(rows: list[Row]) -> list[Row]:
    """Of each measurement that was repeated, give the row with the median value, and the range of all."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    medians = []
    for same in by_name.values():
        same.sort(key=lambda row: row.value)
        row = same[(len(same) - 1) // 2]
        if len(same) > 1:
            row.more = {"of": f"{same[0].value:,} to {same[-1].value:,}", **row.more}
        medians.append(row)
    return medians


def main() -> int:
    """Run what was asked for; a scenario that fails does not keep the others from running."""
    given = arguments()
    # Whoever ends the benchmark ends all that it started: the blocks are left as they are by an error.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    runner: tuple[str, ...] = ("-m", "mqttbridge")
    if given.profile is not None:
        given.profile.mkdir(parents=True, exist_ok=True)
        runner = ("-m", "tests.bench.profiled", str(given.profile.resolve()))
    rows: list[Row] = []
    failed = False
    with tempfile.TemporaryDirectory(prefix="mqttbridge-bench-", dir=given.directory) as directory:
        options = Options(
            uplinks=given.uplinks or (20_000 if given.quick else 100_000),
            backlog=given.backlog or (50_000 if given.quick else 1_000_000),
            directory=Path(directory),
            runner=runner,
        )
        for turn in range(given.repeat):
            for name in given.scenario or SCENARIOS:
                print(f"{turn + 1}/{given.repeat} {name}: {SCENARIOS[name].__doc__}", file=sys.stderr, flush=True)
                try:
                    rows += SCENARIOS[name](msgspec.structs.replace(options, directory=Path(directory) / str(turn)))
                except RuntimeError as error:
                    failed = True
                    print(f"{name} failed: {error}", file=sys.stderr)
    rows = middle(rows)
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    if given.json:
        print(json.dumps({"machine": machine, "rows": msgspec.to_builtins(rows)}, indent=1))
    elif rows:
        print(f"{machine['cpus']} CPUs ({machine['machine']}), Python {machine['python']}; every process on them")
        print(shown(rows))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
