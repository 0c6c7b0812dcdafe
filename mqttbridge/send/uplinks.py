"""Sends uplinks as a network server would: in its format, by HTTP (signed where asked) or by MQTT."""

from __future__ import annotations

import difflib
import re
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import msgspec

from mqttbridge.clock import SystemClock
from mqttbridge.downlinks.causes import cause
from mqttbridge.formats import sample, sample_chirpstack, sample_tts
from mqttbridge.formats.token import sign
from mqttbridge.send.talk import SendError, talk, through, unknown
from mqttbridge.settings.schema import HttpSource, MqttSource
from mqttbridge.settings.secret import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mqttbridge.settings.loader import Loaded
    from mqttbridge.settings.schema import Source

__all__ = ["Sample", "device", "send_uplinks"]

HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*").fullmatch
DEV_EUI = re.compile(r"[0-9A-Fa-f]{16}").fullmatch
ANSWER_WITHIN = 10.0
"""Seconds."""
AS_ID = "mqttbridge-send"
FCNTS_A_MS = 1000
"""In 17 ms they make a leap that is no loss but another session (`MAX_FCNT_GAP`)."""


class Uplink(Protocol):
    """What makes a document of a format."""

    def __call__(self, dev_eui: str, *, fcnt: int, fport: int, payload_hex: str, time_ms: int) -> bytes:
        """Give the bytes."""
        ...


SAMPLES: dict[str, Uplink] = {
    "thingpark": sample.uplink,
    "chirpstack": sample_chirpstack.uplink,
    "tts": sample_tts.uplink,
}


class Sample(msgspec.Struct, frozen=True):
    """What to send: DevEUI, payload in hex, FPort."""

    dev_eui: str
    payload: str
    fport: int


async def send_uplinks(loaded: Loaded, source: str, what: Sample, count: int) -> None:
    """Send `count` uplinks to a source, one after the other, with rising FCntUp. Raises `SendError`."""
    dev_eui = device(what)
    sources = loaded.settings.sources
    settings = sources.get(source)
    if settings is None:
        raise unknown("source", source, list(sources), difflib.get_close_matches(source, sources, 1))
    bodies = _bodies(settings, dev_eui, what, count)
    if isinstance(settings, MqttSource):
        await _publish(settings, dev_eui, bodies)
    else:
        await _post(loaded, source, settings, bodies)


def device(what: Sample) -> str:
    """Give the DevEUI as it is usually written. Raises `SendError` if it or the payload is none."""
    dev_eui = what.dev_eui.replace("-", "").replace(":", "")
    if not DEV_EUI(dev_eui):
        raise SendError(f"--dev-eui {what.dev_eui!r} is not a DevEUI; give 16 hex digits")
    if not HEX(what.payload):
        raise SendError(f"--payload {what.payload!r} is not hex; give an even number of hex digits")
    return dev_eui.upper()


def first_fcnt(now: int) -> int:
    """Give the FCntUp that a call at `now` (ms) begins with, as a new session of the device would.

    It is so far from that of any other call that no uplink is a duplicate of an earlier one, and none is said to be
    missing between two calls.
    """
    return now * FCNTS_A_MS % 2**31


def _bodies(settings: Source, dev_eui: str, what: Sample, count: int) -> Iterator[bytes]:
    clock = SystemClock()
    first = first_fcnt(clock.now())
    for number in range(count):
        yield SAMPLES[settings.format](
            dev_eui, fcnt=first + number, fport=what.fport, payload_hex=what.payload, time_ms=clock.now()
        )


# -- HTTP ------------------------------------------------------------------------------------------------------------


async def _post(loaded: Loaded, source: str, settings: HttpSource, bodies: Iterator[bytes]) -> None:
    host, port = loaded.settings.http.address
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (what is listened on, not what we bind)
    where = f"[{host}]" if ":" in host else host
    tls = _trusting(loaded.settings.http.certificate)
    url = f"{'https' if tls else 'http'}://{where}:{port}/uplink/{source}"
    headers = {"content-type": "application/json", "user-agent": "mqttbridge-send"}
    if settings.authorization is not None:
        headers["authorization"] = settings.authorization.reveal()
    async with httpx.AsyncClient(timeout=ANSWER_WITHIN, headers=headers, trust_env=False, verify=tls or True) as client:
        for sent, body in enumerate(bodies):
            try:
                answer = await client.post(url + _query(settings, body), content=body)
            except httpx.HTTPError as error:
                why = f"no answer from {url}: {cause(error, own_ca=False)}; is mqttbridge running?"
                raise SendError(why + through(sent)) from error
            if answer.status_code != httpx.codes.OK:
                raise SendError(f"{url} answered {answer.status_code}: {_detail(answer)}{through(sent)}")


def _trusting(certificate: str | None) -> ssl.SSLContext | None:
    """Trust the listener's own certificate, which stands in the file, whatever name it is for."""
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=plain(certificate))
    return context


def _query(settings: HttpSource, body: bytes) -> str:
    """Give what the network server puts behind the URL: an LRC its Token, ChirpStack the event."""
    if settings.format == "chirpstack":
        return "?event=up"
    if settings.as_key is None:
        return ""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return "?" + sign(body, settings.as_key.reveal(), as_id=AS_ID, time=now)


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]


# -- MQTT ------------------------------------------------------------------------------------------------------------


async def _publish(settings: MqttSource, dev_eui: str, bodies: Iterator[bytes]) -> None:
    """Publish on the first of the source's topics, its wildcards filled in."""
    topic_filter = plain(settings.topics[0])
    # Never the source's own client id: that would end the daemon's session, and lose what waits in it.
    async with talk(settings, "the source's broker", f"mqttbridge-send-{dev_eui.lower()}") as broker:
        for body in bodies:
            await broker.publish(_topic(topic_filter, dev_eui, _natural(settings, dev_eui, body)), body)
        await broker.answered()


def _natural(settings: MqttSource, dev_eui: str, body: bytes) -> list[str]:
    """Give the levels of the topic that the network server itself would use."""
    if settings.format == "chirpstack":
        info: dict[str, Any] = msgspec.json.decode(body)["deviceInfo"]
        return ["application", info["applicationId"], "device", dev_eui.lower(), "event", "up"]
    if settings.format == "tts":
        ids: dict[str, Any] = msgspec.json.decode(body)["end_device_ids"]
        user = plain(settings.username or ids["application_ids"]["application_id"])
        return ["v3", user, "devices", ids["device_id"], "up"]
    return []


def _topic(topic_filter: str, dev_eui: str, natural: list[str]) -> str:
    """Give a topic that the filter takes; a shared subscription's `$share/<group>/` is no part of it.

    What stands for a wildcard is the level at its place in the natural topic, which may have levels before it.
    """
    levels = topic_filter.split("/")
    if levels[0] == "$share":
        levels = levels[2:]
    before = levels.index(natural[0]) if natural and natural[0] in levels else 0
    topic: list[str] = []
    for place, level in enumerate(levels):
        rest = natural[place - before :] if place >= before else []
        if level == "#":
            topic += rest or ["uplink"]
        elif level == "+":
            topic.append(rest[0] if rest else dev_eui)
        else:
            topic.append(level)
    return "/".join(topic)
