"""Users' files with problems, optimizers and estimators, and the modules that they import."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import torch

from l2l.suite.core.beside import Beside
from l2l.suite.core.blame import author_line, blamed
from l2l.suite.core.digests import definition_digest, digest
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.generators import SEED, noticed_draws, seeded_generators
from l2l.suite.core.imports import PACKAGES, definition_files
from l2l.suite.core.registry import REGISTRIES, unregistered_on_error
from l2l.suite.core.syntax import HARNESS, PLUGIN, WHOLE

# Modules of plugins by name, and the files they are from.
_loaded: dict[str, Path] = {}
# Those that drew something random while they were imported.
_drew: set[str] = set()


def load_plugin(path: Path) -> None:
    """Import a user's file, which registers what it defines.

    Each folder is a package of its own: relative imports reach what lies beside the file, and
    modules of one name beside two plugins are two. While it is imported, absolute imports reach
    that as well.

    Raises:
        SuiteError: the file is missing, or raises something when it is imported.
    """
    if not path.is_file():
        raise SuiteError(f"plugin {path}: there is no such file")
    if path.suffix != ".py":
        raise SuiteError(f"plugin {path}: must be a Python file, ending in .py")
    file = path.resolve()
    package, name = _names(file)
    with (
        blamed(f"plugin {path}:"),
        _undone_on_error(package),
        seeded_generators(),
        _settings_kept(),
    ):
        if name in _loaded:
            # Once more, because something changed: maybe a module beside it.
            _unload(package, keep=_loaded)
            del _loaded[name]
        with noticed_draws() as drawn, _told_of_the_whole(path, file):
            _execute(file)
        _drew.discard(name)
        if drawn:
            _drew.add(name)
        _loaded[name] = file
        # From what was loaded just now, whatever becomes of the files during a run.
        for registry in REGISTRIES:
            for cls in registry.loaded:
                if _package(cls) == package:
                    definition_digest(cls)


def is_from_plugin(cls: type) -> bool:
    """Whether a plugin defines a class, or what lies beside one."""
    return _package(cls).startswith(PLUGIN)


def plugin_called(name: str) -> ModuleType | None:
    """The plugin whose file is called so, without its suffix, if one was loaded; the last one."""
    found = [module for module, file in _loaded.items() if file.stem == name]
    return sys.modules.get(found[-1]) if found else None


def went_through_plugin(error: BaseException) -> bool:
    """Whether an error was raised in code of a plugin, or of what lies beside one."""
    return any(author_line(error, file.parent) for file in _loaded.values())


def plugin_files(path: Path) -> dict[str, bytes]:
    """A plugin and what it imports from beside it: contents by the place below its folder."""
    folder = path.resolve().parent
    found = definition_files(path)
    return {name: file.read_bytes() for name, file in found.items() if file == folder / name}


def twin(cls: type) -> type | None:
    """What a file defines instead of `cls` when random numbers come out differently.

    A plugin may draw them when it is imported, or when it is called first, and keep them. None if
    it drew none while it was imported and cannot be imported twice; and of the suite's own files,
    if they drew none.
    """
    drew = set().union(*(registry.drew for registry in REGISTRIES))
    package, again = cls.__module__, {cls.__module__} & drew
    if is_from_plugin(cls):
        package = _package(cls)
        again = {name for name in _loaded if name.startswith(f"{package}.")}
    if not again:
        return None
    kept = _unload(package)
    about = (
        f"{cls.__name__} draws random numbers when it is imported, and importing it again raises"
    )
    try:
        with blamed(about), ExitStack() as stack:
            found = [stack.enter_context(registry.apart()) for registry in REGISTRIES]
            for name in sorted(again):
                with seeded_generators(SEED + 1):
                    if name in _loaded:
                        _execute(_loaded[name])
                    else:
                        importlib.import_module(name)
    except SuiteError:
        if again & {*_drew, *drew}:
            raise
        return None
    finally:
        _unload(package)
        for name, module in kept.items():
            sys.modules[name] = module
            parent, _, last = name.rpartition(".")
            if parent in sys.modules:
                setattr(sys.modules[parent], last, module)
    own = (cls.__module__, cls.__qualname__)
    twins = (each for registered in found for each in registered.values())
    return next((each for each in twins if (each.__module__, each.__qualname__) == own), None)


@contextmanager
def _undone_on_error(package: str) -> Iterator[None]:
    """If the block raises, all is as it was: what is registered, and the modules of `package`."""
    loaded, modules = dict(_loaded), _modules(package)
    try:
        with unregistered_on_error():
            try:
                yield
            except BaseException:
                _unload(package)
                raise
    except BaseException:
        sys.modules.update(modules)
        _loaded.clear()
        _loaded.update(loaded)
        raise


@contextmanager
def _settings_kept() -> Iterator[None]:
    """After the block, what all of the process shares is as before, whatever a plugin sets."""
    folder, dtype, graphs = os.getcwd(), torch.get_default_dtype(), torch.is_grad_enabled()
    try:
        yield
    finally:
        os.chdir(folder)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(graphs)


@contextmanager
def _told_of_the_whole(path: Path, file: Path) -> Iterator[None]:
    """A plugin may take the repository's folders for packages of their own."""
    try:
        yield
    except ImportError as error:
        top = (error.name or "").partition(".")[0]
        if top not in (HARNESS, *PACKAGES):
            raise
        ours = [f"`from {WHOLE} import ...` for what authors need"]
        if any((file.parent / each).exists() for each in (f"{top}.py", top)):
            ours.insert(0, f"`from .{top} import ...` for your own")
        raise SuiteError(
            f"plugin {path}: {top} is a part of {WHOLE} {author_line(error, file.parent)}: "
            f"write {', '.join(ours)}, else `from {WHOLE}.{top} import ...`"
        ) from error


def _names(file: Path) -> tuple[str, str]:
    """The package that stands for a plugin's folder, and the plugin's module in it."""
    package = f"{PLUGIN}{digest(str(file.parent))[:8]}"
    plain = re.sub(r"\W", "_", file.stem)
    return package, f"{package}.{plain}{'' if plain == file.stem else digest(file.stem)[:8]}"


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _execute(file: Path) -> None:
    package, name = _names(file)
    if package not in sys.modules:
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(file.parent)]
    spec = spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    with _reachable(package):
        spec.loader.exec_module(module)


def _unload(package: str, keep: Iterable[str] = ()) -> dict[str, ModuleType]:
    """Take a package's modules, but those to `keep`, out of those that Python knows."""
    return {name: sys.modules.pop(name) for name in _modules(package) if name not in keep}


def _modules(package: str) -> dict[str, ModuleType]:
    """Those of a package that Python knows, by name."""
    return {
        name: module for name, module in sys.modules.items() if f"{name}.".startswith(f"{package}.")
    }


@contextmanager
def _reachable(package: str) -> Iterator[None]:
    """Within the block absolute imports find the modules of `package`."""
    finders = Beside(package), Beside(package, namespaces=True)
    writes_none, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    # Packages without an __init__.py come last, as they do on Python's own path.
    sys.meta_path.insert(0, finders[0])
    sys.meta_path.append(finders[1])
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_none
        for finder in finders:
            sys.meta_path.remove(finder)
            for name in finder.found:
                sys.modules.pop(name, None)
