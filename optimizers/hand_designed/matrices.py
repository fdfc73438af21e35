"""The parameters of an optimizee as matrices, for methods that treat each weight matrix as one."""

from __future__ import annotations

from torch import Tensor

from l2l import ParamSpec


def is_matrix(spec: ParamSpec, name: str) -> bool:
    """Whether a parameter is a matrix, or filters, which count as one row each."""
    return len(spec.shapes[name]) >= 2


def split(spec: ParamSpec, flat: Tensor) -> dict[str, Tensor]:
    """[n, P] to tensors by name: matrices [n, rows, columns], and all others [n, size]."""
    parts = {}
    for name, value in spec.unflatten(flat).items():
        size = spec.shapes[name].numel()
        parts[name] = value.flatten(2) if is_matrix(spec, name) else value.reshape(len(value), size)
    return parts


def join(spec: ParamSpec, parts: dict[str, Tensor]) -> Tensor:
    """The way back, to [n, P]."""
    return spec.flatten(
        {name: parts[name].reshape(len(parts[name]), *shape) for name, shape in spec.shapes.items()}
    )
