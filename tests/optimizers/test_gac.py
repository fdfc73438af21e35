"""LSTM+GAC: what its cells average, and the clipping that they are enough for (Appendix D)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from moved import moved
from torch import Tensor

from l2l.optimizers.by_hand.gac_clipping import GACClipping
from l2l.optimizers.learned.gac import LSTMGAC
from l2l.optimizers.learned.lstm import LSTM
from l2l.optimizers.learned.ntm import NTMBFGS, NTMLBFGS
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import ParamSpec
from l2l.suite.core.wrapper import clip_by_norm

SPEC = ParamSpec({"theta": torch.Size([6])})
TALKING = [LSTMGAC, NTMBFGS, NTMLBFGS]


def make(cls: Any, **options: Any) -> Any:
    """A small one in float64 whose cells and heads are far from quiet."""
    optimizer = cls(**{"hidden": 5, "preprocessing": "none", "gacs": 2, **options})
    weights = Rng(3, "phi").normal(optimizer.layout.size).double()
    return optimizer.with_weights(0.5 * weights)


def updates(optimizer: Any, grads: Tensor) -> Tensor:
    """[T, n, P] for given gradients [T, n, P]."""
    spec = ParamSpec({"theta": grads.shape[2:]})
    state, made = optimizer.init(spec, grads.shape[1]), []
    for grad in grads:
        update, state = moved(optimizer, grad, state)
        made.append(update)
    return torch.stack(made)


def gradients(steps: int = 5, n: int = 2, coordinates: int = 6) -> Tensor:
    return Rng(4, "gradients").normal(steps, n, coordinates).double()


def test_without_averaging_cells_it_is_the_lstm() -> None:
    lstm = LSTM(hidden=5)
    weights = Rng(0, "phi").normal(lstm.layout.size)
    grads = gradients().float()
    expected = updates(lstm.with_weights(weights), grads)
    made = updates(LSTMGAC(hidden=5, gacs=0).with_weights(weights), grads)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-6)


def test_averaging_cells_put_out_their_mean_and_remember_their_own() -> None:
    """The LSTM's h, averaged over each instance's coordinates in the last cells, from one state."""
    plain, averaging = make(LSTMGAC, gacs=0, layers=1), make(LSTMGAC, gacs=2, layers=1)
    _, state = moved(averaging, gradients()[0], averaging.init(SPEC, 2))
    _, cells = moved(plain, gradients()[1], state)
    _, averaged = moved(averaging, gradients()[1], state)
    h, c = cells[0]
    assert torch.equal(averaged[0, 1], c)
    assert torch.equal(averaged[0, 0, :3], h[:3])
    torch.testing.assert_close(averaged[0, 0, 3:], h[3:].mean(-1, keepdim=True).expand(2, 2, 6))
    assert (c[3:, 0, 0] != c[3:, 0, 1]).all()


@pytest.mark.parametrize("cls", TALKING)
def test_coordinates_of_one_instance_hear_of_one_another(cls: Any) -> None:
    grads = gradients()
    changed = grads.clone()
    changed[0, 0, 2] += 1.0
    difference = (updates(make(cls), grads) - updates(make(cls), changed)).abs()
    assert (difference[1, 0] > 1e-8).all(), "all coordinates of the instance"
    assert difference[:, 1].max() == 0, "and no other instance"


@pytest.mark.parametrize("cls", TALKING)
def test_order_and_number_of_coordinates_do_not_matter(cls: Any) -> None:
    grads = gradients()
    expected = updates(make(cls), grads)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(updates(make(cls), grads[..., order]), expected[..., order])
    twice = updates(make(cls), torch.cat([grads, grads], dim=-1))
    torch.testing.assert_close(twice, torch.cat([expected, expected], dim=-1))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"gacs": 21}, "gacs must be from 0 to hidden, 20, not 21"),
        ({"hidden": 0}, "hidden must be from 1 to 10,000, not 0"),
        ({"preprocessing": "sqrt"}, "preprocessing must be one of log, scale, none, not 'sqrt'"),
    ],
)
def test_networks_that_cannot_be_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SuiteError, match=told):
        optimizers.make({"name": "lstm-gac", **options})


# --- clipping by norm, D-1 --------------------------------------------------------------------


@pytest.mark.parametrize("coordinates", [1, 10, 1000])
@pytest.mark.parametrize("spread", ["all", "one"])
def test_lstm_with_averaging_cells_clips_by_norm(coordinates: int, spread: str) -> None:
    """Within .3 % from a hundredth of the threshold to thirty times of it."""
    norms = 2.0 * torch.logspace(-2, 1.477, 60).unsqueeze(1)
    directions = Rng(1, "directions").normal(60, coordinates)
    if spread == "one":
        directions[:, 1:] = 0
    grads = norms * directions / directions.norm(dim=1, keepdim=True)
    optimizer = GACClipping(lr=0.5, threshold=2.0)
    state = optimizer.init(ParamSpec({"theta": torch.Size([coordinates])}), 60)
    expected = -0.5 * clip_by_norm(grads, 2.0)
    for _ in range(3):  # nothing is remembered
        update, state = moved(optimizer, grads, state)
        error = (update - expected).norm(dim=1) / expected.norm(dim=1)
        assert error.max() < 0.003


def test_clipping_needs_the_averaging_cells() -> None:
    """With its averages cut off, the same network does not know the norm."""
    optimizer = GACClipping(lr=1.0, threshold=2.0)
    network = optimizer.network(10, like=torch.zeros(()))
    alone = LSTMGAC(hidden=32, gacs=0, preprocessing="none", output_scale=1.0)
    grads = 5 * Rng(1, "grads").normal(1, 10)
    spec = ParamSpec({"theta": torch.Size([10])})
    made = []
    for each in (network, alone.with_weights(network.phi)):
        update, _ = moved(each, grads, each.init(spec, 1))
        made.append((update - clip_by_norm(grads, 2.0)).norm() / 2.0)
    assert made[0] < 0.003
    assert made[1] > 0.1
