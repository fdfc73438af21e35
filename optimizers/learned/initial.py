"""Draws of the weights φ that learned optimizers start from."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from l2l import Rng


def truncated_normal(rng: Rng, *shape: int) -> Tensor:
    """Standard normal, of which what lies beyond two deviations is left out; float32."""
    # The inverse of the distribution function, of uniform numbers between its ends.
    between = (2 * rng.uniform(*shape) - 1) * math.erf(math.sqrt(2))
    return math.sqrt(2) * torch.erfinv(between)
