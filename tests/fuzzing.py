"""Inputs that are nearly right: what readers of files must survive."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# `make fuzz` asks for more.
EXAMPLES = int(os.environ.get("L2L_FUZZ", "60"))

fuzzed: Callable[[Any], Any] = settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 2**31, 2**63, 10**25, 10**400, 1e308]),
)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["../../x", "/etc/passwd", "a/b", "<script>", "\0", "\n", "nan", "1e999", "."]),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes with some flipped, cut, doubled, or put in between."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["flip", "flip", "put", "cut", "double", "drop"])):
            case "flip" if content:
                content[at] ^= draw(st.integers(1, 255))
            case "put":
                content[at:at] = draw(st.binary(min_size=1, max_size=16))
            case "cut":
                del content[at:]
            case "double":
                content[at:at] = content[at : at + draw(st.integers(1, 64))]
            case "drop":
                del content[at : at + draw(st.integers(1, 16))]
    return bytes(content)


@st.composite
def altered(draw: st.DrawFn, whole: Any, values: st.SearchStrategy[Any] = VALUES) -> Any:
    """Plain data with some of its values replaced, removed or added, at any depth."""
    content = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(content))
        if not places:
            return draw(values)
        table, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.sampled_from(["replace", "replace", "remove", "add"])):
            case "replace":
                table[key] = draw(values)
            case "remove":
                del table[key]
            case "add" if isinstance(table, dict):
                table[draw(TEXTS)] = draw(values)
            case "add":
                table.append(draw(values))
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    keys = content if isinstance(content, dict) else range(len(content))
    for key in list(keys):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _places(content[key])
