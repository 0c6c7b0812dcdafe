"""The command line: parses, calls, prints. No logic.

Exit codes: 0 done, 1 the input or the configuration is wrong, 2 wrong usage, 70 a bug (EX_SOFTWARE). Errors are
sentences on stderr.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import anyio
import rich_click as click

from mqttbridge import __version__
from mqttbridge.ask.printing import while_read
from mqttbridge.cli_ask import COMMANDS, config_option
from mqttbridge.clock import SystemClock
from mqttbridge.errors import ConfigError, MqttBridgeError, StartError
from mqttbridge.observe.log import Redactor, configure, get_logger, install_excepthook

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from mqttbridge.settings.loader import Loaded

__all__ = ["main"]

T = TypeVar("T")
BUG = 70
DAY = 24 * 3600 * 1000
log = get_logger()
redactor = Redactor()

# In the help of each command, its examples stand apart.
click.rich_click.TEXT_PARAGRAPH_LINEBREAKS = "\n\n"
click.rich_click.PADDING_HELPTEXT_FIRST_LINE = (0, 0, 1, 0)

log_level_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    envvar="MQTTBRIDGE_LOG_LEVEL",
    default="info",
    show_default=True,
    help="debug shows a line per uplink; also $MQTTBRIDGE_LOG_LEVEL.",
)


class Commands(click.RichGroup):
    """The commands; that nobody reads what they print, as behind `| head`, is no failure."""

    def make_context(self, *given: Any, **named: Any) -> click.Context:  # noqa: ANN401 (as click hands it over)
        """Read the command line; this prints the help."""
        with while_read():
            return super().make_context(*given, **named)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (likewise)
        """Run the command."""
        with while_read():
            return super().invoke(ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mqttbridge")
def cli() -> None:
    """Bring LoRaWAN uplinks from network servers to MQTT brokers, without losing any.

    \b
    mqttbridge demo              see it work
    mqttbridge status            how is the one that runs?
    mqttbridge trace --help      what a command does, with an example
    """  # noqa: D301 (click wants the backspace itself)


@cli.command()
@config_option
@log_level_option
def run(config: Path, log_level: str) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    \b
    mqttbridge run
    mqttbridge run --config mqttbridge.yaml --log-level debug
    """  # noqa: D301 (click wants the backspace itself)
    # A hangup asks for a reload; before the file is read there is nothing to reload, and nothing to end for.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from mqttbridge.daemon import run_daemon

    configure(sys.stderr, level=log_level, redactor=redactor)
    try:
        _run_async(run_daemon, _load(config), environ=os.environ, learn_secrets=redactor.add)
    except ConfigError as error:
        _refuse("config.rejected", error.problems)
    except StartError as error:
        _refuse("daemon.failed", [str(error)])


@cli.command()
@config_option
def check(config: Path) -> None:
    """Check the configuration: exit 0, or 1 with every error on stderr.

    \b
    mqttbridge check
    mqttbridge check --config mqttbridge.yaml
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.settings.advice import advice

    loaded = _load(config)
    for warning in loaded.warnings:
        click.echo(warning, err=True)
    if loaded.warnings:
        sys.exit(1)
    settings = loaded.settings
    for sentence in advice(settings):
        click.echo(f"{config}: note: {sentence}")
    parts = [
        ("connection", len(settings.connections)),
        ("source", len(settings.sources)),
        ("flow", len(settings.flows)),
    ]
    counted = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in parts)
    click.echo(f"{config}: good ({counted})")


@cli.command()
@click.option("--duration", metavar="TIME", default=None, help="End after so long, such as 30s; else on Ctrl-C.")
@click.option("--devices", type=click.IntRange(1, 1000), default=5, show_default=True, help="Simulated devices.")
def demo(duration: str | None, devices: int) -> None:
    """Show the whole product with nothing else installed: a broker, devices and a live view. Leaves nothing behind.

    \b
    mqttbridge demo
    mqttbridge demo --duration 30s --devices 20
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.demo import run_demo
    from mqttbridge.settings.scalars import duration as parse_duration

    try:
        seconds = None if duration is None else parse_duration(duration, 1000, DAY) / 1000
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--duration") from error
    configure(sys.stderr, level="warning", redactor=redactor)
    _run_async(run_demo, seconds, devices)


