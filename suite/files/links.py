"""Links in a results folder: they may lead anywhere, so none is followed."""

from __future__ import annotations

import os
from pathlib import Path

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.places import CELLS, FIGURES, LATEST, LOGS, TABLES


def refuse_links(root: Path) -> None:
    """Check that what is written or read below `root` lies there.

    The folder itself may be a link, and so may be files that are only ever replaced.

    Raises:
        SuiteError: one of its own folders, or something in them, is a link.
    """
    for own in (CELLS, FIGURES, TABLES, LOGS):
        for folder, folders, files in os.walk(root / own):
            for name in (os.curdir, *folders, *files):
                path = Path(folder, name)
                # Beside it, what a process left that was killed while it made one.
                if path.is_symlink() and name != LATEST and not name.startswith(f".{LATEST}."):
                    raise SuiteError(
                        f"{path} is a link, which a results folder must not contain: replace "
                        "it by what it points to, or choose another --results"
                    )
