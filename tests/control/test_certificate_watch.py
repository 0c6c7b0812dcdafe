"""Certificates that expire are told in time, each threshold once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

import anyio
import msgspec
import structlog
import trustme

from mqttbridge.control import certificate_watch
from mqttbridge.control.certificate_watch import CertificateWatch
from mqttbridge.settings.schema import Configuration, Connection, Http, HttpSource, MqttSource, Settings
from mqttbridge.settings.secret import Secret
from tests.journal.samples import until

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

END = datetime(2026, 12, 24, 12, tzinfo=UTC)
YEAR = timedelta(days=365)


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def pem(end: datetime = END, life: timedelta = YEAR) -> str:
    """Give a certificate that ends then, with its chain, which ends much later."""
    leaf = authority().issue_cert("client.example", not_before=end - life, not_after=end)
    return "".join(blob.bytes().decode() for blob in leaf.cert_chain_pems) + authority().cert_pem.bytes().decode()


def settings(**links: object) -> Settings:
    """Give settings with one connection of these link properties."""
    link = msgspec.structs.replace(Configuration(host_name="h"), **links)
    return Settings(connections={"acme": Connection(configuration=link)})


class Watch:
    """A watch over settings that the test changes, with a clock that it turns."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.at = END - timedelta(days=100)
        self.watch = CertificateWatch(lambda: self.settings, self)

    def now(self) -> int:
        return round(self.at.timestamp() * 1000)

    def monotonic(self) -> float:
        return self.at.timestamp()

    async def left(self, days: float, end: datetime = END) -> list[dict[str, object]]:
        """Look when so many days are left; gives the log's lines."""
        self.at = end - timedelta(days=days)
        with structlog.testing.capture_logs() as lines:
            await self.watch.examine()
        return [dict(line) for line in lines]


async def test_each_threshold_is_told_once() -> None:
    watch = Watch(settings(certificate=pem(), private_key=Secret("key")))
    told = []
    for half_days in range(100, -10, -1):
        told += [line["days"] for line in await watch.left(half_days / 2)]
    assert told == [30, 14, 7, 3, 1, 0]


async def test_the_line_names_the_connection_and_says_what_happens() -> None:
    watch = Watch(settings(certificate=pem(), private_key=Secret("key")))
    (line,) = await watch.left(5.5)
    assert line == {
        "event": "certificate.expiring",
        "log_level": "warning",
        "connection": "acme",
        "days": 5,
        "reason": "the client certificate expires on 2026-12-24 12:00 UTC; from then on the broker refuses it",
    }
    (line,) = await watch.left(-2)
    assert line["days"] == 0
    assert line["reason"] == "the client certificate has expired, on 2026-12-24 12:00 UTC: the broker refuses it"


async def test_the_listeners_own_certificate_is_watched_too() -> None:
    watch = Watch(Settings(http=Http(certificate=pem(), private_key=Secret("key"))))
    (line,) = await watch.left(5.5)
    assert (line["http"], line["days"]) == ("listen", 5)
    assert (
        line["reason"]
        == "the certificate of http.listen expires on 2026-12-24 12:00 UTC; from then on clients refuse it"
    )
    assert watch.watch.expiries() == {"http listen": END.timestamp()}


async def test_a_start_shortly_before_the_end_tells_one_line() -> None:
    watch = Watch(settings(certificate=pem()))
    assert len(await watch.left(2)) == 1
    assert await watch.left(2) == []


async def test_a_bundle_is_told_when_all_of_it_expires() -> None:
    later = END + timedelta(days=20)
    alone = pem().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    other = pem(later).split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    watch = Watch(settings(trusted_ca_certificate=alone + other))
    assert await watch.left(11) == []
    (line,) = await watch.left(25, end=later)
    assert line["reason"] == (
        "every authority in trustedCaCertificate expires on 2027-01-13 12:00 UTC; from then on no server can be "
        "verified by it"
    )
    assert watch.watch.expiries() == {"connection acme": later.timestamp()}


async def test_sources_are_looked_at_with_the_authorities_of_their_api() -> None:
    alone = pem().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    watch = Watch(
        Settings(
            sources={
                "lrc": HttpSource(api_ca_certificate=alone),
                "ns": MqttSource(host_name="h", topics=("a",), certificate=pem(END + timedelta(days=1))),
                "plain": HttpSource(),
            }
        )
    )
    assert [line["source"] for line in await watch.left(10)] == ["lrc", "ns"]
    assert watch.watch.expiries() == {
        "source lrc": END.timestamp(),
        "source ns": (END + timedelta(days=1)).timestamp(),
    }


