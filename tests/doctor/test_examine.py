"""The doctor at real brokers, and at those that lie, refuse and fall silent."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from mqttbridge.clock import SystemClock
from mqttbridge.doctor.examine import examine
from mqttbridge.doctor.target import Wish
from mqttbridge.mqtt.link import Step
from mqttbridge.settings.loader import load
from tests.brokers.certs import Certificates, Pair
from tests.brokers.fake import fake_broker
from tests.brokers.recorder import recorder
from tests.doctor.helpers import diagnose, failure, states, step, write
from tests.support.bridge import NOBODY, bridge, subscribed, to

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from websockets.http11 import Request, Response

    from tests.brokers.mosquitto import Mosquitto

    Start = Callable[..., Awaitable[Mosquitto]]

CERTIFICATES = Certificates()
STRANGER = Certificates()
OK, FAILED, SKIPPED = "ok", "failed", "skipped"


def at(port: int, protocol: str = "TCP", **more: Any) -> dict[str, Any]:  # noqa: ANN401 (properties of any kind)
    if protocol != "TCP":
        more = {"trustedCaCertificate": CERTIFICATES.ca, **more}
    return {"hostName": f"localhost:{port}", "protocol": protocol, **more}


# -- all well ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_a_good_broker_passes_every_step_and_nothing_is_published_unasked(
    tmp_path: Path, plain_mosquitto: Mosquitto, version: str
) -> None:
    configuration = at(plain_mosquitto.port, mqttVersion=version, downlinkTopicPattern="down/{DevEUI}")
    async with recorder(plain_mosquitto) as record:
        found = await diagnose(tmp_path, configuration)
        assert found.well
        assert states(found) == {
            "configuration": OK, "DNS": OK, "TCP": OK, "CONNACK": OK, "SUBACK": OK, "PUBACK": SKIPPED,
        }  # fmt: skip
        assert all(finding.ms is not None for finding in found.findings[1:-1])
        assert "--publish sends one test uplink to mqtt/things/0000000000000000/uplink" in step(found, "PUBACK").details
        assert step(found, "SUBACK").details == ("down/+: granted, QoS 1",)
        assert not found.published

        found = await diagnose(tmp_path, configuration, publish=True, dev_eui="00-18-b2-00-00-00-0b-20")
        assert found.well
        assert found.published
        (message,) = await record.wait_for(1)  # so the first time there was none
        assert message.topic == "mqtt/things/0018B20000000B20/uplink"
        assert b"mqttbridge doctor test" in message.payload


async def test_tls_shows_version_cipher_and_the_certificates_and_whether_one_is_wanted(
    tmp_path: Path, start_mosquitto: Start
) -> None:
    broker = await start_mosquitto(listeners={"tls": CERTIFICATES.listener(tmp_path)})
    found = await diagnose(tmp_path, at(broker.port, "SSL"))
    assert found.well
    assert states(found)["TLS"] == OK
    facts = step(found, "TLS").facts
    assert (facts["version"], facts["wantsClientCertificate"]) == ("TLSv1.3", False)
    assert facts["cipher"]
    assert facts["chain"][0]["hosts"] == ["localhost", "127.0.0.1", "::1"]
    assert facts["chain"][0]["issuer"] == step(found, "configuration").facts["trusted"][0]["subject"]
    assert "the host name localhost matches" in step(found, "TLS").details


async def test_a_client_certificate_is_shown_and_taken(tmp_path: Path, start_mosquitto: Start) -> None:
    broker = await start_mosquitto(listeners={"mtls": CERTIFICATES.listener(tmp_path, demand=True)})
    pair = CERTIFICATES.client
    found = await diagnose(tmp_path, at(broker.port, "SSL", certificate=pair.certificate, privateKey=pair.key))
    assert found.well
    assert "client certificate, to which privateKey belongs:" in step(found, "configuration").details
    assert "the broker asks for the client certificate" in step(found, "TLS").details
    log = await broker.read_log()
    assert "mqttbridge-acme-doctor" in log


async def test_websocket_is_a_step_of_its_own(tmp_path: Path, start_mosquitto: Start) -> None:
    lines = [*CERTIFICATES.listener(tmp_path), "protocol websockets"]
    broker = await start_mosquitto(listeners={"wss": lines})
    found = await diagnose(tmp_path, at(broker.port, "WSS"))
    assert found.well
    assert [name for name, state in states(found).items() if state == OK] == [
        "configuration", "DNS", "TCP", "TLS", "WebSocket", "CONNACK",
    ]  # fmt: skip


async def test_the_limits_of_mqtt_5_are_told_and_those_that_matter_are_warned_of(tmp_path: Path) -> None:
    async with fake_broker() as broker:
        broker.script.connack_properties = b"\x21\x00\x0a\x24\x01\x25\x00\x13\x00\x05"
        found = await diagnose(tmp_path, at(broker.port, mqttVersion="5", qos=2, retain=True))
    connack = step(found, "CONNACK")
    assert (connack.state, found.well) == ("warning", True)
    assert connack.facts["receiveMaximum"] == 10
    assert "keep alive 5 s, says the broker" in connack.details
    assert [word in " ".join(connack.advice) for word in ("qos is 2", "retain is true", "maxInflight is 100")] == [
        True,
        True,
        True,
    ]


# -- the running daemon ------------------------------------------------------------------------------------------------


async def test_it_leaves_the_running_session_alone(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    connection = to(plain_mosquitto, downlinkTopicPattern="down/{DevEUI}")
    async with bridge(tmp_path, connections={"acme": connection}) as daemon:
        await daemon.until_state("acme", "OPENED")
        beside = tmp_path / "beside"
        beside.mkdir()
        for _ in range(2):
            found = await diagnose(beside, connection["configuration"], publish=True)
            assert found.well
        assert not daemon.said("connection.lost")
    log = await plain_mosquitto.read_log()
    assert log.count(" as mqttbridge-acme (") == 1, "the daemon's session lived on"
    assert log.count(" as mqttbridge-acme-doctor (") == 2
    assert "mqttbridge-acme-doctor (p2, c1, k20)" in log, "a clean session"


async def test_of_a_shared_subscription_no_message_is_taken(tmp_path: Path) -> None:
    async with fake_broker() as broker:
        sources = {"ns": subscribed(broker, "$share/workers/ns/+/up", "plain/#")}
        path = await asyncio.to_thread(write, tmp_path, {}, sources)
        loaded = await asyncio.to_thread(load, path, environ={})
        found = await examine(loaded.settings, Wish(source="ns"), SystemClock())
        assert found.well
        assert list(broker.client.session.filters) == ["$share/workers-doctor/ns/+/up", "plain/#"]
        assert broker.client.id == "mqttbridge-source-ns-doctor"
        assert broker.client.clean
    assert states(found)["PUBACK"] == SKIPPED


# -- on the way --------------------------------------------------------------------------------------------------------


async def test_a_name_that_dns_does_not_know_ends_it_there(tmp_path: Path) -> None:
    found = await diagnose(tmp_path, {"hostName": "no.such.host.invalid", "downlinkTopicPattern": "d/{DevEUI}"})
    name, says, advice = failure(found)
    assert name == "DNS"
    assert "cannot be resolved" in says
    assert "getent hosts no.such.host.invalid" in advice
    assert {states(found)[later] for later in ("TCP", "TLS", "CONNACK", "SUBACK", "PUBACK")} == {SKIPPED}
    assert step(found, "SUBACK").says == "not tried: DNS failed"


async def test_a_port_where_nobody_listens_is_named_with_its_address(tmp_path: Path) -> None:
    found = await diagnose(tmp_path, at(NOBODY))
    name, says, advice = failure(found)
    assert (name, says) == ("TCP", "cannot connect: connection refused")
    assert "nobody listens" in advice
    assert step(found, "TCP").details == ("127.0.0.1: connection refused",)


async def test_an_address_that_swallows_everything_is_told_from_one_that_refuses(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        full = []
        for _ in range(3):  # the queue of connections is full: the kernel answers no further SYN
            sock = socket.socket()
            sock.setblocking(False)  # noqa: FBT003 (the standard library's signature)
            sock.connect_ex(("127.0.0.1", port))
            full.append(sock)
        found = await diagnose(tmp_path, at(port, connectionTimeout=300))
        for sock in full:
            sock.close()
    name, says, advice = failure(found)
    assert name == "TCP"
    assert "did not end within 300 ms (connectionTimeout)" in says
    assert step(found, "TCP").details == ("127.0.0.1: no answer",)
    assert "firewalls" in advice


async def test_a_broker_that_takes_the_login_and_says_nothing_is_told_with_the_time(tmp_path: Path) -> None:
    async with fake_broker() as broker:
        broker.script.connack = None
        found = await diagnose(tmp_path, at(broker.port, connectionTimeout=300))
    name, says, _ = failure(found)
    assert name == "CONNACK"
    assert "did not end within 300 ms" in says
    assert 200 < (step(found, "CONNACK").ms or 0) < 2000


# -- certificates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "ca", "says", "advice"),
    [
        (CERTIFICATES.expired, CERTIFICATES.ca, "certificate has expired", "must renew"),
        (CERTIFICATES.wrong_host, CERTIFICATES.ca, "not for this host name", "is for elsewhere.example"),
        (CERTIFICATES.self_signed, CERTIFICATES.ca, "self-signed", "trustedCaCertificate does not hold localhost"),
        (CERTIFICATES.server, STRANGER.ca, "authority", "neither the broker sends it, nor does trustedCa"),
    ],
    ids=["expired", "wrong host", "self-signed", "unknown authority"],
)
async def test_a_certificate_that_cannot_be_verified_is_shown_and_no_credential_is_sent(
    tmp_path: Path, pair: Pair, ca: str, says: str, advice: str
) -> None:
    async with fake_broker(CERTIFICATES.server_context(tmp_path, pair)) as broker:
        configuration = at(broker.port, "SSL", trustedCaCertificate=ca, username="bob", password="s3cret")
        found = await diagnose(tmp_path, configuration)
        assert not any(client.packets for client in broker.clients), "not a single MQTT packet"
    name, sentence, todo = failure(found)
    assert name == "TLS"
    assert says in sentence
    assert advice in todo
    assert len(step(found, "TLS").facts["chain"]) == 1
    assert states(found)["CONNACK"] == SKIPPED


async def test_every_fault_of_a_certificate_is_named_not_the_first_alone(tmp_path: Path) -> None:
    pair = STRANGER.issue("elsewhere.example", days=-1)
    async with fake_broker(CERTIFICATES.server_context(tmp_path, pair)) as broker:
        *_, advice = failure(await diagnose(tmp_path, at(broker.port, "SSL")))
    for words in ("is missing", "must renew", "is for elsewhere.example"):
        assert words in advice


async def test_a_client_certificate_that_is_missing_is_asked_for(tmp_path: Path, start_mosquitto: Start) -> None:
    for version in ("", "tls_version tlsv1.2"):
        lines = [*CERTIFICATES.listener(tmp_path, demand=True), *([version] if version else [])]
        broker = await start_mosquitto(listeners={"mtls": lines})
        found = await diagnose(tmp_path, at(broker.port, "SSL"))
        *_, advice = failure(found)
        assert "set certificate and privateKey" in advice
        assert step(found, "TLS").facts["wantsClientCertificate"] is True
        assert step(found, "TLS").facts["chain"]


async def test_a_client_certificate_of_an_unknown_authority_is_a_matter_for_the_operator(
    tmp_path: Path, start_mosquitto: Start
) -> None:
    broker = await start_mosquitto(listeners={"mtls": CERTIFICATES.listener(tmp_path, demand=True)})
    pair = STRANGER.client
    found = await diagnose(tmp_path, at(broker.port, "SSL", certificate=pair.certificate, privateKey=pair.key))
    *_, advice = failure(found)
    assert "knows the authority of the client certificate" in advice


async def test_an_expired_client_certificate_fails_and_the_rest_is_tried_all_the_same(
    tmp_path: Path, start_mosquitto: Start
) -> None:
    broker = await start_mosquitto(listeners={"tls": CERTIFICATES.listener(tmp_path)})
    pair = CERTIFICATES.expired
    found = await diagnose(tmp_path, at(broker.port, "SSL", certificate=pair.certificate, privateKey=pair.key))
    name, _, advice = failure(found)
    assert name == "configuration"
    assert "renew the client certificate" in advice
    assert states(found)["CONNACK"] == OK


def short_pair() -> Pair:
    """Make a certificate whose key the loader takes and OpenSSL does not."""
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 (that is the point)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "short")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=99)
    )
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    return Pair(certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


async def test_a_key_that_openssl_does_not_take_fails_before_anything_is_sent(tmp_path: Path) -> None:
    pair = short_pair()
    found = await diagnose(tmp_path, at(NOBODY, "SSL", certificate=pair.certificate, privateKey=pair.key))
    name, says, _ = failure(found)
    assert name == "configuration"
    assert "too short for OpenSSL" in says
    assert step(found, "TCP").says == "not tried: configuration failed"


# -- another protocol --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "listener", "name", "advice"),
    [
        ("SSL", "plain", "TLS", "write protocol: TCP"),
        ("WSS", "plain", "TLS", "write protocol: TCP"),
        ("TCP", "tls", "CONNACK", "write protocol: SSL"),
        ("TCP", "wss", "CONNACK", "write protocol: WSS"),
        ("WSS", "tls", "WebSocket", "write protocol: SSL"),
        ("SSL", "wss", "CONNACK", "write protocol: WSS"),
        ("SSL", "ws", "TLS", "WebSocket without TLS"),
        ("TCP", "ws", "CONNACK", "WebSocket without TLS"),
    ],
)
async def test_a_port_of_another_protocol_is_told_by_what_it_speaks(
    start_mosquitto: Start, tmp_path: Path, protocol: str, listener: str, name: str, advice: str
) -> None:
    tls = CERTIFICATES.listener(tmp_path)
    listeners = {"plain": [], "tls": tls, "ws": ["protocol websockets"], "wss": [*tls, "protocol websockets"]}
    broker = await start_mosquitto(listeners=listeners)
    found = await diagnose(tmp_path, at(broker.listeners[listener], protocol))
    failed, _, todo = failure(found)
    assert failed == name
    assert advice in todo


async def upgraded_at(path: str, context: ssl.SSLContext) -> Server:
    """Start a web server that has a WebSocket at one path alone."""

    async def handle(connection: ServerConnection) -> None:
        await connection.wait_closed()

    def elsewhere(connection: ServerConnection, request: Request) -> Response | None:
        return None if request.path == path else connection.respond(404, "not here\n")

    subprotocols = [Subprotocol("mqtt")]
    return await serve(handle, "127.0.0.1", 0, ssl=context, subprotocols=subprotocols, process_request=elsewhere)


@pytest.mark.parametrize(("there", "advice"), [("/mqtt", "it does answer at webSocketPath: /mqtt"), ("/other", "")])
async def test_a_wrong_path_is_told_with_the_status_and_the_usual_one_is_tried(
    tmp_path: Path, there: str, advice: str
) -> None:
    async with await upgraded_at(there, CERTIFICATES.server_context(tmp_path)) as server:
        port = server.sockets[0].getsockname()[1]
        found = await diagnose(tmp_path, at(port, "WSS", webSocketPath="/ws"))
    name, says, todo = failure(found)
    assert name == "WebSocket"
    assert "answered the WebSocket upgrade of /ws with HTTP 404; check webSocketPath" in says
    assert todo == advice


# -- inside ------------------------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_a_refused_login_and_is_not_shown(tmp_path: Path, start_mosquitto: Start) -> None:
    broker = await start_mosquitto(users={"bob": "geheim"})
    found = await diagnose(tmp_path, at(broker.port, username="bob", password="falsch-falsch"))
    name, says, advice = failure(found)
    assert name == "CONNACK"
    assert "check username and password" in says
    assert "mosquitto says 'not authorised' for a wrong password" in advice
    assert "--client-id" in advice
    assert "falsch-falsch" not in repr(found)


async def test_a_client_id_that_the_broker_wants_can_be_given(tmp_path: Path, start_mosquitto: Start) -> None:
    broker = await start_mosquitto(config=["clientid_prefixes only-"])
    *_, advice = failure(await diagnose(tmp_path, at(broker.port)))
    assert "mqttbridge-acme*" in advice
    assert (await diagnose(tmp_path, at(broker.port), client_id="only-this")).well


async def test_a_refused_subscription_fails_and_the_publish_is_tried_all_the_same(tmp_path: Path) -> None:
    async with fake_broker() as broker:
        broker.script.suback = 0x80
        configuration = at(broker.port, downlinkTopicPattern="d/{DevEUI}", retain=True)
        found = await diagnose(tmp_path, configuration, publish=True)
        name, says, advice = failure(found)
        assert (name, says) == ("SUBACK", "the broker refuses 1 of 1")
        assert "subscribe to d/+" in advice
        assert states(found)["PUBACK"] == OK
        assert len(broker.published) == 1
        assert not broker.published[0].retain


async def test_a_broker_that_hangs_up_at_a_subscription_is_entered_again_for_the_publish(tmp_path: Path) -> None:
    async with fake_broker() as broker:
        broker.script.answer_subscribe = False
        examining = asyncio.create_task(
            diagnose(tmp_path, at(broker.port, downlinkTopicPattern="d/{DevEUI}"), publish=True)
        )
        await broker.wait_until(lambda: broker.clients and broker.client.count(8))
        broker.client.hang_up()
        found = await examining
    name, says, _ = failure(found)
    assert (name, says) == ("SUBACK", "the broker closed the connection")
    assert states(found)["PUBACK"] == OK


async def test_answers_that_do_not_come_are_waited_for_no_longer_than_the_action_timeout(tmp_path: Path) -> None:
    async with fake_broker() as broker:
        broker.script.answer_subscribe = False
        broker.script.puback = lambda _: None
        configuration = at(broker.port, downlinkTopicPattern="d/{DevEUI}", actionTimeout=200)
        found = await diagnose(tmp_path, configuration, publish=True)
    for name in ("SUBACK", "PUBACK"):
        assert step(found, name).says.startswith(f"no {name} came within 200 ms (actionTimeout)")
        assert 150 < (step(found, name).ms or 0) < 2000


async def test_an_acl_that_forbids_the_topic_is_told_by_mqtt_5(tmp_path: Path, start_mosquitto: Start) -> None:
    broker = await start_mosquitto(acl="topic read nothing/#\n")
    found = await diagnose(tmp_path, at(broker.port, mqttVersion="5"), publish=True)
    name, says, advice = failure(found)
    assert name == "PUBACK"
    assert "not authorised" in says
    assert "publish to mqtt/things/0000000000000000/uplink" in advice
    found = await diagnose(tmp_path, at(broker.port), publish=True)
    assert found.well
    assert any("mqttVersion: 5 tells" in detail for detail in step(found, "PUBACK").details)


def test_every_step_of_a_link_is_judged() -> None:
    from mqttbridge.doctor.examine import STEPS

    assert set(STEPS) == set(Step) - {Step.NONE}
