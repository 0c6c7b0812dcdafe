"""The commands that ask the running daemon: parses, calls, prints. No logic. `cli` adds them to its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import rich_click as click

from mqttbridge.ask.times import moment_of
from mqttbridge.clock import SystemClock

__all__ = ["COMMANDS", "config_option"]

DEFAULT_CONFIG = "/etc/mqttbridge/mqttbridge.yaml"

config_option = click.option(
    "--config",
    "config",
    metavar="FILE",
    type=click.Path(path_type=Path, readable=False),
    envvar="MQTTBRIDGE_CONFIG",
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The configuration file; also $MQTTBRIDGE_CONFIG.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Read a time as `ask/times.py` does; gives ms."""
    try:
        return None if value is None else moment_of(value, SystemClock().now())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _daemon(config: Path) -> Any:  # noqa: ANN401 (imported when it is needed)
    from mqttbridge.ask.client import Daemon

    return Daemon(config, os.environ)


@click.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Look again every 2 s, until Ctrl-C; with --json a line each.")
def status(config: Path, as_json: bool, watch: bool) -> None:
    """Show how the running daemon is: what needs attention first.

    Exit code: 0 all is well, 2 something is not, 1 the daemon cannot be asked. docs/status.md has the fields of --json.

    \b
    mqttbridge status                                for people
    mqttbridge status --json | jq '.connections[] | select(.ok | not)'
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.ask import status as command

    daemon = _daemon(config)
    if not watch:
        sys.exit(command.show_json(daemon) if as_json else command.show(daemon))
    if not as_json and not sys.stdout.isatty():
        raise click.UsageError("--watch wants a terminal; elsewhere say --watch --json")
    try:
        (command.watch_json if as_json else command.watch)(daemon)
    except KeyboardInterrupt:
        return


@click.command()
@config_option
@json_option
def plan(config: Path, as_json: bool) -> None:
    """Show what a reload would do with the file as it stands: nothing is changed.

    Exit code: 0 nothing to do, 2 there are changes, 1 the file is wrong, or the daemon cannot be asked.

    \b
    mqttbridge plan && echo nothing to do
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.ask import plan as command

    sys.exit(command.show(_daemon(config), as_json=as_json))


@click.command()
@config_option
@json_option
def reload(config: Path, as_json: bool) -> None:
    """Have the daemon take up the file as it stands, and tell what came of it.

    The same as `systemctl reload mqttbridge`, with the answer here. A file with an error changes nothing.
    Exit code: 0 it is in force, 1 the file is wrong, or the daemon cannot be asked.

    \b
    mqttbridge reload                                after a look at `mqttbridge plan`
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.ask import plan as command

    sys.exit(command.reload(_daemon(config), as_json=as_json))


@click.command()
@config_option
@json_option
@click.argument("dev_eui", metavar="DEVEUI")
@click.option("--limit", type=click.IntRange(1, 100), default=3, show_default=True, help="How many uplinks.")
def trace(config: Path, dev_eui: str, limit: int, as_json: bool) -> None:
    """Show where the last uplinks and downlinks of a device went: received, routed, published, acknowledged.

    Exit code: 0 there is something to show, 2 nothing is known of the device, 1 it is no DevEUI, or the daemon cannot
    be asked.

    \b
    mqttbridge trace 0018B20000000B20
    mqttbridge trace 00-18-b2-00-00-00-0b-20 --limit 10
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.ask import trace as command

    sys.exit(command.show(_daemon(config), dev_eui, limit, as_json=as_json))


@click.command()
@config_option
@json_option
@click.option("--connection", required=True, metavar="ID", help="Who gets them again.")
@click.option("--device", metavar="DEVEUI", help="Of this device alone.")
@click.option("--from", "start", callback=_moment, required=True, metavar="TIME", help="Received since: 1h, 14:30, …")
@click.option("--to", "end", callback=_moment, metavar="TIME", help="Received until; default: now.")
@click.option("--all", "everything", is_flag=True, help="Those too that never were routed to this connection.")
@click.option("--dry-run", is_flag=True, help="Count them, and queue nothing.")
def replay(config: Path, as_json: bool, **what: Any) -> None:  # noqa: ANN401 (as click hands it over)
    """Queue uplinks of the past again for one connection. Each is marked: its document has "Replayed": true.

    They go out behind what is queued, and do not expire by their age. A time is `90m` (ago), `14:30` (today),
    `2026-11-22 14:30`, or ISO 8601. Exit code: 0 done, 2 there is none (also: wrong usage), 1 there is no such
    connection or time, it cannot be done, or the daemon cannot be asked.

    \b
    mqttbridge replay --connection acme --from 1h --device 0018B20000000B20
    mqttbridge replay --connection acme --from 02:00 --to 03:30 --dry-run
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.ask import replay as command

    sys.exit(command.replay(_daemon(config), command.Wish(**what), as_json=as_json))


@click.group()
def parked() -> None:
    """Uplinks that no broker would take as they are: list, show, retry, drop.

    \b
    mqttbridge parked list
    mqttbridge parked retry --connection acme --all
    """  # noqa: D301 (click wants the backspace itself)


@parked.command("list")
@config_option
@json_option
@click.option("--connection", metavar="ID", help="Of this connection alone.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many, newest first.")
def parked_list(config: Path, connection: str | None, limit: int, as_json: bool) -> None:
    """List them, with the reason of each.

    Exit code: 0, also if there is none, 1 there is no such connection, or the daemon cannot be asked.

    \b
    mqttbridge parked list --connection acme
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.ask import parked as command

    sys.exit(command.show_list(_daemon(config), connection, limit, as_json=as_json))


