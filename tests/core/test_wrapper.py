"""Clipping, weight decay, schedules of the rate and a kept state, beside PyTorch's and formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
)

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Optimizer, Params, ParamSpec, Problem, Tensors
from l2l.suite.core.wrapper import Options
from l2l.suite.inner.loop import descend
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point, advance, start
from l2l.suite.plan.plan import make_plan
from l2l.suite.plan.profiles import build, read_experiment
from l2l.suite.run.folder import open_results
from l2l.suite.run.store import run_cell

P, STEPS = 6, 12
SPEC = ParamSpec({"theta": torch.Size([P])})


def gradients() -> Tensor:
    return 3 * Rng(0, "gradients").normal(STEPS, P)


def thetas(optimizer: Any) -> Tensor:
    """Iterates θ_0 … θ_T [T + 1, P] on given gradients."""
    theta, state = torch.ones(1, P), optimizer.init(SPEC, 1)
    path = [theta]
    for grads in gradients():
        update, state = optimizer.update(grads.unsqueeze(0), state, Params(theta, SPEC))
        theta = theta + update
        path.append(theta)
    return torch.cat(path)


def torchs(kind: Any, schedule: Any = None, **options: Any) -> Tensor:
    """The same by an optimizer and a schedule of PyTorch."""
    parameter = torch.nn.Parameter(torch.ones(P))
    optimizer = kind([parameter], **options)
    scheduler: LRScheduler | None = schedule and schedule(optimizer)
    path = [parameter.detach().clone()]
    for grads in gradients():
        parameter.grad = grads.clone()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        path.append(parameter.detach().clone())
    return torch.stack(path)


def falling(name: str, optimizer: Any, steps: int) -> LRScheduler:
    if name == "cosine":
        return CosineAnnealingLR(optimizer, steps)
    if name == "linear":
        return LinearLR(optimizer, 1.0, 0.0, steps)
    return ConstantLR(optimizer, 1.0, 0)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 4])
def test_adam_with_a_schedule_is_pytorchs(name: str, warmup: int) -> None:
    def schedule(optimizer: Any) -> LRScheduler:
        if not warmup:
            return falling(name, optimizer, STEPS)
        parts = [LinearLR(optimizer, 1 / warmup, 1.0, warmup - 1)]
        parts.append(falling(name, optimizer, STEPS - warmup))  # type: ignore[arg-type]
        return SequentialLR(optimizer, parts, [warmup])

    spec = {"name": "adam", "lr": 0.1, "schedule": name, "warmup": warmup}
    own = thetas(optimizers.make({**spec, "schedule_steps": STEPS}))
    torch.testing.assert_close(own, torchs(torch.optim.Adam, schedule, lr=0.1))
    plain = thetas(optimizers.make({"name": "adam", "lr": 0.1}))
    assert torch.allclose(own, plain) == (name == "constant" and not warmup)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_held_schedule_falls_later(name: str) -> None:
    def schedule(optimizer: Any) -> LRScheduler:
        parts = [LinearLR(optimizer, 0.5, 1.0, 1), ConstantLR(optimizer, 1.0, 0)]
        parts.append(falling(name, optimizer, 5))  # type: ignore[arg-type]
        return SequentialLR(optimizer, parts, [2, 7])  # type: ignore[arg-type]

    spec = {"name": "adam", "lr": 0.1, "schedule": name, "schedule_steps": STEPS}
    own = thetas(optimizers.make({**spec, "warmup": 2, "hold": 0.5}))
    torch.testing.assert_close(own, torchs(torch.optim.Adam, schedule, lr=0.1))


def test_weight_decay_is_adamws() -> None:
    own = thetas(optimizers.make({"name": "adam", "lr": 0.1, "weight_decay": 0.5}))
    torch.testing.assert_close(own, torchs(torch.optim.AdamW, lr=0.1, weight_decay=0.5))

    def schedule(optimizer: Any) -> LRScheduler:
        return CosineAnnealingLR(optimizer, STEPS)

    spec = {"name": "adam", "lr": 0.1, "weight_decay": 0.5, "schedule": "cosine"}
    own = thetas(optimizers.make({**spec, "schedule_steps": STEPS}))
    torch.testing.assert_close(own, torchs(torch.optim.AdamW, schedule, lr=0.1, weight_decay=0.5))


def test_velocity_keeps_the_rates_of_its_steps() -> None:
    """NAG's u ← μu − η_t∇; a scaled update would scale old steps, too."""
    spec = {"name": "nag", "lr": 0.1, "schedule": "linear", "schedule_steps": STEPS}
    own = thetas(optimizers.make(spec))
    theta, velocity = torch.ones(P), torch.zeros(P)
    for step, grads in enumerate(gradients()):
        velocity = 0.9 * velocity - 0.1 * (1 - step / STEPS) * grads
        theta = theta + velocity
        torch.testing.assert_close(own[step + 1], theta)


