"""From facts to findings: what the open link is allowed to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.doctor import brokers
from mqttbridge.doctor.findings import Finding, State
from mqttbridge.mqtt.link import REFUSED
from mqttbridge.mqtt.reasons import reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.errors import LinkError
    from mqttbridge.mqtt.options import LinkOptions

__all__ = ["own_share", "puback", "suback"]


def own_share(topic_filter: str) -> str:
    """Give the filter to try: of a shared subscription another group, so that no message is taken from the daemon."""
    if not topic_filter.startswith("$share/"):
        return topic_filter
    group, _, rest = topic_filter.removeprefix("$share/").partition("/")
    return f"$share/{group}-doctor/{rest}"


def suback(
    options: LinkOptions, filters: Sequence[str], codes: Sequence[int], error: LinkError | None, ms: float
) -> Finding:
    """Judge a subscription: a code each filter, or the error that ended it."""
    if error is not None:
        advice = [text for topic_filter in filters for text in brokers.of_subscribe(options, topic_filter)]
        return Finding(step="SUBACK", state=State.FAILED, ms=ms, says=_bare(options, error), advice=tuple(advice))
    details, advice, state = [], [], State.OK
    for topic_filter, code in zip(filters, codes, strict=True):
        if code >= REFUSED:
            state = State.FAILED
            details.append(f"{topic_filter}: refused: {reason(code)}")
            advice += brokers.of_subscribe(options, topic_filter)
        else:
            details.append(f"{topic_filter}: granted, QoS {code}")
            if code == 0:
                state = max(state, State.WARNING, key=[State.OK, State.WARNING, State.FAILED].index)
                advice.append(
                    f"the broker grants QoS 0 for {topic_filter}: what comes while mqttbridge is away is lost"
                )
    refused = sum(code >= REFUSED for code in codes)
    says = f"the broker refuses {refused} of {len(codes)}" if refused else "subscribed"
    facts = {"filters": dict(zip(filters, codes, strict=True))}
    return Finding(
        step="SUBACK", state=state, ms=ms, says=says, details=tuple(details), advice=tuple(advice), facts=facts
    )


def puback(options: LinkOptions, topic: str, code: int, error: LinkError | None, ms: float) -> Finding:
    """Judge the answer to the test publish, or the error that came instead."""
    facts = {"topic": topic, "qos": options.qos, "code": code}
    advice = tuple(brokers.of_publish(options, topic))
    details: tuple[str, ...] = (f"topic {topic}",)
    if error is not None:
        return Finding(
            step="PUBACK", state=State.FAILED, ms=ms, says=_bare(options, error), details=details, advice=advice
        )
    if code >= REFUSED:
        says = f"the broker refuses the message: {reason(code)}"
        return Finding(step="PUBACK", state=State.FAILED, ms=ms, says=says, details=details, advice=advice, facts=facts)
    if options.qos == 0:
        details += ("with qos: 0 no broker says whether it took it",)
        return Finding(step="PUBACK", state=State.OK, ms=ms, says="sent one test uplink", details=details, facts=facts)
    if not options.v5:
        details += (
            (
                "MQTT 3.1.1 knows no refusal: a broker that may not let it pass (mosquitto, by its ACL) says the same, "
                "and drops it; mqttVersion: 5 tells"
            ),
        )
    return Finding(
        step="PUBACK", state=State.OK, ms=ms, says="the broker took one test uplink", details=details, facts=facts
    )


def _bare(options: LinkOptions, error: LinkError) -> str:
    return str(error).removeprefix(f"{options.where}: ")
