"""Writes docs/events.md from the table in the code: `python -m tests.observe.events_page`."""

from __future__ import annotations

from pathlib import Path

from mqttbridge.observe.events import EVENTS

PAGE = Path(__file__).parents[2] / "docs" / "events.md"

HEAD = """\
# Events

Every log line has an `event` from this table, a `level` and a `timestamp` (ISO 8601, UTC, milliseconds), and what
applies of the fields named. Names are stable: alerts may be written on them. On a terminal the lines are readable,
otherwise each is one JSON object. Secrets are shown as `*****`, wherever they stand.

A line per uplink is written only at level `debug`, or at `info` for a connection with `debug: true`. A connection or
source that flaps logs its first failure, then a summary, not a line per attempt. What could repeat with every uplink
(unrouted, rejected, expired, parked) is told up to 20 times a minute for each source (and kind of rejection) or
connection; the others are told together when the minute is over, as one line with their number in `left_out`. Each of
them is in the metrics, and in the log at level `debug`, or in full for a connection with `debug: true`. A daemon that
cannot start says so twice: as an event, and as a plain sentence on stderr for whoever started it. `error` is the type
and message of an exception; its traceback is the field `exception`, at level `debug` alone.

The running daemon keeps events beside its journal, over restarts: all that have level `info`, `warning` or `error`
here, whatever `--log-level` writes, for as long as there is room for them (`journal.retention` and a part of
`journal.maxSize` bound the history). Lines per uplink are not kept, nor are tracebacks. `mqttbridge events` shows them,
by connection, source, device, name, level and time, and goes on with `--follow`:

    mqttbridge events --connection acme --since 12h
    mqttbridge events --name 'downlink.*' --level warning
    mqttbridge events --follow --json

With `--json` an event has its `id` (rising), `at` (ISO 8601, UTC), `level`, `event` and the fields of the table; what
was kept of a throttled kind of news is what was written: 20 lines a minute, then one with `left_out`. Without it, long
lines are wrapped on a terminal; where stdout is no terminal (`| grep acme`), each event is one line.

This page is written by `python -m tests.observe.events_page`; the table stands in `mqttbridge/observe/events.py`.

| event | level | fields | meaning | what happens next, what to do |
| --- | --- | --- | --- | --- |
"""


def page() -> str:
    """Give the page as it must be."""
    rows = (
        f"| `{name}` | {event.level} | {', '.join(f'`{field}`' for field in event.fields)} "
        f"| {event.meaning} | {event.then} |\n"
        for name, event in EVENTS.items()
    )
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
