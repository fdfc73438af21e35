"""Errors of the results folder itself: a full disk, a folder that cannot be written to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.places import CELLS

# What no cell can be blamed for, and what all others would meet too.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
# What a cell that misses a file of its own meets too: the folder's fault only if it is gone.
MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


class StorageError(SuiteError):
    """The results folder cannot be read or written to: the whole run stops."""


@contextmanager
def guarded(root: Path) -> Iterator[None]:
    """Turns errors of the disk into one sentence that says nothing is lost."""
    try:
        yield
    except StorageError:
        raise
    except Timeout:
        # A lock that is taken; to Python it is an OSError too.
        raise
    except (OSError, SuiteError) as error:
        cause = storage_cause(error, root)
        if cause is None:
            raise
        raise StorageError(
            f"{root} cannot be written to ({cause.strerror or cause}): make room or choose "
            "another --results; finished cells are kept"
        ) from error


def storage_cause(error: BaseException | None, root: Path) -> OSError | None:
    """The error of the results folder that `error` is or came from, if it did."""
    while error is not None:
        if isinstance(error, OSError):
            # A file elsewhere that cannot be read, such as a data set's, is the cell's affair.
            ours = error.errno not in MISSING or not (root / CELLS).is_dir()
            if error.errno in DISK_ERRORS or (ours and _is_inside(error.filename, root)):
                return error
        error = error.__cause__
    return None


def _is_inside(name: object, root: Path) -> bool:
    """Whether what an error says of a file, if anything, is a path in the folder."""
    if not isinstance(name, str | bytes | os.PathLike):
        return False
    return Path(os.fsdecode(name)).absolute().is_relative_to(root.absolute())
