"""Downlinks over HTTP: what each network server takes and refuses, and that none can hang, flood or mislead us."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mqttbridge import __version__
from mqttbridge.downlinks import http
from mqttbridge.downlinks.network import Later, Refused, Taken
from mqttbridge.downlinks.networks import make_network
from tests.brokers.certs import Certificates
from tests.brokers.mosquitto import free_port
from tests.networks import chirpstack, tts
from tests.networks.chirpstack import FakeChirpStack
from tests.networks.lrc import FakeLrc
from tests.networks.samples import (
    API_KEY,
    AS_ID,
    AS_KEY,
    DEV_EUI,
    Clock,
    connection,
    http_source,
    pending,
)
from tests.networks.server import Answer, Fault, Server
from tests.networks.tts import FakeThingsStack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mqttbridge.downlinks.network import Network
    from mqttbridge.settings.schema import Connection, Source
    from tests.networks.server import Request

OTHER_KEY = "ffeeddccbbaa99887766554433221100"
EUI = DEV_EUI.lower()


@asynccontextmanager
async def to(
    source: Source, connections: dict[str, Connection] | None = None, *, clock: Clock | None = None
) -> AsyncIterator[Network]:
    """Give the network of a source; it is closed at the end."""
    network = make_network("ns", source, connections or {}, clock=clock or Clock())
    assert network is not None
    try:
        yield network
    finally:
        await network.close()


def lrc_source(url: str, **changes: Any) -> Source:  # noqa: ANN401
    return http_source("thingpark", api_url=url, **changes)


def chirpstack_source(url: str, key: str = API_KEY) -> Source:
    return http_source("chirpstack", api_url=url, api_key=key)


def tts_source(url: str, key: str = API_KEY, webhook: str = "hook") -> Source:
    return http_source("tts", api_url=url, api_key=key, webhook=webhook)


# -- ThingPark ---------------------------------------------------------------------------------------------------------


async def test_an_lrc_takes_what_is_signed_for_it() -> None:
    async with FakeLrc({AS_ID: AS_KEY}) as lrc:
        source = lrc_source(Server.url.fget(lrc), downlink_as_id=AS_ID, downlink_as_key=AS_KEY.upper())
        async with to(source) as network:
            expires = Clock().now() + 60_000
            assert type(await network.send(pending(7, confirmed=True, flush=True, expires=expires))) is Taken
            assert type(await network.send(pending(8, correlation_id="00000000000000aa", payload_hex=""))) is Taken
    first, second = lrc.queued
    assert (first["DevEUI"], first["FPort"], first["Payload"]) == (DEV_EUI, "2", "0103")
    assert (first["Confirmed"], first["FlushDownlinkQueue"]) == ("1", "1")
    assert "T" in first["ValidityTime"], "an absolute time"
    assert (first["CorrelationID"], second["CorrelationID"]) == (f"{7:016x}", "00000000000000aa")
    request, _ = lrc.requests[0]
    assert request.headers["user-agent"] == f"mqttbridge/{__version__}"
    assert first["Time"].endswith("+00:00")
    assert len(first["Time"]) == len("2026-01-02T03:04:05.678+00:00")


@pytest.mark.parametrize("path", ["", "/", "/thingpark/lrc/rest/downlink"])
async def test_an_lrc_is_reached_by_its_base_and_by_its_whole_url(path: str) -> None:
    async with FakeLrc() as lrc, to(lrc_source(Server.url.fget(lrc) + path)) as network:
        assert type(await network.send(pending())) is Taken
    assert "Token" not in lrc.queued[0]
    assert "AS_ID" not in lrc.queued[0], "without credentials nothing is signed"


async def test_the_connections_credentials_stand_over_the_sources_and_the_uplink_key_is_the_last_resort() -> None:
    async with FakeLrc({AS_ID: AS_KEY, "OWN": OTHER_KEY, "MIXED": AS_KEY}) as lrc:
        own = connection(downlink_as_id="OWN", downlink_as_key=OTHER_KEY)
        mixed = connection(downlink_as_id="MIXED")
        connections = {"own": own, "mixed": mixed, "acme": connection()}
        source = lrc_source(lrc.url, downlink_as_id=AS_ID, as_key=AS_KEY)
        async with to(source, connections) as network:
            for name in ("own", "mixed", "acme", "gone"):
                assert type(await network.send(pending(connection=name))) is Taken, name
        assert [values["AS_ID"] for values in lrc.queued] == ["OWN", "MIXED", AS_ID, AS_ID]
        over = lrc_source(lrc.url, downlink_as_id=AS_ID, as_key=OTHER_KEY, downlink_as_key=AS_KEY)
        async with to(over) as network:
            assert type(await network.send(pending())) is Taken


async def test_credentials_that_change_count_for_the_next_downlink_and_are_hidden_too() -> None:
    connections = {"acme": connection(downlink_as_id="OWN", downlink_as_key=AS_KEY)}
    async with FakeLrc({"OWN": AS_KEY, "NEW": OTHER_KEY}) as lrc, to(lrc_source(lrc.url), connections) as network:
        assert type(await network.send(pending(connection="acme"))) is Taken
        connections["acme"] = connection(downlink_as_id="NEW", downlink_as_key=OTHER_KEY)
        assert type(await network.send(pending(connection="acme"))) is Taken
        del connections["acme"]
        assert type(await network.send(pending(connection="acme"))) is Refused
    assert [values["AS_ID"] for values in lrc.queued] == ["OWN", "NEW"]
    connections["acme"] = connection(downlink_as_id="NEW", downlink_as_key=OTHER_KEY)
    async with KeyEcho() as echo, to(lrc_source(echo.url), connections) as network:
        answer = await network.send(pending(connection="acme"))
        assert isinstance(answer, Refused)
        assert OTHER_KEY not in answer.reason


class KeyEcho(Server):
    """Knows the key, and says so."""

    def handle(self, request: Request) -> Answer:
        return Answer(403, f"key of {request.path}: {OTHER_KEY}".encode())


async def test_an_lrc_that_checks_refuses_by_name() -> None:
    async with FakeLrc({AS_ID: AS_KEY}) as lrc:
        for changes, words, ahead in (
            ({"downlink_as_id": "OTHER", "downlink_as_key": AS_KEY}, "Security Check. bad AS_ID", 0),
            ({"downlink_as_id": AS_ID, "downlink_as_key": OTHER_KEY}, "Security Check. bad Token", 0),
            ({"downlink_as_id": AS_ID, "downlink_as_key": AS_KEY}, "Time is too far", 3_600_000),
            ({}, "AS_ID is missing", 0),
        ):
            async with to(lrc_source(lrc.url, **changes), clock=Clock(ahead)) as network:
                answer = await network.send(pending())
            assert isinstance(answer, Refused), answer
            assert words in answer.reason
            assert answer.reason.startswith("the LRC answered 403: ")
            assert answer.reason.endswith("; check downlinkAsId, the AS key and this machine's clock")
            assert AS_KEY not in answer.reason
    assert not lrc.queued


async def test_an_lrcs_200_is_an_acceptance_only_if_it_says_so() -> None:
    page = b"<html><body>Device is unknown</body></html>"
    async with FakeLrc() as lrc, to(lrc_source(lrc.url)) as network:
        lrc.faults = [Fault(status=200, body=page), Fault(status=200, body=b"<p>REQUEST QUEUED by LRC</p>")]
        answer = await network.send(pending())
        assert isinstance(answer, Refused)
        assert "Device is unknown" in answer.reason
        assert "<" not in answer.reason
        assert type(await network.send(pending())) is Taken


# -- ChirpStack --------------------------------------------------------------------------------------------------------


async def test_chirpstack_enqueues_by_its_rest_api_and_flushes() -> None:
    async with FakeChirpStack(API_KEY) as fake, to(chirpstack_source(fake.url + "/")) as network:
        assert type(await network.send(pending(1))) is Taken
        assert type(await network.send(pending(2, confirmed=True, expires=Clock().now() + 1000))) is Taken
        first, second = fake.queue.items[EUI]
        assert (first["fPort"], first["data"], second["confirmed"]) == (2, "AQM=", True)
        assert type(await network.send(pending(3, flush=True))) is Taken
        assert len(fake.queue.items[EUI]) == 1
        assert type(await network.send(pending(4, payload_hex=None, payload=b'{"led":1}'))) is Taken
        assert fake.queue.items[EUI][1]["object"] == {"led": 1}


@pytest.mark.parametrize("options", [{}, {"database_errors": True}])
async def test_what_chirpstack_has_already_is_taken(options: dict[str, bool]) -> None:
    async with FakeChirpStack(API_KEY, **options) as fake, to(chirpstack_source(fake.url)) as network:
        fake.faults = [Fault(take=True, close=True)]
        assert isinstance(await network.send(pending()), Later)
        assert type(await network.send(pending())) is Taken
        assert len(fake.queue.items[EUI]) == 1


async def test_chirpstacks_refusals_are_named() -> None:
    queue = chirpstack.Queue({EUI}, codec_fails=True)
    async with FakeChirpStack(API_KEY, queue) as fake:
        async with to(chirpstack_source(fake.url, "wrong-key")) as network:
            answer = await network.send(pending())
            assert isinstance(answer, Refused)
            assert "401" in answer.reason
            assert answer.reason.endswith("check apiKey")
        async with to(chirpstack_source(fake.url)) as network:
            answer = await network.send(pending(dev_eui="00000000000000FF"))
            assert isinstance(answer, Refused)
            assert "404: Object does not exist" in answer.reason
            answer = await network.send(pending(payload_hex=None, payload=b"{}"))
            assert isinstance(answer, Refused)
            assert "unknown command" in answer.reason
            assert answer.field == "DevEUI_downlink.payload"


# -- The Things Stack --------------------------------------------------------------------------------------------------


async def test_the_things_stack_pushes_and_replaces() -> None:
    async with FakeThingsStack(API_KEY, "app", "hook") as fake, to(tts_source(fake.url)) as network:
        assert type(await network.send(pending(1, way="app/dev-1"))) is Taken
        assert type(await network.send(pending(2, way="app/dev-1", confirmed=True))) is Taken
        assert [item["frm_payload"] for item in fake.queue.items["dev-1"]] == ["AQM=", "AQM="]
        assert f"mqttbridge:key:{1:016x}" in fake.queue.items["dev-1"][0]["correlation_ids"]
        assert type(await network.send(pending(3, way="app/dev-1", flush=True))) is Taken
        assert len(fake.queue.items["dev-1"]) == 1
        assert type(await network.send(pending(4, way="app/dev-1", payload_hex=None, payload=b'{"led":1}'))) is Taken
        assert fake.queue.items["dev-1"][1]["decoded_payload"] == {"led": 1}


async def test_the_things_stacks_refusals_are_named() -> None:
    queue = tts.Queue({"dev-1"})
    async with FakeThingsStack(API_KEY, "app", "hook", queue) as fake:
        for source, way, words in (
            (tts_source(fake.url, "NNSXS.EXPIRED"), "app/dev-1", "403"),
            (tts_source(fake.url, webhook="other"), "app/dev-1", "webhook not found"),
            (tts_source(fake.url), "app/dev-2", "entity not found"),
            (tts_source(fake.url), "", "not known before its first uplink"),
        ):
            async with to(source) as network:
                answer = await network.send(pending(way=way))
            assert isinstance(answer, Refused), answer
            assert words in answer.reason
            assert "NNSXS" not in answer.reason
    assert not queue.items


# -- what any of them may answer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thingpark", "chirpstack", "tts"])
@pytest.mark.parametrize(
    ("status", "kinds", "everyone"),
    [
        (400, Refused, None),
        (401, Refused, None),
        (403, Refused, None),
        (404, Refused, None),
        (405, Refused, None),
        (408, Later, False),
        (410, Refused, None),
        (422, Refused, None),
        (425, Later, False),
        (429, Later, True),
        (500, Later, False),
        (501, Refused, None),
        (502, Later, True),
        (503, Later, True),
        (504, Later, True),
        (599, Later, False),
    ],
)
async def test_each_status_has_its_verdict(kind: str, status: int, kinds: type, everyone: object) -> None:
    async with FakeLrc() as server:
        url = Server.url.fget(server)
        source = {"thingpark": lrc_source, "chirpstack": chirpstack_source, "tts": tts_source}[kind](url)
        server.always = Fault(status=status, body=b"<b>why</b> not")
        async with to(source) as network:
            answer = await network.send(pending(way="app/dev-1"))
    assert type(answer) is kinds, answer
    assert str(status) in answer.reason
    assert "why" in answer.reason
    assert getattr(answer, "everyone", None) == everyone


async def test_cookies_are_not_kept() -> None:
    async with FakeLrc() as lrc, to(lrc_source(lrc.url)) as network:
        lrc.faults = [Fault(status=503, headers={"Set-Cookie": "a=b; Path=/"})]
        assert isinstance(await network.send(pending()), Later)
        assert type(await network.send(pending())) is Taken
        assert "cookie" not in lrc.requests[1][0].headers


async def test_a_redirect_is_refused_and_not_followed() -> None:
    async with FakeLrc() as there, FakeLrc() as server, to(lrc_source(server.url)) as network:
        server.always = Fault(status=307, headers={"Location": there.url})
        answer = await network.send(pending())
        assert isinstance(answer, Refused)
        assert "redirect" in answer.reason
        assert "correct apiUrl" in answer.reason
        assert not there.requests


async def test_a_body_that_never_ends_is_read_no_further_than_its_limit() -> None:
    async with FakeChirpStack(API_KEY) as fake, to(chirpstack_source(fake.url)) as network:
        fake.faults = [Fault(endless=True), Fault(endless=True, status=503), Fault(endless=True, status=400)]
        begun = time.monotonic()
        assert type(await network.send(pending())) is Taken, "the status says it"
        assert isinstance(await network.send(pending()), Later)
        assert isinstance(await network.send(pending()), Refused)
        assert time.monotonic() - begun < 5
    async with FakeLrc() as lrc, to(lrc_source(lrc.url)) as network:
        lrc.faults = [Fault(endless=True)]
        assert isinstance(await network.send(pending()), Later), "it may have said that it is queued, further on"


async def test_a_network_server_that_hangs_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LIMIT", 0.4)
    monkeypatch.setattr(http, "HEAD_WITHIN", 0.2)
    async with FakeChirpStack(API_KEY) as fake, to(chirpstack_source(fake.url)) as network:
        fake.faults = [Fault(hang=True), Fault(drip=True, status=404, body=b"{"), Fault(drip=True, body=b"{")]
        begun = time.monotonic()
        answer = await network.send(pending())
        assert isinstance(answer, Later)
        assert answer.everyone
        assert "did not answer within 0.2 s" in answer.reason
        assert isinstance(await network.send(pending()), Refused), "the status has come"
        assert type(await network.send(pending())) is Taken
        assert time.monotonic() - begun < 5
        assert type(await network.send(pending(2))) is Taken, "and it is used again"


async def test_a_slow_one_holds_up_its_own_requests_alone_and_connections_are_bounded() -> None:
    async with FakeChirpStack(API_KEY) as fake, to(chirpstack_source(fake.url)) as network:
        fake.always = Fault(delay=0.1)
        answers = await asyncio.gather(*(network.send(pending(number)) for number in range(1, 41)))
        assert [type(one) for one in answers] == [Taken] * 40
        assert 1 < fake.most_at_once <= 16


async def test_a_cancelled_request_leaves_room_for_the_next() -> None:
    async with FakeChirpStack(API_KEY) as fake, to(chirpstack_source(fake.url)) as network:
        fake.faults = [Fault(hang=True) for _ in range(20)]
        sends = [asyncio.create_task(network.send(pending(number))) for number in range(1, 21)]
        await fake.wait_for(16)
        for send in sends:
            send.cancel()
        await asyncio.gather(*sends, return_exceptions=True)
        assert all(send.cancelled() for send in sends)
        fake.faults.clear()
        assert type(await network.send(pending(99))) is Taken


async def test_connections_that_end_are_said_in_plain_words() -> None:
    async with FakeLrc() as lrc, to(lrc_source(lrc.url)) as network:
        for fault, words in (
            (Fault(reset=True), "connection reset by peer"),
            (Fault(close=True), "closed the connection without an answer"),
            (Fault(raw=b"SSH-2.0-OpenSSH_9.2\r\n"), "what it answers is not HTTP"),
        ):
            lrc.faults = [fault]
            answer = await network.send(pending())
            assert isinstance(answer, Later), answer
            assert answer.everyone
            assert answer.reason.startswith(f"the LRC at 127.0.0.1:{lrc.port} cannot be reached: ")
            assert words in answer.reason
        assert type(await network.send(pending())) is Taken, "and it goes on"


async def test_a_host_that_does_not_listen_or_has_no_address_is_said() -> None:
    port = free_port()
    for url, words in (
        (f"http://127.0.0.1:{port}", f"127.0.0.1:{port} cannot be reached: connection refused"),
        (f"http://[::1]:{port}", f"[::1]:{port} cannot be reached: "),
        ("http://nowhere.invalid:8080", "nowhere.invalid:8080 cannot be reached: its host name cannot be resolved"),
    ):
        async with to(lrc_source(url)) as network:
            answer = await network.send(pending())
        assert isinstance(answer, Later)
        assert answer.everyone
        assert words in answer.reason


async def test_the_next_address_is_tried_when_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def addresses(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
        asked.append((host, port))
        return [(2, ("127.0.0.2", port)), (2, ("127.0.0.1", port))]

    monkeypatch.setattr(http._lookups, "addresses", addresses)
    async with FakeLrc() as lrc, to(lrc_source(f"http://lrc.example.com:{lrc.port}")) as network:
        assert type(await network.send(pending())) is Taken
        assert type(await network.send(pending())) is Taken
        assert asked[0] == ("lrc.example.com", lrc.port)
        assert lrc.requests[0][0].headers["host"] == f"lrc.example.com:{lrc.port}"


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_certificate_of_the_configured_authority_is_good(
    certificates: Certificates, tmp_path: Path, host: str
) -> None:
    context = await asyncio.to_thread(certificates.server_context, tmp_path)
    async with FakeLrc(tls=context) as lrc:
        source = lrc_source(f"https://{host}:{lrc.port}", api_ca_certificate=certificates.ca)
        async with to(source) as network:
            answers = await asyncio.gather(*(network.send(pending(number)) for number in range(1, 5)))
            assert [type(one) for one in answers] == [Taken] * 4


@pytest.mark.parametrize(
    ("pair", "own", "words"),
    [
        ("expired", True, "its certificate has expired"),
        ("wrong_host", True, "its certificate is not for this host name; check apiUrl"),
        ("self_signed", True, "its certificate is self-signed; apiCaCertificate does not hold this authority"),
        ("server", False, "unknown"),
    ],
)
async def test_what_is_wrong_with_a_certificate_is_said(
    certificates: Certificates, tmp_path: Path, pair: str, own: bool, words: str
) -> None:
    context = await asyncio.to_thread(certificates.server_context, tmp_path, getattr(certificates, pair))
    async with FakeLrc(tls=context) as lrc:
        source = lrc_source(f"https://localhost:{lrc.port}", api_ca_certificate=certificates.ca if own else None)
        async with to(source) as network:
            answer = await network.send(pending())
        assert isinstance(answer, Later)
        assert answer.everyone
        assert words in answer.reason
        assert own or answer.reason.endswith("set apiCaCertificate")
        assert not lrc.requests


async def test_tls_where_there_is_none_and_an_unusable_authority_are_said(certificates: Certificates) -> None:
    async with FakeLrc() as lrc:
        for ca, words in ((certificates.ca, "does not speak TLS"), ("no PEM", "apiCaCertificate holds no usable PEM")):
            async with to(lrc_source(f"https://127.0.0.1:{lrc.port}", api_ca_certificate=ca)) as network:
                answer = await network.send(pending())
            assert isinstance(answer, Later)
            assert words in answer.reason


async def test_a_silent_tls_handshake_is_given_up_on(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates
) -> None:
    monkeypatch.setattr(http, "CONNECT_WITHIN", 0.2)
    ended = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with to(lrc_source(f"https://127.0.0.1:{port}", api_ca_certificate=certificates.ca)) as network:
        answer = await network.send(pending())
    ended.set()
    server.close()
    await server.wait_closed()
    assert isinstance(answer, Later)
    assert answer.reason.endswith("it does not answer when connected to")


# -- secrets -----------------------------------------------------------------------------------------------------------


class Echo(Server):
    """Says all that it was sent in its refusal."""

    def handle(self, request: Request) -> Answer:
        said = f"{request.query} {request.headers}".replace("<", " ")
        return Answer.json(400, {"code": 3, "message": said, "details": []})


@pytest.mark.parametrize("kind", ["thingpark", "chirpstack", "tts"])
async def test_no_secret_comes_back_though_the_network_server_echoes_it(kind: str) -> None:
    async with Echo() as echo:
        url = echo.url.replace("//", "//user:pa55word@")
        source = {
            "thingpark": lambda: lrc_source(url, downlink_as_id="A", downlink_as_key=AS_KEY),
            "chirpstack": lambda: chirpstack_source(url),
            "tts": lambda: tts_source(url),
        }[kind]()
        async with to(source) as network:
            answer = await network.send(pending(way="app/dev-1", dev_eui="00000000000000AA", payload_hex=""))
        assert isinstance(answer, Refused)
        sent = echo.requests[0][0].query
    token = sent.partition("Token=")[2]
    assert (kind == "thingpark") == bool(token)
    for secret in filter(None, (AS_KEY, API_KEY, "pa55word", token, token[:20])):
        assert secret not in answer.reason


async def test_an_answer_in_no_encoding_that_was_asked_for_counts_by_its_status() -> None:
    raw = b"HTTP/1.1 400 x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"
    async with FakeLrc() as lrc, to(lrc_source(lrc.url)) as network:
        lrc.faults = [Fault(raw=raw)]
        answer = await network.send(pending())
        assert isinstance(answer, Refused)
        assert "answered 400" in answer.reason
