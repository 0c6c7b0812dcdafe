"""From facts to findings: the TLS handshake and the certificates that the broker shows. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.doctor.certificates import age, describe, host_matches, missing, order, read_chain, read_pem
from mqttbridge.doctor.findings import Finding, State
from mqttbridge.doctor.judge import CLIENT_CERTIFICATE, cause, spoken_advice
from mqttbridge.errors import TlsFailed
from mqttbridge.mqtt.link import Step

if TYPE_CHECKING:
    from mqttbridge.doctor.certificates import Seen
    from mqttbridge.doctor.judge import Case
    from mqttbridge.mqtt.facts import Secured

__all__ = ["tls"]

UNTRUSTED = frozenset({2, 18, 19, 20, 21})
"""X509_V_ERR_…: an authority is missing."""


def tls(case: Case) -> Finding:
    """Judge the handshake."""
    entry, options = case.entry, case.options
    secured = entry.secured or (case.look.secured if case.look is not None else None)
    chain = read_chain(secured.chain) if secured is not None else []
    details = _agreed(secured) + [f"  {describe(seen, case.now)}" for seen in chain]
    if chain:
        matches = host_matches(chain[0], options.host)
        details.append(f"the host name {options.host} {'matches' if matches else 'does not match'}")
    if case.look is not None:
        details.append(_wanted(case, wanted=case.look.wants_certificate))
    facts = {
        "version": secured.version if secured else None,
        "cipher": secured.cipher if secured else None,
        "alpn": secured.alpn if secured else None,
        "chain": [seen.facts() for seen in chain],
        "wantsClientCertificate": case.look.wants_certificate if case.look is not None else None,
    }
    if entry.failed is Step.TLS:
        state, says, advice = State.FAILED, cause(case, entry.error), _of_failure(case, chain)
    else:
        advice = _of_success(case, chain, secured)
        state, says = State.WARNING if advice else State.OK, "the broker's certificate is good"
    return Finding(
        step="TLS",
        state=state,
        ms=entry.times.get(Step.TLS),
        says=says,
        details=tuple(details),
        advice=tuple(advice),
        facts=facts,
    )


def _agreed(secured: Secured | None) -> list[str]:
    if secured is None:
        return []
    parts = [part for part in (secured.version, secured.cipher) if part]
    if secured.alpn:
        parts.append(f"ALPN {secured.alpn}")
    shown = ["the broker shows, its own certificate first:"] if secured.chain else []
    return [", ".join(parts), *shown] if parts else shown


def _wanted(case: Case, *, wanted: bool) -> str:
    if case.options.certificate is None:
        return f"the broker {'asks for a client certificate, and none is set' if wanted else 'asks for no certificate'}"
    return f"the broker {'asks for the client certificate' if wanted else 'does not ask for the client certificate'}"


def _of_failure(case: Case, chain: list[Seen]) -> list[str]:
    """Say what to do; every fault of the certificate is named, not the first alone."""
    error, options = case.entry.error, case.options
    if not isinstance(error, TlsFailed) or error.verify is None:
        wanted = case.look is not None and case.look.wants_certificate
        return list(spoken_advice(case)) or ([CLIENT_CERTIFICATE[options.certificate is not None]] if wanted else [])
    found = []
    if error.verify in UNTRUSTED:
        found += _untrusted(case, chain)
    late = [(seen, age(seen, case.now)) for seen in chain]
    found += [
        f"the broker's operator must renew {seen.subject}: {words}"
        for seen, (words, level) in late
        if level == 2  # noqa: PLR2004 - not valid now
    ]
    if chain and not host_matches(chain[0], options.host):
        hosts = ", ".join(chain[0].hosts[:8])
        found.append(
            f"the certificate is for {hosts}: write one of these as hostName, or have the broker's certificate issued "
            f"for {options.host}"
            if hosts
            else "the certificate names no host at all: have the broker's certificate issued again, with hostName in it"
        )
    return found


def _untrusted(case: Case, chain: list[Seen]) -> list[str]:
    trusted = None if case.options.ca is None else read_pem(case.options.ca)
    found = []
    if lacks := missing(chain, trusted):
        found.append(lacks)
    if broken := order(chain):
        found.append(f"the broker's chain is out of order: {broken}")
    if len(chain) == 1 and chain[0].own:
        found.append("if you know this certificate to be the broker's, set it as trustedCaCertificate")
    else:
        found.append("get the authority's certificate (PEM) from the broker's operator; set trustedCaCertificate to it")
    return found


def _of_success(case: Case, chain: list[Seen], secured: Secured | None) -> list[str]:
    found = []
    for seen in chain:
        words, level = age(seen, case.now)
        if level:
            found.append(f"the broker's operator should renew {seen.subject} soon: {words}")
    if case.options.alpn and secured is not None and not secured.alpn:
        found.append(f"the broker took none of the alpn names ({', '.join(case.options.alpn)}), and let it pass")
    if case.options.certificate and case.look is not None and not case.look.wants_certificate:
        found.append("the client certificate is of no use here: the broker does not ask for it")
    return found
