"""The learned optimizer on parameters of all kinds: what moves, and how far."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from moved import moved
from torch import Tensor, nn
from torch_training import loss_of, network, train, weights, with_gradient

from l2l.optimizers.learned.lstm import LSTM
from l2l.optimizers.torch_optimizer import LearnedOptimizer
from l2l.problems.datasets import load_images
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import ParamSpec

SHIPPED = "mnist-lstm"


def test_it_does_what_the_harness_does(checkpoint: Path, device: str) -> None:
    net, twin = network(device), network(device)
    train(net, LearnedOptimizer(net.parameters(), checkpoint), range(6))
    learned = LSTM(hidden=4)
    learned = learned.with_weights(learned.initial_weights(Rng(0, "phi")).to(device))
    spec = ParamSpec({name: p.shape for name, p in twin.named_parameters()})
    state = learned.init(spec, 1)
    for step in range(6):
        twin.zero_grad()
        loss_of(twin, step).backward()
        grads = torch.cat([p.grad.flatten() for p in twin.parameters() if p.grad is not None])
        update, state = moved(learned, grads.unsqueeze(0), state)
        for p, u in zip(twin.parameters(), spec.unflatten(update[0]).values(), strict=True):
            p.data += u
    assert torch.allclose(weights(net), weights(twin), atol=1e-6)


def test_groups_have_checkpoints_and_rates_of_their_own(checkpoint: Path, device: str) -> None:
    net, plain, shipped = (network(device) for _ in range(3))
    groups = [
        {"params": net[0].parameters()},
        {"params": net[2].parameters(), "checkpoint": SHIPPED, "lr": 0.5},
    ]
    before = weights(net)
    train(net, LearnedOptimizer(groups, checkpoint), range(1))
    train(plain, LearnedOptimizer(plain.parameters(), checkpoint), range(1))
    train(shipped, LearnedOptimizer(shipped.parameters(), SHIPPED), range(1))
    first = 5 * 7 + 7
    assert torch.equal(weights(net)[:first], weights(plain)[:first])
    moved, usual = (weights(each)[first:] - before[first:] for each in (net, shipped))
    assert torch.allclose(moved, 0.5 * usual, atol=1e-7)


def test_a_group_that_comes_later_is_trained(checkpoint: Path, device: str) -> None:
    net = network(device)
    optimizer = LearnedOptimizer(net[0].parameters(), checkpoint)
    train(net, optimizer, range(2))
    before = net[2].weight.detach().clone()
    optimizer.add_param_group({"params": net[2].parameters(), "checkpoint": Path(checkpoint)})
    train(net, optimizer, range(2, 3))
    assert not torch.equal(net[2].weight, before)


def test_what_has_no_gradient_stays_as_it_is(checkpoint: Path, device: str) -> None:
    idle, frozen, moving = (torch.ones(3, device=device) for _ in range(3))
    parameters = [nn.Parameter(idle), nn.Parameter(frozen, requires_grad=False)]
    optimizer = LearnedOptimizer(
        [
            {"params": []},
            {"params": parameters, "lr": 2.0},
            {"params": [with_gradient(moving, torch.ones_like(moving))]},
        ],
        checkpoint,
    )
    optimizer.step()
    assert torch.equal(idle, torch.ones_like(idle)) and torch.equal(frozen, torch.ones_like(idle))
    assert not torch.equal(moving, torch.ones_like(moving))
    assert not any(parameter in optimizer.state for parameter in parameters)
    LearnedOptimizer([{"params": []}], checkpoint).step()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 1, 3)])
def test_parameters_may_have_any_shape(
    checkpoint: Path, device: str, shape: tuple[int, ...]
) -> None:
    ones = torch.ones(shape, device=device)
    parameter = with_gradient(ones.clone(), ones.clone())
    LearnedOptimizer([parameter], checkpoint).step()
    assert parameter.shape == shape
    assert (parameter != ones).all()


def test_parameters_and_gradients_may_be_laid_out_in_any_way(checkpoint: Path, device: str) -> None:
    start, grad = (Rng(2, name).normal(4, 6).to(device) for name in ("start", "grad"))
    layouts: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.clone(),
        lambda x: x.T.contiguous().T,
        lambda x: torch.stack([x, x], dim=-1)[..., 0],
    ]
    results = []
    for of_data in layouts:
        for of_grad in layouts:
            parameter = with_gradient(of_data(start), of_grad(grad))
            LearnedOptimizer([parameter], checkpoint).step()
            results.append(parameter.detach())
    assert all(torch.equal(each, results[0]) for each in results)
    assert not torch.equal(results[0], start)


def test_parameters_may_have_names(checkpoint: Path) -> None:
    net, twin = network(), network()
    optimizer = LearnedOptimizer(net.named_parameters(), checkpoint)
    train(net, optimizer, range(2))
    train(twin, LearnedOptimizer(twin.parameters(), checkpoint), range(2))
    assert torch.equal(weights(net), weights(twin))
    assert optimizer.param_groups[0]["param_names"] == [name for name, _ in net.named_parameters()]


@pytest.mark.parametrize("half", [np.float32(0.5), Fraction(1, 2), torch.tensor([0.5])])
def test_rates_may_be_numbers_of_any_kind(checkpoint: Path, device: str, half: Any) -> None:
    net, twin = network(device), network(device)
    train(net, LearnedOptimizer(net.parameters(), checkpoint, lr=half), range(2))
    train(twin, LearnedOptimizer(twin.parameters(), checkpoint, lr=0.5), range(2))
    assert torch.equal(weights(net), weights(twin))


def test_a_parameter_that_a_group_has_twice_moves_once(checkpoint: Path) -> None:
    once, twice = (with_gradient(torch.zeros(3), torch.ones(3)) for _ in range(2))
    LearnedOptimizer([once], checkpoint).step()
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = LearnedOptimizer([twice, twice], checkpoint)
    optimizer.step()
    assert torch.equal(once, twice)


def test_float64_takes_the_same_steps(checkpoint: Path, device: str) -> None:
    net, double = network(device), network(device).double()
    train(net, LearnedOptimizer(net.parameters(), checkpoint), range(3))
    train(double, LearnedOptimizer(double.parameters(), checkpoint), range(3))
    assert torch.allclose(weights(double).float(), weights(net), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_and_rounded_once(
    checkpoint: Path, device: str, dtype: torch.dtype
) -> None:
    start = Rng(2, "start").normal(50).to(device, dtype)
    half, full = nn.Parameter(start.clone()), nn.Parameter(start.float())
    optimizers = [LearnedOptimizer([each], checkpoint, lr=0.5) for each in (half, full)]
    for step in range(4):
        grad = Rng(3, "grad", step=step).normal(50).to(device, dtype)
        half.grad, full.grad = grad, grad.float()
        before = half.detach().float()
        full.data.copy_(before)
        for optimizer in optimizers:
            optimizer.step()
        assert half.dtype == dtype
        assert torch.equal(half, full.to(dtype)), step
    states = [o.state[p]["hidden"] for o, p in zip(optimizers, (half, full), strict=True)]
    assert torch.equal(*states)


def test_model_may_change_type_between_steps(checkpoint: Path, device: str) -> None:
    net, twin = network(device), network(device)
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    train(net, optimizer, range(2))
    net.double()
    train(net, optimizer, range(2, 4))
    train(twin, LearnedOptimizer(twin.parameters(), checkpoint), range(4))
    assert net[0].weight.dtype == torch.float64
    assert torch.allclose(weights(net).float(), weights(twin), atol=1e-5)


def test_nan_gradient_makes_its_coordinate_nan_but_not_the_hidden_state(
    checkpoint: Path, device: str
) -> None:
    """So that training goes on once the parameters are what they were before."""
    start = torch.zeros(3, device=device)
    parameter, twin = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = [LearnedOptimizer([each], checkpoint) for each in (parameter, twin)]
    parameter.grad = torch.tensor([1.0, torch.nan, -torch.inf], device=device)
    twin.grad = torch.tensor([1.0, 0.0, torch.finfo(torch.float32).min], device=device)
    for optimizer in optimizers:
        optimizer.step()
    assert parameter.isnan().tolist() == [False, True, False]
    assert torch.equal(parameter[[0, 2]], twin[[0, 2]])
    parameter.data.copy_(twin)
    for optimizer in optimizers:
        for each in (parameter, twin):
            each.grad = torch.ones(3, device=device)
        optimizer.step()
    assert parameter.isfinite().all()
    assert torch.equal(parameter, twin)


def test_the_shipped_optimizer_trains_a_network_on_digits(device: str) -> None:
    """Better than SGD at its best rate for as many steps, in a loop of the user's own."""
    images = load_images("mnist")
    x, y = (images.pixels.flatten(1).float() / 255).to(device), images.labels.to(device)

    def final(make: Callable[..., torch.optim.Optimizer]) -> float:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(784, 20), nn.Sigmoid(), nn.Linear(20, 10)).to(device)
        optimizer = make(net.parameters())
        losses = []
        for step in range(100):
            rows = Rng(9, "rows", step=step).integers(len(y), 128).to(device)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return sum(losses[-10:]) / 10

    learned = final(lambda params: LearnedOptimizer(params, SHIPPED))
    sgd = min(final(lambda p, lr=lr: torch.optim.SGD(p, lr)) for lr in (0.3, 1.0, 3.0))
    assert learned < 0.9 * sgd


def test_a_million_parameters(device: str) -> None:
    parameters = [nn.Parameter(torch.zeros(50_000, device=device)) for _ in range(20)]
    optimizer = LearnedOptimizer(parameters, SHIPPED)
    for step in range(2):
        for parameter in parameters:
            parameter.grad = Rng(3, "grad", step=step).normal(50_000).to(device)
        optimizer.step()
    assert all(p.isfinite().all() and p.abs().max() > 0 for p in parameters)
