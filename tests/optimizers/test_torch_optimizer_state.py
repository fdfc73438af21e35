"""What the learned optimizer saves, loads and copies, and what it refuses to load."""

from __future__ import annotations

import copy
import io
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch_training import network, train, weights, with_gradient

from l2l.optimizers.learned.checkpoint import save_optimizer
from l2l.optimizers.learned.lstm import LSTM
from l2l.optimizers.torch_optimizer import LearnedOptimizer
from l2l.suite.core.seeds import Rng


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.fixture
def other_checkpoint(tmp_path: Path) -> Path:
    """As `checkpoint`, with other weights."""
    optimizer = LSTM(hidden=4)
    path = tmp_path / "other.safetensors"
    optimizer = optimizer.with_weights(optimizer.initial_weights(Rng(1, "phi")))
    save_optimizer(path, {"name": "lstm", "hidden": 4}, optimizer)
    return path


def test_resumed_training_equals_uninterrupted(checkpoint: Path, device: str) -> None:
    net = network(device)
    group = {"params": net.parameters(), "checkpoint": Path(checkpoint)}
    optimizer = LearnedOptimizer([group], "mnist-lstm", lr=0.7)
    train(net, optimizer, range(5))
    of_net, of_optimizer = through_a_file((net.state_dict(), optimizer.state_dict()))
    train(net, optimizer, range(5, 10))

    other = network(device, seed=1)
    resumed = LearnedOptimizer(other.parameters(), checkpoint)
    other.load_state_dict(of_net)
    resumed.load_state_dict(of_optimizer)
    train(other, resumed, range(5, 10))
    assert torch.equal(weights(net), weights(other))
    assert resumed.param_groups[0]["lr"] == 0.7


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_hidden_states_keep_their_precision(
    checkpoint: Path, device: str, dtype: torch.dtype
) -> None:
    net = network(device).to(dtype)
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    train(net, optimizer, range(3))
    resumed = LearnedOptimizer(net.parameters(), checkpoint)
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    for parameter in net.parameters():
        before, after = (each.state[parameter]["hidden"] for each in (optimizer, resumed))
        assert after.dtype == before.dtype
        assert torch.equal(after, before)


def test_state_moves_between_devices_and_types(checkpoint: Path, device: str) -> None:
    net = network("cpu")
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    train(net, optimizer, range(3))
    moved = copy.deepcopy(net).to(device, torch.float64)
    there = LearnedOptimizer(moved.parameters(), checkpoint)
    there.load_state_dict(optimizer.state_dict())
    train(moved, there, range(3, 5))
    assert {x["hidden"].device.type for x in there.state.values()} == {device}
    back = copy.deepcopy(net)
    back.load_state_dict(moved.state_dict())
    again = LearnedOptimizer(back.parameters(), checkpoint)
    again.load_state_dict(there.state_dict())
    train(back, again, range(5, 7))
    train(net, optimizer, range(3, 7))
    assert torch.allclose(weights(back), weights(net), atol=1e-5)


def test_model_may_change_device_between_steps(checkpoint: Path, device: str) -> None:
    net, twin = network("cpu"), network("cpu")
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    train(net, optimizer, range(2))
    net.to(device)
    train(net, optimizer, range(2, 4))
    train(twin, LearnedOptimizer(twin.parameters(), checkpoint), range(4))
    assert torch.allclose(weights(net).cpu(), weights(twin), atol=1e-5)


def test_loaded_state_is_a_copy(checkpoint: Path) -> None:
    net, twin = network(), network()
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    train(net, optimizer, range(3))
    twin.load_state_dict(net.state_dict())
    loaded = LearnedOptimizer(twin.parameters(), checkpoint)
    loaded.load_state_dict(optimizer.state_dict())
    train(net, optimizer, range(3, 5))
    train(twin, loaded, range(3, 5))
    assert torch.equal(weights(net), weights(twin))