async def test_the_earliest_of_an_owner_is_its_expiry() -> None:
    bundle = authority().cert_pem.bytes().decode()
    watch = Watch(settings(certificate=pem(), trusted_ca_certificate=bundle))
    await watch.left(90)
    assert watch.watch.expiries() == {"connection acme": END.timestamp()}


async def test_a_renewed_certificate_starts_anew() -> None:
    watch = Watch(settings(certificate=pem()))
    assert len(await watch.left(2)) == 1
    renewed = END + timedelta(days=25)
    watch.settings = settings(certificate=pem(renewed))
    (line,) = await watch.left(2)
    assert line["days"] == 27
    assert watch.watch.expiries() == {"connection acme": renewed.timestamp()}


async def test_a_connection_that_is_not_active_is_left_alone() -> None:
    inactive = Connection(active=False, configuration=Configuration(host_name="h", certificate=pem()))
    watch = Watch(Settings(connections={"acme": inactive}))
    assert await watch.left(2) == []
    assert watch.watch.expiries() == {}


async def test_a_certificate_that_lives_for_days_is_told_in_its_last_third() -> None:
    watch = Watch(settings(certificate=pem(END, timedelta(days=6))))
    assert await watch.left(5) == []
    assert await watch.left(2.5) == []
    assert [line["days"] for line in await watch.left(0.9)] == [0]
    (line,) = await watch.left(-1)
    assert "has expired" in str(line["reason"])


async def test_what_cannot_be_read_troubles_nobody() -> None:
    watch = Watch(settings(certificate="no certificate", trusted_ca_certificate=pem()))
    assert await watch.left(100) == []
    assert list(watch.watch.expiries()) == ["connection acme"]


async def test_a_text_is_read_once_however_many_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    read: Callable[[set[str]], object] = certificate_watch._read

    def counted(some: set[str]) -> object:
        texts.extend(some)
        return read(some)

    monkeypatch.setattr(certificate_watch, "_read", counted)
    one = Connection(configuration=Configuration(host_name="h", certificate=pem()))
    watch = Watch(Settings(connections={f"c{number}": one for number in range(100)}))
    await watch.left(90)
    await watch.left(80)
    assert len(texts) == 1
    assert len(watch.watch.expiries()) == 100
    watch.settings = Settings()
    await watch.left(70)
    assert not watch.watch._lives


async def test_a_reload_in_the_middle_of_a_look_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    renewed = END + timedelta(days=100)
    watch = Watch(settings(certificate=pem()))
    read = certificate_watch._read

    def reloaded(some: set[str]) -> object:
        watch.settings = settings(certificate=pem(renewed))
        return read(some)

    monkeypatch.setattr(certificate_watch, "_read", reloaded)
    assert await watch.left(2) == []
    monkeypatch.setattr(certificate_watch, "_read", read)
    assert await watch.left(2) == []
    assert watch.watch.expiries() == {"connection acme": renewed.timestamp()}


async def test_it_looks_at_the_start_and_whenever_asked_to() -> None:
    watch = Watch(settings(certificate=pem()))
    watch.at = END - timedelta(days=40)
    with structlog.testing.capture_logs() as lines:
        async with anyio.create_task_group() as group:
            group.start_soon(watch.watch.run)
            with anyio.fail_after(20):
                await until(lambda: bool(watch.watch.expiries()))
                watch.at = END - timedelta(days=2)
                watch.watch.look()
                await until(lambda: bool(lines))
            group.cancel_scope.cancel()
    assert [line["days"] for line in lines] == [2]


async def test_it_looks_twice_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_watch, "EVERY", 0.001)
    watch = Watch(settings(certificate=pem()))
    watch.at = END - timedelta(days=31)
    with structlog.testing.capture_logs() as lines:
        async with anyio.create_task_group() as group:
            group.start_soon(watch.watch.run)
            with anyio.fail_after(20):
                await until(lambda: bool(watch.watch.expiries()))
                watch.at = END - timedelta(days=29)
                await until(lambda: bool(lines))
            group.cancel_scope.cancel()
    assert [line["days"] for line in lines] == [29]
