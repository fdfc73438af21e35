"""Claims on single coordinates, on traces whose answers are known; and their figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tidy_curves import condensed, experiment, known, rows

from l2l.suite.inner.trace_tables import COLUMNS, Traces, joined
from l2l.suite.report.claims.verdicts import check_claims
from l2l.suite.report.figures.style import curve_styles, own_settings
from l2l.suite.report.figures.traces import draw_traces

NAMES = ["LSTM", "ADAM", "SGD"]
INSTANCES, COORDINATES, STEPS = 20, 4, 60
GRID = np.linspace(-2, 2, 81)
Response = Callable[[np.ndarray], np.ndarray]


def optimizer(
    name: str, size: float = 1.0, memory: float = 0.0, response: Response = np.negative
) -> Traces:
    """One whose updates forget a gradient's sign by `memory` a step, and some noise."""
    gradient = np.random.default_rng(0).normal(size=(INSTANCES * COORDINATES, STEPS))
    update = np.zeros_like(gradient)
    for step in range(STEPS):
        before = update[:, step - 1] if step else 0.0
        update[:, step] = memory * before - (1 - memory) * size * gradient[:, step]

    def table(**columns: np.ndarray) -> pd.DataFrame:
        """Columns of each coordinate, or of all of them alike."""
        full = {
            name: np.broadcast_to(each, (len(gradient), each.shape[-1])).ravel()
            for name, each in columns.items()
        }
        places = np.repeat(
            np.arange(len(gradient)), len(next(iter(full.values()))) // len(gradient)
        )
        instance, coordinate = np.divmod(places, COORDINATES)
        return pd.DataFrame(
            {"optimizer": name, "instance": instance, "coordinate": coordinate, **full}
        )

    grid, lags = np.tile(GRID, 3), np.arange(20)
    return Traces(
        table(step=1 + np.arange(STEPS), gradient=gradient, update=update),
        table(step=np.repeat([1, 2, 3], len(GRID)), gradient=grid, update=response(grid)),
        table(lag=lags, effect=float(memory) ** lags),
    )


LINE = optimizer("ADAM")


def verdict(test: str, than: Any, *parts: Traces, **options: float) -> Any:
    info = experiment(NAMES, test, {"panel": "p", "optimizer": "LSTM", "than": than, **options})
    tables = condensed(info, rows("LSTM", 0.1)[:0], joined(list(parts)))
    return check_claims([info], *known(tables)).iloc[0]


def test_bigger_than_the_biggest_of_the_others() -> None:
    others = optimizer("SGD", 0.1), optimizer("ADAM", 0.5)
    row = verdict("bigger_updates", ["SGD", "ADAM"], optimizer("LSTM", 1.0), *others)
    assert (row.verdict, row.n) == ("reproduced", INSTANCES)
    assert row.estimate == pytest.approx(2.0)
    row = verdict("bigger_updates", ["SGD", "ADAM"], optimizer("LSTM", 0.4), *others)
    assert row.verdict == "contradicted"
    assert row.estimate == pytest.approx(0.8)


def test_updates_that_diverged_are_no_help_to_the_claim_that_they_are_bigger() -> None:
    lost = optimizer("LSTM", 0.4)
    lost.traces.loc[lost.traces["instance"] < 2, "update"] = np.inf
    others = optimizer("SGD", 0.1), optimizer("ADAM", 0.5)
    row = verdict("bigger_updates", ["SGD", "ADAM"], lost, *others)
    assert (row.verdict, row.n) == ("contradicted", INSTANCES)
    assert row.estimate == pytest.approx(0.8)


def test_bigger_than_all_needs_the_interval_of_each() -> None:
    """ADAM's updates are the bigger ones on average, SGD's the ones that differ most."""
    sgd = optimizer("SGD", 0.9)
    sgd.traces.loc[sgd.traces["instance"] < 3, "update"] *= 1.5
    one, *_ = rows_ = [
        verdict("bigger_updates", than, optimizer("LSTM", 1.04), sgd, optimizer("ADAM", 0.98))
        for than in (["SGD", "ADAM"], ["ADAM"], ["SGD"])
    ]
    assert [row.verdict for row in rows_] == ["inconclusive", "reproduced", "inconclusive"]
    assert one.estimate == pytest.approx(1.04 / 0.98)
    assert one.ci_low < 1 < one.ci_high


