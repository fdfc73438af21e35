"""Problems and optimizers by name, registered by a decorator."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from suite.convert import fields_of
from suite.convert import nearest as nearest
from suite.digests import digest
from suite.errors import SuiteError
from suite.types import Optimizer, Problem

T = TypeVar("T", bound=type)


def _origin(cls: type) -> tuple[str, str]:
    """The file and the name in it of a class."""
    module = sys.modules.get(cls.__module__)
    return str(getattr(module, "__file__", cls.__module__)), cls.__qualname__


class Registry(Generic[T]):
    """Classes by name. `package` holds the modules that register themselves when imported."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._classes: dict[str, T] = {}
        self._loaded = False

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self._package)
        for module in pkgutil.walk_packages(package.__path__, f"{self._package}."):
            # Kernels register nothing, and some need what not everybody has.
            if not module.name.startswith("optimizers.kernels"):
                importlib.import_module(module.name)

    def add(self, name: str, cls: T) -> None:
        """Make `cls` known as `name`; SuiteError if another class has that name."""
        known = self._classes.get(name)
        # A plugin loaded twice replaces itself; two different classes never share a name.
        if known is not None and _origin(known) != _origin(cls):
            raise SuiteError(f"{self.kind} {name!r} is registered twice, choose another name")
        self._classes[name] = cls

    def names(self) -> list[str]:
        """All names, sorted."""
        self._load()
        return sorted(self._classes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def cls(self, name: str) -> T:
        """The class registered under `name`; SuiteError with the nearest names if none is."""
        self._load()
        if name not in self._classes:
            hint = nearest(name, self.names())
            raise SuiteError(f"there is no {self.kind} {name!r}: {hint}")
        return self._classes[name]

    def options(
        self, spec: Mapping[str, Any], where: str = "configuration", optional: Sequence[str] = ()
    ) -> tuple[T, dict[str, Any]]:
        """The class and its arguments from ``{"name": …, field: value, …}``.

        Args:
            spec: name and fields.
            where: the place to name in errors.
            optional: fields that may be missing though they have no default.

        Raises:
            SuiteError: no such name, unknown or missing fields, or wrong types.
        """
        given = dict(spec)
        name = given.pop("name", None)
        if not isinstance(name, str):
            raise SuiteError(f"{where}: a {self.kind} needs a 'name': {', '.join(self.names())}")
        try:
            cls = self.cls(name)
        except SuiteError as error:
            raise SuiteError(f"{where}: {error}") from None
        return cls, fields_of(cls, given, f"{where}: {self.kind} {name!r}", optional)

    def make(self, spec: Mapping[str, Any], where: str = "configuration") -> Any:
        """An instance from ``{"name": …, field: value, …}``.

        Raises:
            SuiteError: as `options`, or values that the class itself refuses.
        """
        cls, arguments = self.options(spec, where)
        try:
            return cls(**arguments)
        except (TypeError, ValueError) as error:
            raise SuiteError(f"{where}: {self.kind} {spec['name']!r}: {error}") from error


problems: Registry[type[Problem]] = Registry("problem", "problems")
optimizers: Registry[type[Optimizer]] = Registry("optimizer", "optimizers")


def register_problem(name: str) -> Callable[[T], T]:
    """Class decorator: make a `Problem` known as `name`."""

    def register(cls: T) -> T:
        problems.add(name, cls)
        return cls

    return register


def register_optimizer(name: str, tune: str | None = None) -> Callable[[T], T]:
    """Class decorator: make an `Optimizer` known as `name`; `tune` is the field that is swept."""

    def register(cls: T) -> T:
        cls.tuned = tune  # type: ignore[attr-defined]
        optimizers.add(name, cls)
        return cls

    return register


def load_plugin(path: Path) -> None:
    """Import a user's file, which registers what it defines.

    Raises:
        SuiteError: the file is missing or does not import.
    """
    if not path.is_file():
        raise SuiteError(f"plugin {path}: there is no such file")
    # Files of one name in two folders are two modules.
    name = f"plugin_{path.stem}_{digest(str(path.resolve()))[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SuiteError(f"plugin {path}: must be a Python file, ending in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SuiteError:
        raise
    except Exception as error:
        raise SuiteError(f"plugin {path}: {type(error).__name__}: {error}") from error
