"""The files of the configuration, as the reload sees them: read when nobody writes them, and looked at for changes.

And the secrets that were read in them, as long as they may show. For the reload alone. All that touches the disk is
done in a thread.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio

from mqttbridge.errors import ConfigError
from mqttbridge.settings.watching import signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from mqttbridge.settings.loader import Loaded
    from mqttbridge.settings.watching import Signature

    Learn = Callable[..., Callable[[], None]]
    """Is told secrets, and gives what is called when they need not be known any more."""

__all__ = ["ConfigFiles", "Secrets"]

FORMER = 4
"""Configurations that were read and are not in force, whose secrets are still masked."""

TRIES = 5
PAUSE = 0.1
"""Seconds between two reads of files that were written meanwhile."""
MOVING = "the files of the configuration are being written; ask again when they rest"


class ConfigFiles:
    """What was read of the disk, and how it looked then."""

    def __init__(self, read: Callable[[], Loaded], files: tuple[Path, ...]) -> None:
        """Begin with the files that were read at the start. `read` loads the configuration, and blocks."""
        self._read = read
        self._files = files
        # Nobody knows how they looked when the daemon read them at its start: the first looks count as a change.
        self._known: Signature = ()
        self._seen: Signature = ()

    async def load(self) -> Loaded:
        """Read the configuration as it stands, once it rests. Raises `ConfigError`.

        Half a file may be good YAML, and nothing of a file is: what was written while it was read is read again.
        """
        for _ in range(TRIES):
            before = dict(await self._look())
            loaded, error = await self._attempt()
            files = loaded.files if loaded is not None else error.files if error is not None else ()
            self._files = files or self._files
            self._known = await self._look()
            if all(before.get(file, look) == look for file, look in self._known):
                if loaded is not None:
                    return loaded
                raise error or ConfigError([MOVING])
            await anyio.sleep(PAUSE)
        self.forget()
        raise ConfigError([MOVING])

    async def _attempt(self) -> tuple[Loaded | None, ConfigError | None]:
        try:
            return await anyio.to_thread.run_sync(self._read), None
        except ConfigError as error:
            return None, error

    async def changed(self) -> set[Path]:
        """Look at them: give those that changed since they were read, if they look as at the last look.

        Files are written in several steps: they must rest.
        """
        now = await self._look()
        rest, self._seen = now == self._seen, now
        return {file for file, _ in set(now) - set(self._known)} if rest and now != self._known else set()

    def pass_by(self) -> None:
        """Let what changed be; it is not to be read."""
        self._known = self._seen

    def forget(self) -> None:
        """Have all of them count as changed."""
        self._known = ()

    async def _look(self) -> Signature:
        return await anyio.to_thread.run_sync(signature, self._files)


class Secrets:
    """Has the secrets masked that are in force, and those that were read last: keys that change daily would pile up."""

    def __init__(self, learn: Learn) -> None:
        """Begin with those of the start, which whoever started has taught."""
        self._learn = learn
        self._fresh: deque[Callable[[], None]] = deque()
        self._held: Callable[[], None] | None = None

    def learn(self, secrets: Iterable[str]) -> None:
        """Have the secrets of a configuration masked that was just read. Takes long, when there are many new ones."""
        self._fresh.append(self._learn(*secrets))
        if len(self._fresh) > FORMER:
            self._fresh.popleft()()

    def hold(self, secrets: Iterable[str]) -> None:
        """Have these masked, which are known, as long as they are in force: until the next ones are held."""
        before, self._held = self._held, self._learn(*secrets)
        if before is not None:
            before()
