"""A convolutional network's first and second derivatives: by kernels, and in plain PyTorch."""

from __future__ import annotations

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import interleaved
from l2l import Rng, Tensors
from l2l.problems.convnet import _ONCE as ONCE
from l2l.problems.convnet import POOL, ConvNet
from l2l.suite.inner.objective import Objective
from l2l.suite.meta.estimators.second_order import hessian_product

STEPS = 10


class Plain(ConvNet):
    """With a loss of its own, so without the gradient by hand."""

    def loss(self, params: Tensors, instance: Tensors, batch: Tensors) -> Tensor:
        return self._loss(params, batch, ONCE)


class Convolutions:
    """The network's convolutions and their gradients, of random values."""

    def __init__(self, problem: ConvNet) -> None:
        rng = Rng(0, "convolutions")
        filters, padding = problem.init(rng), problem.kernel // 2
        depth, height, width = problem.images.pixels.shape[1:]
        self._layers = []
        for layer in range(problem.layers):
            x = rng.normal(problem.batch_size, depth, height, width)
            x = x.contiguous(memory_format=torch.channels_last).requires_grad_(layer > 0)
            leaf = filters[f"conv{layer}"].requires_grad_()
            cotangent = torch.empty_like(F.conv2d(x, leaf, padding=padding)).copy_(
                rng.normal(problem.batch_size, problem.channels, height, width)
            )
            self._layers.append((x, leaf, padding, cotangent))
            depth, height, width = problem.channels, height // POOL, width // POOL

    def __call__(self) -> None:
        for x, filters, padding, cotangent in self._layers:
            leaves = (filters, x) if x.requires_grad else (filters,)
            torch.autograd.grad(F.conv2d(x, filters, padding=padding), leaves, cotangent)


def convnet(repeats: int, dataset: str = "cifar10") -> pd.DataFrame:
    """Loss and gradient in both ways, convolutions alone, and second derivatives in both ways."""
    fused, plain = (Objective(kind(dataset=dataset), [0], "train", 0) for kind in (ConvNet, Plain))
    theta = fused.start()
    vector = torch.ones_like(theta)
    times = interleaved(
        {
            "plain PyTorch": lambda: plain.value_and_grad(theta, 0),
            "fused": lambda: fused.value_and_grad(theta, 0),
            "convolutions alone": Convolutions(ConvNet(dataset=dataset)),
            "Hessian times a vector, plain PyTorch": lambda: hessian_product(
                plain, theta, 0, vector
            ),
            "Hessian times a vector": lambda: hessian_product(fused, theta, 0, vector),
        },
        STEPS * repeats,
    )
    table = pd.DataFrame({"way": times.keys(), "step_ms": [1e3 * x for x in times.values()]})
    table["over_fused"] = table.step_ms / times["fused"] / 1e3
    return table
