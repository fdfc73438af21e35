"""The scores of a benchmark: of each row, and of each optimizer over all problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from l2l.suite.report.scores.anytime import loss_at
from l2l.suite.report.scores.entries import ADAM, Contest, Entry
from l2l.suite.report.scores.speed import (
    Bounded,
    profile_score,
    rank,
    ratios,
    reference_of,
    speed_up,
    target_of,
    updates_to,
)
from l2l.suite.report.statistics.intervals import Interval
from l2l.suite.report.statistics.problems import (
    RESAMPLES,
    Mean,
    instance_weights,
    interquartile_mean,
    interval_of,
    over_problems,
    plain_mean,
)

# Means over problems of what each score is of one problem.
MEANS: Mapping[str, Mean] = {
    "speedup": interquartile_mean,
    "speedup_half": interquartile_mean,
    "speedup_seconds": interquartile_mean,
    "profile": plain_mean,
    "profile_seconds": plain_mean,
    "rank": plain_mean,
}
# What a row has of its problem, over the instances.
OF_A_PROBLEM = (
    *("speedup", "speedup_half", "speedup_seconds"),
    *("updates", "ratio", "ratio_seconds", "rank"),
)
# What a row has from final.csv.
FINAL = (
    *("learning_rate", "mean", "ci_low", "ci_high", "n", "diverged"),
    *("held_out", "held_out_low", "held_out_high"),
)


@dataclass(frozen=True)
class Scores:
    """What a benchmark says.

    Args:
        contests: the problems.
        rows: a row an optimizer and problem.
        overall: a row an optimizer.
        targets: a row a problem: `problem`, `setup`, `target`, and `optimizer`, whose loss that is.
        values: of each score and optimizer, for each resample of instances (the first row is the
            sample itself) and each problem; NaN where an optimizer was not run.
        masks: of each optimizer, which problems it ran on, and of a learned one those ``in`` and
            ``out`` of its distribution.
    """

    contests: Sequence[Contest]
    rows: pd.DataFrame
    overall: pd.DataFrame
    targets: pd.DataFrame
    values: Mapping[str, Mapping[str, Bounded]]
    masks: Mapping[str, Mapping[str, NDArray[np.bool_]]]

    def at(self, score: str, optimizer: str, where: NDArray[np.bool_] | None = None) -> Bounded:
        """A score's values, all or NaN but `where`."""
        found = self.values[score][optimizer]
        if where is None:
            return found
        return Bounded(*(np.where(where, each, np.nan) for each in (found.low, found.high)))

    def over(self, score: str, optimizer: str, where: NDArray[np.bool_] | None = None) -> Interval:
        """A score's mean over problems, all or those `where`."""
        found = self.at(score, optimizer, where)
        return over_problems(found.low, MEANS[score], found.high)

    def is_bound(self, score: str, optimizer: str, where: NDArray[np.bool_] | None = None) -> bool:
        """Whether that mean is only known to be at least what `over` says."""
        high = self.at(score, optimizer, where).high[:1]
        return bool(np.isinf(MEANS[score](high)).any())


def scores_of(contests: Sequence[Contest], final: pd.DataFrame, frozen: pd.DataFrame) -> Scores:
    """The scores of a benchmark.

    Args:
        contests: its problems.
        final: final.csv's rows.
        frozen: targets that were set earlier; those of other problems are found here.
    """
    targets = pd.DataFrame(
        [_target(contest, frozen) for contest in contests],
        columns=["problem", "setup", "target", "optimizer"],
    )
    each = [
        _scored(contest, target)
        for contest, target in zip(contests, targets["target"], strict=True)
    ]
    labels = list(dict.fromkeys(label for contest in contests for label in contest.entries))
    values = {
        score: {label: _columns([found[score].get(label) for found in each]) for label in labels}
        for score in (*MEANS, "updates", "ratio", "ratio_seconds")
    }
    masks = {
        where: {label: _mask(contests, label, kinds) for label in labels}
        for where, kinds in (("ran", ("", "in", "out")), ("in", ("in",)), ("out", ("out",)))
    }
    rows = _rows(contests, values, final, targets)
    found = Scores(contests, rows, pd.DataFrame(), targets, values, masks)
    return replace(found, overall=_overall(found, labels))


def _target(contest: Contest, frozen: pd.DataFrame) -> dict[str, str | float]:
    setup = " ".join(f"{key}={value}" for key, value in contest.setup.items())
    known = frozen[(frozen["problem"] == contest.name) & (frozen["setup"] == setup)]
    if len(known):
        first = known.iloc[0]
        return {**first.to_dict(), "target": float(first["target"])}
    baselines = {label: each for label, each in contest.entries.items() if not each.learned}
    tuned = {label: each for label, each in baselines.items() if each.cost.rates}
    among = tuned or baselines or contest.entries
    best = min(among, key=lambda label: float(among[label].course.loss[:, -1].mean()))
    target = target_of(among[best].course, contest.steps)
    return {"problem": contest.name, "setup": setup, "target": target, "optimizer": best}


