"""Comparing what authors' methods give: tensors in dicts and tuples, at any depth."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_map


def copied(tree: Any) -> Any:
    """The same with copies of its tensors."""
    return tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, tree)


def finite(tree: Any) -> Any:
    """The same with 0 for all numbers that are not finite."""

    def of_leaf(leaf: Any) -> Any:
        is_real = isinstance(leaf, Tensor) and leaf.is_floating_point()
        return leaf.nan_to_num(0.0, 0.0, 0.0) if is_real else leaf

    return tree_map(of_leaf, tree)


def leaves(tree: Any) -> dict[str, Any]:
    """What a tree holds, by place, such as ``['w']``; without `None`."""
    found, _ = tree_flatten_with_path(tree)
    return {keystr(place): leaf for place, leaf in found if leaf is not None}


def difference(tree: Any, other: Any) -> str | None:
    """The first place at which two trees differ in value, None if they are equal."""
    own, others = leaves(tree), leaves(other)
    for place in own | others:
        if place not in own or place not in others or not _is_same(own[place], others[place]):
            return place
    return None


def unlike(tree: Any, other: Any) -> str | None:
    """The first place at which two trees differ in shape or type, with both; None if nowhere."""
    own = {place: kind_of(leaf) for place, leaf in leaves(tree).items()}
    others = {place: kind_of(leaf) for place, leaf in leaves(other).items()}
    for place in own | others:
        kinds = own.get(place, "nothing"), others.get(place, "nothing")
        if kinds[0] != kinds[1]:
            return f"{kinds[0]} and {kinds[1]}{at(place)}"
    return None


def at(place: str) -> str:
    """A place in a tree as the end of a clause, empty if the tree is that one tensor."""
    return f" at {place}" if place else ""


def kind_of(leaf: Any) -> str:
    """``float32 [3, 2]`` of a tensor, else the name of its type."""
    if not isinstance(leaf, Tensor):
        return type(leaf).__name__
    return f"{name_of(leaf.dtype)} {list(leaf.shape)}"


def name_of(dtype: torch.dtype) -> str:
    """``float32`` and the like."""
    return str(dtype).removeprefix("torch.")


def _is_same(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        if dataclasses.is_dataclass(one) and type(one) is type(other):
            return difference(vars(one), vars(other)) is None
        return type(one) is type(other) and bool(one == other)
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())


def close(one: Tensor, other: Tensor, tolerance: float = 1e-3) -> bool:
    """Whether tensors of one shape are equal but for an error relative to the largest element."""
    size = other.abs().nan_to_num(0.0, 0.0).max().item()
    return torch.allclose(one, other, rtol=0, atol=tolerance * size + 1e-7, equal_nan=True)


def a(value: Any) -> str:
    """What a value is, with an article: ``a float``, ``an int``, ``None``."""
    if value is None:
        return "None"
    kind = type(value)
    of_numpy = kind.__module__ == "numpy"
    name = f"numpy.{kind.__name__}" if of_numpy else kind.__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
