"""The JSON schema of experiment files, by which editors complete and check them.

It is made from the dataclasses that experiments are read into, and from what is registered.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from l2l.suite.core.bounds import Check, SpecOf
from l2l.suite.core.convert import can_be_written, field_types, is_required, with_items
from l2l.suite.core.registry import REGISTRIES, optimizers
from l2l.suite.core.wrapper import Options
from l2l.suite.plan.config import Claim, Experiment
from l2l.suite.plan.profiles import PROFILES
from l2l.suite.report.claims.verdicts import CLAIM_TESTS

Schema = dict[str, Any]
PLAIN: dict[Any, str] = {
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
    type(None): "null",
}


def experiment_schema() -> Schema:
    """The schema of experiment files, in the draft that most editors know (7)."""
    defs: dict[str, Schema] = {}
    whole, changes = _Writer(defs), _Writer(defs, partial=True)
    found = whole.table(Experiment)
    # The file's own name, if it is not given.
    found["required"].remove("name")
    change = {"anyOf": [changes.of(Experiment), {"type": "null"}]}
    found["properties"]["profiles"] = {
        "type": "object",
        "description": "What each profile changes, above all the sizes.",
        "properties": {name: change for name in PROFILES},
        "additionalProperties": False,
    }
    return {"$schema": "http://json-schema.org/draft-07/schema#", **found, "definitions": defs}


class _Writer:
    """Schemas of annotations; those of dataclasses and registries are written once, into `defs`.

    With `partial`, of changes to what there is: nothing is required, entries of lists may be given
    by their number, and of what is registered only the names are known.
    """

    def __init__(self, defs: dict[str, Schema], partial: bool = False) -> None:
        self.defs = defs
        self.partial = partial

    def of(self, kind: Any) -> Schema:
        """The schema of an annotation."""
        kind = with_items(kind)
        origin, inner = get_origin(kind), get_args(kind)
        if origin is Annotated:
            found = self.of(inner[0])
            for check in inner[1:]:
                found |= self._checked(check, found)
            return found
        if origin is Literal:
            return {"enum": list(inner)}
        if origin in (Union, types.UnionType):
            choices = [self.of(each) for each in inner if can_be_written(each)]
            return choices[0] if len(choices) == 1 else {"anyOf": choices}
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self._named(kind.__name__, lambda: self.table(kind))
        if origin in (dict, Mapping):
            keys = self.of(inner[0])
            named = {"propertyNames": keys} if "pattern" in keys else {}
            return {"type": "object", "additionalProperties": self.of(inner[1]), **named}
        if origin in (tuple, list):
            return self._list(inner)
        return {"type": PLAIN[kind]} if kind in PLAIN else {}

    def table(self, cls: Any) -> Schema:
        """The schema of a dataclass."""
        found = self._fields(cls)
        if cls is Claim:
            cases = {name: self._fields(test) for name, test in sorted(CLAIM_TESTS.items())}
            found["properties"]["test"] = {"enum": list(cases)}
            found["allOf"] = [_case("test", name, found, case) for name, case in cases.items()]
        return found

    def _fields(self, cls: Any, optional: str | None = None) -> Schema:
        kinds, told = field_types(cls), _arguments(cls)
        properties: dict[str, Schema] = {}
        required, open_ended = [], False
        for entry in (each for each in dataclasses.fields(cls) if each.init):
            open_ended |= "rest" in entry.metadata
            if "rest" in entry.metadata or not _takes_yaml(kinds[entry.name]):
                continue
            schema = self.of(kinds[entry.name])
            if entry.name in told and "$ref" not in schema:
                schema = {**schema, "description": told[entry.name]}
            default = entry.default
            # NaN, which JSON does not have, differs from itself.
            plain = isinstance(default, int | float | str) and default == default
            if plain and "$ref" not in schema:
                schema = {**schema, "default": default}
            properties[entry.name] = schema
            if is_required(entry) and entry.name != optional and not self.partial:
                required.append(entry.name)
        return {
            "type": "object",
            "description": (inspect.getdoc(cls) or "").partition("\n")[0],
            "properties": properties,
            "required": required,
            "additionalProperties": open_ended,
        }

    def _list(self, inner: tuple[Any, ...]) -> Schema:
        found: Schema = {"type": "array", "items": _Writer(self.defs).of(inner[0])}
        if Ellipsis not in inner and len(inner) > 1:
            found |= {"minItems": len(inner), "maxItems": len(inner)}
        if not self.partial:
            return found
        numbered = {"type": "object", "additionalProperties": self.of(inner[0])}
        return {"anyOf": [found, numbered]}

    def _checked(self, check: Check | SpecOf, of: Schema) -> Schema:
        """What a check of an annotation adds to the schema of the rest."""
        if isinstance(check, SpecOf):
            of.clear()
            spec = self._named(check.kind, lambda: self._spec(check.kind))
            if not check.trained:
                return spec
            learned = {"properties": {"trained": {"type": "string"}}}
            alone = {**learned, "additionalProperties": False}
            return {**learned, "if": {"required": ["trained"]}, "then": alone, "else": spec}
        keyword, value = check.schema
        if keyword == "minItems":
            if self.partial:
                return {}
            keyword = keyword if of["type"] == "array" else "minProperties"
        return {keyword: value}

    def _spec(self, kind: str) -> Schema:
        """The schema of the name and the fields of something registered."""
        (registry,) = (each for each in REGISTRIES if each.kind == kind)
        shared: Schema = {"properties": {"name": {"enum": registry.names()}}}
        if self.partial:
            return {"type": "object", **shared}
        more: Schema = {}
        if kind == optimizers.kind:
            common = self.of(Options)["$ref"]
            names = (each.name for each in dataclasses.fields(Options))
            more = {name: {"$ref": f"{common}/properties/{name}"} for name in names}
        cases = []
        for name in registry:
            cls = registry.cls(name)
            case = self._fields(cls, getattr(cls, "tuned", None))
            case["properties"] = {**more, **case["properties"]}
            cases.append(_case("name", name, shared, case))
        return {"type": "object", **shared, "required": ["name"], "allOf": cases}

    def _named(self, name: str, make: Callable[[], Schema]) -> Schema:
        """A reference to the definition called so, which `make` writes if there is none yet."""
        name = f"{name} (changes)" if self.partial else name
        if name not in self.defs:
            self.defs[name] = {}
            self.defs[name] = make()
        return {"$ref": f"#/definitions/{name.replace(' ', '%20')}"}


def _case(key: str, name: str, shared: Schema, case: Schema) -> Schema:
    """The schema `case` where `key` is `name`, beside the properties that all cases share."""
    anything: dict[str, Any] = dict.fromkeys(shared["properties"], True)
    then = {**case, "properties": {**anything, **case["properties"]}}
    return {"if": {"properties": {key: {"const": name}}, "required": [key]}, "then": then}


def _takes_yaml(kind: Any) -> bool:
    """Whether YAML can give a field anything but null."""
    choices = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return any(can_be_written(each) for each in choices if each is not type(None))


def _arguments(cls: Any) -> dict[str, str]:
    """What the docstring of a class says of its fields, under ``Args:``."""
    section = (inspect.getdoc(cls) or "").partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.finditer(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", section, re.DOTALL | re.MULTILINE)
    return {entry[1]: " ".join(entry[2].split()) for entry in entries}
