"""A benchmark's page as one HTML file that needs no other, and as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from l2l.suite.files.places import ROWS
from l2l.suite.report.curves import CurveTable
from l2l.suite.report.formatting import counted
from l2l.suite.report.pages import PageContent, markdown_of, profiles_told, rendered
from l2l.suite.report.scores.benchmark import Scores
from l2l.suite.report.scores.entries import ADAM, Contest
from l2l.suite.report.scores.findings import Finding
from l2l.suite.report.statistics.bootstrap import TAIL
from l2l.suite.report.statistics.problems import instance_weights
from l2l.suite.report.tables.contents import notices
from l2l.suite.report.tables.formats import Table, markdown, markdown_text

# Of what is drawn: more could not be seen.
DIGITS = 3
VERDICTS = {"for": "for learned optimizers", "against": "against them", "open": "neither"}
DEFINITIONS = (
    "The loss after t updates is the mean over the last tenth of the first t, then over instances; "
    "a run that diverged, or is above its first loss, counts with its first loss.",
    "Speed-up over ADAM: the updates that tuned ADAM takes to an optimizer's loss after its last "
    "update, over the optimizer's own. ADAM's curve is the lower envelope of that of its runs and, "
    "where there are such, of longer ones.",
    "Profile: τ is an optimizer's updates to the target over those of the best, ρ(τ) the share of "
    "problems within τ, the score the mean of ρ from τ = 1 to 4. The target is the loss that the "
    "best tuned baseline has after three quarters of its updates. It is set once.",
    "Seconds are those of the evaluation, all runs side by side, over its runs and updates: with "
    "losses, gradients and data. They compare optimizers on one machine, not machines.",
    "Bootstrap intervals are the 2.5th to 97.5th percentile of 1,000 resamples of test instances, "
    "the same for all optimizers, and of problems where a score is over problems. They are a "
    "little narrower than 95 % intervals.",
)


@dataclass(frozen=True)
class BenchmarkContent(PageContent):
    """All that the page shows."""

    findings: Sequence[Finding]
    overall: Table
    left_out: Table
    rows: Table
    scores: Scores
    held_out: CurveTable

    @property
    def title(self) -> str:
        """Of the first experiment."""
        return self.experiments[0].title

    @property
    def byline(self) -> str:
        """What was run, in a line."""
        overall, runs = self.scores.overall, int(self.scores.overall["runs"].sum())
        learned = int((overall["kind"] == "learned").sum())
        parts = [
            f"{counted(len(overall), 'optimizer')}, {learned} of them learned",
            counted(len(self.scores.contests), "problem"),
            f"{runs:,} test runs",
            *profiles_told(self.experiments),
        ]
        return " · ".join(parts)


def html_page(content: BenchmarkContent) -> str:
    """Self-contained HTML; everything from outside is escaped."""
    drawn = embedded(content.scores, content.held_out)
    data = json.dumps(drawn, ensure_ascii=False, separators=(",", ":"))
    return rendered(
        "benchmark.html.j2",
        content,
        verdicts=VERDICTS,
        definitions=DEFINITIONS,
        # Nothing in it may end the script element.
        data=Markup(data.replace("<", "\\u003c")),
    )


def embedded(scores: Scores, held_out: CurveTable) -> dict[str, Any]:
    """What the page's curves and profiles are drawn from, as plain data."""
    places = [(i, label) for i, each in enumerate(scores.contests) for label in each.entries]
    return {
        "adam": ADAM,
        "problems": [
            _curves(contest, float(target)) | {"held_out": _held_out(contest, held_out)}
            for contest, target in zip(scores.contests, scores.targets["target"], strict=True)
        ],
        "ratios": {
            label: _numbers(of.low[0][scores.masks["ran"][label]])
            for label, of in scores.values["ratio"].items()
        },
        "best": scores.overall.loc[scores.overall["profile"].idxmax(), "optimizer"],
        # In the order of the table's rows.
        "rows": [
            {"problem": place, "optimizer": label}
            | {key: str(row[key]) for key in ("commit", "machine", "cells")}
            for (place, label), row in zip(places, scores.rows.to_dict("records"), strict=True)
        ],
    }


def _curves(contest: Contest, target: float) -> dict[str, Any]:
    """Mean losses over updates, with their bands."""
    first = next(iter(contest.entries.values())).course
    weights = instance_weights(len(first.instances))
    curves = {}
    for label, entry in contest.entries.items():
        means = entry.course.means(weights)
        low, high = np.quantile(means[1:], [TAIL, 1 - TAIL], axis=0)
        curves[label] = [_numbers(each) for each in (means[0], low, high)]
    return {
        "title": contest.title,
        "target": _numbers([target])[0],
        "steps": _numbers(first.steps),
        "curves": curves,
    }


def _held_out(contest: Contest, curves: CurveTable) -> dict[str, Any] | None:
    """Mean held-out losses over updates, with their bands; None if no optimizer has any."""
    found = {
        label: curve
        for label, entry in contest.entries.items()
        if (curve := curves.get(entry.place)) is not None and curve.n
    }
    if not found:
        return None
    # The same for all, because all have as many updates.
    steps = next(iter(found.values())).steps
    return {
        "steps": _numbers(steps),
        "curves": {
            label: [_numbers(each) for each in (curve.mean, curve.low, curve.high)]
            for label, curve in found.items()
        },
    }


def _numbers(values: Iterable[float]) -> list[float | None]:
    """With `DIGITS` digits; None for what JSON has no number for."""
    return [float(f"{x:.{DIGITS}g}") if math.isfinite(x) else None for x in map(float, values)]


def markdown_page(content: BenchmarkContent) -> str:
    """The page as Markdown, with the same tables."""
    parts = [f"# {markdown_text(content.title)}", content.byline + "."]
    found = [f"{i}. {markdown_text(each.text)}" for i, each in enumerate(content.findings, 1)]
    parts += ["## Findings", "\n".join(found)] if found else []
    parts += [f"> **Note.** {markdown_text(each)}" for each in notices(content.experiments)]
    parts += ["## Optimizers", markdown(content.overall)]
    parts += [markdown(content.left_out)] if content.left_out.rows else []
    parts += ["## Problems", markdown(content.rows)]
    parts += ["## How the scores are defined", "\n".join(f"- {each}" for each in DEFINITIONS)]
    parts += ["## Provenance", f"The commit, machine and cells of each row are in `{ROWS}`."]
    return markdown_of(parts, content.provenance)
