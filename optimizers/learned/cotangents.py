"""What a window of truncated BPTT goes back from: the losses' gradients with respect to updates."""

from __future__ import annotations

from torch import Tensor


def cotangents(grads: Tensor, weights: Tensor, discount: float = 1.0) -> Tensor:
    """λ_s = Σ_{t>s} γ^{t−s−1} w_t ∇f(θ_t) for the steps s of a window.

    ∂∇/∂φ is taken as 0, so a loss depends on φ only through the updates before it, and every
    gradient that appears here was the optimizer's own input: none is computed again.

    Args:
        grads: ∇f(θ_1) … ∇f(θ_T) [T, n, P], or of some coordinates [T, K].
        weights: w_1 … w_T [T, n, 1], or of each coordinate, as `grads`.
        discount: γ; 1 gives the paper's meta-gradient. See `Truncated.discount`.

    Returns:
        λ, as `grads`.
    """
    terms = grads * weights
    if discount == 1.0:
        return terms.flip(0).cumsum_(0).flip(0)
    for step in range(len(terms) - 2, -1, -1):
        terms[step] += discount * terms[step + 1]
    return terms
