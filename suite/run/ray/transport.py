"""A cell's folder as bytes, for machines that share no file system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.atomic import write_bytes_atomic
from l2l.suite.files.places import RECORD

Files = Mapping[str, bytes]

# Bytes of a folder. A cell leaves some megabytes; far beyond that is no result of ours.
LIMIT = 2**29


def pack(folder: Path) -> dict[str, bytes]:
    """The files in a cell's folder by name; none if it is not there. Links and folders stay behind.

    Raises:
        SuiteError: they are larger than `LIMIT`.
    """
    files: dict[str, bytes] = {}
    size = 0
    for path in sorted(folder.glob("*")):
        if path.name.startswith(".") or path.is_symlink() or not path.is_file():
            continue
        files[path.name] = path.read_bytes()
        size += len(files[path.name])
        if size > LIMIT:
            raise SuiteError(f"{folder.name} is larger than {LIMIT >> 20} MiB: use a shared folder")
    return files


def unpack(files: Files, folder: Path) -> None:
    """Write packed files into `folder`, each whole or not at all, and `cell.json` last.

    Raises:
        SuiteError: a name that is not that of a file in the folder, or more than `LIMIT`: nothing
            is written then. Or the folder cannot be written to.
    """
    for name in files:
        if not _is_plain(name):
            raise SuiteError(f"{folder.name}: {name!r} cannot be the name of a cell's file")
    if sum(map(len, files.values())) > LIMIT:
        raise SuiteError(f"{folder.name} came back larger than {LIMIT >> 20} MiB")
    for name in sorted(files, key=lambda name: name == RECORD):
        write_bytes_atomic(folder / name, files[name])


def _is_plain(name: str) -> bool:
    """Whether a file called so lies in its folder on every system, and is not hidden."""
    return bool(name) and name[0] != "." and not set(name) & set('/\\:\0<>|"?*')