def test_the_look_ahead_is_the_wrapped_optimizers() -> None:
    optimizer = optimizers.make({"name": "nag", "lr": 0.1, "clip_norm": 1.0})
    grads = torch.ones(1, P)
    _, state = optimizer.update(grads, optimizer.init(SPEC, 1), Params(grads, SPEC))
    torch.testing.assert_close(optimizer.lookahead(state), -0.09 * grads / P**0.5)


def test_clipping_cuts_the_norm_of_long_gradients_only() -> None:
    grads = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    spec = ParamSpec({"theta": torch.Size([2])})
    optimizer = optimizers.make({"name": "sgd", "lr": 0.1, "clip_norm": 1.0})
    update, _ = optimizer.update(grads, optimizer.init(spec, 3), Params(grads, spec))
    assert torch.allclose(update, -0.1 * torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


def test_clipping_cuts_gradients_whose_squares_overflow() -> None:
    spec = ParamSpec({"theta": torch.Size([2])})
    grads = torch.tensor([[3e19, 4e19], [3e37, -3e37]])
    optimizer = optimizers.make({"name": "sgd", "lr": 0.1, "clip_norm": 1.0})
    update, _ = optimizer.update(grads, optimizer.init(spec, 2), Params(grads, spec))
    half = 0.5**0.5
    torch.testing.assert_close(update, -0.1 * torch.tensor([[0.6, 0.8], [half, -half]]))


def test_a_column_of_rates_is_a_sweep_of_schedules() -> None:
    options = {"weight_decay": 0.1, "schedule": "cosine", "schedule_steps": STEPS}
    base = optimizers.make({"name": "nag", "lr": 1.0, **options})
    rates = (0.01, 0.2)
    alone = [thetas(base.at_rate(rate))[-1] for rate in rates]
    theta, column = torch.ones(2, P), base.at_rate(torch.tensor(rates).unsqueeze(1))
    state = column.init(SPEC, 2)
    for grads in gradients():
        update, state = column.update(grads.expand(2, -1), state, Params(theta, SPEC))
        theta = theta + update
    torch.testing.assert_close(theta, torch.stack(alone))


def test_the_rate_stays_at_its_end_after_the_last_step() -> None:
    assert Options(schedule="cosine", schedule_steps=4).factor(9) == 0
    assert Options(schedule="linear", schedule_steps=4, warmup=4).factor(3) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "lstm", "clip_norm": 1.0}, "no learning rate that is tuned, so omit clip_norm"),
        ({"name": "lstm", "weight_decay": 0.0}, "is tuned, so omit weight_decay"),
        ({"name": "sgd", "lr": 1, "warmup": 3}, "belong to a 'schedule': add one"),
        ({"name": "sgd", "lr": 1, "schedule": "linear"}, "needs 'schedule_steps'"),
        ({"name": "sgd", "lr": 1, "schedule": "cos"}, "must be 'constant' or 'linear' or 'cosine'"),
        ({"name": "sgd", "lr": 1, "hold": 0.5}, "belongs to a 'schedule' that falls"),
        ({"name": "sgd", "lr": 1, "clip_norm": 0}, "clip_norm is 0, but must be a number, above 0"),
        ({"name": "sgd", "lr": 1, "weight_dekay": 0.1}, "did you mean 'weight_decay'"),
        (
            {"name": "sgd", "lr": 1, "schedule": "linear", "warmup": 9, "schedule_steps": 8},
            "warmup 9 must not be above the 8 steps of the schedule",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SuiteError, match="configuration: optimizer") as caught:
        optimizers.make(options)
    assert told in str(caught.value)


