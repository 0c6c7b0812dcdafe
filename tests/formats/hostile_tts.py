"""Hostile messages of The Things Stack, from a seed: `python -m tests.formats.hostile_tts [how many]`.

Each one must give an `Uplink` whose document says the same to `thingpark.parse`, or a `DocumentError` with a short and
printable sentence; in under 100 ms. The same bytes go to `refusal`, which takes anything.
"""

from __future__ import annotations

import copy
import json
import random
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from mqttbridge.errors import DocumentError
from mqttbridge.formats import thingpark, tts
from tests.formats.tts_samples import CONTENTS, message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mqttbridge.model import Uplink

RECEIVED = 1_767_319_500_000
MAX_BODY = 65536
MAX_SENTENCE = 500
HINTS = ("", "v3/climate-app@example/devices/cellar-1/up", "v3/+/devices/#/\x00", "event=up&a=b", "/" * 1000)
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 255, 256, 2**32 - 1, 2**32, 2**63, 2**64, 10**30, -(10**30)),
    *(0.5, -0.0, 1e308, -1e308, 5e-324, 1e300),
    *("", "0", "NaN", "Infinity", "-Infinity", "1e999", "1_0", "\u0661", "x", "x" * 30_000, "9" * 30_000),
    *("../../etc", "a/b", "+", "#", "$share/a/b", "A", "a" * 37, "a--b", "-a", "eui-70b3d57ed0001234", "a\x00b"),
    *("\u202e\x1b[31m\n", "\ud83d\ude00", "ß\u0130", "70B3D57ED0001234", "70b3d57ed000123", "AQP/", "AQP", "A Q=="),
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00Z"),
    *("2026-01-02T02:04:05", "2026-01-02", "2026-01-02T02:04:05.123456789123456789Z", "20260102T020405Z"),
    *([], {}, [[]], [{}], [None], [1], ["a", 1], {"a": None}, {"a": "b"}, {"": ""}, {"user": {}}, {"user": None}),
    *({"latitude": 1}, {"user": {"longitude": "NaN"}}, {"message_format": "{a}{b}", "attributes": {"a": "x" * 999}}),
    *({"cause": {"cause": {"cause": {}}}}, ["mqttbridge:cid:zz", "mqttbridge:dev:70B3D57ED0001234"]),
    [{"rssi": -100 - place % 20, "snr": place % 300 - 150} for place in range(990)],
    [{}] * 12_000,
    {f"key-{place}": f"value {place}" for place in range(1500)},
]
PIECES = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\x00", b"\x1b", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf"),
    *(b"\\ud800", b"\\u0000", b"NaN", b"1e400", b"-0", b"null", b"true", b"9" * 400, b"[" * 100, b'{"a":' * 70),
]


def bodies(count: int, seed: int = 0) -> Iterator[bytes]:
    """Give hostile bodies, the same for the same seed."""
    random_ = random.Random(seed)  # noqa: S311 - no secret comes of it
    kinds = list(CONTENTS)
    for _ in range(count):
        document = message(random_.choice(kinds))
        for _ in range(random_.choice((0, 1, 1, 2, 4))):
            mutate(document, random_)
        body = json.dumps(document, ensure_ascii=random_.random() < 0.5).encode("utf-8", "surrogatepass")
        for _ in range(random_.choice((0, 0, 0, 1, 3))):
            body = broken(body, random_)
        yield body[:MAX_BODY]


def mutate(document: Any, random_: random.Random) -> None:  # noqa: ANN401  any JSON value
    """Change one place in a JSON object."""
    places: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        places += [(node, key) for key in keys]
        waiting += [node[key] for key in keys if isinstance(node[key], dict | list)]
    if not places:
        return
    node, key = random_.choice(places)
    choice = random_.random()
    if choice < 0.6:
        node[key] = copy.deepcopy(random_.choice(VALUES))
    elif choice < 0.8:
        del node[key]
    elif choice < 0.9 and isinstance(node, dict):
        node[random_.choice(["", "\u202e", "uplink_message", "join_accept", "attributes"])] = node[key]
    else:
        deep: Any = node[key]
        for _ in range(random_.choice((10, 58, 59, 60, 61, 62, 63, 64, 65, 300))):
            deep = [deep]
        node[key] = deep if len(str(key)) % 2 else {"a": deep}


def broken(body: bytes, random_: random.Random) -> bytes:
    """Damage some bytes."""
    place = random_.randrange(len(body) + 1)
    choice = random_.random()
    if choice < 0.5:
        return body[:place] + random_.choice(PIECES) + body[place:]
    if choice < 0.7:
        return body[:place]
    if choice < 0.9:
        return body[:place] + bytes([random_.randrange(256)]) + body[place + 1 :]
    return body[:place] + body[place:] * random_.choice((2, 30))


def outcome(body: bytes, hint: str) -> Uplink | DocumentError:
    """Read a body."""
    try:
        return tts.parse(body, source="ns", received=RECEIVED, hint=hint)
    except DocumentError as error:
        return error


def judge(body: bytes, hint: str) -> str:
    """Read a body and check what comes of it; says in a word what did."""
    found = outcome(body, hint)
    if isinstance(found, DocumentError):
        sentence = str(found)
        assert sentence.isprintable(), sentence
        assert sentence.isprintable(), sentence
        assert len(sentence) < MAX_SENTENCE, sentence
        assert found.field.isprintable(), found.field
        return "refused"
    read = thingpark.parse(found.body, source="ns", received=RECEIVED)
    agreed = ("kind", "dev_eui", "time", "fcnt", "tags")
    assert [getattr(read, name) for name in agreed] == [getattr(found, name) for name in agreed]
    assert len(json.loads(found.body)) == 1
    assert 0 <= found.fingerprint < 2**63
    if found.way:
        application, device = found.way.split("/")
        tts.topic(f"{application}@tenant", device, replace=False)
        tts.path(application, "hook", device, replace=True)
    kept = tts.parse(body, source="ns", received=RECEIVED, hint=hint, pass_through=True)
    assert (kept.time, kept.fcnt, kept.tags, kept.way, kept.fingerprint) == (
        *(found.time, found.fcnt, found.tags, found.way),
        found.fingerprint,
    )
    return found.kind.value


def run(count: int, seed: int = 0) -> tuple[Counter[str], float]:
    """Judge that many; gives what became of them, and the longest time that one `parse` or `refusal` took, in s."""
    outcomes: Counter[str] = Counter()
    longest = 0.0
    for place, body in enumerate(bodies(count, seed)):
        hint = HINTS[place % len(HINTS)]
        # The work of this process: others share the machine.
        start = time.process_time()
        outcome(body, hint)
        parsed = time.process_time()
        said = tts.refusal(body)
        longest = max(longest, parsed - start, time.process_time() - parsed)
        assert said.isprintable()
        assert len(said) < MAX_SENTENCE
        outcomes[judge(body, hint)] += 1
    return outcomes, longest


if __name__ == "__main__":
    how_many = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    became, slowest = run(how_many)
    sys.stdout.write(f"{how_many} messages: {dict(became)}; the slowest took {slowest * 1000:.1f} ms\n")
