"""A server of large answers, as the daemon has it, for tests that look at its memory.

`python -m tests.control.slow_server tls 60` (or `plain`; seconds until a client is cut off). Writes its port and, if it
has TLS, its authority's certificate in one line; ends with its standard input.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import anyio
import trustme

from mqttbridge.control import protocol
from mqttbridge.control.pieces import in_pieces
from mqttbridge.control.server import HttpServer, bind
from mqttbridge.control.tls import ServerTls
from mqttbridge.settings.schema import Http
from mqttbridge.settings.secret import Secret

BODY = b"0123456789abcdef" * (1024 * 1024 // 2)
"""8 MiB."""


async def app(_scope: object, _receive: object, send: Any) -> None:  # noqa: ANN401 (ASGI)
    """Answer with much."""
    length = (b"content-length", str(len(BODY)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await in_pieces(send)({"type": "http.response.body", "body": BODY})


async def main(kind: str, read_within: float) -> None:
    """Serve until the standard input ends."""
    protocol.READ_WITHIN = read_within
    tls, ca = None, ""
    if kind == "tls":
        authority = trustme.CA()
        leaf = authority.issue_cert("localhost")
        ca = authority.cert_pem.bytes().decode()
        key = Secret(leaf.private_key_pem.bytes().decode())
        tls = ServerTls(Http(certificate=leaf.cert_chain_pems[0].bytes().decode(), private_key=key))
    with bind("127.0.0.1", 0) as listener:
        async with HttpServer(app, listener, tls=tls).serving():
            sys.stdout.write(json.dumps([listener.getsockname()[1], ca]) + "\n")
            sys.stdout.flush()
            await anyio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], float(sys.argv[2]), backend_options={"use_uvloop": True})
