"""Absolute imports of modules that lie beside a plugin."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

from l2l.suite.core.imports import PACKAGES
from l2l.suite.core.syntax import HARNESS


class Beside(MetaPathFinder, Loader):
    """Finds the modules of a package under their names without it: `helpers` is `package.helpers`.

    Args:
        package: that stands for a folder.
        namespaces: find folders without an ``__init__.py``, and nothing else.
    """

    def __init__(self, package: str, namespaces: bool = False) -> None:
        self._package = package
        self._namespaces = namespaces
        self._own_specs: dict[str, ModuleSpec | None] = {}

    @property
    def found(self) -> Sequence[str]:
        """Names of the modules that were found."""
        return tuple(self._own_specs)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where the module `name` is, None if not in the package."""
        parent, _, _ = f"{self._package}.{name}".rpartition(".")
        top = name.partition(".")[0]
        # What another package imports from itself while it is imported is its own affair.
        if parent not in sys.modules or top in (HARNESS, *PACKAGES, self._package):
            return None
        own = find_spec(f"{self._package}.{name}")
        if own is None or (own.origin is None) is not self._namespaces:
            return None
        return ModuleSpec(name, self, is_package=own.submodule_search_locations is not None)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module of the package itself, so that there is only one."""
        module = importlib.import_module(f"{self._package}.{spec.name}")
        self._own_specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give it back what says where it is from, which the import under another name replaced."""
        spec = module.__spec__
        assert spec is not None
        module.__spec__ = self._own_specs[spec.name]
