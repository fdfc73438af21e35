"""What the scores of a benchmark say, in sentences that are computed from them.

The best of several is called so by the score that the sentence is about, and its interval does not
account for having been chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import compress, islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from l2l.suite.plan.definitions import LEAST_RUNS
from l2l.suite.report.formatting import counted, interval, number
from l2l.suite.report.scores.benchmark import MEANS, Scores
from l2l.suite.report.scores.entries import ADAM
from l2l.suite.report.statistics.problems import interval_of, resampled

FINDINGS = 3
# Which of the problems.
Mask = NDArray[np.bool_]
Verdict = Literal["for", "against", "open"]
ENDS: Mapping[Verdict, str] = {
    "for": "the learned one is ahead",
    "against": "the baseline is ahead",
    "open": "which is ahead is open",
}


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether it speaks for learned optimizers, against them, or neither."""

    verdict: Verdict
    text: str


def findings(scores: Scores) -> list[Finding]:
    """The first three sentences of those that there are runs for."""
    return list(islice(_all(scores), FINDINGS))


def _all(scores: Scores) -> Iterator[Finding]:
    everywhere = np.ones(len(scores.contests), bool)
    learned = _learned_everywhere(scores)
    trained_on = {name: scores.masks["in"][name] for name in learned}
    # Means over other problems cannot be compared.
    elsewhere = ~np.logical_or.reduce([*trained_on.values(), ~everywhere])
    whose = "it was not" if len(learned) == 1 else "that no learned optimizer was"
    for masks, words in (
        (dict.fromkeys(learned, elsewhere), f"On problems {whose} trained on"),
        (trained_on, "On problems it was trained on"),
    ):
        yield from _rivals(
            scores,
            "speedup",
            masks,
            words + " ({problems}), the best learned optimizer, {best}, is {ours} times as fast as "
            "tuned ADAM, the best tuned baseline, {rival}, {theirs} times",
        )
    yield from _elsewhere(scores)
    yield from _rivals(
        scores,
        "speedup_seconds",
        dict.fromkeys(learned, everywhere),
        "In seconds instead of updates, over all problems, {best} is {ours} times as fast as "
        "tuned ADAM, and {rival} {theirs} times",
    )
    yield from _best_baseline(scores)


def _kinds(scores: Scores, kind: str) -> list[str]:
    own = scores.overall[scores.overall["kind"] == kind]
    return [str(name) for name in own["optimizer"]]


def _learned_everywhere(scores: Scores) -> list[str]:
    """Learned optimizers that were run on every problem."""
    return [each for each in _kinds(scores, "learned") if scores.masks["ran"][each].all()]


def _best(scores: Scores, score: str, masks: Mapping[str, Mask]) -> str | None:
    """The one with the highest mean over its problems; None if there is none.

    Who was not run on all of them, or lacks a score that others have, such as of seconds on another
    machine, takes no part: means over other problems cannot be compared.
    """
    scored = {name: ~np.isnan(of.low[0]) for name, of in scores.values[score].items()}
    nobody = ~np.logical_or.reduce([*scored.values()])
    whole = {name: scores.masks["ran"][name] & (own | nobody) for name, own in scored.items()}
    found = {
        name: scores.over(score, name, mask).estimate
        for name, mask in masks.items()
        if not (mask & ~whole[name]).any()
    }
    known = {name: value for name, value in found.items() if not np.isnan(value)}
    return max(known, key=lambda name: known[name]) if known else None


def _rivals(
    scores: Scores, score: str, masks: Mapping[str, Mask], sentence: str
) -> Iterator[Finding]:
    """The best learned optimizer beside the best tuned baseline on the same problems.

    Args:
        scores: of all.
        score: which of them decides.
        masks: the problems of each learned optimizer.
        sentence: with places for `problems`, their number, `best`, `rival`, and how fast they are,
            `ours` and `theirs`.
    """
    best = _best(scores, score, masks)
    if best is None:
        return
    mask = masks[best]
    rival = _best(scores, score, dict.fromkeys(_kinds(scores, "tuned"), mask))
    if rival is None:
        return
    runs, enough = _runs(scores, best, mask)
    verdict = _compared(scores, score, best, rival, mask) if enough else "open"
    end = ENDS[verdict] if enough else f"{runs} of at least {LEAST_RUNS} runs, so no verdict"
    told = sentence.format(
        problems=counted(int(mask.sum()), "problem"),
        best=best,
        ours=_told(scores, score, best, mask),
        rival=rival,
        theirs=_told(scores, score, rival, mask),
    )
    yield Finding(verdict, f"{told}: {end}.")


def _elsewhere(scores: Scores) -> Iterator[Finding]:
    """What becomes elsewhere of the learned optimizer that is best where it was trained."""
    learned = _learned_everywhere(scores)
    best = _best(scores, "speedup", {name: scores.masks["in"][name] for name in learned})
    if best is None or not scores.masks["out"][best].any():
        return
    mask = scores.masks["out"][best]
    found = scores.over("speedup", best, mask)
    verdict: Verdict = "for" if found.low > 1 else "against" if found.high < 1 else "open"
    if not _runs(scores, best, mask)[1]:
        verdict = "open"
    yield Finding(
        verdict,
        f"The learned optimizer that is fastest where it was trained, {best}, is elsewhere "
        f"{_told(scores, 'speedup', best, mask)} times as fast as tuned ADAM.",
    )


def _best_baseline(scores: Scores) -> Iterator[Finding]:
    """Which tuned baseline is the best, and whether ADAM is behind it."""
    tuned = [name for name in _kinds(scores, "tuned") if name != ADAM]
    everywhere = np.ones(len(scores.contests), bool)
    best = _best(scores, "speedup", dict.fromkeys(tuned, everywhere))
    if best is None:
        return
    found = scores.over("speedup", best)
    ahead = "is faster" if found.low > 1 else "is slower" if found.high < 1 else "may be no faster"
    # One problem says nothing of others like it.
    general = found.n > 1 and _runs(scores, best, everywhere)[1]
    end = f": over problems like these it {ahead}" if general else ""
    yield Finding(
        "open",
        f"The fastest tuned baseline but ADAM, {best}, is {_told(scores, 'speedup', best, None)} "
        f"times as fast as tuned ADAM{end}.",
    )


def _runs(scores: Scores, name: str, mask: Mask) -> tuple[int, bool]:
    """How many runs an optimizer has on the problems, and whether they are enough for a verdict."""
    contests = compress(scores.contests, mask)
    runs = sum(len(each.entries[name].course.instances) for each in contests)
    return runs, runs >= LEAST_RUNS


def _told(scores: Scores, score: str, name: str, mask: Mask | None) -> str:
    found = scores.over(score, name, mask)
    bound = "at least " if scores.is_bound(score, name, mask) else ""
    return f"{bound}{number(found.estimate)} {interval(found.low, found.high)}".strip()


def _compared(scores: Scores, score: str, one: str, other: str, mask: Mask) -> Verdict:
    """Whether `one` is ahead of `other` in all but a few resamples of problems and instances.

    Where a value is only a lower bound, that is taken for each which speaks against the verdict.
    """
    ends = []
    for name in (one, other):
        of = scores.at(score, name, mask)
        ends.append([MEANS[score](resampled(each)) for each in (of.low, of.high)])
    (low, high), (rival_low, rival_high) = ends
    with np.errstate(invalid="ignore"):
        least, most = low - rival_high, high - rival_low
    found = interval_of(least, most, int(mask.sum()))
    if found.low > 0:
        return "for"
    return "against" if found.high < 0 else "open"
