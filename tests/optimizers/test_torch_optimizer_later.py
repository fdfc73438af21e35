"""The later learned optimizers in anybody's training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch_training import loss_of, network, train, weights, with_gradient

from l2l.optimizers.learned.checkpoint import save_optimizer
from l2l.optimizers.torch_optimizer import LearnedOptimizer
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Params, ParamSpec
from l2l.suite.plan.resolved import optimizer_config

LATER = [
    {"name": "rnnprop", "hidden": 4},
    {"name": "small-fc-lopt"},
    {"name": "celo2-base", "weight_decay": 0.1},
]


def test_updates_are_no_rounder_within_autocast(tmp_path: Path) -> None:
    learned = optimizers.make({"name": "rnnprop", "hidden": 4})
    path = tmp_path / "rnnprop.safetensors"
    save_optimizer(
        path,
        {"name": "rnnprop", "hidden": 4},
        learned.with_weights(learned.initial_weights(Rng(0, "phi"))),
    )
    moved = []
    for within in (False, True):
        parameter = nn.Parameter(torch.ones(5, 3))
        parameter.grad = torch.linspace(-1, 1, 15).view(5, 3)
        with torch.autocast("cpu", torch.bfloat16, enabled=within):
            LearnedOptimizer([parameter], path).step()
        moved.append(parameter.detach())
    assert torch.equal(*moved)


@pytest.fixture(params=LATER, ids=lambda spec: spec["name"])
def spec(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.fixture
def learned(spec: dict[str, Any]) -> Any:
    untrained = optimizers.make(spec)
    return untrained.with_weights(untrained.initial_weights(Rng(0, "phi")))


@pytest.fixture
def saved(spec: dict[str, Any], learned: Any, tmp_path: Path) -> Path:
    path = tmp_path / "later.safetensors"
    save_optimizer(path, spec, learned)
    return path


def test_it_does_what_the_harness_does_step_by_step(saved: Path, learned: Any) -> None:
    net, twin = network(), network()
    optimizer = LearnedOptimizer(net.parameters(), saved)
    spec = ParamSpec({name: p.shape for name, p in twin.named_parameters()})
    state = learned.init(spec, 1)
    for step in range(6):
        train(net, optimizer, range(step, step + 1))
        twin.zero_grad()
        loss_of(twin, step).backward()
        grads = torch.cat([p.grad.flatten() for p in twin.parameters() if p.grad is not None])
        theta = Params(weights(twin).unsqueeze(0), spec)
        update, state = learned.update(grads.unsqueeze(0), state, theta)
        for p, u in zip(twin.parameters(), spec.unflatten(update[0]).values(), strict=True):
            p.data += u
        torch.testing.assert_close(weights(net), weights(twin), rtol=1e-5, atol=1e-7)
    assert not torch.allclose(weights(net), weights(network()), atol=1e-6)


def test_training_goes_on_from_a_file_bit_for_bit(saved: Path, tmp_path: Path) -> None:
    net = network()
    optimizer = LearnedOptimizer(net.parameters(), saved)
    train(net, optimizer, range(3))
    torch.save([net.state_dict(), optimizer.state_dict()], tmp_path / "saved.pt")
    train(net, optimizer, range(3, 6))

    again = network(seed=1)
    resumed = LearnedOptimizer(again.parameters(), saved)
    of_net, of_optimizer = torch.load(tmp_path / "saved.pt", weights_only=True)
    again.load_state_dict(of_net)
    resumed.load_state_dict(of_optimizer)
    train(again, resumed, range(3, 6))
    assert torch.equal(weights(again), weights(net))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 1, 3), (2, 3, 2, 2)])
def test_parameters_may_have_any_shape(saved: Path, shape: tuple[int, ...]) -> None:
    ones = torch.ones(shape)
    parameter = with_gradient(ones.clone(), ones.clone())
    LearnedOptimizer([parameter], saved).step()
    assert parameter.shape == shape
    assert (parameter != ones).all() and parameter.isfinite().all()


def test_half_precision_has_its_state_in_float32(saved: Path) -> None:
    parameter = with_gradient(torch.ones(6, dtype=torch.bfloat16), torch.ones(6).bfloat16())
    optimizer = LearnedOptimizer([parameter], saved)
    optimizer.step()
    assert parameter.dtype == torch.bfloat16
    assert {each.dtype for each in optimizer.state[parameter].values()} == {torch.float32}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_gradients_that_are_not_finite_leave_the_state_finite(saved: Path, bad: float) -> None:
    parameter = with_gradient(torch.zeros(3), torch.tensor([1.0, bad, 0.5]))
    optimizer = LearnedOptimizer([parameter], saved)
    optimizer.step()
    assert parameter.isnan().tolist() == [False, torch.tensor(bad).isnan(), False]
    assert all(each.isfinite().all() for each in optimizer.state[parameter].values())


def test_states_that_do_not_fit_are_refused(saved: Path) -> None:
    small, large = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(4, 3))
    optimizer = LearnedOptimizer([small], saved)
    small.grad = torch.ones(2, 3)
    optimizer.step()
    with pytest.raises(
        ValueError, match=r"needs a (hidden|means) state of shape .*, not .*, which"
    ):
        LearnedOptimizer([large], saved).load_state_dict(optimizer.state_dict())
    wrong = optimizer.state_dict()
    wrong["state"][0] = {"exp_avg": torch.zeros(2, 3)}
    with pytest.raises(ValueError, match=r"needs a '(hidden|means)' state, a tensor of floats"):
        LearnedOptimizer([small], saved).load_state_dict(wrong)


def test_a_trained_one_can_be_given_a_rate_and_a_schedule(saved: Path, learned: Any) -> None:
    spec = ParamSpec({"w": torch.Size([3, 2])})
    params = Params(Rng(1, "theta").normal(2, 6), spec)
    grads = Rng(2, "gradients").normal(2, 6)
    plain, _ = learned.update(grads, learned.init(spec, 2), params)
    given = {"name": "pretrained", "checkpoint": str(saved), "schedule": "linear"}
    rated = optimizers.make({**given, "schedule_steps": 4, "lr": 0.5})
    state = rated.init(spec, 2)
    update, state = rated.update(grads, state, params)
    assert torch.equal(update, 0.5 * plain)
    assert rated.fingerprints()["checkpoint"]
    assert rated.coordinatewise == learned.coordinatewise
    _, following = learned.update(grads, learned.init(spec, 2), params)
    plain, _ = learned.update(grads, following, params)
    torch.testing.assert_close(rated.update(grads, state, params)[0], 0.375 * plain)


def test_a_trained_one_is_planned_with_a_schedule(saved: Path) -> None:
    """What planning tries of every optimizer, wrapped."""
    given = {"name": "pretrained", "checkpoint": str(saved), "schedule": "cosine"}
    found = optimizer_config(given, {"name": "quadratic"}, "here", steps=10)
    assert found["tuned"] == "lr"
    assert set(found["data"]) == {"checkpoint", "optimizer"}


def test_pretrained_reads_a_file_that_was_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "trained.safetensors"
    digests = set()
    for seed in (1, 2):
        made: Any = optimizers.make({"name": "lstm"})
        made = made.with_weights(made.initial_weights(Rng(seed, "phi")))
        save_optimizer(path, {"name": "lstm"}, made)
        rated = optimizers.make({"name": "pretrained", "checkpoint": str(path), "lr": 1.0})
        digests.add(rated.at_rate(0.5).fingerprints()["checkpoint"])
    assert len(digests) == 2
