"""The distance of a curve from the paper's is that of their logarithms."""

import numpy as np
import pytest
from tidy_curves import experiment

from l2l.suite.core.errors import SuiteError
from l2l.suite.plan.definitions import PaperPanel
from l2l.suite.report.agreement import distance, log_ratios, rms
from l2l.suite.report.curves import Curve
from l2l.suite.report.paper import panel_curves


def figures_own(optimizer: str, factor: float = 1.0) -> np.ndarray:
    """The figure's losses after 0, 1, … 100 updates, all times `factor`."""
    curve = panel_curves(PaperPanel("fig4", "mnist"))[optimizer]
    return factor * np.interp(np.arange(101), curve["updates"], curve["loss"])


def curve_of(losses: np.ndarray) -> Curve:
    nothing = np.zeros(0)
    return Curve(np.arange(len(losses)), losses, nothing, nothing, 1, 0, np.nan)


@pytest.mark.parametrize("optimizer", ["NAG", "LSTM"])
def test_the_figures_own_curve_has_none_and_a_tenth_more_a_tenth(optimizer: str) -> None:
    panel = experiment([optimizer], paper=PaperPanel("fig4", "mnist")).panels[0]
    same = distance(panel, optimizer, curve_of(figures_own(optimizer)))
    more = distance(panel, optimizer, curve_of(figures_own(optimizer, 1.1)))
    assert same == pytest.approx(0, abs=1e-12)
    assert more == pytest.approx(np.log(1.1))


def test_shorter_runs_are_compared_as_far_as_they_go() -> None:
    updates, ratios = log_ratios(figures_own("NAG")[:31], PaperPanel("fig4", "mnist"), "NAG")
    assert updates.max() == 30
    assert rms(ratios) == pytest.approx(0, abs=1e-12)


def test_what_diverged_is_infinitely_far_and_what_has_no_figure_is_nothing() -> None:
    losses = figures_own("NAG")
    losses[50:] = np.inf
    panel = experiment(["NAG"], paper=PaperPanel("fig4", "mnist")).panels[0]
    assert distance(panel, "NAG", curve_of(losses)) == np.inf
    assert np.isnan(distance(panel, "unknown", curve_of(losses)))
    single = experiment(["NAG"], paper=PaperPanel("fig6", "1x20")).panels[0]
    assert np.isnan(distance(single, "NAG", curve_of(losses)))
    with pytest.raises(SuiteError, match="no panel"):
        log_ratios(losses, PaperPanel("fig4", "minst"), "NAG")
