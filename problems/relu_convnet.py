"""A convolutional network without normalisation, on scikit-learn's digits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, unflatten

from l2l import Rng, Tensors, register_problem
from l2l.problems.bundled import Examples, table
from l2l.problems.layers import affine, dense
from l2l.problems.supervised import Supervised

SIDE = 8
KERNEL, STRIDE, PADDING = 3, 2, 1


@register_problem("relu-convnet")
@dataclass(frozen=True)
class ReluConvNet(Supervised):
    """Cross entropy of 3×3 convolutions with ReLU and a classifier, on 8×8 digits.

    `channels` has the filters of each convolution. Strides of 2 replace pooling (Springenberg et
    al. 2015) and nothing is normalised; weights start as He et al. 2015 have them.
    """

    channels: tuple[int, ...] = (8, 16)
    batch_size: int = 32

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels must be at least one positive number, not {self.channels}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")

    def examples(self, train: bool) -> Examples:
        return table("digits", train)

    def init(self, rng: Rng) -> Tensors:
        found = self.examples(True)
        depth, side = 1, SIDE
        params: Tensors = {}
        for layer, filters in enumerate(self.channels):
            params |= dense(rng, f"conv{layer}", depth * KERNEL**2, filters, before="relu")
            depth, side = filters, (side + 2 * PADDING - KERNEL) // STRIDE + 1
        return params | dense(rng, "out", depth * side**2, found.targets.shape[1])

    def predictions(self, params: Tensors, x: Tensor) -> Tensor:
        x = unflatten(x, -1, (1, SIDE, SIDE))
        for layer in range(len(self.channels)):
            x = torch.relu(_convolved(params, f"conv{layer}", x))
        return affine(params, "out", x.flatten(-3))


def _convolved(params: Tensors, name: str, x: Tensor) -> Tensor:
    """Images [*lead, B, C, H, W] to [*lead, B, filters, H', W'].

    Many runs' convolutions are one product of matrices each, which PyTorch has in a batch; its
    grouped convolutions take several times as long.
    """
    *lead, rows, _, height, width = x.shape
    patches = F.unfold(x.flatten(0, -4), KERNEL, padding=PADDING, stride=STRIDE)
    places = patches.shape[-1]
    patches = patches.mT.reshape(*lead, rows * places, -1)
    found = unflatten(affine(params, name, patches), -2, (rows, places)).mT
    shape = [(side + 2 * PADDING - KERNEL) // STRIDE + 1 for side in (height, width)]
    return unflatten(found, -1, shape)