def test_noise_that_diverged_is_no_help_to_the_claim_of_more_noise() -> None:
    adam, lost = optimizer("ADAM", memory=0.9), optimizer("LSTM", memory=0.5)
    lost.traces.loc[lost.traces["instance"] < 2, "update"] = np.inf
    adam.traces["update"] = np.tile([1.0, -1.0], len(adam.traces) // 2)  # noisier than any
    row = verdict("short_noisy_momentum", "ADAM", lost, adam)
    assert row.verdict == "contradicted"
    # The estimate is that of the part which decides, the ratio of the noises.
    assert row.estimate < row.ci_high < 1


def test_short_noisy_momentum_needs_all_three() -> None:
    adam = optimizer("ADAM", memory=0.9)
    row = verdict("short_noisy_momentum", "ADAM", optimizer("LSTM", memory=0.5), adam)
    assert row.verdict == "reproduced"
    lags = np.arange(20)
    scales = [(lags * beta**lags).sum() / (beta**lags).sum() for beta in (0.5, 0.9)]
    assert row.estimate == pytest.approx(scales[0] - scales[1])
    # No momentum at all, and one that is longer.
    for memory, where in ((0.0, "(inconclusive); mean lag"), (0.97, "(contradicted); noise")):
        row = verdict("short_noisy_momentum", "ADAM", optimizer("LSTM", memory=memory), adam)
        assert row.verdict != "reproduced"
        assert where in row.note
    # Momentum of the wrong sign.
    row = verdict("short_noisy_momentum", "ADAM", optimizer("LSTM", memory=-0.5), adam)
    assert row.verdict == "contradicted"


def test_step_like_and_opposite_responses_are_counted() -> None:
    def step(x: np.ndarray) -> np.ndarray:
        return -np.sign(x)

    row = verdict("step_like_responses", "ADAM", optimizer("LSTM", response=step), LINE)
    assert "step-like: 1.00 (reproduced; ADAM 0)" in row.note
    assert (row.verdict, row.estimate) == ("contradicted", 0.0)  # never the other way
    row = verdict("step_like_responses", "ADAM", optimizer("LSTM", response=np.sign), LINE)
    assert row.verdict == "reproduced"
    row = verdict("step_like_responses", "ADAM", optimizer("LSTM", response=np.sign), LINE, often=1)
    assert row.verdict != "reproduced"
    row = verdict("step_like_responses", "ADAM", optimizer("LSTM"), LINE)
    assert (row.verdict, row.estimate) == ("contradicted", 0.0)


def test_ways_to_be_opposite_that_disagree_leave_the_claim_undecided() -> None:
    """A response with the sign of the gradient, but where it is large: opposite at most points."""

    def mostly(x: np.ndarray) -> np.ndarray:
        return np.where(np.abs(x) < 1.4, np.sign(x), -10 * np.sign(x))

    row = verdict("step_like_responses", "ADAM", optimizer("LSTM", response=mostly), LINE, often=0)
    assert row.note.count("(contradicted)") == 1  # in sum it is not opposite
    assert "share of responses mostly opposite to ADAM: 1.00 (reproduced)" in row.note
    assert "share of points opposite to ADAM: 0.66" in row.note
    assert row.verdict != "reproduced"
    steep = optimizer("LSTM", response=lambda x: np.sign(x) * np.where(np.abs(x) < 1.4, 1, -1.2))
    row = verdict("step_like_responses", "ADAM", steep, LINE)
    assert (row.verdict, row.reason) == ("inconclusive", "undecided by definition")


def test_missing_traces_are_unchecked() -> None:
    row = verdict("bigger_updates", ["SGD", "ADAM"], optimizer("LSTM"), optimizer("SGD"))
    assert row.verdict == "unchecked"
    assert "no mean absolute update of ADAM in panel p" in row.note


def test_figures_show_two_coordinates_over_time_and_three_as_functions() -> None:
    parts = [optimizer(name, size) for name, size in zip(NAMES, (1.0, 0.5, 0.1), strict=True)]
    info = experiment(NAMES)
    tables = condensed(info, rows("LSTM", 0.1)[:0], joined(parts))
    drawn = list(draw_traces(info, tables, curve_styles(NAMES)))
    assert [each.name for each in drawn] == [
        "e-p-updates",
        *(f"e-p-response-{number}" for number in (1, 2, 3)),
    ]
    with own_settings():
        over_time, response = drawn[0].draw(), drawn[1].draw()
    assert [axis.get_title(loc="left") for axis in over_time.axes] == [
        "Coordinate 0",
        "Coordinate 1",
    ]
    lstm = over_time.axes[0].lines[2]
    own = tables.traces.query("optimizer == 'LSTM' and instance == 0 and coordinate == 0")
    np.testing.assert_allclose(lstm.get_ydata(), own["update"])
    assert [axis.get_title(loc="left") for axis in response.axes] == ["1", "2", "3"]
    np.testing.assert_allclose(response.axes[0].lines[2].get_xdata(), GRID)
    untraced = condensed(info, rows("LSTM", 0.1))
    assert not list(draw_traces(info, untraced, curve_styles(NAMES)))


def test_columns_are_the_contract() -> None:
    assert {name: ",".join(columns) for name, columns in COLUMNS.items()} == {
        "traces": "optimizer,instance,coordinate,step,gradient,update",
        "responses": "optimizer,instance,coordinate,step,gradient,update",
        "impulses": "optimizer,instance,coordinate,lag,effect",
    }
