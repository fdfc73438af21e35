"""A class of torch.optim, as one writes it for any training; see docs/your-optimizer.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class SignedMomentum(torch.optim.Optimizer):
    """θ ← θ − η sgn m, m ← βm + (1 − β)∇."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                    mean.lerp_(p.grad, 1 - group["momentum"])
                    p.sub_(mean.sign(), alpha=group["lr"])
