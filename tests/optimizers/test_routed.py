"""Routed optimizers: every group has a network of its own, and sees nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from moved import moved
from torch import Tensor

from l2l.optimizers.learned.checkpoint import load_optimizer, save_optimizer
from l2l.suite.core.registry import optimizers, problems
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import ParamSpec
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import advance, start
from l2l.suite.meta.estimators.truncated import window_gradient
from l2l.suite.meta.meta_loss import loss_weights

SPEC = ParamSpec(
    {"w": torch.Size([3, 2]), "b": torch.Size([4]), "v": torch.Size([5])},
    {"w": "conv", "b": "fc", "v": "conv"},
)
ROUTED = {
    "name": "routed",
    "groups": {
        "fc": {"name": "lstm", "hidden": 4, "preprocessing": "none"},
        "conv": {"name": "lstm", "layers": 1, "hidden": 6},
    },
}
N = 3


def trained(spec: dict[str, Any] = ROUTED) -> Any:
    made = optimizers.make(spec)
    return made.with_weights(made.initial_weights(Rng(0, "phi")))


def gradients(step: int) -> Tensor:
    return Rng(1, "gradients", 0, step).normal(N, SPEC.size)


def test_each_group_is_moved_by_its_own_network() -> None:
    routed = trained()
    parts = routed.layout.split(routed.weights)
    state = routed.init(SPEC, N)
    # Flat order is w, b, v.
    places = {"conv": [*range(6), *range(10, 15)], "fc": [*range(6, 10)]}
    alone = {}
    for group, own in ROUTED["groups"].items():
        network = optimizers.make(own)
        weights = {name: parts[f"{group}.{name}"] for name in network.layout.parameters()}
        network = network.with_weights(network.layout.join(weights))
        size = torch.Size([len(places[group])])
        alone[group] = (network, network.init(ParamSpec({"x": size}), N))
    for step in range(4):
        update, state = moved(routed, gradients(step), state)
        for group, (network, own_state) in alone.items():
            own, own_state = moved(network, gradients(step)[:, places[group]], own_state)
            alone[group] = (network, own_state)
            torch.testing.assert_close(update[:, places[group]], own)


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ({"conv": "all"}, r"problem has a group 'all', 'groups' has not: .*'fc'|known are"),
        ({"w": "fc", "v": "fc"}, "'groups' has a group 'conv', the problem has not: known are fc"),
    ],
)
def test_groups_must_be_the_problems(groups: dict[str, str], told: str) -> None:
    own = dict.fromkeys(SPEC.shapes, "all") if "conv" in groups else {**SPEC.groups, **groups}
    with pytest.raises(ValueError, match=told):
        trained().init(ParamSpec(SPEC.shapes, own), N)


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ({}, "at least one group"),
        ({"a": {"name": "adam", "lr": 0.1}}, "group 'a' must be an lstm, not 'adam'"),
        ({"a": {"name": "lstm", "hiden": 3}}, "did you mean 'hidden'"),
    ],
)
def test_wrong_groups_are_refused(groups: dict[str, Any], told: str) -> None:
    with pytest.raises(Exception, match=told):
        optimizers.make({"name": "routed", "groups": groups})


def test_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    routed = trained()
    save_optimizer(tmp_path / "routed.safetensors", ROUTED, routed)
    back = load_optimizer(tmp_path / "routed.safetensors")
    assert torch.equal(back.phi, routed.phi)
    state, same = routed.init(SPEC, N), back.init(SPEC, N)
    assert torch.equal(moved(routed, gradients(0), state)[0], moved(back, gradients(0), same)[0])


def test_odd_routed_optimizers_mirror_their_updates() -> None:
    routed = trained()
    odd = routed.with_weights(routed.odd_part(routed.phi))
    update, _ = moved(odd, gradients(0), odd.init(SPEC, N))
    mirrored, _ = moved(odd, -gradients(0), odd.init(SPEC, N))
    torch.testing.assert_close(mirrored, -update)


def test_sampled_meta_gradient_is_unbiased_in_every_group() -> None:
    problem = problems.make({"name": "convnet", "dataset": "mnist", "layers": 1, "channels": 2})
    spec = {"name": "routed", "groups": {g: {"name": "lstm"} for g in ("conv", "fc")}}
    optimizer = trained(spec)
    objective = Objective(problem, [0], "train", 0)
    points = [start(objective, optimizer)]
    for _ in range(3):
        points.append(advance(objective, optimizer, points[-1]))

    def gradient(sample: int | None, draw: int) -> Tensor:
        weights = loss_weights(points, "loss")
        return window_gradient(optimizer, points, weights, Rng(draw, "sample"), sample=sample)

    whole = gradient(None, 0)
    mean = torch.stack([gradient(400, draw) for draw in range(60)]).mean(0)
    for part, estimate in zip(optimizer._split(whole), optimizer._split(mean), strict=True):
        assert (estimate - part).norm() < 0.2 * part.norm()
