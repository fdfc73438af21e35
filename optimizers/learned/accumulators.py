"""What later learned optimizers remember of gradients: means, mean squares, and factored ones.

Metz et al. 2022, section 3 and Appendix; factors as in Adafactor (Shazeer and Stern 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from l2l import Params, ParamSpec

# A larger gradient counts as this large: the square of its square is finite.
LARGEST = 1e9


class Accumulators(NamedTuple):
    """The state of an optimizer that has them; all are 0 at first.

    Args:
        means: of ∇, one for each decay [decays, n, P].
        squares: of ∇² [decays, n, P].
        rows: of ∇² averaged over each tensor's largest dimension, all in a row [decays, n, R].
            Tensors of fewer than two dimensions have none.
        columns: likewise over the second largest dimension [decays, n, C]; of tensors of fewer than
            two dimensions ∇² itself.
        updates: their number so far [].
    """

    means: Tensor
    squares: Tensor
    rows: Tensor
    columns: Tensor
    updates: Tensor


class Factors(NamedTuple):
    """Of one tensor, at one decay each: shaped as the tensor, but for a 1 where a mean was taken.

    Args:
        rows: [decays, n, …]; of a tensor of fewer than two dimensions the same as `columns`.
        columns: [decays, n, …].
        row_mean: `rows` averaged over the second largest dimension.
        factored: whether the tensor has two dimensions or more.
    """

    rows: Tensor
    columns: Tensor
    row_mean: Tensor
    factored: bool


def largest_two(shape: torch.Size) -> tuple[int, int]:
    """The second largest and the largest dimension, later ones before earlier ones of one size."""
    ordered = sorted(range(len(shape)), key=lambda each: shape[each])
    return ordered[-2], ordered[-1]


def empty_accumulators(
    spec: ParamSpec, n: int, means: int, squares: int, factors: int, like: Tensor
) -> Accumulators:
    """Accumulators of zeros for n runs.

    Args:
        spec: the layout of a run's parameters.
        n: the number of runs.
        means: how many decays of means there are.
        squares: likewise of squares.
        factors: likewise of rows and columns.
        like: a tensor of their type, where they are to be.
    """
    rows, columns = (sum(_lengths(spec, which)) for which in (0, 1))
    return Accumulators(
        like.new_zeros(means, n, spec.size),
        like.new_zeros(squares, n, spec.size),
        like.new_zeros(factors, n, rows),
        like.new_zeros(factors, n, columns),
        like.new_zeros(()),
    )


def accumulated(
    spec: ParamSpec,
    state: Accumulators,
    grads: Tensor,
    means: Tensor,
    squares: Tensor,
    factors: Tensor,
) -> Accumulators:
    """The next state: x ← βx + (1 − β) · what is new.

    Args:
        spec: the layout of a run's parameters.
        state: before.
        grads: [n, P], none above `LARGEST`.
        means: β of the means [decays].
        squares: likewise of the squares.
        factors: likewise of rows and columns.
    """
    square = grads.square()
    rows, columns = [], []
    for name, value in spec.unflatten(square + 1e-30).items():
        shape = spec.shapes[name]
        if len(shape) < 2:
            columns.append(value.reshape(len(grads), -1))
        else:
            second, first = largest_two(shape)
            rows.append(value.mean(1 + first).flatten(1))
            columns.append(value.mean(1 + second).flatten(1))
    return Accumulators(
        _decayed(state.means, grads, means),
        _decayed(state.squares, square, squares),
        _decayed(state.rows, torch.cat([grads[:, :0], *rows], 1), factors),
        _decayed(state.columns, torch.cat([grads[:, :0], *columns], 1), factors),
        state.updates + 1,
    )


def factors_of(spec: ParamSpec, state: Accumulators) -> dict[str, Factors]:
    """The factored accumulators of each tensor, ready to be broadcast to its shape."""
    own_rows = torch.split(state.rows, _lengths(spec, 0), -1)
    own_columns = torch.split(state.columns, _lengths(spec, 1), -1)
    found = {}
    for (name, shape), row, column in zip(spec.shapes.items(), own_rows, own_columns, strict=True):
        if len(shape) < 2:
            value = column.view(*column.shape[:2], *shape)
            found[name] = Factors(value, value, value, factored=False)
            continue
        second, first = largest_two(shape)
        rows = row.view(*row.shape[:2], *_without(shape, first, keep=True))
        columns = column.view(*column.shape[:2], *_without(shape, second, keep=True))
        found[name] = Factors(rows, columns, rows.mean(2 + second, keepdim=True), factored=True)
    return found


def by_tensor(
    params: Params, grads: Tensor, state: Accumulators
) -> Iterator[tuple[str, tuple[Tensor, Tensor, Tensor, Tensor, Factors]]]:
    """Name, ∇, θ, means, mean squares and factors of each tensor: [n, …], or [decays, n, …]."""
    spec = params.spec
    parts = [spec.unflatten(x) for x in (grads, params.theta, state.means, state.squares)]
    for name, factors in factors_of(spec, state).items():
        gradient, theta, means, squares = (part[name] for part in parts)
        yield name, (gradient, theta, means, squares, factors)


def _lengths(spec: ParamSpec, which: int) -> list[int]:
    """How many numbers each tensor has among the rows (0) or the columns (1)."""
    lengths = []
    for shape in spec.shapes.values():
        if len(shape) < 2:
            lengths.append(shape.numel() if which == 1 else 0)
        else:
            lengths.append(_without(shape, largest_two(shape)[1 - which]).numel())
    return lengths


def _without(shape: torch.Size, dimension: int, keep: bool = False) -> torch.Size:
    middle = (1,) if keep else ()
    return torch.Size((*shape[:dimension], *middle, *shape[dimension + 1 :]))


def _decayed(before: Tensor, new: Tensor, decays: Tensor) -> Tensor:
    return torch.lerp(new.expand_as(before), before, decays.view(-1, 1, 1))
