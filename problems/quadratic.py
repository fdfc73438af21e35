"""Random quadratics (section 3.1, Figure 4 left)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from l2l import Problem, Rng, Tensors, register_problem


@register_problem("quadratic")
@dataclass(frozen=True)
class Quadratic(Problem):
    """f(θ) = ‖Wθ − y‖² with random W [d, d] and y [d] (section 3.1).

    `distribution` is that of their elements: ``gaussian`` as the text says, or ``uniform`` on
    [0, 1), from which the figure's curves start. θ_0 is Gaussian with deviation `scale`.
    """

    dim: int = 10
    distribution: str = "gaussian"
    scale: float = 0.01

    def __post_init__(self) -> None:
        if self.distribution not in ("gaussian", "uniform"):
            raise ValueError(
                f"distribution must be 'gaussian' or 'uniform', not {self.distribution!r}"
            )
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, not {self.dim}")

    def instance(self, rng: Rng) -> Tensors:
        draw = rng.normal if self.distribution == "gaussian" else rng.uniform
        return {"W": draw(self.dim, self.dim), "y": draw(self.dim)}

    def init(self, rng: Rng) -> Tensors:
        return {"theta": self.scale * rng.normal(self.dim)}

    def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
        return (instance["W"] @ params["theta"] - instance["y"]).square().sum()

    def losses(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
        return self._residual(params, instance).square().sum(-1)

    def losses_and_grads(
        self, params: Tensors, instance: Tensors, batch: None
    ) -> tuple[Tensor, Tensors]:
        residual = self._residual(params, instance)
        grads = 2 * (instance["W"].mT @ residual.unsqueeze(-1)).squeeze(-1)
        return residual.square().sum(-1), {"theta": grads}

    def _residual(self, params: Tensors, instance: Tensors) -> Tensor:
        """Wθ − y for all copies and instances [r, n, d]."""
        return (instance["W"] @ params["theta"].unsqueeze(-1)).squeeze(-1) - instance["y"]
