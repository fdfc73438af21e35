"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from l2l.suite.core.errors import SuiteError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which becomes `path` when the block ends without error.

    The folder is made if it is not there. The temporary name keeps the suffix, because some
    writers choose the format by it. What was at `path` stays untouched if the block fails.

    Raises:
        SuiteError: the folder cannot be written to, or the disk is full.
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SuiteError(
            f"cannot write {path}: {reason}; choose a folder that can be written and has room"
        ) from error
    finally:
        with suppress(OSError):  # it is not there after success, nor where it could not be made
            temporary.unlink()


def write_text_atomic(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with newlines as they are; raises as `atomic_path` does."""
    write_bytes_atomic(path, _utf8(text))


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write `data`; raises as `atomic_path` does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _utf8(text: str) -> bytes:
    """`text` as UTF-8, whatever file names are in it; what no character stands for becomes �."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Python has stand-ins for the bytes of a name that is not in the locale's encoding.
        named = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)
        return named.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode()


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself survive a power cut, where folders can be opened (not Windows)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
