"""TLS for the listener: nothing below TLS 1.2, HTTP/1.1 alone, and a renewed certificate without a restart."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import anyio

from mqttbridge.errors import StartError
from mqttbridge.mqtt.tls import load_pair
from mqttbridge.observe.log import get_logger
from mqttbridge.settings.secret import plain

if TYPE_CHECKING:
    from mqttbridge.settings.schema import Http

__all__ = ["ServerTls"]

log = get_logger()


class ServerTls:
    """What the listener shows to its clients; `context` is for the server, as long as it runs."""

    def __init__(self, http: Http) -> None:
        """Take certificate and key. Blocks for some milliseconds; raises `StartError`."""
        self._shown = _context(http)
        self._pair = (http.certificate, http.private_key)
        self._wanted = http
        self._asked = anyio.Event()
        self.context = _context(http)
        # Another pair loaded into the same context would stand beside the old one if its key is of another kind.
        self.context.sni_callback = self._choose

    def take_up(self, http: Http) -> None:
        """Show this certificate, if it is another one, to whoever connects from soon on. `run` does it."""
        self._wanted = http
        self._asked.set()

    def renew(self, http: Http) -> None:
        """Show this certificate to whoever connects from now on. Blocks for some milliseconds; raises `StartError`."""
        self._shown = _context(http)
        self._pair = (http.certificate, http.private_key)

    async def run(self) -> None:
        """Take up what is asked for, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            wanted = self._wanted
            if self._pair == (wanted.certificate, wanted.private_key) or wanted.certificate is None:
                continue
            try:
                await anyio.to_thread.run_sync(self.renew, wanted)
            except (StartError, OSError) as error:
                log.warning("config.warning", reason=f"the renewed http.certificate is not shown: {error}")
            else:
                log.info("http.renewed")

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Is called in every handshake, whether or not the client names a server."""
        connection.context = self._shown


def _context(http: Http) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    if http.certificate is None or http.private_key is None:
        raise StartError("http.certificate and http.privateKey are not both there")
    try:
        load_pair(context, plain(http.certificate), plain(http.private_key))
    except ValueError as error:
        raise StartError(f"cannot listen with TLS (http.certificate, http.privateKey): {error}") from None
    return context
