"""Vectorised functions whose operations are kept as a graph, so that `vmap` is not paid each step.

For a small loss and its gradient, `torch.func` takes several times as long as the operations that
come of it, which are the same at every step. They are traced once and then called one by one.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_unflatten

# Any number of tensors to one or more.
Function = Callable[..., Any]

# Calls before tracing, which takes as long as `vmap` does in about so many calls of a small loss.
CALLS = 100
# Calls of a graph that are compared with the function itself, bit by bit.
CHECKS = 2
# Graphs of one problem: beyond them, such as with minibatches of ever new sizes, none is made.
MOST = 16

log = logging.getLogger("suite")

_aten = torch.ops.aten
# What `vmap` puts in often without need.
_VIEWS = (
    _aten.expand.default,
    _aten.permute.default,
    _aten.view.default,
    _aten._unsafe_view.default,
)


class Graphs:
    """The graphs of one problem, by what they compute and the layout of what they are given.

    A graph has the branches that Python took when it was traced. They depend on shapes alone:
    `vmap` and tracing refuse those that depend on a tensor's values.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, _Kept] = {}

    def call(self, name: Hashable, function: Function, *trees: Any) -> Any:
        """function(*trees), by its graph once it was called often.

        Args:
            name: what the function computes; another problem's has other `Graphs`.
            function: of pytrees of tensors, to a tensor or a tuple of tensors.
            trees: its arguments.
        """
        leaves, structure = tree_flatten(trees)
        layout = [(x.shape, x.stride(), x.dtype, x.device) for x in leaves]
        key = (name, structure, *layout)
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) == MOST:
                return function(*trees)
            kept = self._kept[key] = _Kept()
        return kept.call(lambda *given: function(*tree_unflatten(given, structure)), leaves)


def graphs_of(problem: Any) -> Graphs:
    """The graphs of this very object, which go with it: objectives on it share them."""
    number = id(problem)
    if number not in _graphs:
        try:
            weakref.finalize(problem, _graphs.pop, number, None)
        except TypeError:  # a class with slots may have no room for it
            return Graphs()
        _graphs[number] = Graphs()
    return _graphs[number]


_graphs: dict[int, Graphs] = {}


class _Kept:
    """A function of tensors in one layout."""

    def __init__(self) -> None:
        self._calls = 0
        self._graph: Function | None = None

    def call(self, function: Function, leaves: list[Tensor]) -> Any:
        self._calls += 1
        if self._calls == CALLS:
            self._graph = _traced(function, leaves)
        if self._graph is None:
            return function(*leaves)
        # It has its own backward pass within it.
        with torch.no_grad():
            results = self._graph(*leaves)
        if self._calls < CALLS + CHECKS:
            expected = function(*leaves)
            if not _same(results, expected):
                log.debug("a problem's loss gives other numbers when it is traced")
                self._graph = None
            return expected
        return results


def _traced(function: Function, leaves: list[Tensor]) -> Function | None:
    """The operations of a function; None if it cannot be traced."""
    if any(x.device.type == "meta" for x in leaves):
        return None
    try:
        with torch.no_grad():
            module = make_fx(function)(*leaves)
    except Exception as error:  # of any kind, for it is the author's code that is traced
        log.debug("a problem's loss cannot be traced: %s", error)
        return None
    _leave_out_views(module.graph)
    module.recompile()
    forward: Function = module.forward
    return forward


def _leave_out_views(graph: fx.Graph) -> None:
    """Without views that are what they are views of."""
    for node in list(graph.nodes):
        if node.target in _VIEWS:
            before, after = (x.meta.get("tensor_meta") for x in (node.args[0], node))
            if before and after and before.shape == after.shape and before.stride == after.stride:
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)


def _same(results: Any, expected: Any) -> bool:
    pairs = zip(tree_flatten(results)[0], tree_flatten(expected)[0], strict=True)
    return all(bool(((a == b) | (a.isnan() & b.isnan())).all()) for a, b in pairs)
