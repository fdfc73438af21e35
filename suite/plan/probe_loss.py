"""What is tried of a problem's loss: its value and gradient at θ_0, and the same side by side."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from l2l.problems.module import ModuleProblem
from l2l.suite.core.abilities import has
from l2l.suite.core.blame import blamed, method_of, refused, told
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.generators import seeded_generators
from l2l.suite.core.trees import a, close, copied, difference, name_of
from l2l.suite.core.types import ParamSpec, Problem
from l2l.suite.inner.objective import Objective

# What `loss` is given, by the method that draws it.
INPUTS = {"init": "params", "instance": "instance", "batch": "batch"}
# Relative error of rounding that a loss may have when it is computed once more in the same way.
REPEATED = 1e-5
HINT = "set `one_by_one = True` in the class, or make it equal to `loss` of one instance"

Draws = dict[str, Any]


def check_value(problem: Problem, draws: Draws) -> Tensor:
    """f(θ_0), a finite scalar; the draws must be as they were afterwards."""
    wrong = functools.partial(refused, problem, "loss")
    before = copied(draws)
    with blamed(f"{method_of(problem, 'loss')} raises"), seeded_generators(1):
        loss: Any = problem.loss(*draws.values())
    for method, name in INPUTS.items():
        place = difference(before[method], draws[method])
        if place is not None:
            raise wrong(
                f"changes {name}{place} in place: make a new tensor, such as x / 255 instead of "
                "x.div_(255)"
            )
    if not isinstance(loss, Tensor):
        raise wrong(
            f"gives {a(loss)}, but must give a tensor, made from params by PyTorch's operations "
            "without .item() or NumPy"
        )
    if loss.shape != ():
        raise wrong(
            f"gives a tensor of shape {list(loss.shape)}, but must give a scalar: take .sum() or "
            ".mean()"
        )
    if loss.dtype != torch.float32:
        raise wrong(
            f"gives {name_of(loss.dtype)}, but must give float32: convert what instance() and "
            "batch() give with .float()"
        )
    if not loss.isfinite():
        raise wrong(f"gives {loss.item()} at θ_0, but must be finite there")
    return loss


def check_gradient(problem: Problem, draws: Draws, layout: ParamSpec, loss: Tensor) -> Tensor:
    """∇f(θ_0) [P], finite, with the loss once more."""
    wrong = functools.partial(refused, problem, "loss")
    theta = layout.flatten(draws["init"]).detach().requires_grad_()
    with blamed(f"{method_of(problem, 'loss')} raises, when its gradient is wanted,"):
        with seeded_generators(2):
            again = problem.loss(layout.unflatten(theta), draws["instance"], draws["batch"])
        if not again.requires_grad:
            raise wrong(
                "gives a loss that does not depend on params: do without .item(), .detach(), "
                "torch.tensor() and NumPy"
            )
        (gradient,) = torch.autograd.grad(again, theta, allow_unused=True)
    if not close(again, loss, REPEATED):
        raise wrong(
            f"gives {loss.item():.6g} and then {again.item():.6g} with equal arguments: draw all "
            "randomness, such as dropout's, from the rng in batch() or instance()"
        )
    if gradient is None:
        raise wrong("gives a loss that does not depend on params")
    if not gradient.isfinite().all():
        raise wrong(
            "has a gradient that is not finite at θ_0, where the loss is: look for sqrt, norm, "
            "log or a division at 0"
        )
    return gradient


def check_descent(objective: Objective) -> None:
    """That the gradient at θ_0 is not 0 in all instances, on two minibatches each."""
    problem, theta = objective.problem, objective.start()
    if any(objective.value_and_grad(theta, step)[1].any() for step in range(2)):
        return
    hint = ""
    if getattr(type(problem), "module_loss", None) is ModuleProblem.module_loss:
        hint = ": for outputs that are not classes, define module_loss(self, module, batch)"
    raise refused(
        problem,
        "loss",
        "has gradient 0 at θ_0 for every instance that was tried; there is nothing to descend"
        + hint,
    )


@torch.no_grad()
def check_side_by_side(objective: Objective, second: Draws, loss: Tensor, gradient: Tensor) -> None:
    """That instances and copies side by side get what each gets alone.

    Args:
        objective: two copies of two instances.
        second: what is fixed of the second instance, and its first minibatch.
        loss: of the first instance at θ_0, alone.
        gradient: of the first instance at θ_0, alone [P].
    """
    problem = objective.problem
    faster = ("losses_and_grads", "losses")
    method = next((each for each in faster if has(problem, each)), "loss")
    theta = objective.start()
    theta[2:] += 0.01
    try:
        losses, gradients = objective.value_and_grad(theta, 0)
        values = objective.value(theta, 0)
    except SuiteError:
        raise
    except Exception as error:
        what = f"raises {told(error)}"
        if method == "loss":
            what = (
                f"cannot be vectorised by torch.func.vmap ({told(error)}): set "
                "`one_by_one = True` in the class, or write it without .item() and branches that "
                "depend on tensors"
            )
        raise refused(problem, method, what) from error
    row = theta[3].clone().requires_grad_()
    with torch.enable_grad():
        params = objective.spec.unflatten(row)
        last = problem.loss(params, second["instance"], second["batch"])
        (last_gradient,) = torch.autograd.grad(last, row)
    for number, alone, its_gradient in ((0, loss, gradient), (3, last.detach(), last_gradient)):
        what = f"side by side than one by one: {HINT}"
        if not (close(losses[number], alone) and close(values[number], alone)):
            raise refused(problem, method, f"gives other losses {what}")
        if not close(gradients[number], its_gradient):
            raise refused(problem, method, f"gives other gradients {what}")
