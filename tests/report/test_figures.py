"""Figures show what was run, say what was not, and look the same each time."""

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from tidy_curves import STEPS, condensed, experiment, known, rows

from l2l.suite.plan.definitions import ExperimentInfo, PanelInfo, PaperPanel
from l2l.suite.report.figures import text as figure_text
from l2l.suite.report.figures.draw import caption
from l2l.suite.report.figures.experiment import draw_experiment
from l2l.suite.report.figures.files import Drawing, render
from l2l.suite.report.figures.style import curve_styles, own_settings
from l2l.suite.report.final import final_losses

NAMES = ["LSTM", "ADAM", "$mine$_1"]


def draw(curves, **panel):
    return drawn(experiment(NAMES, **panel), curves)


def drawn(info, runs):
    curves, scores = known(condensed(info, runs))
    styles = curve_styles(name for panel in info.panels for name in panel.optimizers)
    final = final_losses([info], curves, scores)
    return draw_experiment(info, curves, {}, final, styles)


@pytest.fixture(autouse=True)
def settings():
    with own_settings():
        yield


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


def test_held_out_losses_are_drawn_below_the_panels_that_have_some():
    panels = tuple(PanelInfo(f"p{i}", f"P{i}", STEPS, tuple(NAMES)) for i in range(5))
    info = ExperimentInfo("e", "E", panels)
    runs = pd.concat([rows(name, 0.1, panel=p.name) for p in panels for name in NAMES])
    curves, scores = known(condensed(info, runs))
    held_out = {
        key: replace(curve, steps=curve.steps[::2], mean=2 * curve.mean[::2])
        for key, curve in curves.items()
        if key[1] in ("p1", "p2")
    }
    held_out = {
        key: replace(curve, low=curve.mean, high=curve.mean) for key, curve in held_out.items()
    }
    final = final_losses([info], curves, scores)
    figure = draw_experiment(info, curves, held_out, final, curve_styles(NAMES))
    labels = [axis.get_ylabel() for axis in figure.axes]
    # A row of four, one below two of them, and one for the fifth.
    assert labels == ["Loss", *[""] * 4, "Held-out loss", "", "", "Loss", "", "", ""]
    below = figure.axes[4:8]
    assert [axis.get_visible() for axis in below] == [False, True, True, False]
    for axis, upper in zip(below[1:3], figure.axes[1:3], strict=True):
        assert [len(line.get_xdata()) for line in axis.lines] == [11] * 3
        assert axis.lines[0].get_ydata()[-1] == 2 * upper.lines[0].get_ydata()[-1]
        assert axis.get_xlim() == upper.get_xlim()
    only = draw_experiment(info, curves, {}, final, curve_styles(NAMES))
    assert only.get_figheight() < figure.get_figheight()
    assert "Held-out loss" not in [axis.get_ylabel() for axis in only.axes]


def test_runs_of_which_only_the_held_out_loss_diverged_are_said():
    curves = condensed(experiment(NAMES), rows("LSTM", 0.1))
    every, _ = known(curves)
    fewer = {key: replace(curve, n=38, diverged=2) for key, curve in every.items()}
    info = experiment(NAMES)
    final = final_losses([info], *known(curves))
    figure = draw_experiment(info, every, fewer, final, curve_styles(NAMES))
    said = " ".join(texts(figure).split())
    assert "LSTM has held-out losses that are not finite in 2 more runs" in said


def test_notices_diverged_and_missing_runs_are_said():
    curves = pd.concat([rows("LSTM", 0.1), rows("ADAM", 0.2, diverged=[1, 2])])
    said = texts(draw(curves, notice="A subset of 5,000 digits."))
    assert "A subset of 5,000 digits." in said
    assert "ADAM diverged on 2 of 40 runs" in said
    assert "$mine$_1 not run" in said


def files(curves):
    return render(Drawing("e", "", lambda: draw(curves)))


def test_nothing_to_draw_is_still_a_figure():
    every = pd.concat([rows("LSTM", 0.1, diverged=range(40)), rows("ADAM", 0.2, steps=0)])
    assert files(every).png.startswith(b"\x89PNG")


def test_equal_curves_give_equal_files():
    assert files(rows("LSTM", 0.1)) == files(rows("LSTM", 0.1))


def below(table, by):
    return table.assign(loss=table["loss"] - by)


