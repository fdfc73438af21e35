"""Meta-training: one update of φ a window of each run (sections 2 and 3)."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from l2l.optimizers.learned.checkpoint import save_optimizer
from l2l.suite.core.registry import estimators, optimizers, problems
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Problem
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.places import OPTIMIZER, TRAINING_LOG
from l2l.suite.files.progress import Progress, silent
from l2l.suite.inner.evaluate import evaluate, final_steps
from l2l.suite.inner.objective import Objective
from l2l.suite.meta.ages import in_turns
from l2l.suite.meta.imitation import Imitating
from l2l.suite.meta.meta_loss import meta_loss_of
from l2l.suite.meta.meta_optimizers import meta_optimizer
from l2l.suite.meta.schedule import Phase, Schedule, as_tables
from l2l.suite.meta.state import TrainingState, load_state, save_state

# In the header of an optimizer's file, why training left φ as it was.
UNTRAINED = "untrained"

log = logging.getLogger("suite")

# Norms of the meta-gradient whose median is the clipping threshold.
NORMS = 200


def metatrain(
    problem: Problem,
    optimizer_spec: Mapping[str, Any],
    schedule: Schedule,
    seed: int,
    folder: Path,
    device: str | torch.device = "cpu",
    progress: Progress = silent,
    until: int | None = None,
    about: Mapping[str, Any] = MappingProxyType({}),
    initial: Tensor | None = None,
) -> None:
    """Train φ with one seed; leaves `optimizer.safetensors` (the best φ) and `log.csv` in `folder`.

    It begins with the φ `initial`, or with random weights. Where that φ stays the best, the log
    says so, and if it was random, the file's header, too. A phase may end before all of its runs,
    and training before its last phase (`Phase.until_worse`).

    A run that was interrupted at any point goes on from its last validation, and ends with the
    same bits as one that was not. With `until`, training ends with the first validation after so
    many runs, and a later call goes on from there. The file's header has what `about` says, too.

    Raises:
        SuiteError: what `folder` holds cannot be read, or nothing can be written there.
    """
    untrained = optimizers.make(optimizer_spec)
    state = load_state(folder, device)
    if state is None:
        drawn = untrained.initial_weights(Rng(seed, "phi")) if initial is None else initial
        weights = drawn.to(device)
        state = TrainingState(weights, weights, weights)
    total = sum(phase.runs for phase in schedule.phases)
    until = total if until is None else min(until, total)
    validate = functools.partial(_validate, problem, untrained, schedule, seed, device, state)

    def onto(phase: Phase) -> Callable[[Tensor], Tensor]:
        """Where the best φ goes as a phase begins: a trained one changes only if it must be odd."""
        drawn = initial is None and state.best_runs == 0
        return _within(untrained, phase) if drawn or phase.odd is True else _as_it_is

    if state.runs == 0:
        validate(0, math.nan)
    for number, phase in enumerate(schedule.phases):
        if state.over or state.validated >= until:
            break
        stretch = schedule.stretches(state.early)[number]
        mixed = [problem, *map(problems.make, phase.also)]
        windows = len(estimators.make(phase.estimator).windows(phase.shortest))
        if state.runs < stretch.stop and state.phase != number:
            state.enter(number, onto(phase))
            if schedule.measures_anew(number):
                validate(number, math.nan, again=True)
        while state.runs < stretch.stop and state.validated < until:
            batches = _until_validation(schedule, phase, state.runs, stretch.stop)
            rates = [_rate(phase, (each.start - stretch.start) / phase.runs) for each in batches]
            begun = []
            for runs, rate in zip(batches, rates, strict=True):
                drawn = mixed[phase.drawn(seed, runs.start)]
                begun.append(
                    _update_over_run(drawn, untrained, phase, runs, rate, seed, device, state)
                )
            for ended in in_turns(begun, phase.ages or 1, windows):
                state.runs += len(batches[ended])
                if state.runs < batches[-1].stop:
                    progress(min(state.runs, until), until, f"validation {state.best:.4g}")
            validate(number, rates[-1])
            if phase.patience is not None:
                state.retreat(phase.patience, onto(phase))
            if phase.until_worse is not None:
                state.end_if_worse(stretch, phase.until_worse)
                stretch = schedule.stretches(state.early)[number]
            save_state(folder, state)
            write_text_atomic(folder / TRAINING_LOG, state.log_csv())
            progress(min(state.runs, until), until, f"validation {state.best:.4g}")
    write_text_atomic(folder / TRAINING_LOG, state.log_csv())
    about = {
        **about,
        "seed": seed,
        "validation": state.best,
        "runs": state.best_runs,
        "phases": as_tables(schedule.phases),
    }
    failed = untrained_because(state, schedule, seed)
    if failed and initial is not None:
        log.warning("seed %d: the optimizer that it began with is kept: %s", seed, failed)
    elif failed:
        log.warning("seed %d: the optimizer is untrained: %s", seed, failed)
        about[UNTRAINED] = failed
    trained = untrained.with_weights(state.best_weights)
    save_optimizer(folder / OPTIMIZER, optimizer_spec, trained, about)


def untrained_because(state: TrainingState, schedule: Schedule, seed: int) -> str:
    """Why the φ that is kept is the one that training began with; empty if it is not."""
    windows = _windows(state, schedule, seed)
    if windows and state.skipped == windows:
        return f"none of {windows} windows gave a meta-gradient that is finite and not 0"
    if state.best_runs == 0 and state.runs:
        validations = len({row["runs"] for row in state.log}) - 1
        return f"none of {validations} validations was better than the one before training"
    return ""


def _windows(state: TrainingState, schedule: Schedule, seed: int) -> int:
    """How many windows the optimizee runs so far have."""
    windows = 0
    stretches = schedule.stretches(state.early)
    for phase, stretch in zip(schedule.phases, stretches, strict=True):
        estimator = estimators.make(phase.estimator)
        for run in range(stretch.start, min(state.runs, stretch.stop), phase.batch):
            windows += len(estimator.windows(phase.steps(seed, run)))
    return windows


def _within(untrained: Any, phase: Phase) -> Callable[[Tensor], Tensor]:
    """What takes a change of φ to where the phase keeps φ, or closer to it."""
    part = phase.odd
    if isinstance(part, bool):
        return untrained.odd_part if part else _as_it_is
    return lambda vector: vector.lerp(untrained.odd_part(vector), part)


def _as_it_is(vector: Tensor) -> Tensor:
    return vector


def _until_validation(schedule: Schedule, phase: Phase, runs: int, stop: int) -> list[range]:
    """The batches of runs after so many, up to the next validation or the end of the phase."""
    starts = range(runs, min(runs + schedule.validate_every, stop), phase.batch)
    # The last ones may be fewer, so that the next phase begins with instances of its own.
    return [range(first, min(first + phase.batch, stop)) for first in starts]


def _rate(phase: Phase, done: float) -> float:
    """The rate after this part of the phase: a half cosine from `rate` to `rate_end`."""
    end = phase.rate if phase.rate_end is None else phase.rate_end
    return end + (phase.rate - end) * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def _update_over_run(
    problem: Problem,
    untrained: Any,
    phase: Phase,
    instances: range,
    rate: float,
    seed: int,
    device: str | torch.device,
    state: TrainingState,
) -> Iterator[None]:
    """One run of each of these fresh instances, with an update of φ after each window.

    Between windows, others may update φ: nothing is kept of it meanwhile.
    """
    estimator = estimators.make(phase.estimator)
    windows = estimator.windows(phase.steps(seed, instances.start))
    imitates = phase.imitates(seed, instances.start)
    if imitates and phase.imitate is not None:
        estimator = Imitating(teacher=optimizers.make(phase.imitate.optimizer))
    objective = Objective(problem, instances, "train", seed, estimator.copies, device)
    within = _within(untrained, phase)
    meta = meta_optimizer(phase.method, phase.beta2, untrained.layout)
    # Gradients of an imitation have another size: moments of both would fit neither.
    moments = state.imitation if imitates else state.moments
    if not moments:
        moments.update(meta.init(state.weights))
    place, loss = estimator.begin(untrained.with_weights(state.weights), objective)
    meta_loss = meta_loss_of(phase.objective, loss)
    # Summed where it is, so that a GPU is waited for once a window, by the norm below; SOAP waits
    # once more, for its count of updates.
    total = loss.mean().double()
    done = 0
    for steps in windows:
        if done > 0:
            yield
        done += steps
        optimizer = untrained.with_weights(state.weights)
        rng = Rng(seed, "train/sample", instances.start, done)
        estimate = estimator.gradient(optimizer, objective, place, steps, meta_loss, rng)
        place = estimate.place
        for loss in estimate.losses:
            total += loss.mean()
        gradient = within(estimate.gradient)
        norm = gradient.norm().item()
        if not math.isfinite(norm) or norm == 0:
            state.skipped += 1
            continue
        if phase.clip and not imitates:
            gradient = gradient * min(1.0, state.median_norm(norm, NORMS) / norm)
        update, following = meta.update(gradient, moments, rate)
        moments.update(following)
        state.move(state.weights + within(update), phase.average)
    # On a trajectory of another optimizer, losses say nothing of φ.
    if not imitates:
        state.train_sum += total.item() * len(instances)
        state.train_runs += len(instances)


@torch.no_grad()
def _validate(
    problem: Problem,
    untrained: Any,
    schedule: Schedule,
    seed: int,
    device: str | torch.device,
    state: TrainingState,
    number: int,
    rate: float,
    again: bool = False,
) -> None:
    """Run the averaged φ, frozen, on a phase's validation runs; keep it if it is the best so far.

    With `again` it is the best φ itself, which so far was validated over other steps.
    """
    steps = schedule.validation_steps(number)
    optimizer = untrained.with_weights(state.best_weights if again else state.average)
    losses = evaluate(
        problem, optimizer, steps, schedule.validation_instances, seed, device, "validation"
    )
    tail = losses[:, final_steps(steps).start :]
    state.record(
        validation=(losses.mean() if schedule.criterion == "mean" else tail.mean()).item(),
        final=tail.mean().item(),
        total=losses[:, :steps].sum(1).mean().item(),
        rate=rate,
        steps=steps if schedule.says_steps else None,
        again=again,
    )
