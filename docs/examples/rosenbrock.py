"""A problem and an optimizer of one's own, for --plugin; see docs/extending.md."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from l2l import Optimizer, Params, Problem, Rng, Tensors, register_optimizer, register_problem


@register_problem("rosenbrock")
@dataclass(frozen=True)
class Rosenbrock(Problem):
    """f(x, y) = (a − x)² + b (y − x²)², each instance with its own a in [1, 2) and b in [1, 5)."""

    def instance(self, rng: Rng) -> Tensors:
        return {"a": 1 + rng.uniform(), "b": 1 + 4 * rng.uniform()}

    def init(self, rng: Rng) -> Tensors:
        return {"xy": 0.5 * rng.normal(2)}

    def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
        x, y = params["xy"]
        return (instance["a"] - x) ** 2 + instance["b"] * (y - x**2) ** 2


@register_optimizer("signed", tune="lr")
@dataclass(frozen=True)
class Signed(Optimizer):
    """θ ← θ − η sgn ∇, with η falling as 1/√t; the state is t."""

    lr: Tensor | float

    def init(self, spec: object, n: int) -> int:
        return 1

    def update(self, grads: Tensor, state: int, params: Params) -> tuple[Tensor, int]:
        return -self.lr * state**-0.5 * grads.sign(), state + 1
