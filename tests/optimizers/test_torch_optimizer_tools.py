"""The learned optimizer with what PyTorch has for training loops."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch_training import loss_of, network, train, weights, with_gradient

from l2l.optimizers.torch_optimizer import LearnedOptimizer
from l2l.suite.core.seeds import Rng

SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "step": lambda o: lr_scheduler.StepLR(o, 2, gamma=0.5),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 6),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 2.0, total_steps=9, cycle_momentum=False),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, 2, cycle_momentum=False),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 1.0 / (1 + epoch)),
}


@pytest.mark.parametrize("as_tensor", [False, True], ids=["number", "tensor"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_scale_the_updates(
    checkpoint: Path, device: str, name: str, as_tensor: bool
) -> None:
    net, twin = network(device), network(device)
    lr = torch.tensor(1.0) if as_tensor else 1.0
    optimizer = LearnedOptimizer(net.parameters(), checkpoint, lr=lr)
    by_hand = LearnedOptimizer(twin.parameters(), checkpoint)
    scheduler = SCHEDULERS[name](optimizer)
    rates = []
    for step in range(6):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        by_hand.param_groups[0]["lr"] = rates[-1]
        train(net, optimizer, range(step, step + 1))
        train(twin, by_hand, range(step, step + 1))
        scheduler.step(*([1.0] if name == "plateau" else []))
    assert len(set(rates)) > 1
    assert torch.allclose(weights(net), weights(twin), atol=1e-6)


def test_rate_in_brackets_moves_a_parameter_that_is_a_number(checkpoint: Path) -> None:
    moved = []
    for lr in (0.5, torch.tensor([0.5])):
        number = nn.Parameter(torch.tensor(1.0))
        optimizer = LearnedOptimizer([number], checkpoint, lr=lr)
        number.square().backward()
        optimizer.step()
        moved.append(number.detach())
    assert torch.equal(*moved)
    assert moved[0] != 1.0


def test_a_rate_of_zero_moves_nothing(checkpoint: Path, device: str) -> None:
    net = network(device)
    before = weights(net)
    train(net, LearnedOptimizer(net.parameters(), checkpoint, lr=0.0), range(2))
    assert torch.equal(weights(net), before)


def test_scheduler_and_optimizer_resume_together(checkpoint: Path) -> None:
    net = network()
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    scheduler = SCHEDULERS["cosine"](optimizer)
    train(net, optimizer, range(1))
    scheduler.step()
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict(), scheduler.state_dict()))
    resumed_net = network(seed=1)
    resumed = LearnedOptimizer(resumed_net.parameters(), checkpoint)
    resumed_scheduler = SCHEDULERS["cosine"](resumed)
    loads = (resumed_net, resumed, resumed_scheduler)
    for each, state in zip(loads, saved, strict=True):
        each.load_state_dict(state)
    for one in ((net, optimizer, scheduler), loads):
        train(one[0], one[1], range(1, 2))
        one[2].step()
        train(one[0], one[1], range(2, 3))
    assert torch.equal(weights(net), weights(resumed_net))


def test_closure_is_evaluated_with_gradients_and_its_loss_returned(
    checkpoint: Path, device: str
) -> None:
    net, twin = network(device), network(device)
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)

    def closure() -> float:
        optimizer.zero_grad()
        loss = loss_of(net, 0)
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == pytest.approx(loss_of(twin, 0).item())
    train(twin, LearnedOptimizer(twin.parameters(), checkpoint), range(1))
    assert torch.equal(weights(net), weights(twin))


def test_gradients_set_to_none_or_zero(checkpoint: Path) -> None:
    """None leaves a parameter alone; 0 is a gradient, as for PyTorch's optimizers with momentum."""
    moved = {}
    for to_none in (True, False):
        parameter = with_gradient(torch.zeros(3), torch.ones(3))
        optimizer = LearnedOptimizer([parameter], checkpoint)
        optimizer.step()
        optimizer.zero_grad(set_to_none=to_none)
        before = parameter.detach().clone()
        optimizer.step()
        moved[to_none] = not torch.equal(parameter, before)
    assert moved == {True: False, False: True}


def test_hooks_are_called_around_a_step(checkpoint: Path) -> None:
    net = network()
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append(weights(net)))
    optimizer.register_step_post_hook(lambda *_: calls.append(weights(net)))
    before = weights(net)
    train(net, optimizer, range(1))
    assert torch.equal(calls[0], before)
    assert torch.equal(calls[1], weights(net))
    assert not torch.equal(calls[0], calls[1])


def test_clipped_gradients_are_what_it_gets(checkpoint: Path, device: str) -> None:
    start = torch.zeros(4, device=device)
    parameter = with_gradient(start.clone(), 100 * torch.ones_like(start))
    twin = with_gradient(start.clone(), 0.5 * torch.ones_like(start))
    nn.utils.clip_grad_norm_([parameter], 1.0)
    for each in (parameter, twin):
        LearnedOptimizer([each], checkpoint).step()
    assert torch.allclose(parameter, twin, atol=1e-5)


def test_mixed_precision_with_a_scaler(checkpoint: Path, device: str) -> None:
    """Scales cancel; a step with an overflow is skipped, and leaves the hidden states."""
    net, twin = network(device), network(device)
    optimizer, plain = (LearnedOptimizer(x.parameters(), checkpoint) for x in (net, twin))
    scaler = torch.amp.GradScaler(device, init_scale=2.0**10)
    unscaled = torch.amp.GradScaler(device, enabled=False)

    def step(net: nn.Module, own: LearnedOptimizer, scale: torch.amp.GradScaler, at: int) -> None:
        own.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            loss = loss_of(net, at)
        scale.scale(loss * (torch.inf if at == 3 else 1)).backward()
        scale.unscale_(own)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scale.step(own)
        scale.update()

    for at in range(3):
        step(net, optimizer, scaler, at)
        step(twin, plain, unscaled, at)
    assert torch.allclose(weights(net), weights(twin), atol=1e-6)
    before, state = weights(net), copy.deepcopy(optimizer.state_dict()["state"])
    step(net, optimizer, scaler, 3)
    assert torch.equal(weights(net), before)
    for key, entry in optimizer.state_dict()["state"].items():
        assert torch.equal(entry["hidden"], state[key]["hidden"])


def test_compiled_model_is_trained_as_the_plain_one(checkpoint: Path, device: str) -> None:
    net, twin = network(device), network(device)
    compiled = torch.compile(net, backend="aot_eager")
    train(compiled, LearnedOptimizer(compiled.parameters(), checkpoint), range(3))
    train(twin, LearnedOptimizer(twin.parameters(), checkpoint), range(3))
    assert torch.allclose(weights(net), weights(twin), atol=1e-6)


@pytest.mark.filterwarnings("error:Dynamo detected a call to a .functools.lru_cache")
def test_step_in_a_compiled_loop_is_not_traced(checkpoint: Path, device: str) -> None:
    net, twin = network(device), network(device)
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)

    def step(x: Tensor) -> None:
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    compiled = torch.compile(step, backend="eager")
    for number in range(3):
        compiled(Rng(1, "x", step=number).normal(16, 5).to(device))
    train(twin, LearnedOptimizer(twin.parameters(), checkpoint), range(3))
    assert torch.allclose(weights(net), weights(twin), atol=1e-6)
