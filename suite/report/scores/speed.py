"""Scores of one problem, for each resample of its instances: speed-ups, profiles, ranks.

- The **speed-up** over tuned ADAM (Metz et al. 2022, VeLO): ADAM's updates to the loss that the
  other has after t updates, over t.
- A **performance profile** (Dolan and Moré 2002) is of ratios τ of the updates to a target, to
  those of the best. ρ(τ) is the share of problems within τ, and the score is the mean of ρ over
  1 ≤ τ ≤ 4 (Dahl et al. 2023, AlgoPerf).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from l2l.suite.report.scores.anytime import Course, envelope, loss_at, reached
from l2l.suite.report.statistics.intervals import Floats

LARGEST_RATIO = 4.0
# The target is what the best tuned baseline has reached after this share of its updates.
TARGET_AT = 0.75


@dataclass(frozen=True)
class Bounded:
    """Numbers [B], of which some are only known to be at least `low`: there `high` is infinite."""

    low: Floats
    high: Floats


@dataclass(frozen=True)
class Reference:
    """The lowest of several curves of ADAM, each ended by its own last step.

    Args:
        steps: [T], from 0.
        lowest: loss reached by then [B, T].
    """

    steps: Floats
    lowest: Floats


def reference_of(courses: Sequence[Course], weights: Floats) -> Reference:
    """The lower envelope of ADAM's courses, which are of the same instances."""
    steps = np.unique(np.concatenate([each.steps for each in courses]))
    lowest = np.full((len(weights), len(steps)), np.inf)
    for each in courses:
        means = envelope(each.means(weights))
        for row, own in zip(lowest, means, strict=True):
            # After its last step a run stands where it ended, which helps no other.
            np.minimum(row, np.interp(steps, each.steps, own), out=row)
    return Reference(steps, envelope(lowest))


def speed_up(course: Course, reference: Reference, weights: Floats, at: float) -> Bounded:
    """Of the first `at` updates of a course over the reference: 2 means half as many updates.

    Where ADAM never has the loss, not even after its last step T, it is at least T / at.
    """
    targets = loss_at(course.steps, course.means(weights), at)
    when = reached(reference.steps, reference.lowest, targets)
    last = reference.steps[-1]
    return Bounded(np.minimum(when, last) / at, when / at)


def updates_to(course: Course, target: float, weights: Floats) -> Floats:
    """After how many updates [B] the mean loss is at most `target`; infinite where it never is."""
    lowest = envelope(course.means(weights))
    return reached(course.steps, lowest, np.full(len(weights), target))


def target_of(course: Course, steps: int) -> float:
    """What the best tuned baseline has reached after `TARGET_AT` of its `steps` updates."""
    weights = np.full((1, len(course.instances)), 1 / len(course.instances))
    return float(loss_at(course.steps, envelope(course.means(weights)), TARGET_AT * steps)[0])


def ratios(costs: Mapping[str, Floats]) -> dict[str, Floats]:
    """Each one's cost [B] over the lowest of all; infinite where it is, NaN where all are."""
    best = np.min([*costs.values()], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            # The lowest cost may be 0.
            name: np.where((cost == best) & np.isfinite(best), 1.0, cost / best)
            for name, cost in costs.items()
        }


def profile_score(ratio: Floats) -> Floats:
    """What a problem adds to the mean of ρ over 1 ≤ τ ≤ 4: 1 for the best, 0 beyond 4 times it."""
    span = LARGEST_RATIO - 1
    # Where nobody reaches the target, nobody is within any ratio of the best.
    return np.clip((LARGEST_RATIO - np.where(np.isnan(ratio), np.inf, ratio)) / span, 0.0, 1.0)


def rank(finals: Mapping[str, Floats]) -> dict[str, Floats]:
    """Places [B] by final loss, 1 for the lowest; equals share the mean of their places."""
    # Imported on use: it takes a second, and only benchmarks have ranks.
    from scipy.stats import rankdata

    found = rankdata(np.stack([*finals.values()]), axis=0)
    return dict(zip(finals, found, strict=True))
