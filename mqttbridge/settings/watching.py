"""How files look from outside, to notice that they changed. For whoever watches a configuration; blocks: in a thread.

Two looks that give the same say that nothing was written in between, as far as the file system tells. A change is to
be taken up when two looks after it are the same: an editor writes in several steps. Look before the load as well: what
is written while files are read shows in no later look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Signature", "signature"]

Look = tuple[int, int, int, int] | None
Signature = tuple[tuple["Path", Look], ...]
"""Of each file: when it was written, when it was changed in any way (who may read it, say; both in ns), its size, and
its inode, which is another where a file took its place."""


def signature(files: Iterable[Path]) -> Signature:
    """Look at files and directories; one that is not there, or cannot be looked at, is a value too."""
    return tuple((file, _look(file)) for file in files)


def _look(file: Path) -> Look:
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
