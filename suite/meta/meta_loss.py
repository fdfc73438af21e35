"""What a window's losses add up to, and how much each loss counts in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from l2l.suite.core.estimator import CappedLoss, MetaLoss, RelativeLoss, Summand
from l2l.suite.inner.step import Point

# Below it, a loss counts as this much in its logarithm, and none is relative to it.
LEAST = 1e-30


def meta_loss_of(summand: Summand, start: Tensor) -> MetaLoss:
    """What is summed in each window of runs with the losses `start` [rows] at θ_0."""
    if summand == "relative_loss":
        return RelativeLoss(start)
    return summand


def loss_weights(points: Sequence[Point], meta_loss: MetaLoss) -> Tensor:
    """w_t [T, n] of θ_1 … θ_T: the derivatives of the meta-loss, a mean over runs, by the losses.

    A run that diverged within the window weighs nothing.
    """
    losses = torch.stack([point.loss for point in points[1:]])
    weights = torch.ones_like(losses)
    if isinstance(meta_loss, CappedLoss):
        weights = (losses < meta_loss.cap).to(losses)
    elif isinstance(meta_loss, RelativeLoss):
        weights = weights * _inverse(meta_loss.start.abs())
    elif meta_loss == "log_loss":
        weights = _inverse(losses)
    return weights * points[-1].alive / losses.shape[1]


def counted(points: Sequence[Point]) -> Tensor:
    """The runs [n] that add to a window's gradient: all that neither diverged nor overflowed in it.

    A gradient can be infinite where the loss is not. In a run alone that is let through:
    meta-training then skips the window.
    """
    alive = points[-1].alive
    if len(alive) == 1:
        return alive
    return torch.stack([point.grads.isfinite().all(1) for point in points]).all(0) & alive


def summed(losses: Sequence[Tensor], meta_loss: MetaLoss) -> Tensor:
    """The meta-loss of each run [n], in float64; infinite if it diverged and there is no cap."""
    values = torch.stack(list(losses)).double()
    if isinstance(meta_loss, CappedLoss):
        values = values.clamp_max(meta_loss.cap)
    elif isinstance(meta_loss, RelativeLoss):
        values = values * _inverse(meta_loss.start.double().abs())
    elif meta_loss == "log_loss":
        values = values.clamp_min(LEAST).log()
    return values.sum(0)


def _inverse(losses: Tensor) -> Tensor:
    """1/f, and 0 for what counts as a loss of 0, of which no part is left to gain."""
    return torch.where(losses > LEAST, 1 / losses, 0.0)
