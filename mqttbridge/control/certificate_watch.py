"""Watches when the certificates in the configuration expire, and warns in time. Run by the daemon.

It looks at the listener's own certificate, at the client certificate of each link, and at bundles of authorities, which
are of no use when the last of them has expired.

Certificates are read in a thread, each text once: a thousand connections may share one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import anyio
import msgspec
from anyio import to_thread

from mqttbridge.formats.times import moment
from mqttbridge.observe.log import get_logger
from mqttbridge.settings.pem import PemReader
from mqttbridge.settings.schema import MqttSource
from mqttbridge.settings.secret import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from mqttbridge.clock import Clock
    from mqttbridge.settings.schema import LinkSettings, Settings

__all__ = ["CertificateWatch"]

log = get_logger()

EVERY: Final = 12 * 3600.0
"""Seconds."""
THRESHOLDS: Final = (30, 14, 7, 3, 1, 0)
"""Days before the end at which it is told; 0: when it has expired."""
PART_OF_LIFE: Final = 3
"""A certificate that lives for a few days is renewed in its last third: only then is it worth a warning."""


class _Place(msgspec.Struct, frozen=True):
    """Where a certificate stands: `kind` is connection, source or http, which has the name `listen`."""

    kind: str
    name: str
    property: str


class _Life(msgspec.Struct, frozen=True):
    """From when until when: of the first certificate of a text, of authorities the latest end."""

    start: datetime
    first: datetime
    latest: datetime


class CertificateWatch:
    """Looks at the certificates of the settings in force. `run` it as a task, until cancelled."""

    def __init__(self, settings: Callable[[], Settings], clock: Clock) -> None:
        """Take what gives the settings in force."""
        self._settings = settings
        self._clock = clock
        self._lives: dict[str, _Life | None] = {}
        """By the text; None: it cannot be read, which the loader tells."""
        self._told: dict[tuple[_Place, datetime], int] = {}
        """The threshold that was told last, of each certificate: a renewed one is another."""
        self._expiries: dict[str, float] = {}
        self._asked = anyio.Event()

    async def run(self) -> None:
        """Look at once, and then twice a day and whenever asked to, until cancelled."""
        while True:
            self._asked = anyio.Event()
            await self.examine()
            with anyio.move_on_after(EVERY):
                await self._asked.wait()

    def look(self) -> None:
        """Have `run` look at once: for a reload, in the loop."""
        self._asked.set()

    def expiries(self) -> Mapping[str, float]:
        """Give when the first certificate of each owner expires: Unix seconds.

        Owners are `connection acme`, `source ns` and `http listen`.
        """
        return self._expiries

    async def examine(self) -> None:
        """Read what is new, and tell what expires soon. One at a time."""
        unread = {text for _, text in _certificates(self._settings())} - self._lives.keys()
        if unread:
            read = await to_thread.run_sync(_read, unread)
            self._lives |= read
        # The settings may have changed meanwhile: whoever changed them asks for another look.
        current = list(_certificates(self._settings()))
        self._lives = {text: self._lives[text] for _, text in current if text in self._lives}
        found = [(place, self._lives.get(text)) for place, text in current]
        ends = [(place, life, _end(place, life)) for place, life in found if life is not None]
        by_owner: dict[str, float] = {}
        for place, _, end in sorted(ends, key=lambda each: each[2], reverse=True):
            by_owner[f"{place.kind} {place.name}"] = end.timestamp()
        # In one step: a scrape of the metrics reads it in a thread.
        self._expiries = by_owner
        known = {(place, end) for place, _, end in ends}
        self._told = {key: told for key, told in self._told.items() if key in known}
        now = moment(self._clock.now())
        for place, life, end in ends:
            self._tell(place, life, end, now)

    def _tell(self, place: _Place, life: _Life, end: datetime, now: datetime) -> None:
        threshold = _threshold(life.start, end, now)
        if threshold is None or self._told.get((place, end), THRESHOLDS[0] + 1) <= threshold:
            return
        self._told[place, end] = threshold
        log.warning(
            "certificate.expiring",
            **{place.kind: place.name},
            days=max(0, (end - now) // timedelta(days=1)),
            reason=_sentence(place, end, now),
        )


def _certificates(settings: Settings) -> Iterator[tuple[_Place, str]]:
    """Give the certificates of all that is active, as PEM."""
    if settings.http.certificate is not None:
        yield _Place("http", "listen", "certificate"), plain(settings.http.certificate)
    for name, connection in settings.connections.items():
        if connection.active:
            yield from _of_link(connection.configuration, "connection", name)
    for name, source in settings.sources.items():
        if isinstance(source, MqttSource):
            yield from _of_link(source, "source", name)
        if source.api_ca_certificate is not None:
            yield _Place("source", name, "apiCaCertificate"), plain(source.api_ca_certificate)


def _of_link(link: LinkSettings, kind: str, name: str) -> Iterator[tuple[_Place, str]]:
    if link.certificate is not None:
        yield _Place(kind, name, "certificate"), plain(link.certificate)
    if link.trusted_ca_certificate is not None:
        yield _Place(kind, name, "trustedCaCertificate"), plain(link.trusted_ca_certificate)


def _read(texts: Iterable[str]) -> dict[str, _Life | None]:
    reader, lives = PemReader(), dict[str, _Life | None]()
    for text in texts:
        try:
            read = reader.certificate(text)
            lives[text] = _Life(read.not_before, read.not_after, read.latest)
        except ValueError:
            lives[text] = None
    return lives


def _end(place: _Place, life: _Life) -> datetime:
    return life.first if place.property == "certificate" else life.latest


def _threshold(start: datetime, end: datetime, now: datetime) -> int | None:
    """Give the lowest of the thresholds that is reached; None: none is, or not worth it."""
    left, third = end - now, (end - start) / PART_OF_LIFE
    reached = [days for days in THRESHOLDS if left <= timedelta(days=days) and (timedelta(days=days) <= third)]
    return min(reached, default=None)


def _sentence(place: _Place, end: datetime, now: datetime) -> str:
    when = f"{end:%Y-%m-%d %H:%M} UTC"
    if place.kind == "http":
        what, then = "the certificate of http.listen", "clients refuse it"
    elif place.property == "certificate":
        what, then = "the client certificate", "the broker refuses it"
    else:
        what, then = f"every authority in {place.property}", "no server can be verified by it"
    if end <= now:
        return f"{what} has expired, on {when}: {then}"
    return f"{what} expires on {when}; from then on {then}"
