"""What is tried of a problem: the draws of two instances, and its loss at θ_0."""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn

import torch
from torch import Tensor

from suite.blame import blamed, method_of, told
from suite.errors import SuiteError
from suite.generators import seeded_generators
from suite.objective import Objective, holds_for
from suite.plugins import twin
from suite.seeds import Rng
from suite.trees import a, close, copied, difference, leaves, name_of, unlike
from suite.types import ParamSpec, Problem

SPLIT, SEED = "train", 0
# What `loss` is given, by the method that draws it.
INPUTS = {"init": "params", "instance": "instance", "batch": "batch"}
# Relative error of rounding that a loss may have when it is computed once more in the same way.
REPEATED = 1e-5
HINT = "set `one_by_one = True` in the class, or make it equal to `loss` of one instance"

Draws = dict[str, Any]


def check_problem(problem: Problem) -> ParamSpec:
    """Find the mistakes that make a run fail late or end in wrong numbers.

    Returns:
        The layout of its parameters.

    Raises:
        SuiteError: in one sentence, with the method and its line, and what to do.
        DataMissing: what it reads is not there.
    """
    with torch.no_grad():
        draws = _draws(problem, 0)
        _check_kinds(problem, draws)
        _check_repeat(problem, draws)
        _check_alike(problem, draws)
        layout = _layout(problem, draws["init"])
        loss = _check_value(problem, draws)
    gradient = _check_gradient(problem, draws, layout, loss)
    _check_import(problem, draws, loss)
    if not problem.one_by_one:
        _check_side_by_side(problem, draws, layout, loss, gradient)
    return layout


def _draws(problem: Problem, instance: int, step: int = 0, generators: int = 1) -> Draws:
    """θ_0, what is fixed and a minibatch, while the global generators have this seed."""
    found = {}
    for method in INPUTS:
        with blamed(f"{_method(problem, method)} raises"), seeded_generators(generators):
            rng = Rng(SEED, f"{SPLIT}/{method}", instance, step if method == "batch" else 0)
            found[method] = getattr(problem, method)(rng)
    return found


def _check_kinds(problem: Problem, draws: Draws) -> None:
    """That the draws are tensors, and parameters named ones of float32."""
    params = draws["init"]
    for method in ("init", "instance"):
        if not isinstance(draws[method], dict):
            _fail(
                problem, method, f"gives {a(draws[method])}, but must give a dict of named tensors"
            )
    if not params:
        _fail(problem, "init", "gives no parameters")
    for method, tree in draws.items():
        for place, leaf in leaves(tree).items():
            if not isinstance(leaf, Tensor):
                _fail(problem, method, f"gives {a(leaf)} at {place}, but must give tensors")
    for name, value in params.items():
        if not isinstance(value, Tensor) or not isinstance(name, str):
            _fail(problem, "init", f"gives {a(value)} as {name!r}, but must give named tensors")
        if value.dtype != torch.float32:
            _fail(
                problem,
                "init",
                f"gives {name!r} in {name_of(value.dtype)}, but parameters must be float32",
            )


def _check_repeat(problem: Problem, draws: Draws) -> None:
    for method, again in _draws(problem, 0, generators=2).items():
        place = difference(draws[method], again)
        if place is not None:
            _fail(
                problem,
                method,
                f"gives another {place} when it is called again with an equal rng: draw all "
                "randomness from the rng",
            )


def _check_alike(problem: Problem, draws: Draws) -> None:
    """That instances and steps can be put side by side."""
    for method, other in _draws(problem, 1, step=1).items():
        kinds = unlike(draws[method], other)
        if kinds is not None:
            _fail(
                problem,
                method,
                f"gives {kinds} for two instances, but must give the same names, shapes and types "
                "for all",
            )


def _layout(problem: Problem, params: dict[str, Tensor]) -> ParamSpec:
    groups = {}
    for name in params:
        with blamed(f"{_method(problem, 'group')} raises"):
            groups[name] = problem.group(name)
        if not isinstance(groups[name], str):
            _fail(problem, "group", f"gives {a(groups[name])} for {name!r}, but must give text")
    return ParamSpec({name: value.shape for name, value in params.items()}, groups)


