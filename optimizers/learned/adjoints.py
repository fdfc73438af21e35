"""Going back through one update of a learned optimizer, by autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from l2l import Params

if TYPE_CHECKING:
    from l2l.optimizers.learned.base import Learned


class Adjoints(NamedTuple):
    """Those of what an update takes.

    Args:
        phi: of φ [size].
        grads: of the gradients [n, P].
        state: of each real tensor in the state.
        theta: of the iterate [n, P], beside that θ itself moves on by the update.
    """

    phi: Tensor
    grads: Tensor
    state: list[Tensor]
    theta: Tensor


def adjoints_by_autograd(
    optimizer: Learned,
    grads: Tensor,
    state: Any,
    of_update: Tensor,
    of_state: list[Tensor],
    params: Params | None = None,
) -> Adjoints:
    """As `Learned.adjoints`."""
    params = params or Params.unread(grads)
    with torch.enable_grad():
        phi, own, theta = leaf(optimizer.phi), leaf(off_zero(grads)), leaf(params.theta)
        before = tree_map(leaf, state)
        moving = optimizer.with_weights(phi)
        update, after = moving.update(own, before, Params(theta, params.spec))
    leads = [(update, of_update), *zip(_tracked(after), of_state, strict=False)]
    out, adjoints = zip(*[each for each in leads if each[0].requires_grad], strict=True)
    of_phi, of_grads, of_theta, *of_before = torch.autograd.grad(
        out, [phi, own, theta, *_tracked(before)], adjoints, materialize_grads=True
    )
    return Adjoints(of_phi, of_grads, of_before, of_theta)


def leaf(value: Any) -> Any:
    """A tensor of real numbers as a leaf of a graph; all else as it is."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().requires_grad_()
    return value


def off_zero(grads: Tensor) -> Tensor:
    """Gradients, the smallest normal number instead of 0.

    At 0 Appendix A's logarithm has the derivative 0 · ∞, although its feature is constant there.
    """
    return torch.where(grads == 0, grads + torch.finfo(grads.dtype).tiny, grads)


def _tracked(state: Any) -> list[Tensor]:
    """What of a state is differentiated."""
    leaves = tree_leaves(state)
    return [each for each in leaves if isinstance(each, Tensor) and each.is_floating_point()]
