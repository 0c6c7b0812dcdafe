"""Answers of a daemon, made by hand: everything is well unless it is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.control.status import (
    ConnectionStatus,
    DownlinksStatus,
    JournalStatus,
    Rates,
    SourceStatus,
    Status,
)
from mqttbridge.model import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def connection(name: str, **changes: Any) -> ConnectionStatus:  # noqa: ANN401 (fields of any kind)
    whole = ConnectionStatus(
        id=name,
        ok=True,
        state="OPENED",
        since=ago(3 * 3600),
        down_since=None,
        attempts=0,
        why="",
        retry_at=None,
        queued=0,
        in_flight=0,
        oldest=None,
        expires=None,
        rates=Rates(3.2, 3.2, 0, 0, 0),
        drain_seconds=0.0,
        expiring=0,
        totals=Counts(),
        downlinks=None,
    )
    return msgspec.structs.replace(whole, **changes)


def source(name: str, **changes: Any) -> SourceStatus:  # noqa: ANN401 (fields of any kind)
    whole = SourceStatus(
        id=name,
        ok=True,
        transport="http",
        format="thingpark",
        open=True,
        since=ago(3 * 3600),
        why="",
        retry_at=None,
        rate=12.5,
        rejected_rate=0.0,
        last_uplink=ago(1),
        accepted=1000,
        rejected=0,
        downlinks=DownlinksStatus(0, ""),
    )
    return msgspec.structs.replace(whole, **changes)


def status(
    connections: Iterable[ConnectionStatus] = (),
    sources: Iterable[SourceStatus] = (),
    **changes: Any,  # noqa: ANN401 (fields of any kind)
) -> Status:
    connections, sources = tuple(connections), tuple(sources)
    whole = Status(
        ok=all(one.ok for one in (*connections, *sources)),
        version="1.2.3",
        pid=4711,
        config="/etc/mqttbridge/mqttbridge.yaml",
        state_directory="/var/lib/mqttbridge",
        started=ago(2 * 86400 + 3 * 3600),
        now=NOW,
        reasons=(),
        journal=JournalStatus("", 300 * 1024**2, 1024**3, sum(one.queued for one in connections)),
        connections=connections,
        sources=sources,
    )
    return msgspec.structs.replace(whole, **changes)
