"""Whether an optimizer can be meta-trained as the phases ask, found before the work starts."""

from __future__ import annotations

import torch

from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.checkpoint import MAX_WEIGHTS
from l2l.suite.core.abilities import has
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import estimators, optimizers, problems
from l2l.suite.inner.objective import param_spec
from l2l.suite.meta.schedule import Phase, Training
from l2l.suite.plan.probe_optimizer import reduced


def check_trainable(training: Training, where: str) -> None:
    """That the optimizer has weights, and what the phases ask of it.

    Raises:
        SuiteError: it has none or too many, or cannot do what a phase asks.
    """
    name = training.optimizer["name"]
    # Before it is made, for what has no weights may lack a rate as well.
    if not issubclass(optimizers.cls(name), Learned):
        raise SuiteError(f"{where}.optimizer: {name!r} has no weights that could be trained")
    optimizer: Learned = optimizers.make(training.optimizer, f"{where}.optimizer")
    if optimizer.layout.size > MAX_WEIGHTS:
        raise SuiteError(
            f"{where}.optimizer: {name!r} has {optimizer.layout.size:.3g} weights, "
            f"but must have at most {MAX_WEIGHTS:,}"
        )
    for number, phase in enumerate(training.phases):
        _check_estimator(phase, training, optimizer, f"{where}.phases[{number}].estimator")
        if phase.ages is not None:
            _check_ages(phase, phase.ages, training, f"{where}.phases[{number}].ages")
        if phase.odd:
            if not has(optimizer, "odd_part"):
                kind = type(optimizer).__name__
                raise SuiteError(f"{where}.phases[{number}].odd: {kind} has no odd part: omit it")
            try:
                optimizer.odd_part(torch.zeros(optimizer.layout.size))
            except ValueError as error:
                raise SuiteError(f"{where}.phases[{number}].odd: {error}") from error


def _check_estimator(phase: Phase, training: Training, optimizer: Learned, where: str) -> None:
    estimator = estimators.make(phase.estimator, where)
    if estimator.window is not None and estimator.window > phase.shortest:
        raise SuiteError(
            f"{where}: window {estimator.window} must not be above horizon {phase.shortest}"
        )
    for spec in (training.problem, *phase.also):
        try:
            estimator.check(optimizer, reduced(param_spec(problems.make(spec, where))))
        except ValueError as error:
            raise SuiteError(f"{where}: {error}") from error


def _check_ages(phase: Phase, ages: int, training: Training, where: str) -> None:
    """That so many runs can be at different windows, and are there between two validations."""
    windows = len(estimators.make(phase.estimator).windows(phase.shortest))
    if windows < ages:
        raise SuiteError(
            f"{where} is {ages}, but must be at most {windows}, the windows of a run of "
            f"{phase.shortest} steps"
        )
    together = ages * phase.batch
    between = {"validate_every": training.validate_every, "the runs of the phase": phase.runs}
    for name, runs in between.items():
        if runs < together:
            raise SuiteError(
                f"{where}: {name} is {runs}, but must be at least {together} (ages × batch), "
                "because all runs end before a validation"
            )
