"""The wire: few system calls, bytes in order, nothing that blocks, nothing after close."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.mqtt import wire
from mqttbridge.mqtt.wire import TlsPipe, Wire
from tests.brokers.certs import Certificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Counting:
    """A socket that counts what is asked of it, and takes at most `most` bytes at once."""

    def __init__(self, sock: socket.socket, most: int = 1 << 30) -> None:
        self.sock = sock
        self.most = most
        self.sends = 0
        self.receives = 0

    def send(self, data: memoryview) -> int:
        self.sends += 1
        return self.sock.send(data[: self.most])

    def recv(self, size: int) -> bytes:
        self.receives += 1
        return self.sock.recv(size)

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()


class Ends:
    """A wire and the socket at its other end."""

    def __init__(self, most: int = 1 << 30) -> None:
        here, self.there = socket.socketpair()
        here.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self.there.setblocking(False)  # noqa: FBT003 - likewise
        self.sock = Counting(here, most)
        self.wire = Wire(asyncio.get_running_loop(), self.sock)
        self.read: list[bytes] = []
        self.drained = 0
        self.broken: list[Exception] = []
        self.changed = asyncio.Event()

    def start(self) -> None:
        self.wire.start(self.on_readable, self.on_drained, self.on_broken)

    def on_readable(self) -> None:
        self.read.append(self.wire.fill())
        if self.wire.ended:
            self.wire.pause()
        self.changed.set()

    def on_drained(self) -> None:
        self.drained += 1
        self.changed.set()

    def on_broken(self, error: Exception) -> None:
        self.broken.append(error)
        self.wire.close()
        self.changed.set()

    async def receive(self, size: int) -> bytes:
        data = bytearray()
        async with asyncio.timeout(5):
            while len(data) < size:
                data += await asyncio.get_running_loop().sock_recv(self.there, 65536)
        return bytes(data)


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[Ends]:
    pair = Ends()
    yield pair
    pair.wire.close()
    pair.there.close()


async def test_all_writes_of_one_iteration_leave_in_one_send(ends: Ends) -> None:
    ends.start()
    for number in range(1000):
        ends.wire.write(b"%d," % number)
    assert ends.sock.sends == 0
    assert ends.wire.unsent == 3890
    expected = b"".join(b"%d," % number for number in range(1000))
    assert await ends.receive(len(expected)) == expected
    assert (ends.sock.sends, ends.wire.unsent, ends.drained) == (1, 0, 1)


async def test_all_that_came_is_read_in_one_receive(ends: Ends) -> None:
    ends.there.send(b"x" * 50_000)
    ends.start()
    async with asyncio.timeout(5):
        await ends.changed.wait()
    assert ends.read == [b"x" * 50_000]
    assert ends.sock.receives == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=30), st.integers(1, 500))
def test_bytes_stay_in_order_when_the_kernel_takes_them_in_pieces(parts: list[bytes], most: int) -> None:
    async def main() -> None:
        pair = Ends(most)
        pair.start()
        for index, part in enumerate(parts):
            pair.wire.write(part)
            if index % 3 == 0:
                await asyncio.sleep(0)
        expected = b"".join(parts)
        assert await pair.receive(len(expected)) == expected
        pair.wire.close()
        pair.there.close()

    asyncio.run(main())


async def test_what_the_kernel_does_not_take_is_sent_when_the_peer_reads(ends: Ends) -> None:
    ends.start()
    data = bytes(range(256)) * 20_000
    ends.wire.write(data)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < ends.wire.unsent < len(data)
    ends.wire.write(b"end")
    assert await ends.receive(len(data) + 3) == data + b"end"
    assert ends.wire.unsent == 0


async def test_a_failed_write_is_told_once(ends: Ends) -> None:
    ends.start()
    ends.there.close()
    ends.wire.write(b"x")
    async with asyncio.timeout(5):
        while not ends.broken:
            ends.changed.clear()
            await ends.changed.wait()
    ends.wire.write(b"y")
    await asyncio.sleep(0)
    assert len(ends.broken) == 1


async def test_a_peer_that_never_reads_breaks_the_wire_at_the_limit(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "LIMIT", 5_000_000)
    ends.start()
    for _ in range(60):
        ends.wire.write(bytes(100_000))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [type(error) for error in ends.broken] == [wire.WireFull]
    assert ends.wire.unsent == 0


async def test_the_end_of_the_stream_is_seen(ends: Ends) -> None:
    ends.start()
    ends.there.close()
    async with asyncio.timeout(5):
        await ends.changed.wait()
    assert ends.wire.ended
    assert ends.read == [b""]


async def test_nothing_is_told_after_close_or_while_paused(ends: Ends) -> None:
    ends.start()
    ends.wire.pause()
    ends.there.send(b"x")
    for _ in range(5):
        await asyncio.sleep(0)
    assert not ends.read
    ends.wire.resume()
    ends.wire.write(b"y")
    ends.wire.close()
    ends.wire.close()
    ends.wire.write(b"z")
    ends.wire.resume()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not ends.read
    assert not ends.drained


async def test_finish_sends_what_is_written_and_ends(ends: Ends) -> None:
    ends.start()
    ends.there.send(b"unread")
    ends.wire.write(b"goodbye")
    ends.wire.finish()
    assert ends.there.recv(100) == b"goodbye"
    assert ends.there.recv(100) == b""


async def test_bytes_that_came_early_are_given_first() -> None:
    here, there = socket.socketpair()
    here.setblocking(False)  # noqa: FBT003 - the standard library's signature
    early = Wire(asyncio.get_running_loop(), here, early=b"early")
    got: list[bytes] = []
    seen = asyncio.Event()

    def readable() -> None:
        got.append(early.fill())
        if b"late" in b"".join(got):
            seen.set()

    early.start(readable, lambda: None, lambda _: None)
    await asyncio.sleep(0)
    there.send(b"late")
    async with asyncio.timeout(5):
        await seen.wait()
    assert b"".join(got) == b"earlylate"
    early.close()
    there.close()


@pytest.mark.parametrize("size", [1, 100, 5_000])
def test_tls_gives_the_same_bytes_however_the_records_are_cut(tmp_path: Path, size: int) -> None:
    import ssl

    certificates = Certificates()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificates.server_context(tmp_path).wrap_bio(incoming, outgoing, server_side=True)
    context = ssl.create_default_context(cadata=certificates.ca)
    client = TlsPipe(context, "localhost")
    done = False
    while not done:
        done = client.handshake(outgoing.read())
        incoming.write(client.outgoing())
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            continue
    body = bytes(range(256)) * 100
    server.write(body)
    stream = outgoing.read()
    got = b"".join(client.decrypt(stream[at : at + size]) for at in range(0, len(stream), size))
    assert got == body
    assert not client.ended
    client.encrypt(b"back")
    incoming.write(client.outgoing())
    assert server.read(100) == b"back"
    with pytest.raises(ssl.SSLWantReadError):
        server.unwrap()
    client.decrypt(outgoing.read())
    assert client.ended
