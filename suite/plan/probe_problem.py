"""What is tried of a problem: the draws of two instances, and its loss at θ_0."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from l2l.suite.core.abilities import has
from l2l.suite.core.blame import blamed, class_at, method_of, refused
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.generators import seeded_generators
from l2l.suite.core.plugins import twin
from l2l.suite.core.seeds import Rng
from l2l.suite.core.trees import a, at, close, difference, leaves, name_of, unlike
from l2l.suite.core.types import ParamSpec, Problem
from l2l.suite.inner.objective import Objective
from l2l.suite.plan.probe_loss import (
    INPUTS,
    REPEATED,
    Draws,
    check_descent,
    check_gradient,
    check_side_by_side,
    check_value,
)

SPLIT, SEED = "train", 0
# The methods without which there is no problem, and what they give.
NEEDED = {"init": "θ_0, a dict of tensors", "loss": "f(θ), a scalar tensor"}


def check_problem(problem: Problem) -> ParamSpec:
    """Find the mistakes that make a run fail late or end in wrong numbers.

    Returns:
        The layout of its parameters.

    Raises:
        SuiteError: in one sentence, with the method and its line, and what to do.
        DataMissing: what it reads is not there.
    """
    for method in (*INPUTS, "loss"):
        _check_method(problem, method)
    with torch.no_grad():
        draws = _draws(problem, 0)
        _check_kinds(problem, draws)
        for method, again in _draws(problem, 0, generators=2).items():
            _check_repeat(problem, method, draws[method], again)
        _check_alike(problem, draws)
        layout = _layout(problem, draws["init"])
        loss = check_value(problem, draws)
        _check_held_out(problem, draws)
    gradient = check_gradient(problem, draws, layout, loss)
    _check_import(problem, draws, loss)
    _check_batches(problem)
    by_hand = has(problem, "losses_and_grads")
    if by_hand and not has(problem, "losses") and not problem.one_by_one:
        what = "is not used without `losses`: add it, or set `one_by_one = True` in the class"
        raise refused(problem, "losses_and_grads", what)
    if not problem.one_by_one or by_hand:
        objective = Objective(problem, range(2), SPLIT, SEED, copies=2)
        check_side_by_side(objective, _draws(problem, 1), loss, gradient)
    if not gradient.any():
        # Maybe by chance: others are tried as well.
        check_descent(Objective(problem, range(4), SPLIT, SEED))
    return layout


def _check_method(problem: Problem, method: str) -> None:
    """That it is there, if it must be, and takes what it is given."""
    cls, base = type(problem), getattr(Problem, method)
    asked = tuple(inspect.signature(base).parameters)
    must = f"{method}({', '.join(asked)})"
    if getattr(cls, method) is base:
        if method in NEEDED:
            raise SuiteError(f"{cls.__name__} ({class_at(cls)}) needs {must}: {NEEDED[method]}")
        return
    try:
        signature = inspect.signature(getattr(problem, method))
    except ValueError:  # a function in C need not say what it takes
        return
    try:
        signature.bind(*asked[1:])
    except TypeError:
        has_it = f"{method}({', '.join(['self', *signature.parameters])})"
        raise SuiteError(
            f"{cls.__name__} ({class_at(cls)}) has {has_it}, but must have {must}"
        ) from None


def _draws(problem: Problem, instance: int, step: int = 0, generators: int = 1) -> Draws:
    """θ_0, what is fixed and a minibatch, while the global generators have this seed."""
    found = {}
    for method in INPUTS:
        with blamed(f"{method_of(problem, method)} raises"), seeded_generators(generators):
            rng = Rng(SEED, f"{SPLIT}/{method}", instance, step if method == "batch" else 0)
            found[method] = getattr(problem, method)(rng)
    return found


def _check_kinds(problem: Problem, draws: Draws) -> None:
    """That the draws are tensors, and parameters named ones of float32."""
    params = draws["init"]
    for method in ("init", "instance"):
        if not isinstance(draws[method], dict):
            raise refused(
                problem, method, f"gives {a(draws[method])}, but must give a dict of named tensors"
            )
        empty = [name for name, value in draws[method].items() if value is None]
        if empty:
            raise refused(problem, method, f"gives None as {empty[0]!r}: leave it out")
    for method, tree in draws.items():
        for place, leaf in leaves(tree).items():
            if not isinstance(leaf, Tensor):
                raise refused(problem, method, f"gives {a(leaf)}{at(place)}, but must give tensors")
    for name, value in params.items():
        if not isinstance(value, Tensor) or not isinstance(name, str):
            raise refused(
                problem, "init", f"gives {a(value)} as {name!r}, but must give named tensors"
            )
        if value.dtype != torch.float32:
            raise refused(
                problem,
                "init",
                f"gives {name!r} in {name_of(value.dtype)}, but parameters must be float32",
            )
    if not any(value.numel() for value in params.values()):
        raise refused(problem, "init", "gives no parameters")


def _check_repeat(problem: Problem, method: str, value: Any, again: Any) -> None:
    place = difference(value, again)
    if place is not None:
        raise refused(
            problem,
            method,
            f"gives another value{at(place)} when it is called again with an equal rng: draw all "
            "randomness from the rng",
        )


def _check_alike(problem: Problem, draws: Draws) -> None:
    """That instances and steps can be put side by side."""
    for method, other in _draws(problem, 1, step=1).items():
        kinds = unlike(draws[method], other)
        if kinds is not None:
            raise refused(
                problem,
                method,
                f"gives {kinds} for two instances, but must give the same names, shapes and types "
                "for all",
            )


def _check_batches(problem: Problem) -> None:
    """That minibatches drawn at once are those drawn one by one."""
    if not has(problem, "batches"):
        return

    def rngs() -> list[Rng]:
        return [Rng(SEED, f"{SPLIT}/batch", instance) for instance in (0, 1)]

    with blamed(f"{method_of(problem, 'batches')} raises"), seeded_generators():
        found = problem.batches(rngs(), torch.device("cpu"))
        own = [tree_map(lambda x, row=row: x[row], found) for row in (0, 1)]
    for at_once, rng in zip(own, rngs(), strict=True):
        place = difference(at_once, problem.batch(rng))
        if place is not None:
            raise refused(
                problem, "batches", f"gives other minibatches{at(place)} than batch() of each rng"
            )


def _check_held_out(problem: Problem, draws: Draws) -> None:
    """That a problem with held-out data has a loss of them, which repeats."""
    if not has(problem, "held_out"):
        return
    found = []
    for generators in (1, 2):
        with blamed(f"{method_of(problem, 'held_out')} raises"), seeded_generators(generators):
            found.append(problem.held_out(Rng(SEED, f"{SPLIT}/instance", 0)))
    _check_repeat(problem, "held_out", *found)
    try:
        check_value(problem, {**draws, "batch": found[0]})
    except SuiteError as error:
        raise SuiteError(f"with what held_out() gives instead of a batch, {error}") from error


def _layout(problem: Problem, params: dict[str, Tensor]) -> ParamSpec:
    groups = {}
    for name in params:
        with blamed(f"{method_of(problem, 'group')} raises"):
            groups[name] = problem.group(name)
        if not isinstance(groups[name], str):
            raise refused(
                problem, "group", f"gives {a(groups[name])} for {name!r}, but must give text"
            )
    return ParamSpec({name: value.shape for name, value in params.items()}, groups)


@torch.no_grad()
def _check_import(problem: Problem, draws: Draws, loss: Tensor) -> None:
    """That nothing depends on what a plugin drew from global generators and kept."""
    cls = twin(type(problem))
    if cls is None:
        return
    fields = [field.name for field in dataclasses.fields(problem) if field.init]  # type: ignore[arg-type]
    other: Problem = cls(**{name: getattr(problem, name) for name in fields})
    advice = (
        "that depends on random numbers drawn while the file was imported, or kept from a call "
        "before, so the experiment's seed does not decide it: draw it from the rng in init() or "
        "instance()"
    )
    for method, drawn in _draws(other, 0, generators=2).items():
        place = difference(draws[method], drawn)
        if place is not None:
            raise refused(problem, method, f"gives a value{at(place)} {advice}")
    with seeded_generators(2):
        other_loss = other.loss(*draws.values())
    if not close(other_loss, loss, REPEATED):
        raise refused(problem, "loss", f"gives a loss {advice}")