@parked.command("show")
@config_option
@json_option
@click.argument("number", type=click.IntRange(1))
def parked_show(config: Path, number: int, as_json: bool) -> None:
    """Show one of them, with its document. NUMBER is from `parked list`.

    Exit code: 0, 1 there is no such uplink, or the daemon cannot be asked.

    \b
    mqttbridge parked show 1234
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.ask import parked as command

    sys.exit(command.show_one(_daemon(config), number, as_json=as_json))


def _selection(function: Any) -> Any:  # noqa: ANN401 (a decorator of click's)
    """Add what names parked uplinks."""
    for option in (
        json_option,
        click.option("--all", "everything", is_flag=True, help="All, or all of the connection."),
        click.option("--connection", metavar="ID", help="Of this connection alone."),
        click.argument("numbers", type=click.IntRange(1), nargs=-1),
        config_option,
    ):
        function = option(function)
    return function


@parked.command("retry")
@_selection
def parked_retry(config: Path, as_json: bool, **what: Any) -> None:  # noqa: ANN401 (as click hands it over)
    """Queue them again, behind what is queued: after what parked them is mended.

    Exit code: 0 done, also if there is none, 1 nothing could be retried, or the daemon cannot be asked.

    \b
    mqttbridge parked retry 1234 1235
    mqttbridge parked retry --connection acme --all
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.ask import parked as command

    sys.exit(command.retry(_daemon(config), _selected(command, what), as_json=as_json))


@parked.command("drop")
@_selection
def parked_drop(config: Path, as_json: bool, **what: Any) -> None:  # noqa: ANN401 (as click hands it over)
    """Give them up: their content is deleted. They stay counted as parked.

    Exit code: 0 done, also if there is none, 1 there is no such uplink, or the daemon cannot be asked.

    \b
    mqttbridge parked drop 1234
    mqttbridge parked drop --connection acme --all
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.ask import parked as command

    sys.exit(command.drop(_daemon(config), _selected(command, what), as_json=as_json))


def _selected(command: Any, what: dict[str, Any]) -> Any:  # noqa: ANN401 (a module)
    if bool(what["numbers"]) == what["everything"]:
        raise click.UsageError("give the numbers that `mqttbridge parked list` shows, or --all")
    return command.Selection(**what)


@click.command()
@config_option
@json_option
@click.option("--connection", metavar="ID", help="What goes to, or comes from, this connection.")
@click.option("--source", metavar="ID", help="What comes from, or goes to, this source.")
@click.option("--device", metavar="DEVEUI", help="Of this device alone.")
@click.option("--payload", is_flag=True, help="With the documents.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many lines; else on Ctrl-C.")
def tap(config: Path, as_json: bool, count: int | None, **what: Any) -> None:  # noqa: ANN401 (as click hands it over)
    """Show what goes through right now: uplinks as they come and as they are acknowledged, and downlinks.

    A reader that is too slow misses some, and is told how many; the daemon never waits for it.
    Exit code: 0 it was ended, 1 the daemon cannot be asked, or has ended.

    \b
    mqttbridge tap --connection acme
    mqttbridge tap --device 0018B20000000B20 --payload
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.ask import tap as command

    try:
        sys.exit(command.follow(_daemon(config), command.Wish(**what), count, as_json=as_json))
    except KeyboardInterrupt:
        return


@click.command()
@config_option
@json_option
@click.option("--connection", metavar="ID", help="Of this connection.")
@click.option("--source", metavar="ID", help="Of this source.")
@click.option("--device", metavar="DEVEUI", help="Of this device.")
@click.option("--name", metavar="EVENT", help="With this name, such as connection.lost; uplink.* for all of a kind.")
@click.option(
    "--level", type=click.Choice(["info", "warning", "error"]), default="info", show_default=True, help="At least."
)
@click.option("--since", callback=_moment, metavar="TIME", help="Since this time: 1h, 14:30, 2026-11-22T14:30Z.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="The newest so many.")
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
def events(config: Path, as_json: bool, follow: bool, **what: Any) -> None:  # noqa: ANN401 (as click hands it over)
    """Show what happened, the newest last: the log from level info on, as the journal keeps it over restarts.

    Exit code: 0, also if there is none, 1 there is no event of that name, it is no DevEUI, or the daemon cannot be
    asked. docs/events.md has the table of events.

    \b
    mqttbridge events --connection acme --since 12h
    mqttbridge events --level warning --follow
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.ask import events as command

    try:
        sys.exit(command.show(_daemon(config), command.Wish(**what), follow=follow, as_json=as_json))
    except KeyboardInterrupt:
        return


COMMANDS = (status, plan, reload, trace, replay, parked, tap, events)
