"""Classes by their import path, of installed packages and of plugins, and the version of each."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import packages_distributions, version
from types import ModuleType
from typing import Any

from l2l.suite.core.blame import blamed
from l2l.suite.core.digests import definition_digest
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.generators import seeded_generators
from l2l.suite.core.nearest import nearest
from l2l.suite.core.plugins import is_from_plugin, plugin_called

_allowed: ContextVar[bool] = ContextVar("_allowed", default=True)
# Installed packages by the modules that they bring; to find them takes a tenth of a second.
_packages = functools.cache(packages_distributions)


@contextmanager
def no_imports() -> Iterator[None]:
    """Within the block `class_at` imports nothing: for names that files bring, not their reader."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def class_at(path: str, base: type) -> type[Any]:
    """The subclass of `base` at ``package.module.Class``.

    A plugin goes by the name of its file: ``mine.Class`` is in the plugin ``mine.py``.

    Raises:
        SuiteError: nothing can be imported there, it is no such class, or the block is one of
            `no_imports`.
    """
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", path):
        raise SuiteError(f"{path!r} is not an import path: write package.module.Class")
    if not _allowed.get():
        raise SuiteError(f"{path!r} is not imported: a file names it, and only experiments may")
    top, *names = path.split(".")
    found: Any = plugin_called(top) or _imported(top)
    if found is None:
        raise SuiteError(
            f"there is no module {top!r}: install its package beside this one, or, if it is a "
            "file of your own, give it with --plugin"
        )
    place = top
    for name in names:
        if not hasattr(found, name) and isinstance(found, ModuleType):
            _imported(f"{place}.{name}")  # which makes it an attribute, if there is one
        if not hasattr(found, name):
            hint = nearest(name, (each for each in dir(found) if not each.startswith("_")))
            raise SuiteError(f"{place} has no {name!r}: {hint}")
        found, place = getattr(found, name), f"{place}.{name}"
    if not isinstance(found, type) or not issubclass(found, base) or found is base:
        kind = "a class" if isinstance(found, type) else f"a {type(found).__name__}"
        wanted = f"{base.__module__}.{base.__name__}".replace(".optimizer.", ".")
        raise SuiteError(f"{path} is {kind}, but must be a subclass of {wanted}")
    return found


def version_of(cls: type) -> dict[str, str]:
    """What a class's results depend on: its package by name, with the version.

    The version is without what follows a ``+``, which tells builds for CPUs and GPUs apart. Of a
    plugin, and of a module that no package installed, it is a digest of the code.
    """
    top = cls.__module__.partition(".")[0]
    packages = () if is_from_plugin(cls) else _packages().get(top, ())
    if not packages:
        return {cls.__qualname__: definition_digest(cls)}
    return {name: version(name).partition("+")[0] for name in sorted(set(packages))}


def _imported(name: str) -> ModuleType | None:
    """The module of that name; None if there is none."""
    with blamed(f"importing {name} raises"), seeded_generators():
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in (name, name.rpartition(".")[0]):
                raise
    return None
