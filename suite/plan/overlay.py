"""Laying changes (a profile, ``--set``) over the plain data of an experiment file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from l2l.suite.core.convert import below, field_types, hint_for
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.files.yaml import MAX_DEPTH, parse_yaml


def overlay(base: Any, change: Any, kind: Any, where: str) -> Any:
    """`base` with `change` on top; neither is altered.

    Tables merge key by key, lists by index (``{0: …}``) or as a whole, and a table whose ``name``
    or ``trained`` changes (another problem, another optimizer) is replaced. Entries of a table of
    dataclasses, such as panels, can be changed and not added: a misspelt one would otherwise be a
    new one.

    Args:
        base: plain data.
        change: what replaces parts of it.
        kind: the annotation that the result will be converted to.
        where: the place of `change`, for errors.

    Raises:
        SuiteError: a key that `kind` or `base` does not have.
    """
    if isinstance(base, list) and isinstance(change, Mapping):
        return _overlay_list(base, change, kind, where)
    if not isinstance(change, Mapping) or not isinstance(base, Mapping | None):
        return change
    base = base or {}
    for key in ("name", "trained"):
        another = isinstance(change.get(key), str) and change[key] != base.get(key)
        if another and not _is_dataclass(kind):
            return dict(change)
    merged = dict(base)
    for key, value in change.items():
        inner = _kind_at(kind, key, base, change, where)
        merged[key] = overlay(base.get(key), value, inner, below(where, key))
    return merged


def parse_setting(text: str) -> tuple[list[str], Any]:
    """``dotted.key=value`` to the keys and the value, which is read as YAML.

    Raises:
        SuiteError: there is no ``=``, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip(". "):
        raise SuiteError(f"--set {text}: must be KEY=VALUE, such as sizes.test_instances=8")
    keys = key.strip().split(".")
    if len(keys) > MAX_DEPTH:
        raise SuiteError(f"--set {text[:60]}…: the key has more than {MAX_DEPTH} parts")
    try:
        return keys, parse_yaml(value)
    except ValueError as error:
        problem = re.sub(r"^line \d+: ", "", str(error))
        raise SuiteError(f"--set {text}: the value {problem}") from error


def nested(keys: list[str], value: Any) -> Any:
    """``["a", "b"], 1`` to ``{"a": {"b": 1}}``."""
    for key in reversed(keys):
        value = {key: value}
    return value


def _overlay_list(base: list[Any], change: Mapping[Any, Any], kind: Any, where: str) -> list[Any]:
    items = list(base)
    inner = (*get_args(kind), Any)[0]
    for key, value in change.items():
        if str(key) not in map(str, range(len(items))):
            known = f"they are numbered 0 to {len(items) - 1}" if items else "the list is empty"
            raise SuiteError(f"{where} has no entry {key!r:.60}: {known}")
        items[int(key)] = overlay(items[int(key)], value, inner, below(where, key))
    return items


def _kind_at(
    kind: Any, key: Any, base: Mapping[Any, Any], change: Mapping[Any, Any], where: str
) -> Any:
    """The annotation of what stands under `key`; SuiteError if nothing may."""
    for choice in (kind, *get_args(kind)):
        if _is_dataclass(choice):
            kinds = field_types(choice)
            rest = any(f.metadata.get("rest") for f in dataclasses.fields(choice))
            if key not in kinds and not rest:
                hint = hint_for(choice, key, {**base, **change}, kinds)
                raise SuiteError(f"{where} has no {key!r}: {hint}")
            return kinds.get(key, Any)
        if get_origin(choice) is dict:
            inner = get_args(choice)[1]
            if _is_dataclass(inner) and key not in base:
                raise SuiteError(f"{where} has no {key!r}: {nearest(str(key), map(str, base))}")
            return inner
    return Any


def _is_dataclass(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)
