"""Where data lie, and why something may not be found there."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.places import DATA

DATA_ROOT = "L2L_DATA"
# What comes with the project, for whoever has no data; README.md there says from where.
SAMPLES = Path(__file__).parent / "samples"

ARCHIVES = (".gz", ".zip", ".tgz", ".tar", ".xz")

log = logging.getLogger("suite")


def data_root() -> Path:
    """The folder of all data, in torchvision's layout: ``$L2L_DATA``, or ``data/`` here.

    Raises:
        SuiteError: ``$L2L_DATA`` is not a folder.
    """
    named = os.environ.get(DATA_ROOT)
    if not named:
        return DATA
    root = os.path.expanduser(named)
    if not os.path.isdir(root):
        raise SuiteError(
            f"{DATA_ROOT} is {named!r}, but there is no such folder: set it to the folder that "
            "holds the data sets, or unset it"
        )
    return Path(root)


def not_found(what: str, names: Iterable[str]) -> str:
    """A clause that says that `what` is not in `data_root()`, and what may be the reason.

    Args:
        what: as a reader calls it.
        names: files or folders below the root that it may be in.
    """
    root = data_root()
    reason = _reason(root, sorted(names))
    return f"no {what} in {root}" + (f" ({reason})" if reason else "")


def _reason(root: Path, names: list[str]) -> str:
    if not root.is_dir():
        return f"no such folder, and {DATA_ROOT} is not set"
    tops = {Path(name).parts[0] for name in names}
    absolute = root.absolute()
    for folder in (absolute, absolute.parent):
        if folder.name in tops:
            return f"one folder too deep: set {DATA_ROOT} to {folder.parent}"
    # What may not be read is as good as not there.
    with suppress(OSError):
        for name in names:
            for found in root.glob(f"*/{name}"):
                inner = root / found.relative_to(root).parts[0]
                return f"one folder too high: set {DATA_ROOT} to {inner}"
        for top in tops:
            for found in (*root.glob(f"{top}*"), *(root / top).rglob("*")):
                if found.suffix in ARCHIVES and found.is_file():
                    return f"only an archive, {found.relative_to(root)}: unpack it"
    return ""


@functools.cache
def stand_in(absent: str, sample: str) -> None:
    """Log, once, that `sample` is used because of what `not_found` says.

    While a run is planned the log has no handler, and Python then prints warnings on the terminal.
    """
    log.warning("%s: a sample is used, %s", absent, sample)