def test_negative_losses_are_all_shown_on_a_linear_axis():
    axis = draw(pd.concat([below(rows("LSTM", 0.1), 1.0), below(rows("ADAM", 0.5), 1.0)])).axes[0]
    assert axis.get_yscale() == "linear"
    bottom, top = axis.get_ylim()
    for line in axis.lines:
        assert (line.get_ydata() > bottom).all()
        assert (line.get_ydata() < top).all()


def test_losses_of_0_leave_a_log_axis_downwards_and_that_is_said():
    fallen = rows("LSTM", 1e-6)
    fallen.loc[fallen["step"] > 15, "loss"] = 0.0
    figure = draw(pd.concat([fallen, rows("ADAM", 0.5)]))
    axis = figure.axes[0]
    assert axis.get_yscale() == "log"
    lowest = min(y for line in axis.lines for y in line.get_ydata() if y > 0)
    assert 0 < axis.get_ylim()[0] < lowest
    assert "losses of 0 lie below the logarithmic axis" in texts(figure)
    assert "losses of 0" not in texts(draw(rows("ADAM", 0.5)))


@pytest.mark.parametrize(
    "losses", [rows("LSTM", 0.1).assign(loss=0.0), rows("LSTM", 0.1).assign(loss=-2.0)]
)
def test_constant_losses_lie_within_their_axis(losses):
    axis = draw(losses).axes[0]
    level = losses["loss"].iloc[0]
    assert axis.get_ylim()[0] < level < axis.get_ylim()[1]


def test_panel_without_a_finished_run_says_so():
    axis = draw(rows("LSTM", 0.1, diverged=range(40))).axes[0]
    assert "no losses to show" in [text.get_text() for text in axis.texts]


def test_run_of_one_single_step_is_drawn():
    info = ExperimentInfo("e", "E", (PanelInfo("p", "P", 1, ("LSTM",)),))
    figure = drawn(info, rows("LSTM", 0.1, steps=1))
    assert list(figure.axes[0].lines[0].get_xdata()) == [0, 1]


LONG = "an optimizer with a name of eighty characters, which nobody should ever have taken"
NAMES_OF_AUTHORS = ["$x_1$ & 50% {a}^b \\frac", "_mine_", "<b>&amp;", "ε-greedy ∇θ", LONG, "y" * 80]


def test_names_of_any_kind_are_shown_as_they_are_and_whole():
    curves = pd.concat([rows(name, 0.1) for name in NAMES_OF_AUTHORS])
    info = experiment(NAMES_OF_AUTHORS)
    info = replace(info, panels=(replace(info.panels[0], title=f"A $panel$ of {LONG}"),))
    figure = drawn(info, curves)
    figure.draw_without_rendering()
    legend = figure.legends[0]
    named = [text.get_text().replace("\n", " ") for text in legend.get_texts()]
    assert [name.replace(" ", "") for name in NAMES_OF_AUTHORS] == [
        name.replace(" ", "") for name in named[: len(NAMES_OF_AUTHORS)]
    ]
    title = figure.axes[0]._left_title
    for each in (legend, title):
        box = each.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    assert title.get_window_extent().y1 <= legend.get_window_extent().y0


def test_characters_without_a_font_are_numbers_and_told_of_once(caplog, recwarn):
    # No font has the first character, which is for private use.
    names = ["\U00100000 mine", "LSTM", "a\tb\x07"]
    curves = pd.concat([rows(name, 0.1) for name in names])
    info = experiment(names)
    figures = []

    def draw_it():
        figures.append(drawn(info, curves))
        return figures[0]

    render(Drawing("e", "", draw_it), str(info))
    said = texts(figures[0])
    assert "\\U00100000 mine" in said
    assert "a b" in said
    assert "shown as numbers, such as \\U00100000" in said
    assert len([each for each in caplog.records if "no installed font" in each.message]) == 1
    assert not [each for each in recwarn if "missing from font" in str(each.message)]


@pytest.fixture
def other_fonts(monkeypatch):
    """Fonts may be changed, and nothing is known of them before and after."""
    figure_text.family_with.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    figure_text.family_with.cache_clear()


def test_font_that_has_the_characters_is_taken_after_the_usual_one(other_fonts):
    # Other fonts of matplotlib's own stand for those of a script that the usual one lacks.
    letters = figure_text._letters
    usual = ("DejaVuSans.", "DejaVuSans-", "DejaVuSansCondensed")

    def without_x(path):
        return letters(path) - {ord("x")} if Path(path).name.startswith(usual) else letters(path)

    other_fonts.setattr(figure_text, "_letters", without_x)
    found = figure_text.families("x y")
    assert found[0] == "DejaVu Sans"
    assert len(found) == 2
    with own_settings("x y"):
        assert mpl.rcParams["font.family"][:1] == ["DejaVu Sans"]


