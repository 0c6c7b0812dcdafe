"""Runs the command line under cProfile: `python -m tests.bench.profiled DIRECTORY run --config FILE`.

The profile of the first thread, which is the loop's, is written when the daemon ends. cProfile weighs each call by
about a microsecond: it shows how often things are called, and exaggerates what calls much.
"""

from __future__ import annotations

import cProfile
import os
import sys
from pathlib import Path

from mqttbridge.cli import main

if __name__ == "__main__":
    directory = Path(sys.argv.pop(1))
    profile = cProfile.Profile()
    try:
        profile.runcall(main)
    finally:
        profile.dump_stats(directory / f"{os.getpid()}.prof")
