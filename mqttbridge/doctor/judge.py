"""From facts to findings: what each step of the way in shows, why it failed, and what to do. Pure.

The sentences of errors come from `mqtt`, which translates them once; here they get what more is known about the peer.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.doctor import brokers
from mqttbridge.doctor.certificates import age, describe, order, read_pem
from mqttbridge.doctor.findings import Finding, State
from mqttbridge.errors import BrokerRefused, ConnectFailed, LinkError, LinkTimeout, LoginRefused, TlsFailed
from mqttbridge.mqtt.link import Grant, Step

if TYPE_CHECKING:
    from datetime import datetime

    from mqttbridge.mqtt.facts import Attempt, Secured
    from mqttbridge.mqtt.options import LinkOptions
    from mqttbridge.mqtt.probe import Look

__all__ = [
    "CLIENT_CERTIFICATE",
    "Case",
    "Entry",
    "cause",
    "configuration",
    "connack",
    "dns",
    "spoken_advice",
    "tcp",
    "web_socket",
    "wonders",
]

LIMITS_OF_3 = Grant()
INTERMEDIATE = frozenset({Step.TLS, Step.WEBSOCKET, Step.CONNACK})

SPOKEN = {
    "TCP": "this port speaks MQTT without TLS: write protocol: TCP, or take the broker's TLS port (as a rule 8883)",
    "SSL": "this port speaks TLS, but no WebSocket at /mqtt: if it is the broker's MQTT port, write protocol: SSL",
    "WSS": "this port speaks MQTT over WebSocket and TLS: write protocol: WSS (with webSocketPath), or take the port "
    "for MQTT (as a rule 8883)",
    "WS": "this port speaks WebSocket without TLS, which mqttbridge does not: take the port for WSS, SSL or TCP",
}
TCP_CAUSES = {
    "connection refused": "nobody listens on this port there: is the broker running, and is the port in hostName right "
    "(as a rule 8883 for SSL, 1883 for TCP, 443 for WSS)?",
    "network is unreachable": "this machine has no route to there: look at its network, and whether it has IPv6",
    "no route to host": "this machine has no route to there: look at its network, its VPN and the firewalls",
    "connection timed out": "nothing answers there: look at the address, and at firewalls on the way",
}


CLIENT_CERTIFICATE = {
    False: "the broker asks for a client certificate: get one from its operator, and set certificate and privateKey",
    True: "have the broker's operator look whether it knows the authority of the client certificate, and takes it",
}
"""What to do where the broker asks for one; by whether one is set."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt to enter the broker brought to light."""

    times: dict[Step, float]
    """Milliseconds of each step that was begun."""
    addresses: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    secured: Secured | None = None
    grant: Grant | None = None
    failed: Step | None = None
    """The step that failed; None: it is open."""
    error: LinkError | None = None


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What is examined, and what was found from outside."""

    options: LinkOptions
    own_id: str
    """The client id of the daemon's own session."""
    now: datetime
    entry: Entry
    max_inflight: int = 1
    retain: bool = False
    active: bool = True
    look: Look | None = None
    spoken: str = ""
    """What `probe.speaks` heard."""


def cause(case: Case, error: LinkError | None) -> str:
    """Give an error's sentence without the address, which stands in the heading."""
    return str(error).removeprefix(f"{case.options.where}: ")


def wonders(entry: Entry) -> bool:
    """Tell whether it is worth asking what the peer speaks: it may be another protocol."""
    error = entry.error
    if entry.failed not in INTERMEDIATE or isinstance(error, (LoginRefused, BrokerRefused)):
        return False
    return not (isinstance(error, TlsFailed) and error.verify is not None)


def spoken_advice(case: Case) -> tuple[str, ...]:
    """Say what the peer speaks, if it is not what was configured."""
    error, spoken, protocol = case.entry.error, case.spoken, case.options.protocol
    if not spoken or (isinstance(error, ConnectFailed) and error.status is not None and spoken == "SSL"):
        return ()  # a web server, and no more is known of it
    if protocol == spoken == "WSS":
        return () if case.options.web_socket_path == "/mqtt" else ("it does answer at webSocketPath: /mqtt",)
    if protocol == "TCP" and spoken == "SSL":
        return ("this port speaks TLS: write protocol: SSL, or take the broker's plain port (as a rule 1883)",)
    return () if protocol == spoken else (SPOKEN[spoken],)


