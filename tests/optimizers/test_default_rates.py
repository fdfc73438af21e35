"""An optimizer's rate when nobody tunes it."""

from __future__ import annotations

from typing import Any

import pytest

from l2l.optimizers.default_rates import OF_AUTHORS, OF_TORCH, default_rate
from l2l.suite.core.registry import optimizers


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"name": "adam", "schedule": "cosine"}, 1e-3),
        ({"name": "rmsprop"}, 1e-2),
        ({"name": "lion"}, 1e-4),
        ({"name": "torch", "optimizer": "torch.optim.NAdam"}, 2e-3),
        ({"name": "torch", "optimizer": "torch.optim.Adadelta", "rate": "rho"}, 0.9),
        ({"name": "pretrained"}, None),
        ({"name": "bfgs"}, None),
    ],
)
def test_default_rate_is_that_of_pytorch_or_of_the_authors(
    spec: dict[str, Any], expected: float | None
) -> None:
    assert default_rate(spec) == expected


def test_every_name_is_an_optimizer_with_a_rate() -> None:
    assert all(optimizers.cls(name).tuned == "lr" for name in (*OF_TORCH, *OF_AUTHORS))
