"""The tables of a benchmark's page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from l2l.suite.plan.definitions import ExperimentInfo
from l2l.suite.report.formatting import interval, number
from l2l.suite.report.tables.formats import Cell, Table

KINDS = {"learned": "learned", "tuned": "tuned baseline", "untuned": "untuned baseline"}
# What stands in brackets behind a score.
INTERVALS = "bootstrap intervals (2.5 % to 97.5 %) over test instances"


def overall_table(overall: pd.DataFrame, problems: int) -> Table:
    """A row an optimizer, the lowest mean rank first, of scores over `problems` problems."""
    of = f" of {problems}"
    rows = tuple(
        (
            Cell(str(row.optimizer)),
            Cell(KINDS[str(row.kind)]),
            _score(row, "speedup"),
            _score(row, "speedup_in"),
            _score(row, "speedup_out"),
            _score(row, "speedup_seconds"),
            _score(row, "profile"),
            _score(row, "profile_seconds"),
            _score(row, "rank"),
            Cell(f"{row.diverged} of {row.runs}", row.diverged),
            Cell(f"{row.problems}{of if row.problems < problems else ''}", row.problems),
            _tuning(row),
            _times(row.with_default_rate),
            _times(row.with_four_rates),
            _times(row.with_eleven_rates),
            _training(row),
            _number(row.state_bytes),
        )
        for row in overall.itertuples()
    )
    columns = (
        *("Optimizer", "Kind", "Speed-up over ADAM"),
        *("Speed-up in distribution", "Speed-up out of it", "Speed-up in seconds"),
        *("Profile", "Profile in seconds", "Mean rank"),
        *("Diverged", "Problems", "Tuning", "Untuned", "With 4 rates", "With 11 rates"),
        *("Meta-training", "State, bytes a parameter"),
    )
    caption = (
        f"Over all problems, with {INTERVALS} and problems. Speed-ups are interquartile means; "
        "those in and out of distribution are over problems that a learned optimizer was, or was "
        "not, trained on. "
        "≥ says that ADAM's longest run did not get as far. Untuned, with 4 and 11 rates: the "
        "validation loss at the optimizer's default rate, or of the best of so many, over that of "
        "the best of all. These, tuning, meta-training and state are medians over problems."
    )
    fewer = overall["optimizer"][overall["problems"] < problems]
    notes = (f"{', '.join(fewer)}: over fewer problems than the others.",) if len(fewer) else ()
    return Table("overall", caption, columns, rows, overall, notes)


def rows_table(rows: pd.DataFrame) -> Table:
    """A row an optimizer and problem."""
    held_out = rows["held_out"].notna().any()
    cells = tuple(
        (
            Cell(str(row.title)),
            Cell(str(row.optimizer) + (" (untrained)" if row.untrained else "")),
            Cell(KINDS[str(row.kind)]),
            Cell(str(row.distribution)),
            _with_interval(row.mean, row.ci_low, row.ci_high),
            *([_score(row, "held_out")] if held_out else []),
            _score(row, "speedup", row.censored),
            _score(row, "updates"),
            _score(row, "ratio"),
            _score(row, "ratio_seconds"),
            _score(row, "rank"),
            _diverged(row),
            _number(row.learning_rate),
            _tuning(row),
            _number(1e6 * row.seconds),
            _number(row.state_bytes),
        )
        for row in rows.itertuples()
    )
    columns = (
        *("Problem", "Optimizer", "Kind", "Distribution", "Final loss"),
        *(["Held-out loss"] if held_out else []),
        *("Speed-up over ADAM", "Updates to target", "× the best", "× the best in seconds"),
        *("Rank", "Diverged", "Learning rate", "Tuning", "µs an update", "State, bytes"),
    )
    caption = (
        f"Each problem, with {INTERVALS}; final and held-out losses have 95 % intervals. Final "
        "losses leave out runs that diverged; in all other columns these count as if they had "
        "stayed at θ₀. ∞ is a target that was not reached."
    )
    return Table("rows", caption, columns, cells, rows)


def left_out_table(experiments: Sequence[ExperimentInfo]) -> Table:
    """A row for each optimizer that did not run, with the reason."""
    reasons = {label: why for each in experiments for label, why in each.without().items()}
    cells = tuple((Cell(label), Cell(why)) for label, why in reasons.items())
    data = pd.DataFrame(reasons.items(), columns=["optimizer", "reason"])
    return Table("left-out", "Optimizers that are left out.", ("Optimizer", "Why"), cells, data)


def _tuning(row: Any) -> Cell:
    """Text such as "13 rates × 4 runs", or "none"."""
    rates, runs = row.rates, row.tuning_instances
    return Cell(f"{rates:g} rates × {runs:g} runs" if rates > 0 else "none", rates * runs)


def _training(row: Any) -> Cell:
    """Of a learned optimizer, text such as "1,600 runs, 8 min", with "unknown" for what is."""
    runs, minutes = row.training_runs, row.training_seconds / 60
    if str(row.kind) != "learned":
        return Cell("", runs)
    told = "runs unknown" if math.isnan(runs) else f"{runs:,.0f} runs"
    if math.isnan(minutes):
        time = "time unknown"
    else:
        time = f"{number(minutes / 60, 2)} h" if minutes >= 90 else f"{number(minutes, 2)} min"
    return Cell(f"{told}, {time}", runs)


def _diverged(row: Any) -> Cell:
    if math.isnan(row.n):
        return Cell("", row.n)
    return Cell(f"{row.diverged:g} of {row.n + row.diverged:g}", row.diverged)


def _times(value: float) -> Cell:
    return Cell("" if math.isnan(value) else f"× {number(value)}", value)


def _number(value: float) -> Cell:
    return Cell(number(value), value)


def _score(row: Any, name: str, bound: bool | None = None) -> Cell:
    bound = getattr(row, f"{name}_censored", False) if bound is None else bound
    value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
    return _with_interval(value, low, high, bound)


def _with_interval(value: float, low: float, high: float, bound: bool = False) -> Cell:
    told = interval(low, high) if math.isfinite(value) else ""
    return Cell(f"{'≥ ' if bound else ''}{number(value)} {told}".strip(), value)