def test_the_same_checkpoint_elsewhere_stays_where_it_is(checkpoint: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.safetensors"
    shutil.copy(checkpoint, elsewhere)
    net = network()
    saved = LearnedOptimizer(net.parameters(), checkpoint).state_dict()
    optimizer = LearnedOptimizer(net.parameters(), elsewhere)
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["checkpoint"] == str(elsewhere)


@pytest.mark.parametrize("flat", [False, True])
def test_states_of_distributed_checkpoints_load_again(checkpoint: Path, flat: bool) -> None:
    net, twin = network(), network()
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    train(net, optimizer, range(3))
    form = StateDictOptions(flatten_optimizer_state_dict=flat)
    saved = get_optimizer_state_dict(net, optimizer, options=form)
    twin.load_state_dict(net.state_dict())
    resumed = LearnedOptimizer(twin.parameters(), checkpoint)
    set_optimizer_state_dict(twin, resumed, saved, options=form)
    train(net, optimizer, range(3, 5))
    train(twin, resumed, range(3, 5))
    assert torch.equal(weights(net), weights(twin))


def test_hooks_see_and_may_change_what_is_loaded(checkpoint: Path) -> None:
    net = network()
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    train(net, optimizer, range(1))
    saved = optimizer.state_dict()
    resumed = LearnedOptimizer(net.parameters(), checkpoint)
    resumed.register_load_state_dict_pre_hook(lambda _, given: given["optimizer"])
    calls: list[str] = []
    resumed.register_load_state_dict_post_hook(lambda _: calls.append("post"))
    for _ in range(2):
        resumed.load_state_dict({"optimizer": saved})
    assert calls == ["post", "post"]
    assert len(resumed.state) == 4


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_go_on_alike_without_the_file(checkpoint: Path, device: str, way: str) -> None:
    net = network(device)
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    train(net, optimizer, range(3))
    pair = (net, optimizer)
    twin, twins = copy.deepcopy(pair) if way == "deepcopy" else pickle.loads(pickle.dumps(pair))
    checkpoint.unlink()
    train(net, optimizer, range(3, 6))
    train(twin, twins, range(3, 6))
    assert torch.equal(weights(net), weights(twin))
    assert twins.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def refusal(optimizer: LearnedOptimizer, state: Any) -> str:
    """The sentence with which a state is refused, after which all is as before."""
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises((ValueError, TypeError)) as raised:
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert after["state"].keys() == before["state"].keys()
    for key, entry in after["state"].items():
        assert torch.equal(entry["hidden"], before["state"][key]["hidden"])
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def trained(checkpoint: Path) -> LearnedOptimizer:
    net = network()
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    train(net, optimizer, range(2))
    return optimizer


def test_state_of_another_checkpoint_is_refused(
    trained: LearnedOptimizer, checkpoint: Path, other_checkpoint: Path
) -> None:
    other = LearnedOptimizer(network().parameters(), other_checkpoint)
    told = refusal(trained, other.state_dict())
    assert f"group 0 is of checkpoint {other_checkpoint}" in told
    assert f"here the group has {checkpoint}" in told


def test_state_of_another_optimizer_is_refused(trained: LearnedOptimizer) -> None:
    adam = torch.optim.Adam(network().parameters())
    told = refusal(trained, adam.state_dict())
    assert "was not saved by LearnedOptimizer: its group 0 has no 'checkpoint'" in told


def test_state_of_other_parameters_is_refused(trained: LearnedOptimizer, checkpoint: Path) -> None:
    net = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))
    optimizer = LearnedOptimizer(net.parameters(), checkpoint)
    sparse = with_gradient(torch.ones(2), torch.ones(2))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert "shape [2, 2, 4, 35], not [2, 2, 4, 42]" in refusal(trained, optimizer.state_dict())
    few = LearnedOptimizer([sparse], checkpoint).state_dict()
    assert "of groups of [1] parameters, but this optimizer's are of [4]" in refusal(trained, few)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (None, "must be a dictionary, not NoneType"),
        ({}, "must have 'state' and 'param_groups'"),
        ({"model": {}, "optimizer": {}}, "must have 'state' and 'param_groups'"),
        ({"state": {}, "param_groups": [{}]}, "its group 0 has no 'params' and no 'checkpoint'"),
    ],
)
def test_what_is_no_state_is_refused(trained: LearnedOptimizer, state: Any, told: str) -> None:
    assert told in refusal(trained, state)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"exp_avg": torch.zeros(7, 5)}, "needs a 'hidden' state"),
        ({"hidden": 3.0}, "needs a 'hidden' state"),
        ({"hidden": torch.zeros(2, 2, 4, 35, dtype=torch.int64)}, "a tensor of floats"),
        ({"hidden": torch.zeros(2, 2, 20, 35)}, "not [2, 2, 20, 35]"),
    ],
)
def test_damaged_entry_is_refused(
    trained: LearnedOptimizer, entry: dict[str, Any], told: str
) -> None:
    state = copy.deepcopy(trained.state_dict())
    state["state"][0] = entry
    told_here = refusal(trained, state)
    assert "the parameter of shape [7, 5] in group 0" in told_here
    assert told in told_here


@pytest.mark.parametrize("lr", [-1.0, float("nan"), "fast"])
def test_saved_rate_that_is_none_is_refused(trained: LearnedOptimizer, lr: Any) -> None:
    state = copy.deepcopy(trained.state_dict())
    state["param_groups"][0]["lr"] = lr
    assert "group 0 of the state: lr must be" in refusal(trained, state)
