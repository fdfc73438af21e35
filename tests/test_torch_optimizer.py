"""The learned optimizer in a plain PyTorch training loop."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from optimizers.learned.checkpoint import save_optimizer
from optimizers.learned.lstm import LSTM
from optimizers.torch_optimizer import LearnedOptimizer
from problems.datasets import load_images
from suite.errors import SuiteError
from suite.seeds import Rng
from suite.types import ParamSpec

SHIPPED = "mnist-lstm"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small optimizer that was never trained."""
    optimizer = LSTM(hidden=4)
    optimizer = optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")))
    path = tmp_path / "small.safetensors"
    save_optimizer(path, {"name": "lstm", "hidden": 4}, optimizer)
    return path


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def loss_of(net: nn.Module, step: int) -> Tensor:
    x = Rng(1, "x", step=step).normal(16, 5)
    return net(x).square().mean()


def train(net: nn.Module, optimizer: LearnedOptimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(net, step).backward()
        optimizer.step()


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_it_does_what_the_harness_does(checkpoint: Path) -> None:
    net, twin = model(), model()
    train(net, LearnedOptimizer(net.parameters(), checkpoint), range(6))
    learned = LSTM(hidden=4)
    learned = learned.with_weights(learned.initial_weights(Rng(0, "phi")))
    spec = ParamSpec({name: p.shape for name, p in twin.named_parameters()})
    state = learned.init(spec, 1)
    for step in range(6):
        twin.zero_grad()
        loss_of(twin, step).backward()
        grads = torch.cat([p.grad.flatten() for p in twin.parameters() if p.grad is not None])
        update, state = learned.update(grads.unsqueeze(0), state)
        for p, u in zip(twin.parameters(), spec.unflatten(update[0]).values(), strict=True):
            p.data += u
    assert torch.allclose(weights(net), weights(twin), atol=1e-6)


def test_state_dict_round_trip_changes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    net = model()
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    train(net, optimizer, range(5))
    torch.save((net.state_dict(), optimizer.state_dict()), tmp_path / "saved.pt")
    train(net, optimizer, range(5, 10))

    other = model(seed=1)
    resumed = LearnedOptimizer(other.parameters(), checkpoint)
    of_net, of_optimizer = torch.load(tmp_path / "saved.pt", weights_only=True)
    other.load_state_dict(of_net)
    resumed.load_state_dict(of_optimizer)
    train(other, resumed, range(5, 10))
    assert torch.equal(weights(net), weights(other))


def test_copies_go_on_alike(checkpoint: Path) -> None:
    net = model()
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    train(net, optimizer, range(3))
    twin, twins_optimizer = copy.deepcopy((net, optimizer))
    train(net, optimizer, range(3, 6))
    train(twin, twins_optimizer, range(3, 6))
    assert torch.equal(weights(net), weights(twin))


def test_groups_have_checkpoints_and_rates_of_their_own(checkpoint: Path) -> None:
    net, plain, shipped = model(), model(), model()
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


def test_a_scheduler_scales_the_updates(checkpoint: Path) -> None:
    net = model()
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0 if epoch < 1 else 0)
    train(net, optimizer, range(1))
    scheduler.step()
    before = weights(net)
    train(net, optimizer, range(1, 3))
    assert torch.equal(weights(net), before)


def test_closure_is_evaluated_with_gradients_and_its_loss_returned(checkpoint: Path) -> None:
    net, twin = model(), model()
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)

    def closure() -> float:
        optimizer.zero_grad()
        loss = loss_of(net, 0)
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == pytest.approx(loss_of(twin, 0).item())
    train(twin, LearnedOptimizer(twin.parameters(), checkpoint), range(1))
    assert torch.equal(weights(net), weights(twin))


def test_parameters_without_a_gradient_and_without_elements_are_left_alone(
    checkpoint: Path,
) -> None:
    idle, empty = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(0, 4))
    empty.grad = torch.ones(0, 4)
    optimizer = LearnedOptimizer([idle, empty], checkpoint)
    optimizer.step()
    assert torch.equal(idle, torch.ones(3))
    assert "hidden" not in optimizer.state[idle]


def test_parameters_may_be_laid_out_in_any_way(checkpoint: Path) -> None:
    start, grad = Rng(2, "start").normal(4, 6), Rng(2, "grad").normal(4, 6)
    results = []
    for turned in (False, True):
        data = start.T.contiguous().T if turned else start.clone()
        parameter = nn.Parameter(data)
        parameter.grad = grad.clone()
        LearnedOptimizer([parameter], checkpoint).step()
        results.append(parameter.detach())
    assert torch.equal(*results)
    assert not torch.equal(results[0], start)


def test_float64_takes_the_same_steps(checkpoint: Path) -> None:
    net, double = model(), model().double()
    train(net, LearnedOptimizer(net.parameters(), checkpoint), range(1))
    optimizer = LearnedOptimizer(double.parameters(), checkpoint)
    double(Rng(1, "x", step=0).normal(16, 5).double()).square().mean().backward()
    optimizer.step()
    assert torch.allclose(weights(double).float(), weights(net), atol=1e-6)


def test_what_it_cannot_do_is_refused_with_a_reason(checkpoint: Path, tmp_path: Path) -> None:
    embedding = nn.Embedding(10, 3, sparse=True)
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(ValueError, match=r"shape \[10, 3\] in group 0 has a sparse gradient"):
        LearnedOptimizer(embedding.parameters(), checkpoint).step()
    half = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    half.grad = torch.ones_like(half)
    with pytest.raises(ValueError, match=r"is torch\.bfloat16, but must be float32 or float64"):
        LearnedOptimizer([half], checkpoint).step()
    with pytest.raises(ValueError, match="lr must be at least 0, not -1"):
        LearnedOptimizer(model().parameters(), checkpoint, lr=-1)
    with pytest.raises(SuiteError, match=r"no checkpoint 'mnist-ltsm' in .*mnist-lstm"):
        LearnedOptimizer(model().parameters(), "mnist-ltsm")
    with pytest.raises(SuiteError, match="there is no such file"):
        LearnedOptimizer(model().parameters(), tmp_path / "none.safetensors")


def test_the_shipped_optimizer_trains_a_network_on_digits() -> None:
    """Better than SGD at its best rate for as many steps, in a loop of the user's own."""
    images = load_images("mnist")
    x, y = images.pixels.flatten(1).float() / 255, images.labels

    def final(make: object) -> float:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(784, 20), nn.Sigmoid(), nn.Linear(20, 10))
        optimizer = make(net.parameters())  # type: ignore[operator]
        losses = []
        for step in range(100):
            rows = Rng(9, "rows", step=step).integers(len(y), 128)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return sum(losses[-10:]) / 10

    learned = final(lambda params: LearnedOptimizer(params, SHIPPED))
    sgd = min(final(lambda p, lr=lr: torch.optim.SGD(p, lr)) for lr in (0.3, 1.0, 3.0))
    assert learned < 0.9 * sgd


def test_a_million_parameters() -> None:
    parameters = [nn.Parameter(torch.zeros(50_000)) for _ in range(20)]
    optimizer = LearnedOptimizer(parameters, SHIPPED)
    for step in range(2):
        for parameter in parameters:
            parameter.grad = Rng(3, "grad", step=step).normal(50_000)
        optimizer.step()
    assert all(p.isfinite().all() and p.abs().max() > 0 for p in parameters)
