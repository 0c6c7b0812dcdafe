"""Floor 0: every error that crosses a room's border, on one page.

A message is a sentence for the operator: what happened, where, and what to do. Facts are attributes.
Foreign exceptions (OSError, ssl.SSLError, sqlite3.Error, paho's codes) are translated once, where they arise,
and never travel further. No message holds a secret.

    MqttBridgeError
    ├── ConfigError            the configuration file, with every problem in it
    ├── WriteFailed            a file of the configuration cannot be written: nothing was changed
    ├── PatternError           a topic pattern that cannot work
    ├── TopicError             a document that cannot be rendered into a topic: the uplink is parked
    ├── DocumentError          not an uplink or downlink document
    │   └── DownlinkExpired    a downlink whose ValidityTime is past
    ├── TokenError             the ThingPark Token is missing or wrong
    ├── StartError             the daemon cannot start: port in use, state directory unusable, …
    │   └── JournalInUse       another daemon owns the state directory
    ├── AskError               a running daemon cannot be asked: none there, not allowed, no answer
    ├── JournalError           nothing was stored
    │   ├── JournalFull
    │   │   └── JournalTooLarge    it never fits, however empty the journal
    │   └── JournalFailed      the disk: full, I/O error, failed fsync, corruption
    ├── HistoryFailed          what passed cannot be looked up: the disk, or a damaged file
    └── LinkError              a broker connection
        ├── ResolveFailed      DNS
        ├── ConnectFailed      TCP, TLS, WebSocket
        │   └── TlsFailed
        ├── LoginRefused       CONNACK says no to these credentials
        ├── BrokerRefused      CONNACK or DISCONNECT says no for another reason
        ├── LinkTimeout        nothing came within connectionTimeout or actionTimeout
        └── LinkLost           it was open and ended
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = [
    "AskError",
    "BrokerRefused",
    "ConfigError",
    "ConnectFailed",
    "DocumentError",
    "DownlinkExpired",
    "HistoryFailed",
    "JournalError",
    "JournalFailed",
    "JournalFull",
    "JournalInUse",
    "JournalTooLarge",
    "LinkError",
    "LinkLost",
    "LinkTimeout",
    "LoginRefused",
    "MqttBridgeError",
    "PatternError",
    "ResolveFailed",
    "StartError",
    "TlsFailed",
    "TokenError",
    "TopicError",
    "WriteFailed",
]


class MqttBridgeError(Exception):
    """The root. `str()` of it is a sentence that an operator can act on."""


class ConfigError(MqttBridgeError):
    """The configuration is wrong. `problems` has a line each: `FILE:LINE:COLUMN: path.to.key: …`.

    `files`: every file and directory that was looked at; whoever waits for the repair watches these.
    """

    def __init__(self, problems: Sequence[str], files: Iterable[Path] = ()) -> None:
        """Take every problem found, in the order of the file, and what was looked at."""
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        self.files = tuple(files)


class WriteFailed(MqttBridgeError):
    """A file of the configuration cannot be written or removed; what was there still is.

    `passing`: it may go another time without anybody's doing (no space), not only with other rights.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        """Take the sentence."""
        super().__init__(message)
        self.passing = passing


class PatternError(MqttBridgeError):
    """A topic pattern cannot work. `position` counts characters from 0."""

    def __init__(self, message: str, position: int = 0) -> None:
        """Take the sentence and where in the pattern it applies."""
        super().__init__(message)
        self.position = position


class TopicError(MqttBridgeError):
    """This document gives no usable topic."""


class DocumentError(MqttBridgeError):
    """Not a document that we take. `field` is its path (`DevEUI_uplink.DevEUI`), `index` its place in a batch."""

    def __init__(self, message: str, *, field: str = "", index: int | None = None) -> None:
        """Take the sentence, the field and, in a batch, the index."""
        super().__init__(message)
        self.field = field
        self.index = index


class DownlinkExpired(DocumentError):
    """A downlink that came after its ValidityTime."""


class TokenError(MqttBridgeError):
    """The Token of a request is missing or wrong."""


class StartError(MqttBridgeError):
    """The daemon cannot start with what the machine gives it."""


class JournalInUse(StartError):
    """Another daemon works on this state directory."""


class AskError(MqttBridgeError):
    """No running daemon can be asked, or it gives no answer."""


class JournalError(MqttBridgeError):
    """The journal stored nothing of what it was asked to."""


class JournalFull(JournalError):
    """The journal has reached `journal.maxSize`."""


class JournalTooLarge(JournalFull):
    """What is to be stored at once never fits into `journal.maxSize`."""


class JournalFailed(JournalError):
    """The disk under the journal fails."""


class HistoryFailed(MqttBridgeError):
    """What passed cannot be looked up now: the disk fails, or the file is damaged. No uplink is lost by that."""


class LinkError(MqttBridgeError):
    """A broker connection could not be made or has ended. `code` is the broker's reason code, where it gave one."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        """Take the sentence and the broker's code."""
        super().__init__(message)
        self.code = code


class ResolveFailed(LinkError):
    """DNS knows no address for the host."""


class ConnectFailed(LinkError):
    """TCP or the WebSocket upgrade failed. `status` is the HTTP status, where the upgrade was answered with one."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        """Take the sentence and the HTTP status."""
        super().__init__(message)
        self.status = status


class TlsFailed(ConnectFailed):
    """The TLS handshake failed: certificate, host name or version.

    `verify` is OpenSSL's code (X509_V_ERR_…) where the broker's certificate cannot be verified.
    """

    def __init__(self, message: str, *, verify: int | None = None) -> None:
        """Take the sentence and OpenSSL's code."""
        super().__init__(message)
        self.verify = verify


class LoginRefused(LinkError):
    """The broker does not accept these credentials."""


class BrokerRefused(LinkError):
    """The broker refused or ended the connection with a reason code of its own."""


class LinkTimeout(LinkError):
    """The broker did not answer in time."""


class LinkLost(LinkError):
    """An open connection ended."""
