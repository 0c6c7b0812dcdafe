"""A small HTTP/1.1 server on asyncio for the fakes of network servers: honest, until it is told to fail.

Nothing of mqttbridge is used here. A fake derives from `Server` and answers in `handle`. `faults` is a list of what to
do with the next requests instead, one each; `always` is done with every request while it is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import argparse
    import ssl
    from collections.abc import Callable

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}
LARGEST = 1024 * 1024


@dataclass
class Request:
    """A request as it came. `path` and `query` are still percent-encoded; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What is answered. `why` is for whoever watches the fake."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    why: str = ""

    @classmethod
    def json(cls, status: int, value: Any, why: str = "") -> Self:  # noqa: ANN401 - any JSON
        return cls(status, json.dumps(value).encode(), why=why)


@dataclass
class Fault:
    """How to fail one request. All that is set applies, in this order."""

    delay: float = 0.0
    """Seconds before anything else happens."""
    take: bool = False
    """Handle the request honestly first: it is taken, and only the answer fails."""
    hang: bool = False
    """Never answer."""
    reset: bool = False
    """Reset the connection."""
    close: bool = False
    """Close the connection without an answer."""
    raw: bytes = b""
    """Answer this."""
    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    """Answer this."""
    endless: bool = False
    """Answer 200 (or `status`) with a body that never ends."""
    drip: bool = False
    """Answer 200 (or `status`) with `body`, and then hang in the middle of it."""

    @property
    def only_slow(self) -> bool:
        """Whether the request is handled honestly after the delay."""
        return self == Fault(self.delay, take=self.take)


class Server:
    """The transport of a fake. `requests` has every request with its answer, in the order of the answers."""

    def __init__(self, *, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.port = port
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self.requests: list[tuple[Request, Answer | None]] = []
        self.connections = 0
        self.most_at_once = 0
        self.told: Callable[[str], None] = lambda _: None
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{self.host}:{self.port}"

    def handle(self, request: Request) -> Answer:
        """Answer honestly."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accepted, self.host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """End, whatever is still going on."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def wait_for(self, count: int, timeout: float = 10.0) -> None:
        """Wait until so many requests were answered, honestly or not."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= count)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.most_at_once = max(self.most_at_once, self.connections)
        try:
            while (request := await _read(reader)) is not None:
                if not await self._respond(request, writer):
                    break
        except ValueError:
            writer.write(_encoded(Answer(400, b"not HTTP", "text/plain")))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it went away
        finally:
            self.connections -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _respond(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; gives whether the connection may be used again."""
        fault = self.faults.pop(0) if self.faults else self.always
        if fault is not None:
            await asyncio.sleep(fault.delay)
        if fault is None or fault.only_slow:
            answer = self.handle(request)
            await self._note(request, answer)
            writer.write(_encoded(answer))
            await writer.drain()
            return True
        await self._note(request, self.handle(request) if fault.take else None, fault)
        await self._fail(fault, writer)
        return False

    async def _fail(self, fault: Fault, writer: asyncio.StreamWriter) -> None:
        if fault.hang:
            await asyncio.Event().wait()
        if fault.reset:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
        if fault.raw:
            writer.write(fault.raw)
        elif fault.endless:
            await self._flood(fault, writer)
        elif fault.drip:
            head = f"HTTP/1.1 {fault.status or 200} x\r\nContent-Length: 1000\r\n\r\n"
            writer.write(head.encode() + fault.body)
            await writer.drain()
            await asyncio.Event().wait()
        elif fault.status:
            writer.write(_encoded(Answer(fault.status, fault.body, "text/html", fault.headers)))
        await writer.drain()

    async def _flood(self, fault: Fault, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {fault.status or 200} x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        while True:
            writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            await writer.drain()

    async def _note(self, request: Request, answer: Answer | None, fault: Fault | None = None) -> None:
        verdict = f"{answer.status} {answer.why}" if answer is not None else f"fault {fault}"
        self.told(
            f"{request.method} {request.path}?{request.query} {request.body.decode(errors='replace')}\n  {verdict}"
        )
        async with self._changed:
            self.requests.append((request, answer))
            self._changed.notify_all()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """Read one request; None at the end of the connection."""
    start = await reader.read(1)
    if not start:
        return None
    if not start.isalpha():
        raise ValueError("this is not HTTP")
    head = start + await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = min(int(headers.get("content-length", "0")), LARGEST)
    body = await reader.readexactly(length)
    path, _, query = target.partition("?")
    return Request(method, path, query, headers, body)


def _encoded(answer: Answer) -> bytes:
    headers = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body)), **answer.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'x')}\r\n{lines}\r\n".encode() + answer.body


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every fake takes on its command line."""
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--fail", type=int, default=0, metavar="STATUS", help="answer every request so")
    parser.add_argument("--hang", action="store_true", help="never answer")
    parser.add_argument("--reset", action="store_true", help="reset every connection")
    parser.add_argument("--endless", action="store_true", help="answer with a body that never ends")
    parser.add_argument("--redirect", metavar="URL", help="answer every request with a redirect")


def run(server: Server, arguments: argparse.Namespace) -> None:
    """Serve until interrupted, and print each request with its verdict."""
    fault = Fault(arguments.delay, hang=arguments.hang, reset=arguments.reset, endless=arguments.endless)
    fault.status = arguments.fail
    if arguments.redirect:
        fault.status, fault.headers = 302, {"Location": arguments.redirect}
    server.always = fault if fault != Fault() else None
    server.told = lambda text: print(text, flush=True)  # noqa: T201 - a command

    async def serve() -> None:
        async with server:
            print(f"listening on {server.url}", flush=True)  # noqa: T201 - a command
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())
