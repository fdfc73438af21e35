"""Plain data (YAML, JSON) to typed values; complaints say where, what was found, what is right."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from l2l.suite.core.bounds import SpecOf
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.nearest import nearest

T = TypeVar("T")

# On a dataclass field of mappings: takes all the keys that no other field has.
REST = {"rest": True}


def below(where: str, key: object) -> str:
    """The place of `key` in the place `where`: ``fig4.yaml: panels.mnist.steps``."""
    return f"{where} {key}" if where.endswith(":") else f"{where}.{key}"


def convert(value: Any, kind: Any, where: str) -> Any:
    """`value` as the annotation `kind` wants it; dataclasses, tables and lists in depth.

    Raises:
        SuiteError: it does not fit; the sentence starts with `where`.
    """
    kind = with_items(kind)
    origin = get_origin(kind)
    if kind is Any:
        if isinstance(value, float) and not math.isfinite(value):
            raise SuiteError(f"{where} is {value}, but must be finite")
        return tuple(value) if isinstance(value, list) else value
    if origin is Annotated:
        base, *checks = get_args(kind)
        if isinstance(value, str) and any(isinstance(check, SpecOf) for check in checks):
            hint = f"write {{name: {value}}}" if re.fullmatch(r"[\w-]+", value) else ""
            raise _mismatch(value, base, where, hint)
        result = convert(value, base, where)
        if not all(check.holds(result) for check in checks):
            raise _mismatch(value, kind, where)
        return result
    if origin is Literal:
        for allowed in get_args(kind):
            if type(value) is type(allowed) and value == allowed:
                return value
        hint = nearest(value, map(str, get_args(kind))) if isinstance(value, str) else ""
        raise _mismatch(value, kind, where, hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, kind, where)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if isinstance(value, Mapping):
            return fill(kind, value, where)
        raise _mismatch(value, kind, where)
    if origin is not None:
        return _convert_container(value, kind, origin, where)
    if kind in (int, float):
        return _convert_number(value, kind, where)
    # Anything else (str, bool, an author's own class) must already be what it should be.
    if isinstance(kind, type) and not isinstance(value, kind):
        raise _mismatch(value, kind, where)
    return value


def with_items(kind: Any) -> Any:
    """``list`` and the like as ``list[Any]``; every other annotation as it is."""
    bare = {tuple: tuple[Any, ...], list: list[Any], dict: dict[str, Any]}
    return kind if get_args(kind) else bare.get(get_origin(kind) or kind, kind)


def plain(value: Any) -> Any:
    """`value` as JSON gives it back, dataclasses as tables; `convert` turns it into them again."""
    return json.loads(json.dumps(value, default=dataclasses.asdict))


def fill(cls: type[T], data: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `cls` from `data`.

    Raises:
        SuiteError: unknown or missing keys, wrong types, or what the class itself refuses with a
            `ValueError`.
    """
    arguments = fields_of(cls, data, where)
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise SuiteError(f"{where.removesuffix(':')}: {error}") from error


def fields_of(
    cls: Any,
    data: Mapping[str, Any],
    where: str,
    optional: Sequence[str] = (),
    elsewhere: Iterable[str] = (),
) -> dict[str, Any]:
    """The arguments that `data` gives to the dataclass `cls`; those in `optional` may be missing.

    A misspelt key may have been meant as one of those `elsewhere`.

    Raises:
        SuiteError: unknown or missing keys, or wrong types.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    kinds = field_types(cls)
    rest = next((name for name, f in fields.items() if f.metadata.get("rest")), None)
    arguments: dict[str, Any] = {} if rest is None else {rest: {}}
    for key, value in data.items():
        if key in fields and key != rest:
            arguments[key] = convert(value, kinds[key], below(where, key))
        elif rest is not None:
            arguments[rest][str(key)] = convert(value, Any, below(where, key))
        else:
            known = [*fields, *elsewhere]
            hint = hint_for(cls, key, data, known) if known else "it has no options"
            if value is None and str(key).isdigit():
                # In braces, the comma of 0,1 begins a new entry.
                hint = "a number is written with a point, such as 0.1"
            raise SuiteError(f"{where} has no {key!r}: {hint}")
    for name, f in fields.items():
        if is_required(f) and name not in arguments and name not in optional:
            raise SuiteError(f"{where} needs {name!r}: {describe(kinds[name])}")
    return arguments


def hint_for(cls: Any, key: object, data: Mapping[Any, Any], known: Iterable[str]) -> str:
    """A clause on a key that a dataclass has not: what its `instead` says, or the nearest key."""
    instead = getattr(cls, "instead", None)
    told = instead(key, data) if instead else ""
    return told or nearest(str(key), known)


def is_required(entry: dataclasses.Field[Any]) -> bool:
    """Whether a dataclass's field has no default."""
    missing = dataclasses.MISSING
    return entry.default is missing and entry.default_factory is missing


