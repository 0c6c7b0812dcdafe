"""Hostile downlinks, from a seed: `python -m tests.formats.hostile_downlink [how many]` tells what became of them.

Each one must give a `Parsed`, or a `DocumentError` with a printable sentence; a `Glimpse` always; in under 100 ms.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from mqttbridge.errors import DocumentError
from mqttbridge.formats.downlink import MAX_BODY, Glimpse, Parsed, glimpse, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_767_319_445_678
SECRET = "00112233445566778899AABBCCDDEEFF"
FIELDS = {
    "DevEUI": ["0018B20000000B20", "00-18-b2-00-00-00-0b-20", "0018B20000000B21", "", "x" * 16],
    "FPort": [15, "15", 15.0, 0, 225, "", None, True, 1e300, "\u0661"],
    "payload_hex": ["0103", "", "010", "zz", "01 03", "ab" * 242, "ab" * 243, "a" * 60_000, 103],
    "payload": [None, {}, {"t": 1.5}, {"a": {"b": [1, "\u202e"]}}, [], "x", 7],
    "Confirmed": [0, 1, "0", "1", True, False, None, 2, "yes", [], {}],
    "FlushDownlinkQueue": [0, "1", True, -1],
    "ValidityTime": [60, "60", 0, -1, 1e300, "2030-01-02T03:04:05Z", "2020-01-02T03:04:05Z", "2030-01-02T03:04:05"],
    "CorrelationID": ["0123456789abcdef", "", 7, "x"],
    "AS_KEY": [SECRET],
    "Token": [SECRET * 2],
    "Time": ["2026-01-02T03:04:05.678+01:00", 7],
    "DriverCfg": [{}, None],
    "Fport": [1],
    "payloadHex": ["01"],
    "\u202e\x1b[31m\n": ["\x00"],
    "x" * 50_000: [1],
}
PIECES = [
    *(
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\x00",
        b"\x1b",
        b"\xff",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\\u0000",
    ),
    *(
        b"NaN",
        b"Infinity",
        b"-",
        b"1e999",
        b"9" * 5000,
        b"\xef\xbb\xbf",
        b"\n",
        b" " * 1000,
        b'"DevEUI"',
        b'"CorrelationID":"',
    ),
]
WHOLE = [
    b"",
    b" \n",
    b"null",
    b"[]",
    b"{}",
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b'{"DevEUI_downlink":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    b'{"DevEUI_downlink":' * 100 + b"1" + b"}" * 100,
    b'{"DevEUI_downlink":{"payload":' + b'{"a":' * 62 + b"1" + b"}" * 64,
    b'{"DevEUI_downlink":{"payload":{"a":[' + b",".join([b"9" * 4299] * 14) + b"]}}}",
    b"{" + b",".join(b'"payloadhe%d":1' % i for i in range(3500)) + b"}",
    b'{"DevEUI_downlink":{' + b",".join(b'"payloadhe%d":1' % i for i in range(3500)) + b"}}",
    b'{"DevEUI_downlink":{' + b",".join(b'"' + b"payloadhex"[:9] * 4 + b'%d":1' % i for i in range(1000)) + b"}}",
    b'{"DevEUI_downlink":{"AS_KEY":"00112233445566778899AABBCCDDEEFF","DevEUI":"0018B20000000B20"',
    b"DevEUI" * 10_000,
    b'DevEUI"' + b" " * 60_000,
    b'DevEUI":"' * 7_000,
    b'DevEUI : "0018B20000000B2' * 2_500,
    b"\x00" * MAX_BODY,
    b"7" * MAX_BODY,
    b'"' + b"\\u0000" * 10_000 + b'"',
    b"x" * (MAX_BODY + 1),
    b'{"DevEUI_downlink":{"DevEUI":"0018B20000000B20"}}' + b" " * 10_000_000,
]


def documents(count: int, seed: int = 1) -> Iterator[bytes]:
    """Give bodies: first those that were thought of, then mixtures, mutations and noise."""
    yield from WHOLE[:count]
    chance = random.Random(seed)  # noqa: S311  it must repeat
    for _ in range(count - len(WHOLE)):
        kind = chance.random()
        body = chance.randbytes(chance.randrange(200)) if kind < 0.05 else _document(chance)
        yield _mutated(body, chance) if kind > 0.5 else body


def _document(chance: random.Random) -> bytes:
    """Give valid JSON: some of the fields, each with one of its values."""
    names = chance.sample(list(FIELDS), chance.randrange(8))
    content = {name: chance.choice(FIELDS[name]) for name in names}
    if chance.random() < 0.6:
        # Most of these are valid, or nearly so.
        content = {name: FIELDS[name][0] if chance.random() < 0.8 else value for name, value in content.items()}
        content = {"FPort": 15, "payload_hex": "0103"} | content
    root = chance.choice(["DevEUI_downlink"] * 6 + ["DevEUI_uplink", "DevEUI_Downlink", ""])
    document = {root: content} if root else content
    return json.dumps(document, ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, 1])).encode()


def _mutated(body: bytes, chance: random.Random) -> bytes:
    """Put pieces where they do not belong, take some out, cut the end off."""
    found = bytearray(body)
    for _ in range(chance.randrange(1, 5)):
        place = chance.randrange(len(found) + 1)
        found[place : place + chance.randrange(4)] = chance.choice(PIECES)
    return bytes(found[: chance.randrange(len(found))] if chance.random() < 0.2 else found)


def check(body: bytes, *, dev_eui: str = "0018B20000000B20", default_fport: int | None = 1) -> str:
    """Parse it and look at it; give what became of it. Raises whatever else came out."""
    seen = glimpse(body)
    assert isinstance(seen, Glimpse)
    assert len(seen.dev_eui) in {0, 16}
    assert len(seen.correlation_id) in {0, 16}
    try:
        found = parse(body, dev_eui=dev_eui, default_fport=default_fport, now=NOW)
    except DocumentError as error:
        text, outcome = str(error), type(error).__name__
        assert len(text) < 400, text
    else:
        assert isinstance(found, Parsed)
        _valid(found)
        text, outcome = "".join(found.warnings), "Parsed"
    assert text.isprintable(), text
    assert text.isprintable(), text
    assert SECRET not in text, text
    return outcome


def _valid(found: Parsed) -> None:
    """Check what a downlink promises."""
    downlink = found.downlink
    assert len(found.warnings) <= 10
    assert all(len(text) < 200 for text in found.warnings)
    assert len(downlink.dev_eui) == 16
    assert downlink.dev_eui == downlink.dev_eui.upper()
    assert isinstance(downlink.fport, int)
    assert 1 <= downlink.fport <= 224
    assert (downlink.payload_hex is None) == (downlink.payload != b"")
    if downlink.payload_hex is None:
        assert isinstance(json.loads(downlink.payload), dict)
    else:
        assert len(bytes.fromhex(downlink.payload_hex)) <= 242
        assert downlink.payload_hex == downlink.payload_hex.lower()
    assert downlink.expires is None or downlink.expires > NOW
    assert len(downlink.correlation_id) in {0, 16}


def main(count: int) -> None:
    """Run and tell."""
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for body in documents(count):
        started = time.perf_counter()
        outcomes[check(body)] += 1
        slowest = max(slowest, time.perf_counter() - started)
    print(f"{count} inputs: {dict(outcomes)}, the slowest {slowest * 1000:.1f} ms")  # noqa: T201  its purpose
    if slowest > 0.1:
        sys.exit("that is too slow")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
