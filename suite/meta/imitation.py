"""Runs on which a learned optimizer is taught the updates of another one (Chen et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from l2l.optimizers.learned.base import Learned
from l2l.suite.core.abilities import has
from l2l.suite.core.estimator import Estimate, Estimator, MetaLoss
from l2l.suite.core.seeds import Rng
from l2l.suite.core.trees import finite
from l2l.suite.core.types import Optimizer, Params, ParamSpec
from l2l.suite.inner.loop import walk
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point, start
from l2l.suite.meta.meta_loss import counted


class Lesson(NamedTuple):
    """The states of both, and Δ_pupil − Δ_teacher of the last step [n, P]."""

    teacher: Any
    pupil: Any
    gap: Tensor


@dataclass(frozen=True)
class Taught(Optimizer):
    """Moves as the teacher does, and shows the pupil the same gradients and iterates."""

    teacher: Optimizer
    pupil: Learned

    def init(self, spec: ParamSpec, n: int) -> Lesson:
        states = self.teacher.init(spec, n), self.pupil.init(spec, n)
        return Lesson(*states, self.pupil.phi.new_zeros(n, spec.size))

    def lookahead(self, state: Lesson) -> Tensor | None:
        return self.teacher.lookahead(state.teacher)

    def update(self, grads: Tensor, state: Lesson, params: Params) -> tuple[Tensor, Lesson]:
        wanted, teacher = self.teacher.update(grads, state.teacher, params)
        given, pupil = self.pupil.update(grads, state.pupil, params)
        return wanted, Lesson(teacher, pupil, given - wanted)


@dataclass(frozen=True)
class Imitating(Estimator):
    """The gradient of ½ Σ_t ‖Δ_pupil − Δ_teacher‖² by φ, on runs of the teacher.

    The mean over runs, summed over the steps of a window. The trajectory does not depend on φ, so
    the gradient of a window is exact, but for the state before the window, which is taken as a
    constant. A run of the teacher that diverges in the window adds nothing.

    Args:
        teacher: whose updates are imitated.
    """

    teacher: Optimizer = field(kw_only=True)

    def begin(self, optimizer: Learned, objective: Objective) -> tuple[Point, Tensor]:
        point = start(objective, Taught(self.teacher, optimizer))
        return point, point.loss

    def gradient(
        self,
        optimizer: Learned,
        objective: Objective,
        place: Point,
        steps: int,
        meta_loss: MetaLoss,
        rng: Rng,
    ) -> Estimate:
        """As `Estimator.gradient`; the meta-loss is not used."""
        points = walk(objective, Taught(self.teacher, optimizer), place, steps, whole=True)
        alive = counted(points).unsqueeze(1)

        def of_those_alive(each: list[Tensor]) -> Tensor:
            return torch.where(alive, torch.stack(each), 0.0)

        cotangents = of_those_alive([point.state.gap for point in points[1:]]) / len(alive)
        grads = of_those_alive([point.grads for point in points[:-1]])
        state = place.state.pupil
        if not alive.all():
            # A run that diverged before may have left its state with what is not finite.
            state = finite(state)
        params = None
        if not has(optimizer, "ignores_params"):
            theta = of_those_alive([point.theta for point in points[:-1]])
            params = Params(theta, place.spec)
        parts = optimizer.networks(grads, state, cotangents, params)
        gradient = torch.cat([network.window_gradient(*given) for network, *given in parts])
        return Estimate(gradient, points[-1], [point.loss for point in points[1:]])
