"""Tries a connection out before anybody keeps it: the doctor's examination, inside the running daemon. For the API.

Invariants: it logs in under a client id of its own, so that it ends no session; nothing is published; nothing that it
says holds a secret of the connection; it ends in time, and there are never more than `AT_ONCE`.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.api.seam import Refused, Step, Tested
from mqttbridge.doctor.examine import examine
from mqttbridge.doctor.findings import State
from mqttbridge.doctor.target import DoctorError, Wish
from mqttbridge.observe.log import get_logger
from mqttbridge.observe.redact import Redactor, describe
from mqttbridge.settings.schema import Settings
from mqttbridge.settings.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mqttbridge.clock import Clock
    from mqttbridge.doctor.findings import Finding
    from mqttbridge.settings.schema import Connection

__all__ = ["TryOut"]

log = get_logger()

LIMIT = 30.0
"""Seconds."""
AT_ONCE = 4
PATIENCE = 8000
"""In ms: what a `connectionTimeout` counts here at most, so that all steps have their turn within the limit."""
UNPUBLISHED = "not tried: trying a connection out publishes nothing"


class TryOut:
    """Tries connections out, for as long as the daemon runs."""

    def __init__(self, clock: Clock, *, limit: float = LIMIT, at_once: int = AT_ONCE) -> None:
        """Take the clock; `limit` in seconds."""
        self._clock = clock
        self._limit = limit
        self._at_once = at_once
        self._under_way = 0

    async def try_out(self, id_: str, connection: Connection) -> Tested:
        """Examine the broker of a connection, whose settings were checked. Raises `Refused` (503: too many at once)."""
        if self._under_way >= self._at_once:
            raise Refused(503, f"{self._at_once} connections are being tried out, the most at once; try again soon")
        self._under_way += 1
        try:
            return await self._examine(id_, connection)
        finally:
            self._under_way -= 1

    async def _examine(self, id_: str, connection: Connection) -> Tested:
        redactor = Redactor()
        # Each secret has some dozens of forms, a key some hundreds.
        await asyncio.to_thread(redactor.add, *_secrets(connection))
        patient, warnings = _bounded(connection)
        # Its own id at the front, which a broker may go by; and short, for those that take 23 characters.
        client_id = f"{connection.configuration.client_id_for(id_)}-t{secrets.token_hex(2)}"
        wish = Wish(connection=id_, client_id=client_id)
        try:
            async with asyncio.timeout(self._limit):
                diagnosis = await examine(Settings(connections={id_: patient}), wish, self._clock)
        except TimeoutError:
            return Tested(ok=False, steps=(_late(self._limit),), warnings=warnings)
        except DoctorError as error:
            raise Refused(422, redactor.text(str(error))) from error
        except Exception as error:  # noqa: BLE001 (a bug; its traceback might show what the log does not know to mask)
            log.error("http.crashed", path="/connections?dryRun=true")  # noqa: TRY400
            reason = redactor.text(f"internal error ({describe(error)}); please report it")
            return Tested(ok=False, steps=(Step("examination", "failed", reason),), warnings=warnings)
        steps = tuple(_step(finding, redactor) for finding in diagnosis.findings)
        return Tested(ok=diagnosis.well, steps=steps, warnings=warnings)


def _bounded(connection: Connection) -> tuple[Connection, tuple[str, ...]]:
    """Give the connection as it is examined, and what is to be said of that."""
    given = connection.configuration.connection_timeout
    if given <= PATIENCE:
        return connection, ()
    configuration = msgspec.structs.replace(connection.configuration, connection_timeout=PATIENCE)
    warning = f"tried with a connectionTimeout of {PATIENCE} ms instead of {given} ms"
    return msgspec.structs.replace(connection, configuration=configuration), (warning,)


def _step(finding: Finding, redactor: Redactor) -> Step:
    # How to ask for a test uplink is about the command: here nobody can.
    asked = finding.step == "PUBACK" and finding.state is State.SKIPPED
    says, details = (UNPUBLISHED, ()) if asked and finding.details else (finding.says, finding.details)
    advice = (one.replace("--client-id", "clientId") for one in finding.advice)
    return Step(
        name=finding.step,
        outcome=finding.state.value,
        detail=redactor.text("\n".join((says, *details))),
        advice=redactor.text("\n".join(advice)),
        milliseconds=None if finding.ms is None else round(finding.ms, 1),
    )


def _late(limit: float) -> Step:
    return Step(
        "examination",
        "failed",
        f"it was not done within {limit:g} s: the broker, or something before it, answers too slowly",
        "see that hostName and port are right and that no firewall drops the packets; a lower connectionTimeout "
        "shows which step it is",
    )


def _secrets(value: object) -> Iterator[str]:
    """Find the secrets in settings, wherever they are."""
    if isinstance(value, Secret):
        yield value.reveal()
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, tuple):
        for one in value:
            yield from _secrets(one)
