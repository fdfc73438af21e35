"""The report's tables, built from final.csv and claims.csv."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from l2l.suite.inner.tune import told_of_edge
from l2l.suite.plan.definitions import ClaimKind, ExperimentInfo, PanelInfo
from l2l.suite.report.final import paper_loss
from l2l.suite.report.formatting import interval, judged, measured, number
from l2l.suite.report.tables.formats import Cell, Table

CAPTIONS: Mapping[ClaimKind, str] = {
    "paper": "Claims of the paper.",
    "check": "The experiments' own checks, which are not claims of the paper.",
}
NAMES: Mapping[ClaimKind, str] = {"paper": "claims", "check": "checks"}
WHICH_END = (
    "Our final losses are means over the last tenth of the updates, the paper's are the last "
    "values of its curves."
)
# Which loss is bold where there are diverged runs.
WHOLE_FIRST = ", if possible of an optimizer without diverged runs"


def notices(experiments: Sequence[ExperimentInfo]) -> tuple[str, ...]:
    """What must be told of panels, each notice once, with the panels that it is about.

    Of what an experiment leaves out too, but for a benchmark, whose page has a table of it.
    """
    panels: dict[str, list[str]] = {}
    for experiment in experiments:
        for label, reason in experiment.without().items() if not experiment.benchmark else ():
            panels.setdefault(f"{label} is left out: {reason}.", []).append(experiment.name)
        for panel in experiment.panels:
            for notice in panel.notices():
                panels.setdefault(notice, []).append(f"{experiment.name} {panel.name}")
    return tuple(f"{', '.join(names)}: {notice}" for notice, names in panels.items())


def final_table(experiments: Sequence[ExperimentInfo], final: pd.DataFrame, name: str) -> Table:
    """Mean final losses, panels by optimizers, ours and the paper's after as many updates.

    The lowest of a row is bold, without those of optimizers that diverged unless all did.
    """
    optimizers = list(
        dict.fromkeys(o for e in experiments for panel in e.panels for o in panel.optimizers)
    )
    rows, data, preferred = [], [], ""
    for experiment in experiments:
        for panel in experiment.panels:
            found = final[(final["experiment"] == experiment.name) & (final["panel"] == panel.name)]
            found = found.set_index("optimizer")
            ours = {name: float(found["mean"].get(name, np.nan)) for name in optimizers}
            theirs = {name: paper_loss(panel, name) for name in optimizers}
            diverged = found.index[found["diverged"] > 0]
            if len(diverged):
                preferred = WHOLE_FIRST
            rows.append(_row(panel, "ours", _texts(found, panel), ours, diverged))
            if panel.paper is not None:
                rows.append(_row(panel, "paper", {n: number(x) for n, x in theirs.items()}, theirs))
            place = {"experiment": experiment.name, "panel": panel.name, "step": panel.steps}
            data.append({**place, **ours, **{f"{n} (paper)": x for n, x in theirs.items()}})
    return Table(
        name=name,
        caption=(
            "Mean final loss, ± half of its 95 % interval, or with the interval if that begins "
            f"below 0; the lowest of a row is bold{preferred}. {WHICH_END}"
        ),
        columns=("Panel", "Updates", "Source", *optimizers),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        notes=notices(experiments),
    )


def _texts(final: pd.DataFrame, panel: PanelInfo) -> dict[str, str]:
    """Mean, half of the interval or all of it, and what is to be known of them, by optimizer."""
    texts = {}
    for row in final.itertuples():
        text = measured(row.mean, (row.ci_high - row.ci_low) / 2)
        if row.ci_low <= 0 < row.mean:
            text = f"{number(row.mean)} {interval(row.ci_low, row.ci_high)}"
        remarks = [f"{row.diverged} diverged"] if row.diverged else []
        remarks += ["untrained"] if row.Index in panel.untrained else []
        texts[str(row.Index)] = f"{text} ({', '.join(remarks)})" if remarks else text
    return texts


def _row(
    panel: PanelInfo,
    source: str,
    texts: Mapping[str, str],
    losses: Mapping[str, float],
    diverged: Collection[str] = (),
) -> tuple[Cell, ...]:
    known = {name: loss for name, loss in losses.items() if not np.isnan(loss)}
    # The mean of what is left of an optimizer's runs may be low by chance.
    whole = [loss for name, loss in known.items() if name not in diverged]
    lowest = min(whole or known.values(), default=np.nan)
    cells = [
        Cell(texts.get(name, "").strip(), loss, bold=loss == lowest)
        for name, loss in losses.items()
    ]
    return (Cell(panel.title), Cell(str(panel.steps), panel.steps), Cell(source), *cells)


def interval_table(final: pd.DataFrame, notes: tuple[str, ...]) -> Table:
    """Every row of final.csv, with intervals."""
    held_out = "held_out" in final
    rows = tuple(
        (
            Cell(row.experiment),
            Cell(row.panel),
            Cell(row.optimizer),
            Cell(number(row.learning_rate), row.learning_rate),
            Cell(str(row.step), row.step),
            Cell(number(row.mean), row.mean),
            Cell(interval(row.ci_low, row.ci_high), row.ci_low),
            Cell(number(row.median), row.median),
            Cell(str(row.n), row.n),
            Cell(str(row.diverged), row.diverged),
            Cell(number(row.paper), row.paper),
            Cell(number(row.ratio), row.ratio),
            Cell(number(row.distance), row.distance),
            *(_held_out(row) if held_out else ()),
        )
        for row in final.itertuples()
    )
    columns = (
        *("Experiment", "Panel", "Optimizer", "Learning rate", "Updates", "Mean loss"),
        *("95 % interval", "Median", "Runs", "Diverged", "Paper", "Ratio", "Distance"),
        *(("Held-out loss", "95 % interval") if held_out else ()),
    )
    caption = (
        "Final losses with 95 % intervals over test instances; mean and median leave out runs that "
        "diverged, ratio is mean / paper, distance the root mean square of log(ours / the "
        f"figure's) over the curve. {WHICH_END}"
    )
    return Table("intervals", caption, columns, rows, final, notes)


def _held_out(row: Any) -> tuple[Cell, Cell]:
    return (
        Cell(number(row.held_out), row.held_out),
        Cell(interval(row.held_out_low, row.held_out_high), row.held_out_low),
    )


def claims_table(claims: pd.DataFrame, kind: ClaimKind, notes: tuple[str, ...]) -> Table:
    """The verdict on each claim of a kind."""
    claims = claims[claims["kind"] == kind]
    rows = tuple(
        (
            Cell(row.id),
            Cell(judged(row.verdict, row.reason), badge=True),
            Cell(row.claim),
            Cell(number(row.estimate), row.estimate),
            Cell(interval(row.ci_low, row.ci_high), row.ci_low),
            Cell(str(row.n), row.n),
            Cell(row.note),
        )
        for row in claims.itertuples()
    )
    columns = ("Id", "Verdict", "Claim", "Estimate", "95 % interval", "Runs", "Note")
    caption = (
        f"{CAPTIONS[kind]} A verdict is given where the 95 % interval of the estimate, paired "
        "over test instances, lies wholly on one side of the claim's threshold. A claim of several "
        "parts has the worst verdict of them, and the interval of the part that decides. Where the "
        "note says one training, it holds for other instances, not for other trainings. Where it "
        "names several, the interval is a two-level bootstrap over trainings and instances, which "
        "with five trainings is a nominal one: its coverage is .87 to .97."
    )
    return Table(NAMES[kind], caption, columns, rows, claims, notes)


def learning_rate_table(final: pd.DataFrame, notes: tuple[str, ...]) -> Table:
    """The learning rates, panels by optimizers."""
    tuned = final[final["learning_rate"].notna()]
    data = tuned.pivot(index=["experiment", "panel"], columns="optimizer", values="learning_rate")
    data = data.reindex(columns=list(dict.fromkeys(tuned["optimizer"])))
    data = data.reindex(list(dict.fromkeys(zip(tuned["experiment"], tuned["panel"], strict=True))))
    rows = tuple(
        (Cell(key[0]), Cell(key[1]), *(Cell(number(rate), rate) for rate in rates))
        for key, rates in zip(data.index, data.to_numpy(), strict=True)
    )
    data.columns.name = None
    edges = tuple(
        f"{row.experiment} {row.panel}: {row.optimizer}: {told}"
        for row in tuned.itertuples()
        if (told := told_of_edge(row.learning_rate))
    )
    return Table(
        name="learning_rates",
        caption="Learning rates: tuned on validation instances by the final loss, or given.",
        columns=("Experiment", "Panel", *(str(name) for name in data.columns)),
        rows=rows,
        data=data.reset_index(),
        notes=(*notes, *edges),
    )