# -- configuration -----------------------------------------------------------------------------------------------------


def configuration(case: Case) -> Finding:
    """Judge what can be judged without the broker."""
    options, ms = case.options, case.entry.times.get(Step.CERTIFICATES)
    if case.entry.failed is Step.CERTIFICATES:
        return Finding(step="configuration", state=State.FAILED, ms=ms, says=cause(case, case.entry.error))
    details: list[str] = []
    advice = brokers.about(options)
    worst = 1 if advice else 0
    facts: dict[str, Any] = {}
    if options.protocol != "TCP":
        worst = max(worst, _trust(case, details, advice, facts), _client_certificate(case, details, advice, facts))
    elif options.password is not None and not _is_loopback(options.host):
        worst = 1
        advice.append("the password goes over the network unencrypted: use protocol: SSL if the broker has it")
    named = {(True, True): "user name and password", (True, False): "a user name, no password"}
    named |= {(False, True): "a password, no user name"}
    credentials = named.get((options.username is not None, options.password is not None), "no user name, no password")
    details.append(f"logs in with {credentials}")
    if not case.active:
        details.append("active is false: the daemon does not connect")
    state = (State.OK, State.WARNING, State.FAILED)[worst]
    says = ("nothing to complain about", "it can work; see below", "a certificate is not valid now")[worst]
    return Finding(
        step="configuration", state=state, ms=ms, says=says, details=tuple(details), advice=tuple(advice), facts=facts
    )


def _trust(case: Case, details: list[str], advice: list[str], facts: dict[str, Any]) -> int:
    """Look at the authorities to trust."""
    if case.options.ca is None:
        details.append("trusts the authorities of the system")
        return 0
    trusted = read_pem(case.options.ca)
    facts["trusted"] = [seen.facts() for seen in trusted]
    details.append("trusts only trustedCaCertificate:")
    details += [f"  {describe(seen, case.now)}" for seen in trusted]
    levels = [age(seen, case.now)[1] for seen in trusted]
    if not levels or min(levels) < 2:  # noqa: PLR2004 - a bundle may hold a few that are past their time
        soon = [seen for seen, level in zip(trusted, levels, strict=True) if level]
        advice += [f"renew {seen.subject} in trustedCaCertificate: {age(seen, case.now)[0]}" for seen in soon]
        return int(bool(soon))
    advice.append("renew trustedCaCertificate: no broker can be verified by it any more")
    return 2


def _client_certificate(case: Case, details: list[str], advice: list[str], facts: dict[str, Any]) -> int:
    """Look at the client certificate; that the key belongs to it was checked when the file was loaded."""
    if case.options.certificate is None:
        details.append("no client certificate")
        return 0
    chain = read_pem(case.options.certificate)
    if not chain:
        return 0
    facts["client"] = [seen.facts() for seen in chain]
    details.append("client certificate, to which privateKey belongs:")
    details += [f"  {describe(seen, case.now)}" for seen in chain]
    worst = 0
    if broken := order(chain):
        advice.append(f"put the certificates in order: {broken}")
        worst = 1
    for seen in chain:
        words, level = age(seen, case.now)
        if level:
            advice.append(f"renew the client certificate {seen.subject}: {words}")
        worst = max(worst, level)
    return worst


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


# -- the way in --------------------------------------------------------------------------------------------------------


def dns(case: Case) -> Finding:
    """Judge the lookup."""
    entry, ms = case.entry, case.entry.times.get(Step.DNS)
    if entry.failed is Step.DNS:
        advice = (
            (
                f"try: getent hosts {case.options.host} on this machine; if it says nothing either, look at the "
                "spelling of hostName and at /etc/resolv.conf"
            ),
        )
        return Finding(step="DNS", state=State.FAILED, ms=ms, says=cause(case, entry.error), advice=advice)
    says = ", ".join(entry.addresses)
    if entry.addresses == (case.options.host,):
        says = "not needed: hostName is an address"
    return Finding(step="DNS", state=State.OK, ms=ms, says=says, facts={"addresses": list(entry.addresses)})