def _check_value(problem: Problem, draws: Draws) -> Tensor:
    """f(θ_0), a finite scalar; the draws must be as they were afterwards."""
    before = copied(draws)
    with blamed(f"{_method(problem, 'loss')} raises"), seeded_generators(1):
        loss: Any = problem.loss(*draws.values())
    for method, name in INPUTS.items():
        place = difference(before[method], draws[method])
        if place is not None:
            _fail(
                problem,
                "loss",
                f"changes {name}{place} in place: make a new tensor, such as x / 255 instead of "
                "x.div_(255)",
            )
    if not isinstance(loss, Tensor):
        _fail(
            problem,
            "loss",
            f"gives {a(loss)}, but must give a tensor, made from params by PyTorch's operations "
            "without .item() or NumPy",
        )
    if loss.shape != ():
        _fail(
            problem,
            "loss",
            f"gives a tensor of shape {list(loss.shape)}, but must give a scalar: take .sum() or "
            ".mean()",
        )
    if loss.dtype != torch.float32:
        _fail(
            problem,
            "loss",
            f"gives {name_of(loss.dtype)}, but must give float32: convert what instance() and "
            "batch() give with .float()",
        )
    if not loss.isfinite():
        _fail(problem, "loss", f"gives {loss.item()} at θ_0, but must be finite there")
    return loss


@torch.no_grad()
def _check_import(problem: Problem, draws: Draws, loss: Tensor) -> None:
    """That nothing depends on what a plugin drew from global generators when it was imported."""
    cls = twin(type(problem))
    if cls is None:
        return
    fields = [field.name for field in dataclasses.fields(problem) if field.init]  # type: ignore[arg-type]
    other: Problem = cls(**{name: getattr(problem, name) for name in fields})
    advice = (
        "that depends on random numbers drawn while the file was imported, so the experiment's "
        "seed does not decide it: draw it from the rng in init() or instance()"
    )
    for method, drawn in _draws(other, 0).items():
        place = difference(draws[method], drawn)
        if place is not None:
            _fail(problem, method, f"gives a {place} {advice}")
    with seeded_generators(1):
        other_loss = other.loss(*draws.values())
    if not close(other_loss, loss, REPEATED):
        _fail(problem, "loss", f"gives a loss {advice}")


def _check_gradient(problem: Problem, draws: Draws, layout: ParamSpec, loss: Tensor) -> Tensor:
    """∇f(θ_0) [P], finite, with the loss once more."""
    theta = layout.flatten(draws["init"]).detach().requires_grad_()
    with blamed(f"{_method(problem, 'loss')} raises, when its gradient is wanted,"):
        with seeded_generators(2):
            again = problem.loss(layout.unflatten(theta), draws["instance"], draws["batch"])
        if not again.requires_grad:
            _fail(
                problem,
                "loss",
                "gives a loss that does not depend on params: do without .item(), .detach(), "
                "torch.tensor() and NumPy",
            )
        (gradient,) = torch.autograd.grad(again, theta, allow_unused=True)
    if not close(again, loss, REPEATED):
        _fail(
            problem,
            "loss",
            f"gives {loss.item():.6g} and then {again.item():.6g} with equal arguments: draw all "
            "randomness, such as dropout's, from the rng in batch() or instance()",
        )
    if gradient is None:
        _fail(problem, "loss", "gives a loss that does not depend on params")
    if not gradient.isfinite().all():
        _fail(
            problem,
            "loss",
            "has a gradient that is not finite at θ_0, where the loss is: look for sqrt, norm, "
            "log or a division at 0",
        )
    return gradient


@torch.no_grad()
def _check_side_by_side(
    problem: Problem, draws: Draws, layout: ParamSpec, loss: Tensor, gradient: Tensor
) -> None:
    """That instances and copies side by side get what each gets alone."""
    method = "loss"
    if holds_for(problem, "losses", "loss"):
        by_hand = holds_for(problem, "losses_and_grads", "losses")
        method = "losses_and_grads" if by_hand else "losses"
    objective = Objective(problem, range(2), SPLIT, SEED, copies=2)
    theta = objective.start()
    theta[2:] += 0.01
    try:
        losses, gradients = objective.value_and_grad(theta, 0)
        values = objective.value(theta, 0)
    except SuiteError:
        raise
    except Exception as error:
        if method != "loss":
            _fail(problem, method, f"raises {told(error)}")
        _fail(
            problem,
            method,
            f"cannot be vectorised by torch.func.vmap ({told(error)}): set `one_by_one = True` in "
            "the class, or write it without .item() and branches that depend on tensors",
        )
    second = _draws(problem, 1)
    row = theta[3].clone().requires_grad_()
    with torch.enable_grad():
        last = problem.loss(layout.unflatten(row), second["instance"], second["batch"])
        (last_gradient,) = torch.autograd.grad(last, row)
    for number, alone, its_gradient in ((0, loss, gradient), (3, last.detach(), last_gradient)):
        if not (close(losses[number], alone) and close(values[number], alone)):
            _fail(problem, method, f"gives other losses side by side than one by one: {HINT}")
        if not close(gradients[number], its_gradient):
            _fail(problem, method, f"gives other gradients side by side than one by one: {HINT}")


def _method(problem: Problem, name: str) -> str:
    return method_of(type(problem), name)


def _fail(problem: Problem, method: str, what: str) -> NoReturn:
    raise SuiteError(f"{_method(problem, method)} {what}")