EXPERIMENT = """
title: Schedules
sizes: {test_instances: 2, tuning_instances: 2}
panels:
  p:
    title: P
    problem: {name: quadratic}
    steps: 20
    tuning_steps: 10
    optimizers:
      cosine: {name: adam, schedule: cosine, warmup: 2, weight_decay: 0.01}
      ADAM: {name: adam}
"""


def test_a_schedule_lasts_as_long_as_the_run(tmp_path: Path) -> None:
    def planned(text: str) -> dict[str, Any]:
        (tmp_path / "e.yaml").write_text(text)
        plan = make_plan(build([read_experiment(tmp_path / "e.yaml")], "paper", []))
        return {curve.optimizer: curve.cell for curve in plan.curves}

    cells = planned(EXPERIMENT)
    cosine, adam = cells["cosine"], cells["ADAM"]
    assert cosine.config["optimizer"]["spec"]["schedule_steps"] == 20
    assert cosine.inputs[0].config["optimizer"]["spec"]["schedule_steps"] == 10
    assert set(cosine.config["optimizer"]) - set(adam.config["optimizer"]) == {"wrapper"}
    assert "schedule" not in adam.config["optimizer"]["spec"]
    longer = planned(EXPERIMENT.replace("steps: 20", "steps: 30"))
    assert longer["cosine"].inputs[0].key == cosine.inputs[0].key
    assert longer["cosine"].key != cosine.key
    given = planned(EXPERIMENT.replace("warmup: 2", "schedule_steps: 5"))["cosine"]
    assert given.config["optimizer"]["spec"]["schedule_steps"] == 5
    with pytest.raises(SuiteError, match="warmup 12 must not be above the 10 steps"):
        planned(EXPERIMENT.replace("warmup: 2", "warmup: 12"))

    open_results(tmp_path)
    for cell in (*cosine.inputs, cosine):
        assert run_cell(cell, tmp_path, "cpu").error == ""


class Noted(Problem):
    """½‖θ − c‖² around a centre of each instance's own."""

    def instance(self, rng: Rng) -> Tensors:
        return {"centre": rng.normal(P)}

    def init(self, rng: Rng) -> Tensors:
        return {"theta": rng.normal(P)}

    def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
        return 0.5 * (params["theta"] - instance["centre"]).square().sum()


@pytest.mark.parametrize("earlier", [1, 2])
def test_a_run_begins_with_the_state_that_earlier_runs_left(earlier: int) -> None:
    plain = optimizers.make({"name": "adam", "lr": 0.1})
    state = None
    for number in range(earlier):
        before = Objective(Noted(), [4, 7], f"test/earlier-{number}", 3)
        state = _last(before, plain, state).state
    by_hand = _last(Objective(Noted(), [4, 7], "test", 3), plain, state)

    kept = optimizers.make({"name": "adam", "lr": 0.1, "earlier_runs": earlier})
    *_, found = descend(Objective(Noted(), [4, 7], "test", 3), kept, STEPS)
    assert torch.equal(found.theta, by_hand.theta)
    *_, fresh = descend(Objective(Noted(), [4, 7], "test", 3), plain, STEPS)
    assert not torch.equal(found.theta, fresh.theta)


def test_earlier_runs_would_use_up_a_schedule() -> None:
    with pytest.raises(SuiteError, match=r"'earlier_runs' would use up the 'schedule'"):
        optimizers.make(
            {
                "name": "adam",
                "lr": 0.1,
                "schedule": "linear",
                "schedule_steps": 9,
                "earlier_runs": 1,
            }
        )


def _last(objective: Objective, optimizer: Optimizer, state: Any) -> Point:
    point = start(objective, optimizer, state)
    for _ in range(STEPS):
        point = advance(objective, optimizer, point)
    return point


@pytest.mark.parametrize(
    ("spec", "alone"),
    [
        ({"name": "adam", "schedule": "cosine"}, True),
        ({"name": "adam", "clip_norm": 1.0}, False),
        ({"name": "muon", "schedule": "cosine"}, False),
    ],
)
def test_coordinates_meet_where_those_of_the_wrapped_optimizer_do(
    spec: dict[str, Any], alone: bool
) -> None:
    spec = {"lr": 0.1, "schedule_steps": 10, **spec} if "schedule" in spec else {"lr": 0.1, **spec}
    assert optimizers.make(spec).coordinatewise is alone
