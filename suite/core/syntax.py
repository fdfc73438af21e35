"""Digests of code, which decide whether results are computed again.

Comments, docstrings, layout and Python's version do not change them, nor does the module of the
harness that a name is imported from, nor that all of it is inside of one package.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from typing import Any

# The package that all others are in, and the one of them that is not of definitions.
WHOLE = "l2l"
HARNESS = "suite"
# How the names of packages begin that stand for the folders of plugins.
PLUGIN = "plugin_"


def inner_name(module: str) -> str:
    """A module's name within `WHOLE`; what `WHOLE` itself offers is the harness's."""
    return HARNESS if module == WHOLE else module.removeprefix(f"{WHOLE}.")


@functools.cache
def code_digest(source: bytes) -> str:
    """The digest of a module's syntax tree without docstrings, as hex.

    `ast.dump` would not do: what it writes of one and the same tree differs between versions of
    Python, and so would the digests.

    Raises:
        SyntaxError: it is not Python.
    """
    return hashlib.sha256("".join(_written(ast.parse(source))).encode()).hexdigest()


def _written(node: Any) -> Iterator[str]:
    """A syntax tree, or a part of it, as text."""
    if isinstance(node, ast.AST):
        yield f"{type(node).__name__}("
        if isinstance(node, ast.Constant):
            # Which characters `repr` escapes depends on Python's version.
            yield f"{type(node.value).__name__} {node.value!a}"
        elif isinstance(node, ast.JoinedStr):
            yield from _written(_merged(node.values))
        else:
            for name in node._fields:
                value = _without_docstring(name, getattr(node, name, None))
                if isinstance(node, ast.ImportFrom) and name == "module":
                    value = _without_place(node)
                # What is empty is omitted, for later versions add fields to old nodes. Whether a
                # name is read or written (`ctx`) follows from its place.
                if name != "ctx" and value is not None and value != []:
                    yield f"{name}="
                    yield from _written(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for each in node:
            yield from _written(each)
            yield ","
        yield "]"
    else:
        yield ascii(node)


def _without_place(node: ast.ImportFrom) -> str | None:
    """The module that names are imported from; of the harness its name alone."""
    if node.level or node.module is None:
        return node.module
    name = inner_name(node.module)
    return HARNESS if name.startswith(f"{HARNESS}.") else name


def _without_docstring(name: str, value: Any) -> Any:
    if name != "body" or not isinstance(value, list) or not value:
        return value
    first = value[0].value if isinstance(value[0], ast.Expr) else None
    is_text = isinstance(first, ast.Constant) and isinstance(first.value, str)
    return value[1:] if is_text else value


def _merged(parts: list[Any]) -> list[Any]:
    """The parts of an f-string, texts that follow each other in one."""
    merged: list[Any] = []
    for part in parts:
        if isinstance(part, ast.Constant):
            if not part.value:
                continue
            if merged and isinstance(merged[-1], ast.Constant):
                part = ast.Constant(merged.pop().value + part.value)
        merged.append(part)
    return merged