@pytest.mark.parametrize("values", [(1e-3, 1e-2, 0.1), ("sigmoid", "relu", "1e-3"), (1, "two", 3)])
def test_grid_may_be_over_numbers_and_words(values):
    names = [f"p{place}" for place in range(3)]
    curves = pd.concat([rows("LSTM", 0.1, panel=name) for name in names])
    panels = tuple(
        PanelInfo(name, name, STEPS, ("LSTM",), grid="g", at={"field": value})
        for name, value in zip(names, values, strict=True)
    )
    info = ExperimentInfo("e", "Experiment", panels)
    figure = drawn(info, curves)
    line = figure.axes[0].lines[0]
    if all(isinstance(value, float) for value in values):
        assert list(line.get_xdata()) == list(values)
    else:
        labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
        assert labels == list(map(str, values))


def test_each_name_has_one_style_and_no_two_share_it():
    names = ["LSTM", "ADAM", "RMSprop", "SGD", "NAG", "LSTM-sub", "Lion", "Muon", "mine"]
    names += [f"mine {number}" for number in range(27)] + [
        *("LSTM, seed 2", "LSTM-sub, seed 2", "LSTM, exact", "LSTM, exact, seed 2", "mine, seed 2")
    ]
    styles = curve_styles(names)
    assert styles["ADAM"] == curve_styles(["ADAM", "Zeno"])["ADAM"]
    assert len(set(styles.values())) == len(names)
    assert len({(s.dash, s.marker) for s in styles.values()}) == len(names)  # without colour too
    assert styles["LSTM, exact"].colour == styles["LSTM"].darker_colour
    for name in ("LSTM", "LSTM-sub", "LSTM, exact", "mine"):
        other = styles[f"{name}, seed 2"]
        assert other.colour == styles[name].lighter_colour and other.width < styles[name].width


def test_panels_of_a_grid_share_an_axis_that_shows_final_losses():
    finals = {"a": 0.3, "b": 0.2, "c": 0.1}
    curves = pd.concat([rows("LSTM", final, panel=name) for name, final in finals.items()])
    panels = tuple(
        PanelInfo(
            name,
            name,
            STEPS,
            ("LSTM",),
            notice="A subset." if layers == 1 else "",
            grid="g",
            at={"layers": layers, "units": units},
        )
        for name, layers, units in (("a", 1, 5), ("b", 1, 10), ("c", 2, 5))
    )
    info = ExperimentInfo("e", "Experiment", panels)
    figure = drawn(info, curves)
    first, second = (axis for axis in figure.axes if axis.get_visible())
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("layers 1¹", "layers 2")
    assert first.get_xlabel() == "units"
    line = first.lines[0]
    assert list(line.get_xdata()) == [5, 10]
    at = curves[(curves["panel"] == "b") & (curves["step"] > STEPS * 0.9)]["loss"].mean()
    assert np.isclose(line.get_ydata()[1], at)


def test_numbers_of_a_grid_are_drawn_in_their_order():
    finals = {10: 0.2, 5: 0.3, 20: 0.1}
    curves = pd.concat([rows("LSTM", final, panel=f"p{at}") for at, final in finals.items()])
    panels = tuple(
        PanelInfo(f"p{at}", "P", STEPS, ("LSTM",), grid="g", at={"units": at}) for at in finals
    )
    line = drawn(ExperimentInfo("e", "E", panels), curves).axes[0].lines[0]
    assert list(line.get_xdata()) == [5, 10, 20]
    assert (np.diff(line.get_ydata()) < 0).all()


def test_figure_of_panels_and_a_grid_says_what_each_shows():
    plain = PanelInfo("p", "P", STEPS, ("LSTM",))
    grid = tuple(replace(plain, name=f"g{at}", grid="g", at={"units": at}) for at in (5, 10))
    curves = pd.concat([rows("LSTM", 0.1, panel=name) for name in ("p", "g5", "g10")])
    mixed = ExperimentInfo("e", "E", (plain, *grid))
    figure = drawn(mixed, curves)
    assert [axis.get_ylabel() for axis in figure.axes] == ["Loss", "Final loss"]
    assert "bootstrap band; in grids 95 % interval" in " ".join(texts(figure).split())
    only = " Grids show mean final losses, with their 95 % intervals."
    assert caption(mixed, {}).endswith(only)
    for panels in ((plain,), grid):
        assert only not in caption(replace(mixed, panels=panels), {})


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
