"""Whether an optimizer can be meta-trained as the phases ask, found before the work starts."""

from __future__ import annotations

import torch
from torch import Tensor

from optimizers.learned.base import Learned
from optimizers.learned.checkpoint import MAX_WEIGHTS
from suite.abilities import has
from suite.config import Training
from suite.errors import SuiteError
from suite.objective import param_spec
from suite.probe_optimizer import reduced
from suite.registry import optimizers, problems
from suite.seeds import Rng
from suite.trees import a, kind_of
from suite.types import Problem


def check_trainable(training: Training, where: str) -> None:
    """That the optimizer has weights, and what the phases ask of it.

    Raises:
        SuiteError: it has none or too many, or cannot do what a phase asks.
    """
    optimizer = optimizers.make(training.optimizer, f"{where}.optimizer")
    name = training.optimizer["name"]
    if not isinstance(optimizer, Learned):
        raise SuiteError(f"{where}.optimizer: {name!r} has no weights that could be trained")
    if optimizer.layout.size > MAX_WEIGHTS:
        raise SuiteError(
            f"{where}.optimizer: {name!r} has {optimizer.layout.size:.3g} weights, "
            f"but must have at most {MAX_WEIGHTS:,}"
        )
    for number, phase in enumerate(training.phases):
        if phase.sample is not None:
            reason = _why_no_sample(optimizer, problems.make(training.problem, where))
            if reason:
                raise SuiteError(f"{where}.phases[{number}].sample: {reason}: omit it")
        if phase.odd:
            if not has(optimizer, "odd_part"):
                kind = type(optimizer).__name__
                raise SuiteError(f"{where}.phases[{number}].odd: {kind} has no odd part: omit it")
            try:
                optimizer.odd_part(torch.zeros(optimizer.layout.size))
            except ValueError as error:
                raise SuiteError(f"{where}.phases[{number}].odd: {error}") from error


def _why_no_sample(optimizer: Learned, problem: Problem) -> str:
    """A clause that says why no coordinates can stand for others; empty if some can."""
    if not optimizer.coordinatewise:
        return f"the coordinates of {type(optimizer).__name__} meet, so none can stand for others"
    layout = reduced(param_spec(problem))
    # Two runs, for coordinates are those of all runs in a row.
    grads = torch.zeros(1, 2, layout.size)
    made = optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")))
    for network, own_grads, state, *_ in made.networks(grads, made.init(layout, 2), grads):
        coordinates = own_grads[0].numel()
        if not isinstance(state, Tensor) or state.shape[-1:] != (coordinates,):
            found = kind_of(state) if isinstance(state, Tensor) else a(state)
            return (
                f"the state of {type(network).__name__} is {found}, but must be one tensor whose "
                "last dimension is n·P, the coordinates of all runs"
            )
    return ""
