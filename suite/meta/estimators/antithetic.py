"""What evolution strategies have in common: runs with φ + ε beside runs with φ − ε."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from l2l.optimizers.learned.base import Learned
from l2l.suite.core.abilities import has
from l2l.suite.core.bounds import Above, Count
from l2l.suite.core.estimator import Estimate, Estimator, MetaLoss
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Optimizer, Params, ParamSpec
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point, advance, start
from l2l.suite.meta.meta_loss import summed


@dataclass(frozen=True)
class SideBySide(Optimizer):
    """Learned optimizers of one architecture, each with the same number of the runs in a row."""

    each: tuple[Learned, ...]

    def init(self, spec: ParamSpec, n: int) -> tuple[Any, ...]:
        return tuple(one.init(spec, n // len(self.each)) for one in self.each)

    def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        return self._update(grads, state, params, [one.update for one in self.each])

    def update_in_place(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        in_place = has(self.each[0], "update_in_place")
        updates = [one.update_in_place if in_place else one.update for one in self.each]
        return self._update(grads, state, params, updates)

    def _update(
        self, grads: Tensor, state: Any, params: Params, updates: Sequence[Callable[..., Any]]
    ) -> tuple[Tensor, Any]:
        number = len(updates)
        shares = zip(grads.chunk(number), state, params.theta.chunk(number), strict=True)
        given = ((own, state, Params(theta, params.spec)) for own, state, theta in shares)
        moved = [update(*each) for update, each in zip(updates, given, strict=True)]
        return torch.cat([each for each, _ in moved]), tuple(state for _, state in moved)


@dataclass(frozen=True)
class Pairs:
    """Where antithetic runs stand.

    Args:
        point: of all runs: first those with +ε, pair after pair, then those with −ε.
        noise: what an estimator remembers of the ε before, for each pair [N, size].
    """

    point: Point
    noise: Tensor


@dataclass(frozen=True)
class Antithetic(Estimator):
    """An estimator that compares runs with φ + ε and with φ − ε.

    Args:
        sigma: σ, the deviation of φ's weights.
        pairs: N.
    """

    sigma: Annotated[float, Above(0)] = 0.01
    pairs: Count = 8

    @property
    def copies(self) -> int:
        return 2 * self.pairs

    def begin(self, optimizer: Learned, objective: Objective) -> tuple[Pairs, Tensor]:
        """All runs of all pairs at θ_0, and no noise so far."""
        point = start(objective, SideBySide((optimizer,) * self.copies))
        return Pairs(point, optimizer.phi.new_zeros(self.pairs, optimizer.layout.size)), point.loss

    def noises(self, place: Pairs, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """ε of the next window, and what weighs its differences and is remembered.

        Args:
            place: where the runs stand.
            drawn: N(0, σ²I) of each pair [N, size].
        """
        raise NotImplementedError

    def gradient(
        self,
        optimizer: Learned,
        objective: Objective,
        place: Pairs,
        steps: int,
        meta_loss: MetaLoss,
        rng: Rng,
    ) -> Estimate:
        drawn = self.sigma * rng.normal(*place.noise.shape).to(place.noise)
        noise, remembered = self.noises(place, drawn)
        window = walk_pairs(optimizer, objective, place.point, noise, steps, meta_loss)
        gradient = window.gaps @ remembered / (2 * self.sigma**2 * self.pairs)
        return Estimate(gradient, Pairs(window.point, remembered), window.losses)


@dataclass(frozen=True)
class Window:
    """What antithetic runs came to in one window.

    Args:
        point: where they stand after it.
        gaps: L(φ + ε) − L(φ − ε) of each pair [N], L the mean over runs of the meta-loss.
        losses: f(θ_1) … f(θ_T), each [rows].
    """

    point: Point
    gaps: Tensor
    losses: list[Tensor]


def walk_pairs(
    optimizer: Learned,
    objective: Objective,
    point: Point,
    noise: Tensor,
    steps: int,
    meta_loss: MetaLoss,
) -> Window:
    """A window of all runs of all pairs, which share instances, θ_0 and minibatches.

    A run that diverges with +ε or with −ε adds nothing to its pair's difference, or as much as its
    loss is capped at.

    Args:
        optimizer: with φ.
        objective: of twice as many copies as there are pairs.
        point: where the runs stand.
        noise: ε of each pair [N, size].
        steps: of the window.
        meta_loss: what is summed over them.
    """
    weights = optimizer.phi + torch.cat((noise, -noise))
    beside = SideBySide(tuple(optimizer.with_weights(each) for each in weights))
    losses = []
    for step in range(steps):
        # The first point stays as it is.
        point = advance(objective, beside, point, reuse=step > 0)
        losses.append(point.loss)
    objective.release_batch()
    plus, minus = summed(losses, meta_loss).view(2, len(noise), -1)
    # Infinite or NaN where a run diverged and no cap says how much it counts.
    gaps = (plus - minus).nan_to_num(0.0, 0.0, 0.0).mean(1).to(noise)
    return Window(point, gaps, losses)
