"""Many hostile inputs for the format of ChirpStack: `python -m tests.formats.hostile_chirpstack [COUNT] [SEED]`.

Each must end in a DocumentError or in an uplink that agrees with its ThingPark document, and must not take long.
"""

# ruff: noqa: T201 (a command speaks)
from __future__ import annotations

import json
import random
import sys
import time

from mqttbridge.errors import DocumentError
from mqttbridge.formats import thingpark
from mqttbridge.formats.chirpstack import parse
from tests.formats.chirpstack_samples import spoiled

COUNT = 50_000
RECEIVED = 1_767_319_500_000


def check(hint: str, body: bytes) -> tuple[bool, float]:
    """Try one input: whether it was taken, and the seconds that took."""
    found, refusal = None, ""
    started = time.perf_counter()
    try:
        found = parse(body, source="cs", received=RECEIVED, hint=hint)
    except DocumentError as error:
        refusal = str(error)
    seconds = time.perf_counter() - started
    if found is None:
        assert refusal.isprintable(), refusal
        assert refusal.isprintable(), refusal
        assert 0 < len(refusal) < 400, refusal
        return False, seconds
    again = thingpark.parse(found.body, source="cs", received=RECEIVED)
    assert len(json.loads(found.body, parse_int=str)) == 1
    assert (again.kind, again.dev_eui, again.time, again.fcnt) == (found.kind, found.dev_eui, found.time, found.fcnt)
    assert again.tags == found.tags
    assert 0 <= found.fingerprint < 2**63
    return True, seconds


def run(count: int, seed: int) -> tuple[int, float]:
    """Try that many: how many were taken, and the longest time in seconds."""
    chance = random.Random(seed)  # noqa: S311  not for secrets
    taken, longest = 0, 0.0
    for _ in range(count):
        good, seconds = check(*spoiled(chance))
        taken += good
        longest = max(longest, seconds)
    return taken, longest


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    taken, longest = run(count, seed)
    print(f"{count} inputs: {taken} taken, {count - taken} refused, none took longer than {longest * 1000:.1f} ms")
