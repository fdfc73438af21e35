"""Which files define a problem or an optimizer: its own, and what that imports of definitions."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from l2l.suite.core.syntax import WHOLE, inner_name

# Of an installed package, the folder l2l itself: the same folders lie in it.
REPOSITORY = Path(__file__).resolve().parents[2]
# Packages whose modules define results.
PACKAGES = ("problems", "optimizers")
# Faster ways to the same numbers. A change that alters numbers raises RESULTS_VERSION instead.
NOT_RESULTS = ("optimizers.kernels", "problems.kernels")


def definition_files(path: Path, folder: Path | None = None) -> dict[str, Path]:
    """The file at `path`, and those that its imports lead to in `PACKAGES` and in its `folder`.

    Args:
        path: a module.
        folder: of the package that it is in; its own one if not given.

    Returns:
        The files by their place below the repository or, outside of `PACKAGES`, below `folder`:
        so nothing changes when a folder is moved.

    Raises:
        SyntaxError: one of the files is not Python.
    """
    if folder is None:
        path = path.resolve()
        folder = path.parent
    found: dict[str, Path] = {}
    pending = [path]
    while pending:
        each = pending.pop()
        base = REPOSITORY if is_shipped(each) else folder
        name = each.relative_to(base).as_posix()
        if base is folder and name.split("/")[0] in PACKAGES:
            # A plugin's own, which is not to be taken for ours.
            name = f"./{name}"
        if name not in found:
            found[name] = each
            pending += _imported_files(each, base)
    return found


def is_shipped(path: Path) -> bool:
    """Whether a file is one of `PACKAGES`."""
    place = path.resolve()
    return any(place.is_relative_to(REPOSITORY / package) for package in PACKAGES)


def _imported_files(path: Path, base: Path) -> Iterator[Path]:
    """What the import statements of a file execute, as far as it defines results."""
    for level, name in _imported_names(path.read_bytes()):
        if level:
            folder = path.parents[level - 1]
            found = _files_of(folder, name) if folder.is_relative_to(base) else ()
        elif name.partition(".")[0] == WHOLE:
            inner = inner_name(name)
            counts = inner.partition(".")[0] in PACKAGES and not inner.startswith(NOT_RESULTS)
            found = _files_of(REPOSITORY, inner) if counts else ()
        else:
            found = _files_of(base, name) if not is_shipped(path) else ()
        yield from found


def _files_of(folder: Path, name: str) -> Iterator[Path]:
    """The files of the module `name` and of the packages that it is in."""
    for part in name.split("."):
        candidates = (folder / f"{part}.py", folder / part / "__init__.py")
        yield from (each for each in candidates if each.is_file())
        folder /= part


@functools.cache
def _imported_names(source: bytes) -> tuple[tuple[int, str], ...]:
    """Levels (0 is absolute, 1 starts from the file's folder) and names, some not of modules."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # In `from module import thing`, thing may be a module itself.
            module = f"{node.module}." if node.module else ""
            found += ((node.level, f"{module}{alias.name}") for alias in node.names)
    return tuple(found)
