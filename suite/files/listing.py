"""What lies in a folder that others may be changing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def stat_of(path: Path) -> os.stat_result | None:
    """None if it is gone, or cannot be looked at."""
    try:
        return path.lstat()
    except OSError:
        return None


def stats_below(folder: Path) -> Iterator[os.stat_result]:
    """Of all files and folders in it, at any depth, but those that go while they are listed."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            stat = stat_of(Path(place, name))
            if stat is not None:
                yield stat
