"""Downlinks to a network server over HTTP: ThingPark's LRC, ChirpStack's REST API, The Things Stack's webhooks.

Invariants:

1. `send` ends within `LIMIT`, however the network server behaves, and reads at most `LARGEST` of its answer.
2. Nothing here blocks the loop, and no name lookup that hangs takes a thread that others need.
3. No key, no Token and no part of a request stands in an answer's sentence, even if the network server echoes it.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING

import httpx

from mqttbridge import __version__
from mqttbridge.downlinks.causes import cause
from mqttbridge.downlinks.network import Answer, Later, Refused
from mqttbridge.errors import DocumentError
from mqttbridge.mqtt import tls
from mqttbridge.mqtt.lookup import Lookups
from mqttbridge.mqtt.offload import Offload
from mqttbridge.observe.redact import MASK, Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mqttbridge.clock import Clock
    from mqttbridge.downlinks.ways import Api, Post
    from mqttbridge.journal.downlink_protocol import PendingDownlink
    from mqttbridge.model import Downlink

__all__ = ["HttpNetwork"]

LIMIT = 10.0
"""Seconds in all that a request may take."""
HEAD_WITHIN = 8.0
"""Seconds until the status must have come; the rest is for the body, which may fail without harm."""
CONNECT_WITHIN = 4.0
"""Seconds for one address."""
CONNECTIONS = 16
LARGEST = 64 * 1024
"""Bytes of an answer that are read."""
PORTS = {"http": 80, "https": 443}

_lookups = Lookups()
_builders = Offload(1, "mqttbridge-api-tls")


class HttpNetwork:
    """A network server behind an `Api`; see `mqttbridge.downlinks.network.Network`."""

    def __init__(self, api: Api, url: str, *, ca: str | None, secrets: Iterable[str], clock: Clock) -> None:
        """Prepare; nothing is read or connected before the first `send`.

        `url`: apiUrl; `ca`: PEM, None for the system's authorities; `secrets`: what no sentence may hold.
        """
        self._api = api
        self._clock = clock
        self._ca = ca
        self._url = httpx.URL(url)
        self._redactor = Redactor()
        self._redactor.add(*(secret for secret in (*secrets, self._url.password) if secret))
        self._keys: set[str] = set()
        self._client: httpx.AsyncClient | None = None
        self._address = ""  # the one that worked last

    @property
    def where(self) -> str:
        """Give `host:port`, for sentences: apiUrl may hold a password."""
        url = self._url
        host = f"[{url.host}]" if ":" in url.host else url.host
        return f"{host}:{url.port or PORTS.get(url.scheme, 0)}"

    def refusal(self, downlink: Downlink, way: str) -> DocumentError | None:
        """See `Network.refusal`."""
        return self._api.refusal(downlink, way)

    async def send(self, pending: PendingDownlink) -> Answer:
        """See `Network.send`."""
        # Asked when it was taken too; but since then the configuration may have become another one.
        unfit = self._api.refusal(pending.downlink, pending.way)
        if unfit is not None:
            return Refused(str(unfit), unfit.field)
        try:
            post = self._api.post(pending, self._clock.now())
        except DocumentError as error:
            return Refused(str(error), error.field)
        self._hide(post.keys)
        deadline = asyncio.get_running_loop().time() + LIMIT
        try:
            async with asyncio.timeout_at(deadline - LIMIT + HEAD_WITHIN):
                answer = await self._open(post)
        except TimeoutError:
            return Later(f"{self._api.name} at {self.where} did not answer within {HEAD_WITHIN:g} s", everyone=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            why = cause(error, own_ca=self._ca is not None)
            return Later(f"{self._api.name} at {self.where} cannot be reached: {why}", everyone=True)
        except _Unusable as error:
            return Later(f"{self._api.name} at {self.where} cannot be reached: {error}", everyone=True)
        try:
            body, whole = await _body(answer, deadline)
        finally:
            await answer.aclose()
        return self._judged(answer.status_code, self._masked(body.decode(errors="replace"), post), post, whole=whole)

    async def close(self) -> None:
        """See `Network.close`."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _hide(self, keys: Iterable[str]) -> None:
        """Have keys masked; one may be new since a reload."""
        new = set(keys) - self._keys
        self._keys |= new
        self._redactor.add(*new)

    def _judged(self, status: int, text: str, post: Post, *, whole: bool) -> Answer:
        """Ask the `Api`; what it says is masked again, since it takes escapes out of the text."""
        match self._api.answer(status, text, whole=whole):
            case Refused(reason, field):
                return Refused(self._masked(reason, post), field)
            case Later(reason, everyone):
                return Later(self._masked(reason, post), everyone)
            case taken:
                return taken

    def _masked(self, text: str, post: Post) -> str:
        for secret in post.secrets:
            text = text.replace(secret, MASK)
        return self._redactor.text(text)

    async def _open(self, post: Post) -> httpx.Response:
        """Send a request, to one address of the host after the other, until one can be connected to."""
        client = await self._opened()
        url = httpx.URL(post.url)
        headers = [("Host", url.netloc.decode("ascii")), *post.headers]
        # The name for TLS, both to be asked for and to be verified: the URL will hold an address.
        name = {"sni_hostname": url.raw_host.decode("ascii").strip("[]").removesuffix(".")}
        failure: httpx.HTTPError | None = None
        for address in await self._addresses(url):
            request = client.build_request(
                "POST", url.copy_with(host=address), content=post.body, headers=headers, extensions=name
            )
            try:
                answer = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
                continue
            self._address = address
            return answer
        raise failure or _Unusable("its host name has no address; check apiUrl and DNS")

    async def _addresses(self, url: httpx.URL) -> list[str]:
        """Give the addresses of a host, the one that worked last first."""
        host = url.raw_host.decode("ascii").strip("[]")
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        try:
            known = await _lookups.addresses(host, url.port or PORTS.get(url.scheme, 0))
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "it is not a host name"
            raise _Unusable(f"its host name cannot be resolved: {why}; check apiUrl and DNS") from None
        found = [str(target[0]) for _, target in known]
        return sorted(dict.fromkeys(found), key=lambda address: address != self._address)

    async def _opened(self) -> httpx.AsyncClient:
        """Give the client; the first time its authorities are read, in a thread."""
        if self._client is None:
            context = await self._context()
            if self._client is None:
                self._client = _client(context)
        return self._client

    async def _context(self) -> ssl.SSLContext:
        if self._url.scheme != "https":
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and is never asked
        ca = self._ca
        key = hashlib.sha256(repr(ca).encode()).digest()
        try:
            return await _builders.run((id(self), key), lambda: tls.build(ca, None, None, ()))
        except ValueError:
            raise _Unusable("apiCaCertificate holds no usable PEM certificate") from None
        except OSError as error:
            raise _Unusable(f"the system's authorities cannot be read: {error.strerror}") from None


class _Unusable(Exception):
    """What must be said as it is."""


def _client(context: ssl.SSLContext) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=context,
        timeout=httpx.Timeout(None, connect=CONNECT_WITHIN),  # all else is limited from outside
        limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # Compressed answers would have to be bounded twice.
        headers={"User-Agent": f"mqttbridge/{__version__}", "Accept-Encoding": "identity"},
    )


async def _body(answer: httpx.Response, deadline: float) -> tuple[bytes, bool]:
    """Read an answer's body, as far as it comes; gives it, and whether it is all of it."""
    found = bytearray()
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        return b"", False
    try:
        async with asyncio.timeout_at(deadline):
            async for chunk in answer.aiter_raw():
                found += chunk
                if len(found) >= LARGEST:
                    return bytes(found[:LARGEST]), False
    except (httpx.HTTPError, OSError):  # with TimeoutError; the status says enough
        return bytes(found), False
    return bytes(found), True
