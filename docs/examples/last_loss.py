"""An estimator of the meta-gradient, for --plugin; see docs/extending.md."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from l2l import Estimate, Estimator, MetaLoss, Rng, register_estimator
from l2l.optimizers.learned.base import Learned
from l2l.suite.inner.loop import walk
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point, start
from l2l.suite.meta.estimators.truncated import window_gradient
from l2l.suite.meta.meta_loss import loss_weights


@register_estimator("last_loss")
@dataclass(frozen=True)
class LastLoss(Estimator):
    """Truncated BPTT of the loss at a window's end alone, as of RNNProp (Lv et al. 2017)."""

    def begin(self, optimizer: Learned, objective: Objective) -> tuple[Point, Tensor]:
        point = start(objective, optimizer)
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
        points = walk(objective, optimizer, place, steps)
        weights = loss_weights(points, meta_loss)
        weights[:-1] = 0
        gradient = window_gradient(optimizer, points, weights, rng)
        return Estimate(gradient, points[-1], [point.loss for point in points[1:]])
