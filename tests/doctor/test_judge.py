"""From facts to findings, where no broker is needed for it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme

from mqttbridge.doctor import judge
from mqttbridge.doctor.judge import Case, Entry
from mqttbridge.doctor.judge_tls import tls
from mqttbridge.doctor.judge_traffic import own_share, suback
from mqttbridge.errors import BrokerRefused, ConnectFailed, LinkError, LinkLost, LoginRefused, TlsFailed
from mqttbridge.mqtt.facts import Attempt, Secured
from mqttbridge.mqtt.link import Grant, Step
from mqttbridge.mqtt.options import LinkOptions
from mqttbridge.mqtt.probe import Look
from mqttbridge.settings.secret import Secret
from tests.brokers.certs import Certificates

CERTIFICATES = Certificates()
NOW = datetime.now(UTC)
THERE = Entry(times={Step.DNS: 1.0, Step.TCP: 1.0}, addresses=("192.0.2.1",), attempts=(Attempt("192.0.2.1"),))


def case(entry: Entry = THERE, **more: Any) -> Case:  # noqa: ANN401 (options and fields of any kind)
    fields = {name: more.pop(name) for name in list(more) if name in Case.__struct_fields__}
    options = LinkOptions(**{"host": "b.example", "port": 8883, "client_id": "x-doctor", **more})
    return Case(**{"options": options, "own_id": "x", "now": NOW, "entry": entry, **fields})


def test_an_address_that_fails_beside_one_that_answers_is_a_warning() -> None:
    attempts = (Attempt("2001:db8::1", "network is unreachable"), Attempt("192.0.2.1"))
    found = judge.tcp(case(Entry(times={Step.TCP: 251.0}, attempts=attempts)))
    assert (found.state, found.says) == ("warning", "connected to 192.0.2.1 port 8883")
    assert found.details == ("2001:db8::1: network is unreachable",)
    assert "taken out of DNS" in found.advice[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [("no route to host", "VPN"), ("network is unreachable", "IPv6"), ("connection timed out", "firewalls")],
)
def test_why_tcp_failed_is_told_with_what_to_do(error: str, words: str) -> None:
    attempts = (Attempt("192.0.2.1", error),)
    entry = Entry(times={Step.TCP: 1.0}, attempts=attempts, failed=Step.TCP, error=ConnectFailed("b.example:8883: no"))
    found = judge.tcp(case(entry))
    assert (found.state, found.says) == ("failed", "no")
    assert words in " ".join(found.advice)


@pytest.mark.parametrize(("host", "state"), [("b.example", "warning"), ("127.0.0.1", "ok"), ("localhost", "ok")])
def test_a_password_in_the_clear_is_warned_of_unless_it_stays_on_the_machine(host: str, state: str) -> None:
    found = judge.configuration(case(host=host, password=Secret("geheim")))
    assert found.state == state
    assert "geheim" not in repr(found)


def test_what_the_daemon_does_not_connect_is_said() -> None:
    assert "active is false: the daemon does not connect" in judge.configuration(case(active=False)).details
    assert "logs in with no user name, no password" in judge.configuration(case()).details


def test_authorities_past_their_time_fail_and_one_old_one_in_a_bundle_warns() -> None:
    late = NOW + timedelta(days=400_000)
    (old, young) = CERTIFICATES.ca, trustme.CA().cert_pem.bytes().decode()
    assert judge.configuration(case(protocol="SSL", ca=old)).state == "ok"
    assert judge.configuration(case(protocol="SSL", ca=old, now=late)).state == "failed"
    expired = CERTIFICATES.expired.certificate
    found = judge.configuration(case(protocol="SSL", ca=expired + young))
    assert found.state == "warning"
    assert "renew" in found.advice[0]


def test_a_client_certificate_whose_chain_is_out_of_order_is_told() -> None:
    root = trustme.CA()
    middle = root.create_child_ca()
    first = middle.issue_cert("me@example.com").cert_chain_pems[0].bytes().decode()
    chain = first + root.cert_pem.bytes().decode() + middle.cert_pem.bytes().decode()
    found = judge.configuration(case(protocol="SSL", certificate=chain, private_key=Secret("PEM")))
    assert found.state == "warning"
    assert "which did not sign it" in " ".join(found.advice)


def shown(**more: Any) -> Case:  # noqa: ANN401 (options and fields of any kind)
    """Give a case in which TLS went well."""
    leaf = trustme.CA().issue_cert("b.example", not_before=NOW - timedelta(days=200), not_after=more.pop("until"))
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    secured = Secured("TLSv1.3", "TLS_X", None, (der,))
    look = Look(secured, wants_certificate=more.pop("wants", False))
    return case(Entry(times={Step.TLS: 9.0}, secured=secured), look=look, protocol="SSL", **more)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"until": NOW + timedelta(days=10)}, "should renew"),
        ({"until": NOW + timedelta(days=90), "alpn": ("mqtt",)}, "took none of the alpn names (mqtt)"),
        ({"until": NOW + timedelta(days=90), "certificate": "PEM"}, "does not ask for it"),
    ],
)
def test_what_is_good_today_and_may_not_stay_so_is_a_warning(given: dict[str, Any], words: str) -> None:
    found = tls(shown(**given))
    assert found.state == "warning"
    assert words in " ".join(found.advice)
    assert tls(shown(until=NOW + timedelta(days=90))).state == "ok"


@pytest.mark.parametrize(
    ("failed", "error", "wonders"),
    [
        (Step.TLS, TlsFailed("no TLS"), True),
        (Step.TLS, TlsFailed("expired", verify=10), False),
        (Step.CONNACK, LinkLost("closed"), True),
        (Step.CONNACK, LoginRefused("no", code=5), False),
        (Step.CONNACK, BrokerRefused("no", code=2), False),
        (Step.TCP, ConnectFailed("refused"), False),
        (None, None, False),
    ],
)
def test_the_peer_is_asked_what_it_speaks_only_where_it_may_be_another_protocol(
    failed: Step | None,
    error: LinkError | None,
    wonders: bool,
) -> None:
    assert judge.wonders(Entry(times={}, failed=failed, error=error)) is wonders


def test_a_session_that_a_clean_login_should_not_find_is_told() -> None:
    entry = Entry(times={Step.CONNACK: 1.0}, grant=Grant(session_present=True))
    found = judge.connack(case(entry))
    assert (found.state, found.says) == ("warning", "logged in; session present: yes")


def test_a_subscription_that_loses_messages_is_a_warning_and_a_refusal_is_a_failure() -> None:
    options = case().options
    assert suback(options, ["a"], [1], None, 1.0).state == "ok"
    assert suback(options, ["a"], [0], None, 1.0).state == "warning"
    found = suback(options, ["a", "b", "c"], [0x87, 1, 0], None, 1.0)
    assert (found.state, found.says) == ("failed", "the broker refuses 1 of 3")
    assert found.details[0] == "a: refused: not authorised (0x87)"


@pytest.mark.parametrize(
    ("given", "own"),
    [("a/+", "a/+"), ("$share/g/a/#", "$share/g-doctor/a/#"), ("$share/g//a", "$share/g-doctor//a")],
)
def test_a_shared_subscription_is_tried_in_a_group_of_its_own(given: str, own: str) -> None:
    assert own_share(given) == own
