"""Results of two folders as one: where both have an experiment, it must be the same comparison."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

import pandas as pd

from l2l.suite.core.errors import SuiteError
from l2l.suite.plan.definitions import MERGED, ExperimentInfo, PanelInfo, long_label
from l2l.suite.report.results import Results

# (experiment, panel, optimizer)
Place = tuple[str, str, str]


def united(own: Results, other: Results) -> Results:
    """All optimizers of both; where both ran one in the same panel, it is `other`'s.

    Raises:
        SuiteError: panels of one name in one experiment differ in what decides a comparison.
    """
    known = {each.name: each for each in own.experiments}
    joined = {
        each.name: _united(known[each.name], each) if each.name in known else each
        for each in other.experiments
    }
    # Not all that was planned there was done.
    replaced = {place for rows in other.tables.by_name().values() for place in _places_of(rows)}
    kept = Results(
        tuple(each for each in own.experiments if set(places([each])) - replaced),
        own.tables.mapped(lambda rows: _without(rows, replaced)),
        own.provenance,
        {key: each for key, each in own.pictures.items() if key[:3] not in replaced},
        _without(own.sources, replaced),
    )
    return other.after(kept, (known | joined).values())


def places(experiments: Iterable[ExperimentInfo]) -> list[Place]:
    """Of all optimizers that experiments have, done or not, in their order."""
    return [
        (experiment.name, panel.name, label)
        for experiment in experiments
        for panel in experiment.panels
        for label in (*panel.optimizers, *map(long_label, panel.long))
    ]


def _places_of(rows: pd.DataFrame) -> set[Place]:
    found = rows[["experiment", "panel", "optimizer"]].drop_duplicates()
    return set(found.itertuples(index=False, name=None))


def _without(rows: pd.DataFrame, places: Collection[Place]) -> pd.DataFrame:
    if not len(rows):
        return rows
    found = pd.MultiIndex.from_frame(rows[["experiment", "panel", "optimizer"]])
    return rows[~found.isin(list(places))]


def _united(own: ExperimentInfo, other: ExperimentInfo) -> ExperimentInfo:
    panels = {each.name: each for each in own.panels}
    for panel in other.panels:
        if panel.name in panels:
            _check(own.name, panels[panel.name], panel)
            panel = _with_all(panels[panel.name], panel)
        panels[panel.name] = panel
    claims = {each.id: each for each in (*own.claims, *other.claims)}
    settings = dict.fromkeys((*own.every_settings(), *other.every_settings()))
    return replace(
        other,
        panels=tuple(panels.values()),
        claims=tuple(claims.values()),
        settings=MERGED.join(settings),
        benchmark=own.benchmark or other.benchmark,
        left_out={**own.left_out, **other.left_out},
    )


def _check(experiment: str, own: PanelInfo, other: PanelInfo) -> None:
    """Refuse panels that differ in problem, data, steps, seed or budgets."""
    ours, theirs = ({"updates": each.steps, **each.setup} for each in (own, other))
    for key in ours:
        # Folders of older versions, and panels without tuning, do not say all.
        if key in theirs and ours[key] != theirs[key]:
            raise SuiteError(
                f"{experiment}, panel {own.name!r}, is not the same in both folders: {key} "
                f"{ours[key]} here, {theirs[key]} there; run both with the same settings and data"
            )


def _with_all(own: PanelInfo, other: PanelInfo) -> PanelInfo:
    """The other's panel with those optimizers beside that only we have."""
    mine = [name for name in own.optimizers if name not in other.optimizers]
    return replace(
        other,
        optimizers=tuple(dict.fromkeys((*own.optimizers, *other.optimizers))),
        learned=(*(name for name in mine if name in own.learned), *other.learned),
        in_distribution=(
            *(name for name in mine if name in own.in_distribution),
            *other.in_distribution,
        ),
        untrained={k: why for k, why in own.untrained.items() if k in mine} | {**other.untrained},
        long={**own.long, **other.long},
        setup={**own.setup, **other.setup},
        notice=other.notice or own.notice,
    )
