"""Packages import only what stands before them (docs/rooms.md), and no modules in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from l2l.suite.core.imports import REPOSITORY

ROOMS = (
    *("suite.core", "suite.files", "problems", "optimizers", "suite.inner", "suite.meta"),
    *("suite.plan", "suite.run", "suite.report", "suite.commands"),
)
WHOLE = "l2l."
LINES = 300


def modules() -> dict[str, Path]:
    """The files by their names as modules; a package goes by its own."""
    paths = [
        path
        for top in ("suite", "problems", "optimizers")
        for path in (REPOSITORY / top).rglob("*.py")
    ]
    names = [
        path.relative_to(REPOSITORY).with_suffix("").as_posix().replace("/", ".") for path in paths
    ]
    return dict(zip((name.removesuffix(".__init__") for name in names), paths, strict=True))


MODULES = modules()


def imported(node: ast.AST) -> Iterator[str]:
    """What the imports below a node execute, wherever they are; those for types never run."""
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING":
            continue
        if isinstance(each, ast.Import):
            yield from (alias.name.removeprefix(WHOLE) for alias in each.names)
        elif isinstance(each, ast.ImportFrom) and each.module:
            assert each.level == 0, "imports are absolute"
            module = each.module.removeprefix(WHOLE)
            inner = [f"{module}.{alias.name}" for alias in each.names]
            yield from (name if name in MODULES else module for name in inner)
        yield from imported(each)


@cache
def imports() -> dict[str, set[str]]:
    """What each module imports of the others."""
    return {
        name: {each for each in imported(ast.parse(path.read_bytes())) if each in MODULES}
        for name, path in MODULES.items()
    }


def place(module: str) -> int:
    """Of its room in the order; `suite` itself, which holds nothing, is part of the first."""
    return next((i for i, room in enumerate(ROOMS) if f"{module}.".startswith(f"{room}.")), 0)


def test_packages_import_only_what_stands_before_them() -> None:
    pairs = ((name, each) for name, others in imports().items() for each in others)
    assert not [f"{name} imports {each}" for name, each in pairs if place(each) > place(name)]


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter(imports()).prepare()  # raises a CycleError that names the circle


def test_every_package_says_what_it_holds_and_every_module_is_in_one() -> None:
    assert {name.split(".")[1] for name in MODULES if name.startswith("suite.")} == {
        room.removeprefix("suite.") for room in ROOMS if room.startswith("suite.")
    }
    page = (REPOSITORY / "docs" / "rooms.md").read_text(encoding="utf-8")
    for room in (room for room in ROOMS if room.startswith("suite.")):
        first = (ast.get_docstring(ast.parse(MODULES[room].read_bytes())) or "").split("\n")[0]
        assert first.rstrip(".") in page, f"docs/rooms.md does not say of {room}: {first}"


def test_modules_are_short() -> None:
    suite = {name: path for name, path in MODULES.items() if name.startswith("suite.")}
    lengths = {name: len(path.read_bytes().splitlines()) for name, path in suite.items()}
    assert not {name: lines for name, lines in lengths.items() if lines > LINES}
