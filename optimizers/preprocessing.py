"""From gradients to the inputs of the LSTM (Appendix A)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

Preprocessing = Callable[[Tensor, float], Tensor]


def _log(grads: Tensor, p: float) -> Tensor:
    """(log|∇|/p, sgn ∇) where |∇| ≥ e^−p, else (−1, e^p ∇): [..., K] to [..., 2, K].

    An infinite gradient counts as the largest finite one, so that the inputs stay finite.
    """
    limit = torch.finfo(grads.dtype).max
    grads = grads.clamp(-limit, limit)
    size = grads.abs()
    magnitude = size.log().div_(p).clamp_(min=-1.0)
    threshold = torch.exp(torch.tensor(-p, dtype=grads.dtype, device="cpu")).item()
    direction = torch.where(size >= threshold, grads.sign(), grads * (1 / threshold))
    return torch.stack([magnitude, direction], dim=-2)


def _scaled(grads: Tensor, p: float) -> Tensor:
    """e^p ∇, one constant for all inputs: [..., K] to [..., 1, K]."""
    return (grads * torch.exp(torch.tensor(p, dtype=grads.dtype, device="cpu")).item()).unsqueeze(
        -2
    )


def _plain(grads: Tensor, p: float) -> Tensor:
    """∇ itself: [..., K] to [..., 1, K]."""
    return grads.unsqueeze(-2)


# Name: (function of gradients and p, for each feature 1 if it stays when the gradient's sign
# flips and −1 if it flips with it). Not to be added to: the fused kernel computes these by itself.
PREPROCESSINGS: Mapping[str, tuple[Preprocessing, tuple[int, ...]]] = MappingProxyType(
    {"log": (_log, (1, -1)), "scale": (_scaled, (-1,)), "none": (_plain, (-1,))}
)

# Beyond some 88, e^p is infinite in float32, and a gradient of 0 becomes NaN.
MOST_P = 85.0


def feature_count(preprocessing: str, p: float) -> int:
    """How many inputs a gradient becomes.

    Raises:
        ValueError: there is no such preprocessing, or its p is out of bounds.
    """
    if preprocessing not in PREPROCESSINGS:
        known = ", ".join(PREPROCESSINGS)
        raise ValueError(f"preprocessing must be one of {known}, not {preprocessing!r}")
    if not 0 < p <= MOST_P:
        raise ValueError(f"p must be above 0 and at most {MOST_P:g}, not {p:g}")
    return len(PREPROCESSINGS[preprocessing][1])
