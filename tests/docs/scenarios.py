"""What Prometheus would see on good and on bad days, and which alerts must fire then: nothing less, nothing more.

Values are in promtool's notation, one a minute: `1x3` is 1 1 1 1, `0+10x3` is 0 10 20 30. Every scenario has a daemon
that is up, unless it says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SCENARIOS", "Scenario"]

HERE = 'job="mqttbridge", instance="a:8080"'
ACME = f'{HERE}, connection="acme"'
LRC = f'{HERE}, source="lrc"'
UP = {f"up{{{HERE}}}": "1x3000"}
MAX = f"mqttbridge_journal_max_size_bytes{{{HERE}}}"
SIZE = f"mqttbridge_journal_size_bytes{{{HERE}}}"
QUEUED = f"mqttbridge_connection_uplinks_queued{{{ACME}}}"
ACCEPTED = f"mqttbridge_source_uplinks_accepted_total{{{LRC}}}"
EXPIRY = f'mqttbridge_certificate_expiry_timestamp_seconds{{{HERE}, owner="connection acme"}}'
RELOAD = f"mqttbridge_config_last_reload_successful{{{HERE}}}"
HEALTHY = f"mqttbridge_journal_healthy{{{HERE}}}"
STARTED = f"process_start_time_seconds{{{HERE}}}"
LOST = f"mqttbridge_history_lost_total{{{HERE}}}"
DAY = 86400


class Scenario(msgspec.Struct, frozen=True):
    """Series by their names, and the alerts that fire at this time."""

    name: str
    at: str
    series: Mapping[str, str]
    firing: tuple[str, ...] = ()


def state(present: str, values: str = "1x3000") -> dict[str, str]:
    """Give a connection that is in this state."""
    names = ("OPENED", "UNREACHABLE", "DEACTIVATED")
    return {
        f'mqttbridge_connection_state{{{ACME}, state="{name}"}}': values if name == present else "0x3000"
        for name in names
    }


def uplinks(outcome: str) -> str:
    """Name the counter of an outcome."""
    return f'mqttbridge_connection_uplinks_total{{{ACME}, outcome="{outcome}"}}'


def downlinks(outcome: str) -> str:
    """Name the counter of an outcome."""
    return f'mqttbridge_connection_downlinks_total{{{ACME}, outcome="{outcome}"}}'


def refused(reason: str) -> str:
    """Name the counter of a reason."""
    return f'mqttbridge_source_uplinks_rejected_total{{{LRC}, reason="{reason}"}}'


def _one(name: str, at: str, series: Mapping[str, str], *firing: str) -> Scenario:
    return Scenario(name, at, {**UP, **series}, tuple(sorted(firing)))


GOOD_DAY = {
    **state("OPENED"),
    STARTED: "1000x3000",
    HEALTHY: "1x3000",
    SIZE: "1000000+1000x3000",
    MAX: "1000000000x3000",
    QUEUED: "5x3000",
    uplinks("routed"): "5+60x3000",
    uplinks("delivered"): "0+60x3000",
    uplinks("expired"): "0x3000",
    uplinks("parked"): "0x3000",
    uplinks("dropped"): "0x3000",
    ACCEPTED: "0+60x3000",
    refused("malformed"): "3x3000",
    refused("unauthorised"): "0x3000",
    downlinks("queued"): "0+1x3000",
    downlinks("failed"): "0x3000",
    EXPIRY: f"{400 * DAY}x3000",
    RELOAD: "1x3000",
    LOST: "0x3000",
}

SCENARIOS = (
    _one("a good day", "30h", GOOD_DAY),
    Scenario("the daemon is down", "10m", {f"up{{{HERE}}}": "1x4 0x20"}, ("MqttbridgeDown",)),
    Scenario("the daemon misses one scrape", "6m", {f"up{{{HERE}}}": "1x4 0 1x20"}),
    Scenario("nothing is scraped", "10m", {'up{job="other", instance="b"}': "1x20"}, ("MqttbridgeDown",)),
    _one("a restart", "20m", {STARTED: "1000x9 2000x50"}),
    _one("one crash after the other", "20m", {STARTED: "1000x4 2000x4 3000x4 4000x50"}, "MqttbridgeRestarting"),
    _one("the disk fails", "10m", {HEALTHY: "1x4 0x20"}, "MqttbridgeJournalFailing"),
    _one("the journal fills slowly", "60m", {SIZE: "720+0.1x100", MAX: "1000x100"}, "MqttbridgeJournalFilling"),
    _one("the journal fills fast", "60m", {SIZE: "300+5x100", MAX: "1000x100"}, "MqttbridgeJournalFullSoon"),
    _one("a burst into an empty journal", "60m", {SIZE: "0+4x100", MAX: "1000x100"}),
    _one("a broker is down for ten minutes", "15m", state("OPENED", "1x4 0x9 1x50")),
    _one("a broker is down", "20m", state("UNREACHABLE"), "MqttbridgeConnectionNotOpen"),
    _one("a connection is switched off", "60m", state("DEACTIVATED")),
    _one("a queue grows", "90m", {QUEUED: "2000+10x100"}, "MqttbridgeQueueGrowing"),
    _one("a queue drains", "90m", {QUEUED: "20000-10x100"}),
    _one("uplinks are parked", "10m", {uplinks("parked"): "0x4 3x20"}, "MqttbridgeUplinksParked"),
    _one("uplinks expire", "10m", {uplinks("expired"): "0x4 3x20"}, "MqttbridgeUplinksExpired"),
    _one("uplinks are dropped", "10m", {uplinks("dropped"): "0x4 3x20"}, "MqttbridgeUplinksDropped"),
    _one("uplinks were parked long ago", "60m", {uplinks("parked"): "0x4 3x80"}),
    _one("a source is refused", "20m", {refused("unauthorised"): "0+1x50"}, "MqttbridgeUplinksRefused"),
    _one("a source sends rubbish once", "30m", {refused("malformed"): "0x2 1x50"}),
    _one("a source falls silent", "3h", {ACCEPTED: "0+5x120 600x200"}, "MqttbridgeSourceSilent"),
    _one("a source never said anything", "3h", {ACCEPTED: "0x200"}),
    _one(
        "an account does not add up",
        "10m",
        {
            **{uplinks(name): "0x20" for name in ("delivered", "expired", "parked")},
            uplinks("routed"): "7x20",
            QUEUED: "6x20",
        },
        "MqttbridgeUnaccounted",
    ),
    _one("a queue is below zero", "10m", {QUEUED: "-1x20"}, "MqttbridgeUnaccounted"),
    _one("downlinks fail", "10m", {downlinks("failed"): "0x4 1x20"}, "MqttbridgeDownlinksFailed"),
    _one("a certificate expires in ten days", "10m", {EXPIRY: f"{10 * DAY}x20"}, "MqttbridgeCertificateExpiring"),
    _one(
        "a certificate has expired",
        "10m",
        {EXPIRY: "0x20"},
        "MqttbridgeCertificateExpiring",
        "MqttbridgeCertificateExpiresNow",
    ),
    _one("a changed file is wrong", "10m", {RELOAD: "1x4 0x20"}, "MqttbridgeReloadFailed"),
    _one("the history cannot keep up", "40m", {LOST: "0x4 0+5x50"}, "MqttbridgeHistoryLosing"),
)
