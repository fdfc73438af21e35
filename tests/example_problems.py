"""Problems that the tests of the numerics share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from l2l import Problem, Rng, Tensors


@dataclass(frozen=True)
class InDouble(Problem):
    """Another problem, with everything it draws in float64."""

    inner: Problem

    def init(self, rng: Rng) -> Tensors:
        return _doubled(self.inner.init(rng))

    def instance(self, rng: Rng) -> Tensors:
        return _doubled(self.inner.instance(rng))

    def batch(self, rng: Rng) -> Any:
        return _doubled(self.inner.batch(rng))

    def loss(self, params: Tensors, instance: Tensors, batch: Any) -> Tensor:
        return self.inner.loss(params, instance, batch)


def _doubled(tree: Any) -> Any:
    return tree_map(
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, tree
    )


@dataclass(frozen=True)
class Bowl(Problem):
    """f(θ) = ½ curvature (θ − y)², θ of one number: SGD's best rate is 1 / curvature."""

    curvature: float = 1.0

    def instance(self, rng: Rng) -> Tensors:
        return {"y": 1 + rng.uniform(1)}

    def init(self, rng: Rng) -> Tensors:
        return {"theta": 0.01 * rng.normal(1)}

    def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
        return 0.5 * self.curvature * (params["theta"] - instance["y"]).square().sum()


@dataclass(frozen=True)
class Cliff(Problem):
    """A noisy bowl that is infinite beyond an edge, which is nearer in some instances."""

    dim: int = 3

    def instance(self, rng: Rng) -> Tensors:
        return {"y": 1 + rng.uniform(self.dim), "edge": 2 * rng.uniform()}

    def init(self, rng: Rng) -> Tensors:
        return {"theta": 0.01 * rng.normal(self.dim)}

    def batch(self, rng: Rng) -> Tensor:
        return 0.1 * rng.normal(self.dim)

    def loss(self, params: Tensors, instance: Tensors, batch: Tensor) -> Tensor:
        theta = params["theta"]
        bowl = (theta - instance["y"] + batch).square().sum()
        return torch.where(theta.abs().max() > instance["edge"], torch.inf, bowl)


@dataclass(frozen=True)
class Overhang(Problem):
    """A bowl whose gradient is NaN beyond an edge, where the loss is finite still."""

    dim: int = 3

    def instance(self, rng: Rng) -> Tensors:
        return {"y": 1 + rng.uniform(self.dim), "edge": 0.04 + rng.uniform() ** 4}

    def init(self, rng: Rng) -> Tensors:
        return {"theta": 0.01 * rng.normal(self.dim)}

    def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
        bowl = (params["theta"] - instance["y"]).square().sum()
        left = instance["edge"] - params["theta"].abs().max()
        return bowl + ((left > 0) * left).sqrt()


@dataclass(frozen=True)
class Kink(Problem):
    """f(θ) = Σ |θ|^1.5, whose second derivative is infinite at 0."""

    dim: int = 3

    def init(self, rng: Rng) -> Tensors:
        return {"theta": 1 + rng.uniform(self.dim)}

    def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
        return (params["theta"].abs() ** 1.5).sum()
