"""How uplinks and their ends are packed: many into one compressed block, found by keys of 8 bytes beside it. Pure.

A block's keys stand uncompressed, one after the other, in the order of its records: the DevEUIs of uplinks, the seqs
of ends. So a device is searched without unpacking, and a hit at a place that is no multiple of 8 is none. The records
are MessagePack, one after the other without a head, so that blocks are joined without decoding them.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from mqttbridge.model import DocumentKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "END_LIMIT",
    "KEY",
    "UPLINK_LIMIT",
    "Block",
    "BlockDamagedError",
    "End",
    "Record",
    "chunks",
    "device_key",
    "grade",
    "join",
    "pack_ends",
    "pack_uplinks",
    "places",
    "prefix",
    "seqs_of",
    "unpack_ends",
    "unpack_uplinks",
]

KEY = 8
UPLINK_LIMIT = 256
"""Records of a block of uplinks, at most. It is unpacked for each one that is looked at."""
END_LIMIT = 1024
BLOCK_BYTES = 512 * 1024
"""What a block holds unpacked at most, but for one record that is larger."""
LEVEL = 1
"""zlib's quickest: 3.5 µs an uplink, to a tenth. Level 6 saves a quarter of the file, and takes twice as long."""
FULL = 3
"""The grade of blocks that are large enough to stay as they are."""

Record = tuple[int, int, int, str, DocumentKind, int | None, str, int, bytes]
"""An uplink: seq, received, time, source, kind, fcnt, origin, number of the route, body. Its DevEUI is the key."""
End = tuple[int, int, int, int, str, str]
"""An end: number of the connection, outcome, sent, at, topic, reason. Its seq is the key."""
Item = TypeVar("Item")

_encode = msgspec.msgpack.Encoder().encode
_uplinks = msgspec.msgpack.Decoder(list[Record])
_ends = msgspec.msgpack.Decoder(list[End])


class BlockDamagedError(ValueError):
    """What stands in a block makes no sense: the disk has changed it."""


class Block(NamedTuple):
    """`low` and `high`: the least and greatest key (ends), or moment of receiving (uplinks), as the index has them.

    `last`: the latest moment in it (ms), `size`: its bytes unpacked, `routes`: what uplinks were routed to, `,1,7,`.
    """

    number: int
    size: int
    low: int
    high: int
    last: int
    routes: str
    keys: bytes
    data: bytes


def device_key(dev_eui: str) -> bytes:
    """Give the key of a device. Raises ValueError if it is not 16 hex digits."""
    key = bytes.fromhex(dev_eui)
    if len(key) != KEY:
        raise ValueError(f"{dev_eui!r} is not a DevEUI")
    return key


def pack_uplinks(devices: Sequence[str], records: Sequence[Record]) -> Block:
    """Pack these, one at least. Raises whatever a value that fits nowhere makes the encoders raise."""
    keys = bytes.fromhex("".join(devices))
    if len(keys) != KEY * len(records):
        raise ValueError("a DevEUI has 16 hex digits")
    moments = [record[1] for record in records]
    last = max(moments)
    routes = ",".join(map(str, sorted({record[7] for record in records})))
    size, data = _pack(records)
    return Block(len(records), size, min(moments), last, last, f",{routes},", keys, data)


def pack_ends(seqs: Sequence[int], ends: Sequence[End]) -> Block:
    """Pack these, one at least. Raises as `pack_uplinks`."""
    keys = struct.pack(f">{len(seqs)}Q", *seqs)
    size, data = _pack(ends)
    return Block(len(ends), size, min(seqs), max(seqs), max([end[3] for end in ends]), "", keys, data)


def unpack_uplinks(number: int, data: bytes) -> list[Record]:
    """Give the records of a block. Raises `BlockDamagedError`."""
    return _decode(_uplinks, number, data)


def unpack_ends(number: int, data: bytes) -> list[End]:
    """Give the records of a block. Raises `BlockDamagedError`."""
    return _decode(_ends, number, data)


def places(keys: bytes, key: bytes) -> Iterator[int]:
    """Give the places of the records with this key, rising. What only straddles two keys is no hit."""
    found = keys.find(key)
    while found >= 0:
        if found % KEY == 0:
            yield found // KEY
        found = keys.find(key, found + 1)


def seqs_of(keys: bytes) -> tuple[int, ...]:
    """Give the keys of a block of ends."""
    return struct.unpack(f">{len(keys) // KEY}Q", keys)


def chunks(items: Sequence[Item], sizes: Iterable[int], limit: int) -> Iterator[Sequence[Item]]:
    """Cut into what blocks may hold: at most `limit` items, and of their sizes at most `BLOCK_BYTES`."""
    start = total = 0
    for place, size in enumerate(sizes):
        if place > start and (place - start >= limit or total + size > BLOCK_BYTES):
            yield items[start:place]
            start, total = place, 0
        total += size
    if start < len(items):
        yield items[start:]


def join(blocks: Sequence[Block]) -> Block:
    """Make one block of several, in this order. Raises `BlockDamagedError`."""
    raw = b"".join([_inflate(block.data) for block in blocks])
    routes = sorted({int(route) for block in blocks for route in block.routes.strip(",").split(",") if route})
    return Block(
        number=sum(block.number for block in blocks),
        size=len(raw),
        low=min(block.low for block in blocks),
        high=max(block.high for block in blocks),
        last=max(block.last for block in blocks),
        routes=f",{','.join(map(str, routes))}," if routes else "",
        keys=b"".join(block.keys for block in blocks),
        data=zlib.compress(raw, LEVEL),
    )


def grade(number: int, size: int, limit: int) -> int:
    """Tell how large a block is, from 0 to `FULL`: of eight blocks of one grade, one of a higher grade is made.

    So a record is packed four times at most, however slowly they come.
    """
    if number >= limit // 2 or size >= BLOCK_BYTES // 4:
        return FULL
    return sum(number >= bound for bound in (limit // 128, limit // 16))


def prefix(sizes: Iterable[tuple[int, int]], limit: int) -> int:
    """Give how many of these blocks (number of records, size), from the first, fit into one."""
    numbers = total = fitting = 0
    for number, size in sizes:
        numbers += number
        total += size
        if numbers > limit or total > BLOCK_BYTES:
            break
        fitting += 1
    return fitting


def _pack(rows: Sequence[Record] | Sequence[End]) -> tuple[int, bytes]:
    encoded = _encode(rows)
    head = 1 if len(rows) < 16 else 3  # noqa: PLR2004 - MessagePack's fixarray and array 16
    raw = memoryview(encoded)[head:]
    return len(raw), zlib.compress(raw, LEVEL)


def _decode(decoder: msgspec.msgpack.Decoder[list[Item]], number: int, data: bytes) -> list[Item]:
    whole = b"".join((b"\xdd", number.to_bytes(4, "big"), _inflate(data)))  # array 32
    try:
        return decoder.decode(whole)
    except ValueError as error:
        raise BlockDamagedError(f"a block is damaged: {error}") from error


def _inflate(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error as error:
        raise BlockDamagedError(f"a block is damaged: {error}") from error
