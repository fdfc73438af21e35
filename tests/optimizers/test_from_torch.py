"""Optimizers of `torch.optim` and of others are, step by step, what PyTorch makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

from l2l.suite.core.registry import optimizers
from l2l.suite.core.types import Optimizer, Params, ParamSpec

SPEC = ParamSpec({"w": torch.Size([4, 3]), "b": torch.Size([3])})
FLAT = ParamSpec({"w": torch.Size([4, 3]), "u": torch.Size([2, 5])})
STEPS = 12
RATES = [0.03, 0.03, 0.003, 0.1]


def gradient(theta: Tensor) -> Tensor:
    """∇ of a function whose minimum is not at 0, with curvatures from 1 to 4."""
    scale = torch.linspace(1, 4, theta.shape[-1])
    return scale * (theta - 1) + torch.sin(3 * theta)


def starts(spec: ParamSpec) -> Tensor:
    return torch.randn(len(RATES), spec.size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def ours(
    optimizer: Optimizer, spec: ParamSpec, theta: Tensor, in_place: bool = True
) -> list[Tensor]:
    """Iterates [T + 1] of [n, P]."""
    state, path = optimizer.init(spec, len(theta)), [theta]
    method: Any = optimizer.update_in_place if in_place else optimizer.update
    for _ in range(STEPS):
        ahead = optimizer.lookahead(state)
        grads = gradient(theta if ahead is None else theta + ahead)
        update, state = method(grads, state, Params(theta, spec))
        theta = theta + update
        path.append(theta)
    return path


def by_hand(
    make: Callable[[list[Tensor]], torch.optim.Optimizer],
    spec: ParamSpec,
    theta: Tensor,
    scheduler: Any = None,
) -> list[Tensor]:
    """The same of one run [P], as a loop of PyTorch's."""
    parameters = [torch.nn.Parameter(each.clone()) for each in spec.unflatten(theta).values()]
    optimizer = make(parameters)
    schedule = scheduler and scheduler(optimizer)
    names = list(spec.shapes)

    def flat() -> Tensor:
        return spec.flatten(dict(zip(names, (p.detach() for p in parameters), strict=True)))

    def closure() -> float:
        grads = spec.unflatten(gradient(flat())).values()
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad.clone()
        return 0.0

    path = [flat()]
    for _ in range(STEPS):
        optimizer.step(closure)  # type: ignore[arg-type]
        if schedule:
            schedule.step()
        path.append(flat().clone())
    return path


def column(rates: list[float] = RATES) -> Tensor:
    return torch.tensor(rates).unsqueeze(1)


def made(cls: str, rate: Any = None, **hyperparameters: Any) -> Any:
    """With a column of rates, if no other is given."""
    spec = {"name": "torch", "optimizer": f"torch.optim.{cls}", "lr": 1.0, **hyperparameters}
    return optimizers.make(spec).at_rate(column() if rate is None else rate)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {"weight_decay": 0.1, "betas": [0.8, 0.95]}),
    ("AdamW", {"foreach": True}),
    ("AdamW", {"independent": "tensors", "foreach": True}),
    ("AdamW", {"independent": "runs"}),
    ("NAdam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("RAdam", {}),
    ("RMSprop", {"centered": True, "momentum": 0.5}),
    ("Adagrad", {}),
    ("Adadelta", {}),
    ("Adamax", {}),
    ("ASGD", {"t0": 3}),
    ("Rprop", {}),
    ("Adafactor", {}),
    ("Muon", {}),
    ("LBFGS", {"max_iter": 1}),
]


@pytest.mark.parametrize(("cls", "given"), CASES)
def test_rows_of_a_sweep_are_runs_of_pytorchs(cls: str, given: dict[str, Any]) -> None:
    spec = FLAT if cls == "Muon" else SPEC
    found = torch.stack(ours(made(cls, **given), spec, starts(spec)))
    own = {key: value for key, value in given.items() if key != "independent"}
    for row, rate in enumerate(RATES):
        theirs = by_hand(
            lambda p, rate=rate: getattr(torch.optim, cls)(p, lr=rate, **own),  # type: ignore[misc]
            spec,
            starts(spec)[row],
        )
        torch.testing.assert_close(found[:, row], torch.stack(theirs), rtol=2e-5, atol=2e-6)
    assert (found[-1] != found[0]).all()


@pytest.mark.parametrize("cls", ["AdamW", "Adafactor", "LBFGS"])
def test_update_leaves_the_state_as_it_was(cls: str) -> None:
    """So points can be kept and gone back to, though objects of PyTorch change in place."""
    given = {"max_iter": 1} if cls == "LBFGS" else {}
    optimizer = made(cls, **given)
    kept = torch.stack(ours(optimizer, SPEC, starts(SPEC), in_place=False))
    assert torch.equal(kept, torch.stack(ours(optimizer, SPEC, starts(SPEC))))
    params, state = Params(starts(SPEC), SPEC), optimizer.init(SPEC, len(RATES))
    _, first = optimizer.update(gradient(params.theta), state, params)
    once, second = optimizer.update(3 * params.theta, first, params)
    optimizer.update_in_place(-params.theta, second, params)
    again, _ = optimizer.update(3 * params.theta, first, params)
    assert torch.equal(again, once)


def test_schedule_of_the_suite_is_pytorchs() -> None:
    steps = {"schedule": "cosine", "schedule_steps": STEPS}
    optimizer = made("AdamW", weight_decay=0.1, **steps)
    found = torch.stack(ours(optimizer, SPEC, starts(SPEC)))
    for row, rate in enumerate(RATES):
        theirs = by_hand(
            lambda p, rate=rate: torch.optim.AdamW(p, lr=rate, weight_decay=0.1),  # type: ignore[misc]
            SPEC,
            starts(SPEC)[row],
            lambda optimizer: CosineAnnealingLR(optimizer, STEPS),
        )
        torch.testing.assert_close(found[:, row], torch.stack(theirs), rtol=2e-5, atol=2e-6)


def test_wrapped_states_move_in_place() -> None:
    """A copy of all objects for each step would take longer than the step."""
    optimizer = made("AdamW", schedule="cosine", schedule_steps=STEPS)
    params, state = Params(starts(SPEC), SPEC), optimizer.init(SPEC, len(RATES))
    _, following = optimizer.update_in_place(params.theta, state, params)
    assert following.inner is state.inner
    assert optimizers.make({"name": "adam", "lr": 1.0, "clip_norm": 1.0}).update_in_place is None


def test_a_state_goes_on_from_another_iterate() -> None:
    """As with `earlier_runs`: moments are kept, parameters are not."""
    optimizer = made("AdamW", 0.01, weight_decay=0.0)
    parameter = torch.nn.Parameter(torch.zeros(1, SPEC.size))
    theirs = torch.optim.AdamW([parameter], lr=0.01, weight_decay=0.0)
    state = optimizer.init(SPEC, 1)
    for theta in (torch.full((1, SPEC.size), 3.0), torch.full((1, SPEC.size), -2.0)):
        parameter.data.copy_(theta)
        parameter.grad = gradient(theta)
        theirs.step()
        with torch.no_grad():
            update, state = optimizer.update_in_place(gradient(theta), state, Params(theta, SPEC))
            torch.testing.assert_close(theta + update, parameter.detach())