@cli.command()
@config_option
@click.option("--source", metavar="ID", help="Send uplinks to this source, as its network server would.")
@click.option("--connection", metavar="ID", help="Send downlinks to this connection's broker, and tell their receipts.")
@click.option("--dev-eui", default="0018B20000000B20", show_default=True, metavar="EUI", help="16 hex digits.")
@click.option(
    "--payload", default="9e1c4852512000220020e3831071", show_default=True, metavar="HEX", help="The payload."
)
@click.option("--fport", type=click.IntRange(0, 255), default=1, show_default=True, help="The FPort.")
@click.option("--confirmed", is_flag=True, help="Downlinks: the device shall confirm them.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="How many.")
def send(config: Path, source: str | None, connection: str | None, confirmed: bool, count: int, **what: Any) -> None:  # noqa: ANN401 (as click hands it over)
    """Rehearse an integration with a running daemon: be a network server, or a customer's application.

    \b
    mqttbridge send --source lrc --count 10          as the network server
    mqttbridge send --connection acme --payload 01   as the application
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.send.downlinks import Downlink, send_downlinks
    from mqttbridge.send.uplinks import Sample, send_uplinks

    if (source is None) == (connection is None):
        raise click.UsageError("give --source ID (uplinks) or --connection ID (downlinks)")
    loaded = _load(config)
    configure(sys.stderr, level="warning", redactor=redactor)
    sample = Sample(what["dev_eui"], what["payload"], what["fport"])
    if source is not None:
        _run_async(send_uplinks, loaded, source, sample, count)
    else:
        _run_async(send_downlinks, loaded, connection, Downlink(sample, confirmed), count, click.echo)
    kind, where = ("uplink", f"source {source}") if source else ("downlink", f"connection {connection}")
    click.echo(f"sent {count} {kind}{'' if count == 1 else 's'} of {sample.dev_eui} to {where}")


@cli.command()
@config_option
@click.argument("connection", required=False)
@click.option("--source", metavar="ID", help="Examine the broker of this MQTT source instead.")
@click.option("--publish", is_flag=True, help="Publish one test uplink too; by default nothing is published.")
@click.option("--dev-eui", metavar="EUI", help="The device of the test uplink; default: a made-up one.")
@click.option("--client-id", metavar="ID", help="Log in as this client; default: the session's own id and -doctor.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(config: Path, connection: str | None, source: str | None, as_json: bool, **how: Any) -> None:  # noqa: ANN401 (as click hands it over)
    """Examine a broker step by step, with what fails and why: certificates, DNS, TCP, TLS, login, topics.

    The running daemon's session is not touched. Exit code 0: all well, 1: a step failed.

    \b
    mqttbridge doctor acme               the broker of connection acme
    mqttbridge doctor acme --publish     with a test uplink
    mqttbridge doctor --source ns        the broker of an MQTT source
    """  # noqa: D301 (click wants the backspace itself)
    from mqttbridge.doctor import show
    from mqttbridge.doctor.examine import examine
    from mqttbridge.doctor.target import Wish

    if (source is None) == (connection is None):
        raise click.UsageError("give the id of a connection, or --source ID")
    loaded = _load(config)
    configure(sys.stderr, level="warning", redactor=redactor)
    given = {name: value for name, value in how.items() if value is not None}
    wish = Wish(connection=connection, source=source, **given)
    diagnosis = _run_async(examine, loaded.settings, wish, SystemClock())
    if as_json:
        click.echo(show.as_json(diagnosis, redactor.plain))
    else:
        click.echo("\n".join(show.as_lines(diagnosis, redactor.text)))
    sys.exit(0 if diagnosis.well else 1)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors.

    \b
    mqttbridge schema > mqttbridge.schema.json
    """  # noqa: D301 (click wants the backspace itself)
    import msgspec

    from mqttbridge.settings.jsonschema import json_schema

    click.echo(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())


for command in COMMANDS:
    cli.add_command(command)


def _refuse(event: str, sentences: Sequence[str]) -> NoReturn:
    """Tell why the daemon does not start: as sentences, and to a log (not a terminal) as events too. Exit 1."""
    if not sys.stderr.isatty():
        for sentence in sentences:
            log.error(event, reason=sentence)
    click.echo(redactor.text("\n".join(sentences)), err=True)
    sys.exit(1)


def _load(config: Path) -> Loaded:
    """Load a configuration; every error in it goes to stderr, and the exit code is 1."""
    from mqttbridge.settings.loader import load

    loaded = load(config, environ=os.environ)
    redactor.add(*loaded.secrets)
    return loaded


def _run_async(function: Callable[..., Awaitable[T]], *arguments: object, **named: object) -> T:
    """Run a coroutine function on the one loop; give what it gives."""

    async def call() -> T:
        try:
            return await function(*arguments, **named)
        except BaseExceptionGroup as group:
            # A task group wraps what came out of it; one sentence a cause is what the operator needs.
            ours, others = group.split(MqttBridgeError)
            if ours is None or others is not None:
                raise
            raise _first(ours) from None

    return anyio.run(call, backend_options={"use_uvloop": True})


def _first(group: BaseExceptionGroup[MqttBridgeError]) -> MqttBridgeError:
    error: Any = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error  # type: ignore[no-any-return]


def main() -> None:
    """Be the command `mqttbridge`."""
    install_excepthook(redactor)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # where the locale is no UTF-8; stderr does so by itself
    try:
        cli(prog_name="mqttbridge")
    except MqttBridgeError as error:
        click.echo(redactor.text(str(error)), err=True)
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 (the last resort: a sentence, not a traceback)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            click.echo(f"mqttbridge: what it says cannot be written: {error.strerror}", err=True)
            sys.exit(1)
        sys.excepthook(*sys.exc_info())
        sys.exit(BUG)
