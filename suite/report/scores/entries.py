"""The rows of a benchmark: which optimizers ran on which problem, and what that took.

A problem is a panel. Panels of several experiments that agree in all that decides a comparison
(`PanelInfo.setup`) are one problem, so that others' optimizers can be put beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from l2l.suite.core.errors import SuiteError
from l2l.suite.plan.definitions import ExperimentInfo, PanelInfo, long_label
from l2l.suite.report.results import SOURCE_COLUMNS, Results
from l2l.suite.report.scores.anytime import Course, courses_by_optimizer

# The label of the baseline that speed-ups are measured against.
ADAM = "ADAM"


@dataclass(frozen=True)
class Cost:
    """What a row took; NaN where that is unknown, and rates and instances 0 where none were tuned.

    Args:
        rates: learning rates tried.
        tuning_instances: runs of each of them.
        tuning_seconds: of all these together.
        with_four_rates: the validation loss of the best of four rates, the same for all optimizers,
            over that of the best of all that were tried; likewise `with_eleven_rates`, and
            `with_default_rate` for the one that the optimizer has untuned.
        seconds: of an update of one run, beside the others of its evaluation, with its loss.
        state_bytes: of the optimizer's state, for each parameter.
        training_runs: of the meta-training.
        training_seconds: of all its cells.
    """

    rates: int = 0
    tuning_instances: int = 0
    tuning_seconds: float = np.nan
    with_default_rate: float = np.nan
    with_four_rates: float = np.nan
    with_eleven_rates: float = np.nan
    seconds: float = np.nan
    state_bytes: float = np.nan
    training_runs: float = np.nan
    training_seconds: float = np.nan


@dataclass(frozen=True)
class Entry:
    """One optimizer on one problem.

    Args:
        place: its experiment, panel and optimizer, as the tables call them.
        learned: whether it was meta-trained.
        distribution: of a learned one ``in`` or ``out``, whether it was trained on such problems.
        untrained: why training left it as it was, if so.
        course: its runs.
        cost: what it took.
        cells: the names of its cells.
        commit: of the suite that evaluated it.
        machine: that it was evaluated on.
    """

    place: tuple[str, str, str]
    learned: bool
    distribution: str
    untrained: str
    course: Course
    cost: Cost
    cells: tuple[str, ...]
    commit: str
    machine: str


@dataclass(frozen=True)
class Contest:
    """A problem, with its entries by the label that they are shown with."""

    name: str
    title: str
    steps: int
    setup: Mapping[str, int | str]
    entries: Mapping[str, Entry]
    adam: Sequence[Course]


def contests(results: Results) -> list[Contest]:
    """The problems of the benchmarks among the experiments, in their order.

    Raises:
        SuiteError: there is no benchmark, or what was kept of it is damaged.
    """
    benchmarks = [each for each in results.experiments if each.benchmark]
    if not benchmarks:
        names = ", ".join(each.name for each in results.experiments)
        raise SuiteError(
            f"none of the experiments here ({names}) is a benchmark: add 'benchmark: true' to "
            "its YAML file and run it again; finished cells are not computed again"
        )
    courses = courses_by_optimizer(results.tables.anytime)
    sources = {
        tuple(map(str, key)): rows
        for key, rows in results.sources.groupby(["experiment", "panel", "optimizer"])
    }
    groups: dict[tuple[str, str], list[tuple[ExperimentInfo, PanelInfo]]] = {}
    for experiment in benchmarks:
        for panel in experiment.panels:
            same = str(sorted(panel.setup.items())) or experiment.name
            groups.setdefault((panel.name, same), []).append((experiment, panel))
    found = []
    for members in groups.values():
        contest = _contest(members, courses, sources)
        if contest.entries:
            found.append(contest)
    return found


def _contest(
    members: Sequence[tuple[ExperimentInfo, PanelInfo]],
    courses: Mapping[tuple[str, str, str], Course],
    sources: Mapping[tuple[str, ...], pd.DataFrame],
) -> Contest:
    entries: dict[str, Entry] = {}
    adam = []
    for experiment, panel in members:
        for optimizer in panel.optimizers:
            place = (experiment.name, panel.name, optimizer)
            if place not in courses:
                continue
            entry = _entry(panel, place, courses[place], sources.get(place))
            if any(entry.cells[:1] == each.cells[:1] for each in entries.values() if each.cells):
                continue
            label = f"{optimizer} ({experiment.name})" if optimizer in entries else optimizer
            entries[label] = entry
        if ADAM in panel.optimizers:
            labels = (ADAM, *([long_label(ADAM)] if ADAM in panel.long else ()))
            places = [(experiment.name, panel.name, label) for label in labels]
            adam += [courses[place] for place in places if place in courses]
    first = members[0][1]
    _check_instances(first.name, entries, adam)
    return Contest(first.name, first.title, first.steps, first.setup, entries, adam)


def _check_instances(name: str, entries: Mapping[str, Entry], adam: Sequence[Course]) -> None:
    runs = [each.course.instances for each in entries.values()] + [each.instances for each in adam]
    for other in runs[1:]:
        if not np.array_equal(other, runs[0]):
            raise SuiteError(
                f"panel {name!r}: its optimizers must have run on the same test instances, but one "
                f"ran on {len(runs[0])}, another on {len(other)}; run the experiment again"
            )


def _entry(
    panel: PanelInfo, place: tuple[str, str, str], course: Course, rows: pd.DataFrame | None
) -> Entry:
    learned = place[2] in panel.learned
    distribution = ("in" if place[2] in panel.in_distribution else "out") if learned else ""
    rows = pd.DataFrame(columns=SOURCE_COLUMNS) if rows is None else rows
    # A curve's own cell comes first.
    own = rows.head(1)
    told = {key: "".join(own[key].dropna()) for key in ("commit", "machine")}
    return Entry(
        place=place,
        learned=learned,
        distribution=distribution,
        untrained=panel.untrained.get(place[2], ""),
        course=course,
        cost=_cost(rows),
        cells=tuple(map(str, rows["cell"])),
        **told,
    )


def _cost(rows: pd.DataFrame) -> Cost:
    """What the cells of an entry say of it: its evaluation, then those that it reads."""
    if not len(rows):
        return Cost()
    own, read = rows.iloc[0], rows.iloc[1:]
    cost: dict[str, Any] = {
        "seconds": float(own["seconds"] / (own["runs"] * own["updates"])),
        "state_bytes": float(own["state_bytes"]),
    }
    # Sweeps say how many rates they tried, and trainings how many runs they took.
    for _, sweep in read[read["rates"] > 0].iterrows():
        cost["rates"] = int(sweep["rates"])
        cost["tuning_instances"] = int(sweep["runs"] / sweep["rates"])
        cost["tuning_seconds"] = float(sweep["seconds"])
        for key in ("with_default_rate", "with_four_rates", "with_eleven_rates"):
            cost[key] = float(sweep[key])
    trained = read[read["runs"].notna() & read["rates"].isna()]
    cost["training_runs"] = float(trained["runs"].sum(min_count=1))
    cost["training_seconds"] = float(trained["seconds"].sum(min_count=1))
    return Cost(**cost)
