"""YAML 1.2, read safely and strictly: a key that is duplicated is an error, and so is a bomb.

PyYAML's own rules are those of YAML 1.1, by which ``on`` is true, ``1e-3`` is text and ``1:30`` is
90. Here a plain value is what the core schema of YAML 1.2 says, and a key is always the text that
it is written as: an optimizer may be called ``on``, ``1e-3`` or ``null``.
"""

from __future__ import annotations

import copy
import functools
import re
from pathlib import Path
from typing import Any

import yaml

from l2l.suite.core.errors import SuiteError

# Larger than any experiment; bounds before anything is parsed, and before it is built.
MAX_BYTES = 1_000_000
MAX_NODES = 50_000
MAX_DEPTH = 32

# How PyYAML names the character that it stumbled over.
TAB = r"found character '\t'"
MERGE, TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"
# Plain values by tag, with what they may begin with (sections 10.3.2 of YAML 1.2.2, and << of 1.1).
CORE_SCHEMA = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    (MERGE, "<<", ["<"]),
)


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key that is duplicated in one table.

    A text of a few lines can stand for billions of values by aliases of aliases, so values are
    counted as often as they are named.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _check_size(node, {}, 0)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # Before merge keys (<<) are expanded: overriding what they bring is their purpose.
        seen = set()
        for place, (key, value) in enumerate(node.value):
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} is duplicated", problem_mark=key.start_mark
                    )
                seen.add(key.value)
                if key.tag != MERGE:
                    text = yaml.ScalarNode(TEXT, key.value, key.start_mark, key.end_mark)
                    node.value[place] = text, value
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        # Not 1.1's: 010 is ten, and 1_000 text.
        text = self.construct_scalar(node)
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)

    def construct_yaml_str(self, node: yaml.ScalarNode) -> str:
        # JSON writes some characters as two escapes.
        halves = str(self.construct_scalar(node)).encode("utf-16", "surrogatepass")
        try:
            return halves.decode("utf-16")
        except UnicodeDecodeError:
            raise yaml.MarkedYAMLError(
                problem="an escape stands for half a character", problem_mark=node.start_mark
            ) from None


class _Dumper(yaml.SafeDumper):
    """Quotes text that any version of YAML would read as something else."""


_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in CORE_SCHEMA:
    for _class in (_StrictLoader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)
_StrictLoader.add_constructor(TEXT, _StrictLoader.construct_yaml_str)


def dump_yaml(data: Any) -> str:
    """Plain data as YAML that `parse_yaml` reads back as the same."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def _check_size(
    node: yaml.Node, known: dict[yaml.Node, tuple[int, int]], depth: int
) -> tuple[int, int]:
    """How many values a node stands for, and how many levels of them."""
    if node not in known and depth <= MAX_DEPTH:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [each for pair in node.value for each in pair]
        sizes = [_check_size(each, known, depth + 1) for each in inner]
        known[node] = 1 + sum(n for n, _ in sizes), 1 + max((h for _, h in sizes), default=0)
    # One that contains itself is not known yet when it is met again, and ends here.
    values, levels = known.get(node, (1, 1))
    if depth + levels > MAX_DEPTH:
        problem = f"it is more than {MAX_DEPTH} levels deep"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    if values > MAX_NODES:
        problem = f"it stands for more than {MAX_NODES:,} values"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return values, levels


@functools.lru_cache(maxsize=32)
def _parsed(text: str) -> Any:
    """Remembered, because it takes PyYAML 0.1 s, and planning reads each experiment twice."""
    return yaml.load(text, _StrictLoader)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: it is not YAML, or stands for too much; one line, which names the line of YAML.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"is more than {MAX_BYTES:,} characters long")
    try:
        # A copy, which may be changed.
        return copy.deepcopy(_parsed(text))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        problem = (
            "a tab stands where YAML takes spaces only" if TAB in str(error) else error.problem
        )
        raise ValueError(f"{line}is not valid YAML: {problem}") from error
    except RecursionError as error:
        raise ValueError("is not valid YAML: it is too deep") from error
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        # PyYAML leaves some errors of its constructors as they come.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"is not valid YAML: {reason}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The table in a YAML file.

    Raises:
        SuiteError: it cannot be read, is not YAML, or holds something else.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SuiteError(f"{path}: must be at most {MAX_BYTES:,} bytes")
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SuiteError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: must be text in UTF-8") from error
    except ValueError as error:
        place = f"{path}, {error}" if str(error).startswith("line ") else f"{path}: {error}"
        raise SuiteError(place) from error
    if not isinstance(data, dict):
        raise SuiteError(f"{path}: must be a table of keys and values")
    return data
