"""An autoencoder of scikit-learn's digits."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

from l2l import Rng, Tensors, register_problem
from l2l.problems.bundled import Examples, table
from l2l.problems.layers import ACTIVATIONS, affine, dense
from l2l.problems.supervised import Supervised


@register_problem("autoencoder")
@dataclass(frozen=True)
class Autoencoder(Supervised):
    """Mean squared error of reconstructed 8×8 digits (Hinton and Salakhutdinov 2006, in small).

    Layers of `widths` units lead down to the code, which is linear, and the same ones back up, with
    `activation` between them. Weights start as those of `dense`.
    """

    widths: tuple[int, ...] = (32, 8)
    activation: Literal["gelu", "relu", "sigmoid", "tanh"] = "tanh"
    batch_size: int = 64

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be at least one positive number, not {self.widths}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")

    def examples(self, train: bool) -> Examples:
        return _pixels(train)

    def init(self, rng: Rng) -> Tensors:
        pixels = table("digits").inputs.shape[1]
        widths = (pixels, *self.widths, *self.widths[-2::-1], pixels)
        params: Tensors = {}
        for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
            before = self.activation if self._is_bent(layer) else ""
            params |= dense(rng, f"layer{layer}", fan_in, fan_out, before)
        return params

    def predictions(self, params: Tensors, x: Tensor) -> Tensor:
        for layer in range(2 * len(self.widths)):
            x = affine(params, f"layer{layer}", x)
            if self._is_bent(layer):
                x = ACTIVATIONS[self.activation](x)
        return x

    def _is_bent(self, layer: int) -> bool:
        """Whether an activation follows: not after the code, and not at the end."""
        return layer + 1 not in (len(self.widths), 2 * len(self.widths))


@functools.cache
def _pixels(train: bool) -> Examples:
    pixels = table("digits", train).inputs
    return Examples(pixels, pixels, classes=False)
