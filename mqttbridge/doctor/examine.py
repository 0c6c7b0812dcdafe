"""Takes the steps into a broker, one after the other, with their times; `judge` says what they mean.

Invariants:

1. Never the client id of a session of the daemon: that would end it (see `target`). Always a clean session.
2. Nothing is published unless asked for, and nothing is retained. Of a shared subscription no message is taken.
3. Credentials go only over links that are verified as the daemon's are.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mqttbridge.doctor import judge
from mqttbridge.doctor.findings import Diagnosis, Finding, State
from mqttbridge.doctor.judge_tls import tls
from mqttbridge.doctor.judge_traffic import own_share, puback, suback
from mqttbridge.doctor.target import body, find
from mqttbridge.doctor.watch import Ears, Watch
from mqttbridge.errors import LinkError, LinkTimeout
from mqttbridge.mqtt import probe
from mqttbridge.mqtt.client import link_options, open_link, overdue
from mqttbridge.mqtt.link import Publish, Step
from mqttbridge.settings.schema import Configuration

if TYPE_CHECKING:
    from collections.abc import Callable

    from mqttbridge.clock import Clock
    from mqttbridge.doctor.judge import Case, Entry
    from mqttbridge.doctor.target import Target, Wish
    from mqttbridge.mqtt.link import Grant, Link
    from mqttbridge.mqtt.probe import Look
    from mqttbridge.settings.schema import Settings

__all__ = ["examine"]

SECONDS = 1000
EVERY = ("SSL", "WSS", "TCP")
STEPS: dict[Step, tuple[str, tuple[str, ...], Callable[[Case], Finding]]] = {
    Step.CERTIFICATES: ("configuration", EVERY, judge.configuration),
    Step.DNS: ("DNS", EVERY, judge.dns),
    Step.TCP: ("TCP", EVERY, judge.tcp),
    Step.TLS: ("TLS", ("SSL", "WSS"), tls),
    Step.WEBSOCKET: ("WebSocket", ("WSS",), judge.web_socket),
    Step.CONNACK: ("CONNACK", EVERY, judge.connack),
}
"""Each step of the way in: its name, the protocols that take it, and who judges it."""


async def examine(settings: Settings, wish: Wish, clock: Clock) -> Diagnosis:
    """Examine one broker. Raises `DoctorError` if what was asked for cannot be examined."""
    target = find(settings, wish)
    examination = _Examination(target, clock)
    try:
        findings = await examination.way_in()
        findings.append(await examination.subscribe())
        findings.append(await examination.publish())
    finally:
        await examination.close()
    return Diagnosis(
        subject=target.subject,
        address=examination.options.where,
        protocol=target.settings.protocol,
        mqtt_version=target.settings.mqtt_version,
        client_id=target.client_id,
        published=examination.published,
        findings=tuple(findings),
    )


class _Examination:
    """One link at a time, and what is learnt of it."""

    def __init__(self, target: Target, clock: Clock) -> None:
        settings = target.settings
        qos = settings.qos if isinstance(settings, Configuration) else 1
        self.options = link_options(settings, client_id=target.client_id, clean=True, qos=qos)
        self.published = False
        self._target = target
        self._clock = clock
        self._ears = Ears()
        self._link: Link | None = None
        self._blocked = ""

    async def close(self) -> None:
        """Let go of the link."""
        if self._link is not None:
            link, self._link = self._link, None
            await link.close()

    # -- the way in ----------------------------------------------------------------------------------------------------

    async def way_in(self) -> list[Finding]:
        """Enter the broker, and look at it from outside where that tells more."""
        entry = await self._enter()
        settings, options = self._target.settings, self.options
        patience = settings.connection_timeout / SECONDS
        looked = await self._look(patience) if Step.TLS in entry.times else None
        spoken = await probe.speaks(options, patience) if judge.wonders(entry) else ""
        limits: dict[str, Any] = {}
        if isinstance(settings, Configuration):
            limits = {"max_inflight": settings.max_inflight, "retain": settings.retain}
        case = judge.Case(
            options=options,
            own_id=self._target.own_id,
            now=datetime.fromtimestamp(self._clock.now() / SECONDS, UTC),
            entry=entry,
            active=self._target.active,
            look=looked,
            spoken=spoken,
            **limits,
        )
        return [
            judged(case) if step is Step.CERTIFICATES or step in entry.times else self._skipped(name)
            for step, (name, protocols, judged) in STEPS.items()
            if self.options.protocol in protocols
        ]

    async def _enter(self) -> Entry:
        """Connect and log in, as the daemon does, within the same time."""
        watch, limit = Watch(self._clock), self._target.settings.connection_timeout
        self._ears = Ears()
        link = self._link = open_link(self.options, self._ears, watch.learn)
        error: LinkError | None = None
        grant: Grant | None = None
        try:
            async with asyncio.timeout(limit / SECONDS):
                await link.connect()
                grant = await link.login()
        except LinkError as failure:
            error = failure
        except TimeoutError:
            error = overdue(link, self.options, limit)
        failed = link.step if error is not None else None
        if failed is not None:
            self._blocked = f"not tried: {STEPS[failed][0]} failed"
            await self.close()
        return watch.entry(grant, failed, error)

    async def _look(self, patience: float) -> Look | None:
        """Look at the broker's certificates, also where they cannot be verified."""
        try:
            async with asyncio.timeout(patience):
                return await probe.look(self.options)
        except (LinkError, OSError):  # with TimeoutError
            return None

    def _skipped(self, name: str, says: str = "") -> Finding:
        return Finding(step=name, state=State.SKIPPED, says=says or self._blocked)

    # -- inside --------------------------------------------------------------------------------------------------------

    async def subscribe(self) -> Finding:
        """Subscribe as the daemon does; the broker forgets it with the session."""
        filters = [own_share(topic_filter) for topic_filter in self._target.filters]
        if not filters:
            return self._skipped("SUBACK", "not needed: no downlinks are taken")
        if self._link is None:
            return self._skipped("SUBACK")
        begun, error = self._clock.monotonic(), None
        codes: list[int] = []
        try:
            async with asyncio.timeout(self._target.settings.action_timeout / SECONDS):
                codes = await self._link.subscribe(filters, 1)
        except LinkError as failure:
            error = failure
        except TimeoutError:
            error = self._late("SUBACK")
        return suback(self.options, filters, codes, error, self._ms(begun))

    async def publish(self) -> Finding:
        """Publish one test uplink, if it was asked for."""
        target = self._target
        if not target.topic:
            return self._skipped("PUBACK", target.no_topic or "not needed: nothing is published to a source")
        if not target.publish:
            return Finding(
                step="PUBACK",
                state=State.SKIPPED,
                says="not tried: nothing is published unless you ask for it",
                details=(f"--publish sends one test uplink to {target.topic}",),
            )
        if self._ears.error is not None:  # the broker ended the link for the subscription
            await self.close()
            await self._enter()
        if self._link is None:
            return self._skipped("PUBACK")
        begun, code, error = self._clock.monotonic(), 0, None
        self.published = True
        message = Publish(0, target.topic, body(target.dev_eui, self._clock.now()), retain=False)
        self._link.publish([message])
        try:
            async with asyncio.timeout(target.settings.action_timeout / SECONDS):
                code = await self._ears.acknowledgement()
        except LinkError as failure:
            error = failure
        except TimeoutError:
            error = self._late("PUBACK")
        return puback(self.options, target.topic, code, error, self._ms(begun))

    def _late(self, what: str) -> LinkError:
        limit = self._target.settings.action_timeout
        return LinkTimeout(f"no {what} came within {limit} ms (actionTimeout); the daemon would drop the link")

    def _ms(self, begun: float) -> float:
        return (self._clock.monotonic() - begun) * SECONDS
