"""Layers of the networks, for parameters of one run or of many side by side, and how they start.

Parameters are [*lead, *shape], with any leading dimensions that inputs may have as well.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from l2l import Rng, Tensors

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
# Those that let about half of the values pass.
HALF_OPEN = ("gelu", "relu")


def dense(rng: Rng, name: str, fan_in: int, fan_out: int, before: str = "") -> Tensors:
    """Weights [fan_in, fan_out] and biases [fan_out] = 0 of a layer, by `name`.

    Weights are Gaussian with variance 2 / fan_in `before` a function of `HALF_OPEN` (He et al.
    2015), or else 2 / (fan_in + fan_out) (Glorot and Bengio 2010).
    """
    fan = fan_in if before in HALF_OPEN else fan_in + fan_out
    weights = (2 / fan) ** 0.5 * rng.normal(fan_in, fan_out)
    return {f"{name}_weight": weights, f"{name}_bias": torch.zeros(fan_out)}


def affine(params: Tensors, name: str, x: Tensor) -> Tensor:
    """Inputs [*lead, rows, fan_in] to a layer's outputs [*lead, rows, fan_out]."""
    return x @ params[f"{name}_weight"] + params[f"{name}_bias"].unsqueeze(-2)


def norm(name: str, size: int) -> Tensors:
    """Factors 1 and offsets 0 of a normalisation of `size` features, by `name`."""
    return {f"{name}_factor": torch.ones(size), f"{name}_offset": torch.zeros(size)}


def layer_normalised(params: Tensors, name: str, x: Tensor) -> Tensor:
    """Each row's features [*lead, rows, size] with mean 0 and deviation 1, scaled and shifted.

    This is layer normalisation (Ba et al. 2016), with the parameters of `norm`.
    """
    x = F.layer_norm(x, x.shape[-1:])
    return x * params[f"{name}_factor"].unsqueeze(-2) + params[f"{name}_offset"].unsqueeze(-2)


def batch_normalised(params: Tensors, name: str, x: Tensor) -> Tensor:
    """Each feature with mean 0 and deviation 1 over the rows, scaled and shifted.

    This is batch normalisation (Ioffe and Szegedy 2015) by the statistics of these rows; there are
    no running ones.
    """
    x = F.layer_norm(x.mT, x.shape[-2:-1]).mT
    return x * params[f"{name}_factor"].unsqueeze(-2) + params[f"{name}_offset"].unsqueeze(-2)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows of −log p(target), from logits and one-hot targets [*lead, rows, classes]."""
    return (logits.logsumexp(-1) - (logits * targets).sum(-1)).mean(-1)
