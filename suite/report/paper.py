"""The curves of the paper's figures, read off its vector graphics (`results/paper/`)."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.files.places import PAPER
from l2l.suite.plan.definitions import PaperPanel

MAX_BYTES = 16 * 2**20
# By file, its columns of text and of numbers.
COLUMNS = {
    "figure_curves.csv": (
        ("figure", "panel", "optimizer"),
        ("step", "loss", "band_low", "band_high"),
    ),
    "figure6_final_loss.csv": (("optimizer",), ("layers", "hidden_units", "final_loss")),
}


@cache
def paper_curves() -> pd.DataFrame:
    """All curves: figure, panel, optimizer, updates, loss, band_low, band_high.

    Step 1 of the figures' baselines is the loss at θ_0, that is after 0 updates. The LSTM's curves
    begin one update later: on quadratics at .97, where the others begin at 3.33, with two layers
    at 2.51, and everywhere with a wide band, where θ_0's losses hardly differ. Of Figure 6, which
    shows final losses only, each panel, such as ``1x20`` for one layer of 20 units, has curves of
    one point: NAG's after 200 updates, the others' after 100 (docs/calibration.md).

    Raises:
        SuiteError: the file is missing or damaged.
    """
    curves = _read("figure_curves.csv")
    late = curves["optimizer"].str.startswith("LSTM")
    curves.insert(3, "updates", curves["step"] - np.where(late, 0.0, 1.0))
    return pd.concat([curves.drop(columns="step"), _figure6()], ignore_index=True)


def _figure6() -> pd.DataFrame:
    final = _read("figure6_final_loss.csv")
    return pd.DataFrame(
        {
            "figure": "fig6",
            "panel": final["layers"].map("{:.0f}x".format)
            + final["hidden_units"].map("{:.0f}".format),
            "optimizer": final["optimizer"],
            "updates": np.where(final["optimizer"] == "NAG", 200.0, 100.0),
            "loss": final["final_loss"],
        }
    )


@cache
def panel_curves(place: PaperPanel) -> dict[str, pd.DataFrame]:
    """By optimizer, the curves of one panel: updates, loss, band_low, band_high.

    Raises:
        SuiteError: the paper has no such figure or panel.
    """
    curves, figure, panel = paper_curves(), place.figure, place.panel
    figures = list(curves["figure"].unique())
    if figure not in figures:
        raise SuiteError(
            f"the paper's curves have no figure {figure!r}: {nearest(figure, figures)}"
        )
    curves = curves[curves["figure"] == figure]
    panels = list(curves["panel"].unique())
    if panel not in panels:
        hint = nearest(panel, panels)
        raise SuiteError(f"the paper's curves have no panel {panel!r} in {figure!r}: {hint}")
    columns = ["updates", "loss", "band_low", "band_high"]
    rows = curves[curves["panel"] == panel]
    return {
        str(name): rows.loc[index, columns]
        for name, index in rows.groupby("optimizer").groups.items()
    }


def loss_after(place: PaperPanel, optimizer: str, updates: int) -> float:
    """The paper's mean loss after `updates` updates; NaN where it shows no such value.

    The baselines' curves end one update early (their first value is θ_0's), so the last value also
    stands for the number of updates that follows.
    """
    curve = panel_curves(place).get(optimizer)
    if curve is None:
        return np.nan
    steps, losses = curve["updates"].to_numpy(), curve["loss"].to_numpy()
    is_shown = steps[0] <= updates <= steps[-1] + 1
    return float(np.interp(updates, steps, losses)) if is_shown else np.nan


def last_update(place: PaperPanel) -> int:
    """After how many updates the curves of one panel end; see `loss_after`."""
    ends = [
        curve["updates"].max() + (1 if len(curve) > 1 else 0)
        for curve in panel_curves(place).values()
    ]
    return int(min(ends))


def final_loss(place: PaperPanel, optimizer: str) -> float:
    """The last value of the paper's curve; NaN if the panel has no such optimizer."""
    curve = panel_curves(place).get(optimizer)
    return np.nan if curve is None else float(curve["loss"].iloc[-1])


def _read(name: str) -> pd.DataFrame:
    path = PAPER / name
    texts, numbers = COLUMNS[name]
    kinds = {**dict.fromkeys(texts, str), **dict.fromkeys(numbers, float)}
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES:,} bytes")
        table = pd.read_csv(path, usecols=list(kinds), dtype=kinds, encoding="utf-8")
    except FileNotFoundError:
        raise SuiteError(
            f"results/paper/{name} is missing: it is part of the repository, check it out again"
        ) from None
    except (OSError, ValueError, OverflowError, pd.errors.ParserError) as error:
        reason = str(error).splitlines()[0]
        raise SuiteError(
            f"results/paper/{name} is damaged ({reason}): check it out again"
        ) from error
    return table
