"""Random scaling: any problem, seen through coordinates and losses of random scales."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from l2l import Problem, Rng, Tensors, register_problem
from l2l.suite.core.abilities import has
from l2l.suite.core.digests import definition_digest
from l2l.suite.core.registry import problems

# Before the names of parameters, in an instance, where their scales are.
SCALE = "scale of "
# The scale of the loss, which is no parameter and has no name.
UNIT = SCALE


@register_problem("scaled")
@dataclass(frozen=True)
class Scaled(Problem):
    """u f(c ⊙ θ) for the f of another problem, with one c = exp U(−spread, spread) a coordinate.

    θ starts at θ_0/c, so a run begins where one on f itself does; c is part of the instance
    (Lv, Jiang and Li 2017, section 5.1). So is the unit of the loss, u = exp U(−loss_spread,
    loss_spread). An optimizer that is trained on it cannot rely on the scale of gradients,
    parameters or losses.
    """

    problem: dict[str, Any] = field(default_factory=lambda: {"name": "quadratic"})
    spread: float = 3.0
    loss_spread: float = 0.0

    def __post_init__(self) -> None:
        for name in ("spread", "loss_spread"):
            value = getattr(self, name)
            if not 0 <= value <= 20:
                raise ValueError(f"{name} must be at least 0 and at most 20, not {value:g}")
        if self.spread == self.loss_spread == 0:
            raise ValueError("spread or loss_spread must be above 0, or nothing is scaled")
        if isinstance(self._inner, Scaled):
            raise ValueError("problem is itself scaled: give one of them both spreads")

    @functools.cached_property
    def _inner(self) -> Any:
        return problems.make(self.problem, "problem")

    @property
    def one_by_one(self) -> bool | Literal["cpu"]:  # type: ignore[override]
        """As the problem's own."""
        inner: Problem = self._inner
        return inner.one_by_one

    @property
    def notice(self) -> str:
        return str(self._inner.notice)

    def files(self) -> Sequence[str | Path]:
        # Relative paths start from where the other problem is defined, not this one.
        folder = Path(str(sys.modules[type(self._inner).__module__].__file__)).resolve().parent
        return tuple(folder / path for path in self._inner.files())

    def fingerprints(self) -> Mapping[str, str]:
        # The code of the other problem is no part of this one's definition.
        return {**self._inner.fingerprints(), "problem": definition_digest(type(self._inner))}

    def group(self, name: str) -> str:
        return str(self._inner.group(name))

    def init(self, rng: Rng) -> Tensors:
        start: Tensors = self._inner.init(rng)
        scales = self._scales(rng, start)
        return {name: value / scales[name] for name, value in start.items()}

    def instance(self, rng: Rng) -> Tensors:
        # Its shapes are all that is taken of this θ_0, so any will do.
        scales = self._scales(rng, self._inner.init(Rng(0, "shapes")))
        named = {SCALE + name: value for name, value in scales.items()}
        return {**self._inner.instance(rng), **named, UNIT: self._unit(rng)}

    def batch(self, rng: Rng) -> Any:
        return self._inner.batch(rng)

    def loss(self, params: Tensors, instance: Tensors, batch: Any) -> Tensor:
        loss: Tensor = self._inner.loss(*_unscaled(params, instance), batch)
        return instance[UNIT] * loss

    @property
    def batches(self) -> Callable[..., Any] | None:  # type: ignore[override]
        """As the problem's own; None where it has no such ability."""
        return self._inner.batches if has(self._inner, "batches") else None

    @property
    def held_out(self) -> Callable[..., Any] | None:  # type: ignore[override]
        """As the problem's own; None where it has no such ability."""
        return self._inner.held_out if has(self._inner, "held_out") else None

    @property
    def losses(self) -> Callable[..., Any] | None:  # type: ignore[override]
        """As the problem's own; None where it has no such ability."""
        return self._losses if has(self._inner, "losses") else None

    @property
    def losses_and_grads(self) -> Callable[..., Any] | None:  # type: ignore[override]
        """As the problem's own, ∇ by the chain rule; None where it has no such ability."""
        return self._losses_and_grads if has(self._inner, "losses_and_grads") else None

    def _losses(self, params: Tensors, instance: Tensors, batch: Any) -> Tensor:
        losses: Tensor = self._inner.losses(*_unscaled(params, instance), batch)
        return instance[UNIT] * losses

    def _losses_and_grads(
        self, params: Tensors, instance: Tensors, batch: Any
    ) -> tuple[Tensor, Tensors]:
        losses, grads = self._inner.losses_and_grads(*_unscaled(params, instance), batch)
        unit = instance[UNIT]

        def scaled(name: str, grad: Tensor) -> Tensor:
            c = instance[SCALE + name]
            return grad * c * unit.reshape(unit.shape + (1,) * (c.dim() - unit.dim()))

        return unit * losses, {name: scaled(name, grad) for name, grad in grads.items()}

    def _scales(self, rng: Rng, like: Tensors) -> Tensors:
        """The scales c of an instance, for both `init` and `instance`, whose streams differ."""
        own = Rng(rng.seed, f"{rng.split}/scale", rng.instance)
        return {name: _drawn(own, self.spread, *value.shape) for name, value in like.items()}

    def _unit(self, rng: Rng) -> Tensor:
        return _drawn(Rng(rng.seed, f"{rng.split}/unit", rng.instance), self.loss_spread)


def _drawn(rng: Rng, spread: float, *shape: int) -> Tensor:
    """Draws of exp U(−spread, spread)."""
    return torch.exp(spread * (2 * rng.uniform(*shape) - 1))


def _unscaled(params: Tensors, instance: Tensors) -> tuple[Tensors, Tensors]:
    """The other problem's parameters and instance."""
    scales = {SCALE + name for name in params} | {UNIT}
    own = {name: value for name, value in instance.items() if name not in scales}
    return {name: value * instance[SCALE + name] for name, value in params.items()}, own
