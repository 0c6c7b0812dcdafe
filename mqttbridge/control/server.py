"""uvicorn inside the daemon's own loop, on a socket that is bound before anything else starts."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import anyio
import uvicorn

from mqttbridge.control.protocol import BoundedProtocol
from mqttbridge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from mqttbridge.control.tls import ServerTls

__all__ = ["HttpServer", "bind"]

BACKLOG = 1024
KEEP_ALIVE = 75
"""Seconds; longer than what network servers and proxies keep idle connections for."""
LAST_REQUESTS = 3
"""Seconds that requests under way get when the daemon ends."""


def bind(host: str, port: int) -> socket.socket:
    """Take the address. Raises `StartError` with what to do."""
    where = f"{host}:{port}" if ":" not in host else f"[{host}]:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StartError(f"cannot listen on {where} (http.listen): {reason}; free the port, or name another") from error
    listener.setblocking(False)  # noqa: FBT003 (the standard library's own signature)
    return listener


class HttpServer(uvicorn.Server):
    """A server that leaves signals to the daemon."""

    def __init__(
        self,
        app: Any,  # noqa: ANN401 (uvicorn's own type is wider than ours)
        listener: socket.socket,
        protocol: type[BoundedProtocol] = BoundedProtocol,
        tls: ServerTls | None = None,
    ) -> None:
        """Serve `app` on a bound listener, over TLS if there is some."""
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                # Its warnings are about what strangers send: no line in the log for each of these.
                log_level="error",
                http=protocol,
                ws="none",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=LAST_REQUESTS,
                ssl_context_factory=None if tls is None else lambda *_: tls.context,
            ),
        )
        self._listener = listener

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the daemon's business."""
        yield

    async def run_until_stopped(self) -> None:
        """Serve until `stop`."""
        await self.serve(sockets=[self._listener])

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve as long as the block goes on."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.run_until_stopped)
            try:
                yield
            finally:
                self.stop()

    def stop(self) -> None:
        """Take no more requests; those under way get some seconds."""
        self.should_exit = True
