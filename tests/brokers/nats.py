"""A real NATS server with MQTT (3.1.1) and JetStream, for one test."""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.brokers.mosquitto import Process, find, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class Nats(Process):
    """A NATS server; `port` speaks MQTT."""

    host = "127.0.0.1"

    def __init__(self, command: Sequence[str], log: Path, port: int) -> None:
        super().__init__(command, log, [port])
        self.port = port


@asynccontextmanager
async def nats(directory: Path) -> AsyncIterator[Nats]:
    """Run a NATS server."""
    program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or find("nats-server")
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    port = free_port()
    config = "\n".join([
        f"listen: 127.0.0.1:{free_port()}",
        "server_name: one",
        f'jetstream {{ store_dir: "{directory / "store"}", max_memory_store: 64MB, max_file_store: 256MB }}',
        f'mqtt {{ listen: 127.0.0.1:{port}, max_ack_pending: 1000, ack_wait: "1s" }}',
    ])  # fmt: skip
    path = directory / "nats.conf"
    await asyncio.to_thread(path.write_text, config)
    broker = Nats([program, "-c", str(path)], directory / "nats.log", port)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()
