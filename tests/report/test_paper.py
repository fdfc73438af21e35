"""The paper's curves are looked up by the number of updates."""

import math

import pytest

from l2l.suite.core.errors import SuiteError
from l2l.suite.plan.definitions import PaperPanel
from l2l.suite.report.paper import final_loss, last_update, loss_after, panel_curves, paper_curves


def test_first_value_is_at_theta_0_but_for_the_lstms_which_is_after_an_update():
    curves = panel_curves(PaperPanel("fig4", "quadratics"))
    assert curves["ADAM"]["updates"].iloc[0] == 0
    assert curves["LSTM"]["updates"].iloc[0] == 1
    assert curves["LSTM"]["loss"].iloc[0] == pytest.approx(0.97, abs=0.01)
    layers = panel_curves(PaperPanel("fig5", "mnist_2_layers"))
    assert layers["LSTM"]["updates"].iloc[0] == 1
    assert layers["LSTM"]["loss"].iloc[0] == pytest.approx(2.51, abs=0.01)
    assert layers["SGD"]["loss"].iloc[0] == pytest.approx(2.303, abs=0.001)


def test_final_losses_are_those_of_section_5_of_the_facts():
    assert final_loss(PaperPanel("fig4", "quadratics"), "ADAM") == pytest.approx(0.0511, abs=5e-5)
    assert final_loss(PaperPanel("fig4", "mnist_100_200"), "LSTM") == pytest.approx(0.215, abs=5e-4)
    assert math.isnan(final_loss(PaperPanel("fig4", "mnist"), "LSTM-sub"))


def test_loss_is_given_where_the_figure_shows_one_and_nowhere_else():
    assert loss_after(PaperPanel("fig4", "mnist"), "NAG", 100) == final_loss(
        PaperPanel("fig4", "mnist"), "NAG"
    )
    assert loss_after(PaperPanel("fig4", "mnist"), "NAG", 0) == pytest.approx(2.303, abs=0.01)
    assert math.isnan(loss_after(PaperPanel("fig4", "mnist"), "NAG", 150))
    assert math.isnan(loss_after(PaperPanel("fig4", "mnist_100_200"), "NAG", 30))
    between = loss_after(PaperPanel("fig7", "cifar10"), "NAG", 1000)
    assert between == pytest.approx(0.8, abs=0.05)


def test_unknown_panels_get_the_nearest_names():
    with pytest.raises(SuiteError, match=r"no figure 'fgi4'.*'fig4'"):
        panel_curves(PaperPanel("fgi4", "mnist"))
    with pytest.raises(SuiteError, match=r"no panel 'minst' in 'fig4'.*'mnist'"):
        panel_curves(PaperPanel("fig4", "minst"))


def test_figure_6_has_every_cell_of_its_grid():
    grid = paper_curves()
    grid = grid[grid["figure"] == "fig6"]
    assert len(grid) == 3 * 2 * 10
    assert not grid.duplicated(["optimizer", "panel"]).any()
    assert loss_after(PaperPanel("fig6", "1x20"), "LSTM", 100) == pytest.approx(0.2448)
    assert math.isnan(loss_after(PaperPanel("fig6", "1x20"), "LSTM", 50))


def test_nag_of_figure_6_is_after_200_updates() -> None:
    """As the curves of Figures 4 and 5 say, where ADAM's and the LSTM's are the ends after 100."""
    base = PaperPanel("fig6", "1x20")
    assert math.isnan(loss_after(base, "NAG", 100))
    long, short = PaperPanel("fig4", "mnist_100_200"), PaperPanel("fig4", "mnist")
    assert loss_after(base, "NAG", 200) == pytest.approx(loss_after(long, "NAG", 200), rel=1e-3)
    for name in ("LSTM", "ADAM"):
        at_100 = loss_after(short, name, 100)
        assert loss_after(base, name, 100) == pytest.approx(at_100, rel=3e-3)
    layers = PaperPanel("fig5", "mnist_2_layers")
    for name, share in (("LSTM", 1), ("ADAM", 1), ("NAG", 1.63)):
        there = panel_curves(PaperPanel("fig6", "2x20"))[name]["loss"].item()
        assert loss_after(layers, name, 100) / there == pytest.approx(share, rel=3e-3)


def test_last_update_is_where_the_figure_ends() -> None:
    """Baselines' curves begin with the loss at θ_0; Figure 6 has points and no curves."""
    places = {
        ("fig4", "mnist"): 100,
        ("fig4", "mnist_100_200"): 200,
        ("fig6", "1x20"): 100,
        ("fig8", "neural_art_64_train_style"): 128,
    }
    assert {place: last_update(PaperPanel(*place)) for place in places} == places
