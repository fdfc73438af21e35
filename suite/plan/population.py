"""A population of meta-trainings: rates drawn at random, hopeless ones stopped early.

Section 3 chooses φ's learning rate by random search. Successive halving (Jamieson and Talwalkar
2016) spends less on it: candidates train up to a rung, the best of them go on to the next one.
What a rung's cells are is fixed when a run is planned; which candidate each of them continues
is decided by the `promote` cell between two rungs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from l2l.suite.core.convert import fill
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.seeds import Rng
from l2l.suite.files.atomic import write_bytes_atomic
from l2l.suite.files.json import load_table, save_json
from l2l.suite.files.places import CANDIDATE, TRAINING_STATE
from l2l.suite.meta.schedule import Population, Schedule, Training
from l2l.suite.plan.cells import Cell, make_cell


@dataclass(frozen=True)
class Candidate:
    """What one meta-training of a population has of its own.

    Args:
        rate: of the first phase; the other phases' rates keep their ratio to it.
        seed: of the meta-training.
    """

    rate: float
    seed: int


@dataclass(frozen=True)
class Rung:
    """How many candidates train up to how many runs in all."""

    count: int
    runs: int


def candidates(training: Training, population: Population) -> tuple[Candidate, ...]:
    """Rates drawn log-uniformly, each from its own counter; the seeds in turn."""
    low, high = population.rates
    found = []
    for number in range(population.candidates):
        at = Rng(population.seed, "population/rate", number).uniform().item()
        # Four digits: the same on every machine, whatever its last bit of a power.
        rate = float(f"{low * (high / low) ** at:.4g}")
        found.append(Candidate(rate, training.seeds[number % len(training.seeds)]))
    return tuple(found)


def rungs(training: Training, population: Population) -> tuple[Rung, ...]:
    """From all candidates to the whole schedule, each rung a factor of `keep` narrower and longer.

    One that is alone has nobody to be compared with, and trains to the end at once.
    """
    total = sum(phase.runs for phase in training.phases)
    found = [Rung(population.candidates, min(population.first_runs or total, total))]
    while found[-1].runs < total:
        count = max(1, round(found[-1].count * population.keep))
        runs = math.ceil(found[-1].runs / population.keep)
        found.append(Rung(count, total if count == 1 else min(runs, total)))
    return tuple(found)


def population_cells(
    name: str, config: Mapping[str, Any], validation: Mapping[str, Any], training: Training
) -> tuple[Cell, ...]:
    """The cells of the last rung, with all that leads to them.

    Args:
        name: of the cells.
        config: what their meta-trainings have in common.
        validation: how candidates are compared; as of a `select` cell.
        training: with its population.
    """
    population = training.population
    assert population is not None
    ladder = rungs(training, population)
    drawn = candidates(training, population)
    first: dict[Candidate, Cell] = {}
    for number, candidate in enumerate(drawn):
        # Two that are drawn alike are one cell, called by the number of the first.
        if candidate not in first:
            first[candidate] = make_cell(
                "metatrain",
                f"{name}-candidate-{number}",
                {**config, "candidate": candidate, "since": 0, "until": ladder[0].runs},
            )
    cells = tuple(first[candidate] for candidate in drawn)
    for before, rung in pairwise(ladder):
        promote = make_cell("promote", name, {**validation, "count": rung.count}, cells)
        cells = tuple(
            make_cell(
                "metatrain",
                f"{name}-rank-{rank}",
                {**config, "rank": rank, "since": before.runs, "until": rung.runs},
                (promote,),
            )
            for rank in range(rung.count)
        )
    return cells


def at_rate(schedule: Schedule, rate: float) -> Schedule:
    """The schedule with `rate` in its first phase, and all rates in proportion."""
    factor = rate / schedule.phases[0].rate
    phases = [
        replace(
            phase,
            rate=phase.rate * factor,
            rate_end=None if phase.rate_end is None else phase.rate_end * factor,
        )
        for phase in schedule.phases
    ]
    phases[0] = replace(phases[0], rate=rate)
    return replace(schedule, phases=tuple(phases))


def begin(config: Mapping[str, Any], inputs: tuple[Path, ...], folder: Path) -> Candidate:
    """The candidate of a rung's cell, whose `folder` then says so.

    A candidate that was promoted is put there with its training state, so that it goes on as an
    interrupted training does.
    """
    if "candidate" in config:
        candidate = fill(Candidate, config["candidate"], "candidate")
    else:
        candidate = read_candidate(inputs[0] / _ranked(CANDIDATE, config["rank"]))
        if not (folder / TRAINING_STATE).exists():
            state = inputs[0] / _ranked(TRAINING_STATE, config["rank"])
            write_bytes_atomic(folder / TRAINING_STATE, state.read_bytes())
    save_json(folder / CANDIDATE, candidate)
    return candidate


def hand_on(trained: Path, rank: int, folder: Path) -> None:
    """Keep a rung's candidate and its state in a promoting cell's `folder`, at its rank."""
    for name in (CANDIDATE, TRAINING_STATE):
        write_bytes_atomic(folder / _ranked(name, rank), (trained / name).read_bytes())


def read_candidate(path: Path) -> Candidate:
    """What a rung's cell says of its candidate.

    Raises:
        SuiteError: the file is not as it was written.
    """
    try:
        content = load_table(path)
    except (OSError, ValueError) as error:
        raise SuiteError(
            f"{path} cannot be read ({error}): remove its folder to compute it again"
        ) from error
    return fill(Candidate, content, f"{path}:")


def _ranked(name: str, rank: int) -> str:
    stem, dot, suffix = name.partition(".")
    return f"{stem}-{rank}{dot}{suffix}"