def _scored(contest: Contest, target: float) -> dict[str, dict[str, Bounded]]:
    """Each score of each entry, for each resample of instances."""
    entries = contest.entries
    weights = instance_weights(len(next(iter(entries.values())).course.instances))
    found: dict[str, dict[str, Bounded]] = {}
    if contest.adam:
        reference = reference_of(contest.adam, weights)
        for score, at in (("speedup", contest.steps), ("speedup_half", contest.steps / 2)):
            found[score] = {
                label: speed_up(each.course, reference, weights, at)
                for label, each in entries.items()
            }
    else:
        found |= {"speedup": {}, "speedup_half": {}}
    # Seconds of another machine than ADAM's say nothing.
    machine = entries.get(ADAM, next(iter(entries.values()))).machine
    taken = {
        label: each.cost.seconds if each.machine == machine else np.nan
        for label, each in entries.items()
    }
    adam = taken.get(ADAM, np.nan)
    found["speedup_seconds"] = {}
    for label, each in found["speedup"].items():
        quicker = adam / taken[label]
        found["speedup_seconds"][label] = Bounded(each.low * quicker, each.high * quicker)
    updates = {label: updates_to(e.course, target, weights) for label, e in entries.items()}
    # One whose seconds are unknown takes no part in what is measured in them.
    known = {label: seconds for label, seconds in taken.items() if seconds > 0}
    seconds = {label: updates[label] * known[label] for label in known}
    ends = {
        label: loss_at(each.course.steps, each.course.means(weights), contest.steps)
        for label, each in entries.items()
    }
    in_updates, in_seconds = ratios(updates), ratios(seconds) if seconds else {}
    plain = {
        "updates": updates,
        "ratio": in_updates,
        "ratio_seconds": in_seconds,
        "profile": {label: profile_score(each) for label, each in in_updates.items()},
        "profile_seconds": {label: profile_score(each) for label, each in in_seconds.items()},
        "rank": rank(ends),
    }
    exact = {
        score: {label: Bounded(each, each) for label, each in of.items()}
        for score, of in plain.items()
    }
    return {**found, **exact}


def _columns(found: Sequence[Bounded | None]) -> Bounded:
    """Of several problems, [B] each, to one [B, p]."""
    missing = np.full(1 + RESAMPLES, np.nan)
    ends = [(missing, missing) if each is None else (each.low, each.high) for each in found]
    low, high = (np.stack(each, axis=1) for each in zip(*ends, strict=True))
    return Bounded(low, high)


def _mask(contests: Sequence[Contest], label: str, kinds: Sequence[str]) -> NDArray[np.bool_]:
    return np.array(
        [
            label in contest.entries and contest.entries[label].distribution in kinds
            for contest in contests
        ]
    )


def _flat(name: str, found: Interval) -> dict[str, float]:
    return {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}


def _rows(
    contests: Sequence[Contest],
    values: Mapping[str, Mapping[str, Bounded]],
    final: pd.DataFrame,
    targets: pd.DataFrame,
) -> pd.DataFrame:
    finals = {
        (str(row.experiment), str(row.panel), str(row.optimizer)): row for row in final.itertuples()
    }
    rows = []
    for place, contest in enumerate(contests):
        for label, entry in contest.entries.items():
            row: dict[str, object] = {
                "problem": contest.name,
                "title": contest.title,
                "optimizer": label,
                "kind": _kind(entry),
                "distribution": entry.distribution,
                "untrained": bool(entry.untrained),
                "commit": entry.commit,
                "machine": entry.machine,
                "cells": " ".join(entry.cells),
            }
            ended = finals.get(entry.place)
            for key in FINAL:
                row[key] = getattr(ended, key, np.nan)
            for score in OF_A_PROBLEM:
                of = values[score][label]
                row |= _flat(score, interval_of(of.low[:, place], of.high[:, place], len(of.low)))
            row["censored"] = bool(np.isinf(values["speedup"][label].high[0, place]))
            row["target"] = targets["target"].iloc[place]
            rows.append({**row, **asdict(entry.cost)})
    return pd.DataFrame(rows)


def _kind(entry: Entry) -> str:
    """``learned``, or ``tuned`` or ``untuned`` if it was designed by hand."""
    if entry.learned:
        return "learned"
    return "tuned" if entry.cost.rates else "untuned"


def _overall(scores: Scores, labels: Sequence[str]) -> pd.DataFrame:
    rows = []
    for label in labels:
        own = scores.rows[scores.rows["optimizer"] == label]
        row: dict[str, object] = {
            "optimizer": label,
            "kind": own["kind"].iloc[0],
            "problems": len(own),
        }
        for score in MEANS:
            found = scores.over(score, label)
            row |= _flat(score, found)
            if score.startswith("speedup"):
                row[f"{score}_censored"] = scores.is_bound(score, label)
        for where in ("in", "out"):
            mask = scores.masks[where][label]
            row |= _flat(f"speedup_{where}", scores.over("speedup", label, mask))
            row[f"speedup_{where}_censored"] = scores.is_bound("speedup", label, mask)
            row[f"problems_{where}"] = int(mask.sum())
        row["diverged"] = int(own["diverged"].sum())
        row["runs"] = int((own["n"] + own["diverged"]).sum())
        for key in (
            "rates",
            "tuning_instances",
            "with_default_rate",
            "with_four_rates",
            "with_eleven_rates",
            "state_bytes",
            "training_runs",
            "training_seconds",
        ):
            row[key] = own[key].median()
        rows.append(row)
    return pd.DataFrame(rows).sort_values("rank", kind="stable", ignore_index=True)
