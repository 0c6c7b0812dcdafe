"""The two ways in: the HTTP listener and the Unix socket, each with what may be asked there.

For the daemon. Over the network the API and the page are there once tokens are configured, behind `Guarded`; who may
open the socket needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.api.app import make_api
from mqttbridge.api.auth import Guarded, public
from mqttbridge.api.page import Page
from mqttbridge.control.app import App
from mqttbridge.control.local import LocalApp
from mqttbridge.desks import Desks
from mqttbridge.editing import Editing
from mqttbridge.settings.seal import Seal
from mqttbridge.tryout import TryOut
from mqttbridge.views import DaemonViews

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mqttbridge.clock import Clock
    from mqttbridge.observe.tap import Taps
    from mqttbridge.observe.throttle import Throttle
    from mqttbridge.running import Running
    from mqttbridge.settings.schema import Api
    from mqttbridge.sources.asgi import Receive, Scope, Send

    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["Doors"]


class Doors:
    """The applications of one daemon. Making them reads files: in a thread."""

    def __init__(
        self, running: Running, taps: Taps, *, environ: Mapping[str, str], throttle: Throttle, clock: Clock
    ) -> None:
        """Wire them to what runs."""
        self._running = running
        self._desks = Desks(running.parts, running.stores, running.reloader, taps, clock=clock)
        seal = Seal.of(running.reloader.loaded.state_directory)
        views = DaemonViews(
            running.parts,
            running.stores,
            running.reloader,
            overview=running.overview,
            remarks=running.remarks,
            tallies=running.tallies,
            clock=clock,
            seal=seal,
        )
        editor = Editing(running.reloader, environ=environ, try_out=TryOut(clock).try_out, clock=clock, seal=seal)
        api = _with_page(make_api(editor, views), Page())
        guarded = Guarded(api, self._settings, clock, throttle)
        self.listener = App(running.parts.http, running, api=guarded, api_enabled=self._enabled)
        """What everybody finds at `http.listen`."""
        self.socket = LocalApp(running, running.reloader.loaded.path, self._desks.routes(), api=api)
        """What the operator finds at the Unix socket."""

    def stop(self) -> None:
        """End the answers that go on."""
        self._desks.stop()

    def _settings(self) -> Api:
        return self._running.reloader.loaded.settings.api

    def _enabled(self) -> bool:
        api = self._settings()
        return bool(api.admin_tokens or api.read_only_tokens)


def _with_page(api: Application, page: Page) -> Application:
    """Give the page its paths, and the API all others."""

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        await (page if public(scope["path"]) else api)(scope, receive, send)

    return either
