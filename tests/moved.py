"""An update of an optimizer that makes no use of θ."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from l2l.suite.core.types import Params


def moved(optimizer: Any, grads: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The updates [n, P] for gradients [n, P], and the next state; who reads θ gets NaN."""
    updates, following = optimizer.update(grads, state, Params.unread(grads))
    return updates, following
