"""Figures show what was run, say what was not, and look the same each time."""

import numpy as np
import pandas as pd
import pytest
from tidy_curves import STEPS, condensed, experiment, known, rows

from suite.definitions import ExperimentInfo, PanelInfo, PaperPanel
from suite.figure_files import save_figure
from suite.figure_style import curve_styles
from suite.figures import draw_experiment
from suite.final import final_losses

NAMES = ["LSTM", "ADAM", "$mine$_1"]


def draw(curves, **panel):
    return drawn(experiment(NAMES, **panel), curves)


def drawn(info, runs):
    curves, scores = known(condensed(info, runs))
    styles = curve_styles(name for panel in info.panels for name in panel.optimizers)
    return draw_experiment(info, curves, final_losses([info], curves, scores), styles)


def texts(figure):
    own = [text.get_text() for text in figure.texts]
    return " ".join([*own, *(text.get_text() for text in figure.legends[0].get_texts())])


def test_mean_curve_is_drawn_on_a_log_scale_from_the_first_shown_step():
    curves = pd.concat([rows("LSTM", 0.1), rows("ADAM", 0.2), rows("$mine$_1", 0.3)])
    figure = draw(curves, first_shown=10)
    axis = figure.axes[0]
    assert axis.get_yscale() == "log"
    assert axis.get_xlim() == (10, 20)
    lstm = axis.lines[0]
    at = curves[(curves["optimizer"] == "LSTM") & (curves["step"] == 20)]["loss"].mean()
    assert np.isclose(lstm.get_ydata()[-1], at)
    assert "$mine$_1" in texts(figure)


def test_paper_is_drawn_under_ours_and_named():
    figure = draw(rows("LSTM", 0.1), paper=PaperPanel("fig4", "mnist"))
    lines = figure.axes[0].lines
    assert len(lines) == 3
    assert max(line.get_zorder() for line in lines[:2]) < lines[2].get_zorder()
    assert "the paper's curves" in texts(figure)


def test_notices_diverged_and_missing_runs_are_said():
    curves = pd.concat([rows("LSTM", 0.1), rows("ADAM", 0.2, diverged=[1, 2])])
    said = texts(draw(curves, notice="A subset of 5,000 digits."))
    assert "A subset of 5,000 digits." in said
    assert "ADAM diverged on 2 of 40 runs" in said
    assert "$mine$_1 not run" in said


def test_nothing_to_draw_is_still_a_figure(tmp_path):
    every = pd.concat([rows("LSTM", 0.1, diverged=range(40)), rows("ADAM", 0.2, steps=0)])
    save_figure(draw(every), tmp_path, "e")
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")


def test_equal_curves_give_equal_files(tmp_path):
    for folder in ("a", "b"):
        save_figure(draw(rows("LSTM", 0.1)), tmp_path / folder, "e")
    for kind in ("png", "svg"):
        first, second = (tmp_path / folder / f"e.{kind}" for folder in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_each_name_has_one_style_and_no_two_share_it():
    names = ["LSTM", "ADAM", "RMSprop", "SGD", "NAG", "LSTM-sub", "Lion", "Muon", "mine"]
    names += [f"mine {number}" for number in range(30)]
    styles = curve_styles(names)
    assert styles["ADAM"] == curve_styles(["ADAM", "Zeno"])["ADAM"]
    assert len(set(styles.values())) == len(names)
    assert len({(s.dash, s.marker) for s in styles.values()}) == len(names)  # without colour too


def test_panels_of_a_grid_share_an_axis_that_shows_final_losses():
    finals = {"a": 0.3, "b": 0.2, "c": 0.1}
    curves = pd.concat([rows("LSTM", final, panel=name) for name, final in finals.items()])
    panels = tuple(
        PanelInfo(name, name, STEPS, ("LSTM",), grid="g", at={"layers": layers, "units": units})
        for name, layers, units in (("a", 1, 5), ("b", 1, 10), ("c", 2, 5))
    )
    info = ExperimentInfo("e", "Experiment", panels)
    figure = drawn(info, curves)
    first, second = (axis for axis in figure.axes if axis.get_visible())
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("layers 1", "layers 2")
    assert first.get_xlabel() == "units"
    line = first.lines[0]
    assert list(line.get_xdata()) == [5, 10]
    at = curves[(curves["panel"] == "b") & (curves["step"] > STEPS * 0.9)]["loss"].mean()
    assert np.isclose(line.get_ydata()[1], at)


@pytest.mark.parametrize("many", [9, 30])
def test_legend_of_many_curves_stays_within_the_figure_and_off_its_panels(many):
    names = [f"optimizer number {number}" for number in range(many)]
    curves = pd.concat([rows(name, 0.1) for name in names])
    figure = drawn(experiment(names), curves)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert box.y1 <= figure.bbox.height
    panel = figure.axes[0].get_tightbbox()
    assert panel.y1 <= box.y0
    assert panel.height > 2 * figure.dpi
    assert len(figure.legends) == 1
