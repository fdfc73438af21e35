"""What a window's losses add up to, and how much each of them weighs."""

from __future__ import annotations

import pytest
import torch

from l2l.suite.core.estimator import CappedLoss, MetaLoss, RelativeLoss
from l2l.suite.core.types import ParamSpec
from l2l.suite.inner.step import Point
from l2l.suite.meta.meta_loss import loss_weights, summed

# The third run begins at a loss of 0.
RELATIVE = RelativeLoss(torch.tensor([4.0, -0.5, 0.0]))


@pytest.mark.parametrize("meta_loss", ["loss", "log_loss", CappedLoss(2.0), RELATIVE], ids=str)
def test_weights_are_the_derivatives_of_the_meta_loss(meta_loss: MetaLoss) -> None:
    """Also of losses that are too small for their logarithm, or not above 0."""
    losses = torch.tensor([[1.0, 3, 1], [1e-35, 0.5, 1], [0, -1, 1], [1e-20, 1e20, 1]])
    empty, alive = torch.empty(0), torch.ones(3, dtype=torch.bool)
    points = [Point(0, empty, None, each, empty, alive, ParamSpec({})) for each in losses]
    losses.requires_grad_()
    (expected,) = torch.autograd.grad(summed(losses[1:].unbind(), meta_loss).mean(), losses)
    torch.testing.assert_close(loss_weights(points, meta_loss), expected[1:])
