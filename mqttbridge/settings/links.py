"""Look at the properties of one broker connection together, and at all connections together.

For this room's own use. Checks of single values stand in `checks`. A property that failed on its own is not judged
again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mqttbridge.settings.checks import CONTROL
from mqttbridge.settings.pem import PemReader, names_a_file
from mqttbridge.settings.problems import dotted, shown
from mqttbridge.settings.secret import Secret, plain

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
            self.authorities(values["trusted_ca_certificate"], (*path, "trustedCaCertificate"), failed),
            self._mutual(values["certificate"], values["private_key"], path, failed),
        ]
        self._password(values["password"], (*path, "password"), failed)
        return all(sound)

    def _tls_only(self, values: Mapping[str, Any], path: KeyPath, failed: object) -> bool:
        if values["protocol"] != "TCP":
            return True
        given = [name for attribute, name in TLS_ONLY.items() if values[attribute] and values[attribute] is not failed]
        for name in given:
            self._fail((*path, name), "needs TLS, but protocol is TCP; write protocol: SSL (or WSS), or remove it")
        return not given

    def authorities(self, text: str | None, path: KeyPath, failed: object) -> bool:
        """Check the authorities to trust, if they are given. Gives whether all is well."""
        if text is None or text is failed:
            return True
        read = self._certificate(text, path)
        if read is None:
            return False
        # A bundle may hold a few that are past their time.
        if read.latest < self._now:
            expired = f"expired on {read.latest:%Y-%m-%d %H:%M} UTC; no server can be verified by it, so renew it"
            self._warn(path, expired)
        if not read.authority:
            self._warn(path, "holds no certificate of an authority; give that of whoever issued the server's")
        return True

    def served(self, certificate: Any, key: Any, path: KeyPath, failed: object) -> bool:  # noqa: ANN401 - may be `failed`
        """Check what our own listener shows to its clients. Gives whether all is well."""
        return self._pair(certificate, key, path, failed, ("TLS", "clients", "server"))

    def _mutual(self, certificate: Any, key: Any, path: KeyPath, failed: object) -> bool:  # noqa: ANN401 - likewise
        return self._pair(certificate, key, path, failed, ("mutual TLS", "the broker", "client"))

    def _pair(
        self,
        certificate: Any,  # noqa: ANN401 - likewise
        key: Any,  # noqa: ANN401 - likewise
        path: KeyPath,
        failed: object,
        words: tuple[str, str, str],
    ) -> bool:
        """Check a certificate and its key. `words`: what takes both, who looks at the certificate, and whose it is."""
        at_certificate, at_key = (*path, "certificate"), (*path, "privateKey")
        if certificate is not None and key is None:
            return self._fail(at_certificate, f"needs privateKey beside it: {words[0]} takes both")
        if key is not None and certificate is None:
            return self._fail(at_key, f"needs certificate beside it: {words[0]} takes both")
        read = None if certificate in {None, failed} else self._certificate(certificate, at_certificate)
        if read is not None:
            self._age(read, at_certificate, words[1])
        if key in {None, failed}:
            return certificate in {None, failed} or read is not None
        return self._key(plain(key), read, path, words[2]) and (certificate is failed or read is not None)

    def _key(self, key: str, certificate: Certificate | None, path: KeyPath, whose: str) -> bool:
        """Check a private key, and that it is the one of the certificate."""
        at = (*path, "privateKey")
        try:
            public_key = self._pem.public_key_of(key)
        except ValueError as error:
            return self._fail(at, str(error))
        if certificate is None or public_key == certificate.public_key:
            return True
        if public_key in certificate.others:
            order = f"is in the wrong order: the {whose}'s own certificate must come first"
            return self._fail((*path, "certificate"), order)
        return self._fail(at, "does not belong to certificate: their public keys differ")

    def _certificate(self, text: str, path: KeyPath) -> Certificate | None:
        if not isinstance(text, Secret) and names_a_file(text):
            self._fail(path, f"holds the path of a file, not PEM; write {shown(f'!file {text.strip()}')}")
            return None
        try:
            return self._pem.certificate(plain(text))
        except ValueError as error:
            self._fail(path, str(error))
            return None

    def _age(self, certificate: Certificate, path: KeyPath, who: str) -> None:
        """Warn, no more: one customer's certificate must not keep the others from being served."""
        if certificate.not_after < self._now:
            text = f"expired on {certificate.not_after:%Y-%m-%d %H:%M} UTC; {who} will refuse it, so renew it"
            self._warn(path, text)
        elif certificate.not_before > self._now:
            start = f"{certificate.not_before:%Y-%m-%d %H:%M} UTC"
            self._warn(path, f"is not valid before {start}; {who} will refuse it until then")

    def _password(self, text: Any, path: KeyPath, failed: object) -> None:  # noqa: ANN401 - may be `failed`
        """Warn of what is hardly ever meant, though a broker may take it."""
        if text not in {None, failed} and CONTROL.search(plain(text)):
            self._warn(
                path,
                "holds a line end or another control character; in double quotes a backslash begins an escape "
                "(write single quotes), and a file of a password has one line",
            )

    def _warn(self, path: KeyPath, text: str) -> None:
        self._problems.warn(self._marks[path], path, text)

    def _fail(self, path: KeyPath, text: str) -> bool:
        self._problems.add(self._marks[path], path, text)
        return False


def check_client_ids(
    links: Iterable[tuple[KeyPath, str, LinkSettings]],
    marks: Mapping[KeyPath, Mark],
    problems: Problems,
) -> None:
    """Warn of two clients with one client id at one broker: it lets in one of them, so they would fight forever.

    No more than a warning: the other connections must not suffer for it, and the two are held back when they fight.
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
        problems.warn(at, (*path, "clientId"), text)
