"""Look at the properties of one broker connection together, and at all connections together.

Checks of single values stand in `checks`. A property that failed on its own is not judged again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mqttbridge.settings.pem import PemReader
from mqttbridge.settings.problems import dotted, shown
from mqttbridge.settings.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import msgspec.inspect as types

    from mqttbridge.settings.pem import Certificate
    from mqttbridge.settings.problems import KeyPath, Mark, Problems
    from mqttbridge.settings.schema import LinkSettings

__all__ = ["LinkCheck", "check_client_ids"]

TLS_ONLY = {
    "trusted_ca_certificate": "trustedCaCertificate",
    "certificate": "certificate",
    "private_key": "privateKey",
    "alpn": "alpn",
}


class LinkCheck:
    """Checks the links of one load; remembers the certificates that it has read."""

    def __init__(self, problems: Problems, marks: Mapping[KeyPath, Mark], now: int) -> None:
        """Take where problems go, where each property stands, and the wall time in ms."""
        self._problems = problems
        self._marks = marks
        self._now = datetime.fromtimestamp(now / 1000, UTC)
        self._pem = PemReader()

    def check(self, struct: types.StructType, given: Mapping[str, Any], path: KeyPath, failed: object) -> bool:
        """Check one link; `given` has the converted properties by attribute. Gives whether all is well."""
        values = {field.name: field.default for field in struct.fields} | dict(given)
        sound = [
            self._tls_only(values, path, failed),
            self._authorities(values["trusted_ca_certificate"], (*path, "trustedCaCertificate"), failed),
            self._mutual(values["certificate"], values["private_key"], path, failed),
            self._login(values, path, failed),
        ]
        return all(sound)

    def _tls_only(self, values: Mapping[str, Any], path: KeyPath, failed: object) -> bool:
        if values["protocol"] != "TCP":
            return True
        given = [name for attribute, name in TLS_ONLY.items() if values[attribute] and values[attribute] is not failed]
        for name in given:
            self._fail((*path, name), "needs TLS, but protocol is TCP; write protocol: SSL (or WSS), or remove it")
        return not given

    def _authorities(self, text: str | None, path: KeyPath, failed: object) -> bool:
        if text is None or text is failed:
            return True
        return self._certificate(text, path) is not None

    def _mutual(self, certificate: Any, key: Any, path: KeyPath, failed: object) -> bool:  # noqa: ANN401 - may be `failed`
        at_certificate, at_key = (*path, "certificate"), (*path, "privateKey")
        if certificate is not None and key is None:
            return self._fail(at_certificate, "needs privateKey beside it: mutual TLS takes both")
        if key is not None and certificate is None:
            return self._fail(at_key, "needs certificate beside it: mutual TLS takes both")
        read = None if certificate in {None, failed} else self._certificate(certificate, at_certificate)
        if read is not None:
            self._age(read, at_certificate)
        if key in {None, failed}:
            return certificate in {None, failed} or read is not None
        try:
            public_key = self._pem.public_key_of("".join(key))
        except ValueError as error:
            return self._fail(at_key, str(error))
        if read is not None and public_key != read.public_key:
            return self._fail(at_key, "does not belong to certificate: their public keys differ")
        return certificate is failed or read is not None

    def _certificate(self, text: str, path: KeyPath) -> Certificate | None:
        try:
            return self._pem.certificate("".join(text))
        except ValueError as error:
            self._fail(path, str(error))
            return None

    def _age(self, certificate: Certificate, path: KeyPath) -> None:
        """Warn, no more: one customer's certificate must not keep the others from being served."""
        if certificate.not_after < self._now:
            text = f"expired on {certificate.not_after:%Y-%m-%d %H:%M} UTC; the broker will refuse it, so renew it"
            self._problems.warn(self._marks[path], path, text)
        elif certificate.not_before > self._now:
            text = (
                f"is not valid before {certificate.not_before:%Y-%m-%d %H:%M} UTC; the broker will refuse it until then"
            )
            self._problems.warn(self._marks[path], path, text)

    def _login(self, values: Mapping[str, Any], path: KeyPath, failed: object) -> bool:
        if values["mqtt_version"] != "3.1.1" or values["password"] in {None, failed} or values["username"] is not None:
            return True
        return self._fail(
            (*path, "password"),
            "needs username beside it: MQTT 3.1.1 allows no password alone (mqttVersion 5 does)",
        )

    def _fail(self, path: KeyPath, text: str) -> bool:
        self._problems.add(self._marks[path], path, text)
        return False


def check_client_ids(
    links: Iterable[tuple[KeyPath, str, LinkSettings]],
    marks: Mapping[KeyPath, Mark],
    problems: Problems,
) -> None:
    """Refuse two clients with one client id at one broker: it lets in one of them, so they would fight forever.

    `links` has the path to the properties, the id of the connection or source, and the properties of each active one.
    """
    known: dict[tuple[str, int, str], tuple[KeyPath, Mark]] = {}
    for path, identity, link in links:
        host, port = link.address
        client_id = link.client_id_for(identity)
        at = marks.get((*path, "clientId"), marks[*path, "hostName"])
        first = known.setdefault((host.lower().removesuffix("."), port, client_id), (path, at))
        if first[0] == path:
            continue
        name = "client id" if isinstance(link.client_id, Secret) else f"client id {shown(client_id)}"
        text = (
            f"has the same {name} at the same broker as {dotted(first[0])} ({first[1].text}); "
            "a broker lets in one client per id, so give one of them another clientId"
        )
        problems.add(at, (*path, "clientId"), text)
