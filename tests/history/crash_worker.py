"""A process to be killed: tells a history of uplinks and ends, and says on stdout what is on disk.

Arguments: state directory, first number. Lines: `A n`: all up to number n can be read.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.history.samples import NOW, ended, opened, queued


async def main() -> None:
    """Run until killed."""
    directory, number = Path(sys.argv[1]), int(sys.argv[2])
    history = await opened(directory)
    while True:
        batch = range(number, number + 1 + number % 17)
        history.stored({("a",): queued(batch, size=500)})
        history.settled("a", ended(batch))
        history.event(NOW, "info", "a.b", {"number": batch.stop - 1})
        await history.ends([number])
        os.write(1, b"A %d\n" % (batch.stop - 1))
        number = batch.stop


if __name__ == "__main__":
    asyncio.run(main())
