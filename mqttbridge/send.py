"""Sends uplinks as a network server would, to rehearse an integration. Called by the command line alone."""

from __future__ import annotations

import asyncio
import difflib
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import msgspec

from mqttbridge.clock import SystemClock
from mqttbridge.errors import LinkError, MqttBridgeError
from mqttbridge.formats import sample
from mqttbridge.formats.token import sign
from mqttbridge.mqtt.client import link_options, open_link
from mqttbridge.mqtt.link import REFUSED, Publish
from mqttbridge.mqtt.reasons import reason
from mqttbridge.settings.schema import HttpSource, MqttSource
from mqttbridge.settings.secret import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mqttbridge.mqtt.link import Ack, Received
    from mqttbridge.settings.loader import Loaded

__all__ = ["Sample", "SendError", "send_uplinks"]

HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*").fullmatch
DEV_EUI = re.compile(r"[0-9A-Fa-f]{16}").fullmatch
ANSWER_WITHIN = 10.0
"""Seconds."""
AS_ID = "mqttbridge-send"
AT_ONCE = 100
"""Publishes in flight."""


class SendError(MqttBridgeError):
    """Nothing, or not everything, could be sent."""


class Sample(msgspec.Struct, frozen=True):
    """What to send: DevEUI, payload in hex, FPort."""

    dev_eui: str
    payload: str
    fport: int


async def send_uplinks(loaded: Loaded, source: str, what: Sample, count: int) -> None:
    """Send `count` uplinks to a source, one after the other, with rising FCntUp. Raises `SendError`."""
    dev_eui = what.dev_eui.replace("-", "").replace(":", "")
    if not DEV_EUI(dev_eui):
        raise SendError(f"--dev-eui {what.dev_eui!r} is not a DevEUI; give 16 hex digits")
    if not HEX(what.payload):
        raise SendError(f"--payload {what.payload!r} is not hex; give an even number of hex digits")
    settings = loaded.settings.sources.get(source)
    if settings is None:
        raise SendError(_unknown(source, list(loaded.settings.sources)))
    bodies = _bodies(dev_eui.upper(), what, count)
    if isinstance(settings, MqttSource):
        await _publish(settings, dev_eui.upper(), bodies)
    else:
        await _post(loaded, source, settings, bodies)


def _unknown(source: str, known: list[str]) -> str:
    near = difflib.get_close_matches(source, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
    return f"there is no source {source!r} in the configuration; {hint}"


def _bodies(dev_eui: str, what: Sample, count: int) -> Iterator[bytes]:
    clock = SystemClock()
    # FCntUp goes on rising from one call to the next, as a device's would.
    first = clock.now() // 1000 % 50_000
    for number in range(count):
        yield sample.uplink(
            dev_eui,
            fcnt=first + number,
            fport=what.fport,
            payload_hex=what.payload,
            time_ms=clock.now(),
        )


async def _post(loaded: Loaded, source: str, settings: HttpSource, bodies: Iterator[bytes]) -> None:
    host, port = loaded.settings.http.address
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (what is listened on, not what we bind)
    where = f"[{host}]" if ":" in host else host
    url = f"http://{where}:{port}/uplink/{source}"
    headers = {"content-type": "application/json", "user-agent": "mqttbridge-send"}
    async with httpx.AsyncClient(timeout=ANSWER_WITHIN, headers=headers, trust_env=False) as client:
        for sent, body in enumerate(bodies):
            query = "" if settings.as_key is None else "?" + _signature(body, settings.as_key.reveal())
            try:
                answer = await client.post(url + query, content=body)
            except httpx.HTTPError as error:
                why = f"no answer from {url}: {_cause(error)}; is mqttbridge running?"
                raise SendError(why + _through(sent)) from error
            if answer.status_code != httpx.codes.OK:
                raise SendError(f"{url} answered {answer.status_code}: {_detail(answer)}{_through(sent)}")


def _cause(error: BaseException) -> str:
    """Give what the system said, which a library may have wrapped in words of its own."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.errno:
            # The loop puts the address into `strerror`.
            return os.strerror(inner.errno).lower()
        group = inner.exceptions if isinstance(inner, BaseExceptionGroup) else ()
        inner = group[0] if group else inner.__cause__ or inner.__context__
    return str(error) or type(error).__name__


def _through(sent: int) -> str:
    """Say how many were taken before the one that was not."""
    return f" ({sent} sent before that)" if sent else ""


def _signature(body: bytes, as_key: str) -> str:
    """Sign as an LRC would, at this moment."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return sign(body, as_key, as_id=AS_ID, time=now)


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]


class _Acks:
    """Listens to the link, and counts answers."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.awaited = 0
        self.sent = 0
        self.news = asyncio.Event()

    def acknowledged(self, acks: Sequence[Ack]) -> None:
        self.awaited -= len(acks)
        for ack in acks:
            self.sent += ack.code < REFUSED
            if ack.code >= REFUSED and not self.outcome.done():
                self.outcome.set_exception(SendError(f"the broker refuses the uplink: {reason(ack.code)}"))
        self.news.set()

    def received(self, messages: Sequence[Received]) -> None:
        """Nothing is subscribed."""

    def lost(self, error: LinkError) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(SendError(f"the broker's connection ended: {error}"))
        self.news.set()


async def _publish(settings: MqttSource, dev_eui: str, bodies: Iterator[bytes]) -> None:
    """Publish on the first of the source's topics, its wildcards filled in."""
    topic = _topic(plain(settings.topics[0]), dev_eui)
    acks = _Acks()
    # Never the source's own client id: that would end the daemon's session, and lose what waits in it.
    options = link_options(settings, client_id=f"mqttbridge-send-{dev_eui.lower()}", clean=True, qos=1, retain=False)
    link = open_link(options, acks)
    try:
        async with asyncio.timeout(settings.connection_timeout / 1000):
            await link.connect()
            await link.login()
        for number, body in enumerate(bodies):
            link.publish([Publish(number, topic, body)])
            acks.awaited += 1
            await _answered(acks, AT_ONCE)
        await _answered(acks, 1)
    except SendError as error:
        raise SendError(f"{error}{_through(acks.sent)}") from error
    except LinkError as error:
        raise SendError(f"the source's broker: {error}{_through(acks.sent)}") from error
    except TimeoutError as error:
        broker = settings.host_name
        raise SendError(f"the source's broker {broker} did not answer in time{_through(acks.sent)}") from error
    finally:
        await link.close()


def _topic(topic_filter: str, dev_eui: str) -> str:
    """Give a topic that the filter takes; a shared subscription's `$share/<group>/` is no part of it."""
    levels = topic_filter.split("/")
    if levels[0] == "$share":
        levels = levels[2:]
    return "/".join({"+": dev_eui, "#": "uplink"}.get(level, level) for level in levels)


async def _answered(acks: _Acks, below: int) -> None:
    """Wait until fewer than `below` answers are missing."""
    async with asyncio.timeout(ANSWER_WITHIN):
        while acks.awaited >= below and not acks.outcome.done():
            acks.news.clear()
            await acks.news.wait()
    if acks.outcome.done():
        acks.outcome.result()