def tcp(case: Case) -> Finding:
    """Judge the connect."""
    entry, ms = case.entry, case.entry.times.get(Step.TCP)
    failures = [f"{attempt.address}: {attempt.error}" for attempt in entry.attempts if attempt.error]
    facts = {"attempts": [{"address": one.address, "error": one.error} for one in entry.attempts]}
    if entry.failed is Step.TCP:
        tried = {attempt.address for attempt in entry.attempts}
        failures += [f"{address}: no answer" for address in entry.addresses if address not in tried]
        advice = [text for word, text in TCP_CAUSES.items() if any(word in one.error for one in entry.attempts)]
        if isinstance(entry.error, LinkTimeout):
            advice.append(TCP_CAUSES["connection timed out"])
        return Finding(
            step="TCP",
            state=State.FAILED,
            ms=ms,
            says=cause(case, entry.error),
            details=tuple(failures),
            advice=tuple(advice),
            facts=facts,
        )
    reached = next((attempt.address for attempt in entry.attempts if not attempt.error), "")
    says = f"connected to {reached} port {case.options.port}"
    if not failures:
        return Finding(step="TCP", state=State.OK, ms=ms, says=says, facts=facts)
    advice = ["the other addresses cost time with each connect: have them repaired, or taken out of DNS"]
    return Finding(
        step="TCP",
        state=State.WARNING,
        ms=ms,
        says=says,
        details=tuple(failures),
        advice=tuple(advice),
        facts=facts,
    )


def web_socket(case: Case) -> Finding:
    """Judge the upgrade."""
    entry, ms = case.entry, case.entry.times.get(Step.WEBSOCKET)
    if entry.failed is not Step.WEBSOCKET:
        return Finding(step="WebSocket", state=State.OK, ms=ms, says="upgraded")
    says = cause(case, entry.error)
    return Finding(step="WebSocket", state=State.FAILED, ms=ms, says=says, advice=spoken_advice(case))


def connack(case: Case) -> Finding:
    """Judge the login."""
    entry, ms = case.entry, case.entry.times.get(Step.CONNACK)
    if entry.error is not None:
        advice = spoken_advice(case)
        if not advice:
            advice = tuple(_of_login(case, entry.error))
        return Finding(step="CONNACK", state=State.FAILED, ms=ms, says=cause(case, entry.error), advice=advice)
    grant = entry.grant or LIMITS_OF_3
    advice = tuple(_of_limits(case, grant))
    return Finding(
        step="CONNACK",
        state=State.WARNING if advice else State.OK,
        ms=ms,
        says=f"logged in; session present: {'yes' if grant.session_present else 'no'}",
        details=tuple(_limits(grant)) if case.options.v5 else (),
        advice=advice,
        facts={_camel(name): value for name, value in msgspec.structs.asdict(grant).items()},
    )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.title, rest))


def _of_login(case: Case, error: LinkError) -> list[str]:
    own = case.options.certificate is not None
    if isinstance(error, TlsFailed):
        return [CLIENT_CERTIFICATE[own]]
    wanted = case.look is not None and case.look.wants_certificate
    advice = [CLIENT_CERTIFICATE[own]] if wanted and not own else []
    return advice + brokers.of_login(error, case.options, case.own_id)


def _limits(grant: Grant) -> list[str]:
    """List the limits of MQTT 5 that differ from none."""
    keep = "as configured" if grant.keep_alive is None else f"{grant.keep_alive} s, says the broker"
    lines = [
        (
            f"Receive Maximum {grant.receive_maximum}, Maximum Packet Size {grant.maximum_packet_size}, "
            f"Maximum QoS {grant.maximum_qos}"
        ),
        f"keep alive {keep}",
    ]
    offers = {
        "retained messages": grant.retain_available,
        "wildcard subscriptions": grant.wildcards_available,
        "shared subscriptions": grant.shared_available,
    }
    lacks = [name for name, there in offers.items() if not there]
    return [*lines, f"no {', no '.join(lacks)}"] if lacks else lines


def _of_limits(case: Case, grant: Grant) -> list[str]:
    found = []
    if grant.session_present:
        found.append("the broker says that it kept a session, though a clean one was asked for: that is not MQTT")
    if grant.maximum_qos < case.options.qos:
        found.append(f"qos is {case.options.qos}, and the broker takes {grant.maximum_qos} at most; so that is used")
    if case.retain and not grant.retain_available:
        found.append("retain is true, and the broker has no retained messages; uplinks are sent without")
    if grant.receive_maximum < case.max_inflight:
        found.append(
            f"maxInflight is {case.max_inflight}, and the broker takes {grant.receive_maximum} at once; it gets so many"
        )
    return found