def field_types(cls: Any) -> dict[str, Any]:
    """The annotations of a dataclass's fields; `Any` for those that cannot be resolved."""
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError):
        # An annotation that only a type checker can see (`if TYPE_CHECKING:`).
        hints = {}
    return {f.name: hints.get(f.name, Any) for f in dataclasses.fields(cls)}


def describe(kind: Any) -> str:
    """What a value of the annotation `kind` is, in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return ", ".join([describe(inner[0]), *map(str, inner[1:])])
    if origin is Literal:
        return " or ".join(repr(allowed) for allowed in inner)
    if origin in (Union, types.UnionType):
        words = [describe(each) for each in inner if can_be_written(each)]
        return " or ".join(dict.fromkeys(words))
    if origin in (tuple, list, Sequence):
        return f"a list, each {describe(inner[0])}" if inner else "a list"
    if origin in (dict, Mapping) or dataclasses.is_dataclass(kind):
        return "a table of keys and values"
    words_of = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        type(None): "null",
        Any: "any value",
    }
    return words_of.get(kind, getattr(kind, "__name__", str(kind)))


def _mismatch(value: Any, kind: Any, where: str, hint: str = "") -> SuiteError:
    words = {True: "true", False: "false", None: "null"}
    found = words[value] if value is None or isinstance(value, bool) else _shown(value)
    tail = f"; {hint}" if hint.startswith(("did", "write")) else ""
    return SuiteError(f"{where} is {found}, but must be {describe(kind)}{tail}")


def _shown(value: Any) -> str:
    """The beginning of a value as Python writes it."""
    try:
        text = repr(value)
    except ValueError:
        # Python refuses to write whole numbers of thousands of digits.
        text = f"a {type(value).__name__} of very many digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def can_be_written(kind: Any) -> bool:
    """Whether YAML has values of this type: not so for tensors and the like."""
    plain = (int, float, str, bool, type(None), list, tuple, dict)
    return not isinstance(kind, type) or kind in plain or dataclasses.is_dataclass(kind)


def _convert_union(value: Any, kind: Any, where: str) -> Any:
    choices = [each for each in get_args(kind) if can_be_written(each)]
    if value is None and type(None) in choices:
        return None
    choices = [each for each in choices if each is not type(None)]
    tables = [each for each in choices if dataclasses.is_dataclass(each)]
    if isinstance(value, Mapping) and len(tables) == 1:
        # Whatever else there might be, this is meant, and its own complaints say more.
        choices = tables
    if len(choices) == 1:
        return convert(value, choices[0], where)
    # A whole number stays one where both `int` and `float` are allowed.
    for each in sorted(choices, key=lambda choice: choice is not type(value)):
        try:
            return convert(value, each, where)
        except SuiteError:
            continue
    raise _mismatch(value, kind, where)


def _convert_container(value: Any, kind: Any, origin: Any, where: str) -> Any:
    inner = get_args(kind)
    if issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _mismatch(value, kind, where)
        return {
            convert(k, inner[0], below(where, k)): convert(v, inner[1], below(where, k))
            for k, v in value.items()
        }
    if issubclass(origin, Sequence):
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise _mismatch(value, kind, where)
        kinds = [inner[0]] * len(value) if origin is not tuple or Ellipsis in inner else list(inner)
        if len(kinds) != len(value):
            raise SuiteError(f"{where} is {_shown(value)}, but must be a list of {len(inner)}")
        items = [
            convert(item, each, f"{where}[{index}]")
            for index, (item, each) in enumerate(zip(value, kinds, strict=True))
        ]
        return items if origin is list else tuple(items)
    return value


def _convert_number(value: Any, kind: type, where: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mismatch(value, kind, where, _as_number(value, kind))
    # Whole numbers have no end in YAML; those that are compared with it as they are have one.
    if not abs(value) <= sys.float_info.max:
        raise SuiteError(f"{where} is {_shown(value)}, but must be a finite number")
    if kind is float:
        return float(value)
    if int(value) != value:
        raise _mismatch(value, kind, where)
    return int(value)


def _as_number(value: Any, kind: type) -> str:
    """How to write what is a number for people and text for YAML: ``0,1``, ``1_000``, ``"5"``."""
    digits = r"[-+]?[0-9]+" if kind is int else r"[-+]?[0-9]*[.]?[0-9]+(e[-+]?[0-9]+)?"
    plain = value.replace(",", ".").replace("_", "") if isinstance(value, str) else ""
    return f"write {plain}, without quotes" if re.fullmatch(digits, plain.strip().lower()) else ""
