"""From YAML to typed experiments: merging, and what wrong input is told."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from l2l.suite.commands.request import every_experiment, find_experiments
from l2l.suite.core.convert import fill, plain
from l2l.suite.core.errors import SuiteError
from l2l.suite.plan.config import Experiment
from l2l.suite.plan.definitions import PaperPanel
from l2l.suite.plan.plan import make_plan
from l2l.suite.plan.profiles import build, read_experiment

FILE = """
title: Tiny
sizes: {test_instances: 100, tuning_instances: 10}
profiles:
  smoke:
    sizes: {test_instances: 4}
    training: {t: {use: shipped}}
    panels: {p: {problem: {name: quadratic}}}
training:
  t:
    problem: {name: mlp, units: 30}
    optimizer: {name: lstm}
    phases:
      - {runs: 10, horizon: 20, estimator: {name: truncated, window: 20}, rate: 1e-2}
      - {runs: 20, horizon: 40, estimator: {name: truncated, window: 20}, rate: 0.003, batch: 2}
    checkpoint: tiny
panels:
  p:
    title: Panel
    problem: {name: mlp, units: 30}
    steps: 20
    optimizers: {LSTM: {trained: t}, SGD: {name: sgd}}
claims:
  C-1: {text: Good, test: ends_below_all, panel: p, optimizer: LSTM}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(FILE)
    return path


def load(path: Path, profile: str = "quick", *settings: str) -> Experiment:
    return build([read_experiment(path)], profile, list(settings))[0]


def test_file_becomes_typed_values(path: Path) -> None:
    experiment = load(path)
    assert experiment.name == "tiny"
    assert experiment.training["t"].phases[0].rate == 0.01
    assert experiment.training["t"].phases[0].batch == 1
    assert experiment.claims["C-1"].options == {"panel": "p", "optimizer": "LSTM"}


def test_profile_lies_over_file_and_set_over_profile(path: Path) -> None:
    assert load(path).sizes.test_instances == 100
    assert load(path, "smoke").sizes.test_instances == 4
    assert load(path, "smoke").sizes.tuning_instances == 10
    assert load(path, "smoke", "tiny.sizes.test_instances=8").sizes.test_instances == 8
    assert load(path, "smoke").training["t"].use == "shipped"


def test_another_problem_leaves_no_field_of_the_one_before(path: Path) -> None:
    assert load(path, "smoke").panels["p"].problem == {"name": "quadratic"}


def test_set_reaches_into_lists(path: Path) -> None:
    phases = load(path, "quick", "training.t.phases.1.runs=7").training["t"].phases
    assert [phase.runs for phase in phases] == [10, 7]


def test_set_without_experiment_goes_to_all_that_have_the_key(path: Path) -> None:
    other = path.with_name("other.yaml")
    other.write_text(FILE.replace("  p:\n", "  q:\n").replace("panels: {p:", "panels: {q:"))
    raws = [read_experiment(path), read_experiment(other)]
    tiny, other_one = build(raws, "quick", ["panels.q.steps=3", "seed=9"])
    assert tiny.panels["p"].steps == 20
    assert other_one.panels["q"].steps == 3
    assert tiny.seed == other_one.seed == 9


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("sizes.test_instance=8", "'test_instances'"),
        ("tiyn.sizes.test_instances=8", "did you mean 'tiny'"),
        ("sizes.test_instances=many", "sizes.test_instances is 'many', but must be a whole number"),
        ("sizes.test_instances=0", "at least 1"),
        ("sizes.test_instances=2.5", "a whole number"),
        ("sizes.test_instances=true", "is true"),
        ("sizes.test_instances=.inf", "finite"),
        ("sizes=3", "sizes is 3, but must be a table"),
        ("panels.pp.steps=3", "did you mean 'p'"),
        ("panels.p.first_shown=20", "first_shown 20 must be below steps 20"),
        ("panels.p.title=null", "panels.p.title is null, but must be text"),
        ("training.t.phases.2.rate=1", "numbered 0 to 1"),
        ("training.t.phases.0.rate=-1", "training.t.phases[0].rate is -1"),
        ("training.t.phases.0.window=21", "write estimator: {name: truncated, window: 21}"),
        ("training.t.phases=[]", "at least one phase under 'phases'"),
        ("training.t.seeds=3", "a list"),
        ("training.t.seeds=[1, 1]", "must be different"),
        ("training.t.use=shiped", "did you mean 'shipped'"),
        ("training.t.checkpoint=../../secret", "letters, digits"),
        ("name=a/b", "letters, digits"),
        ("tiny=5", "tiny is an experiment: the value must be a table"),
        ("tiny=[1]", "the value must be a table"),
        ("tiny=null", "the value must be a table"),
        ("training.t.phases.²=1", "numbered 0 to 1"),
        (f"training.t.phases.{5000 * '1'}=1", "numbered 0 to 1"),
        ("sizes.test_instances", "must be KEY=VALUE"),
        ("sizes.test_instances=[", "not valid YAML"),
    ],
)
def test_wrong_setting_is_told_where_and_what_is_right(
    path: Path, setting: str, expected: str
) -> None:
    with pytest.raises(SuiteError) as caught:
        load(path, "quick", setting)
    assert expected in str(caught.value)
    assert "tiny" in str(caught.value) or setting in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flat", "line"),
    [
        ("window: 20", "{name: truncated, window: 20}"),
        (
            "window: 20, sample: 4000, discount: 0.95",
            "{name: truncated, window: 20, discount: 0.95, sample: 4000}",
        ),
        ("window: 20, second_order: true", "{name: second_order, window: 20}"),
        ("estimator: {name: pes}, window: 5", "{name: pes, window: 5}"),
    ],
)
def test_options_of_an_estimator_among_a_phases_are_refused_with_the_line_to_write(
    path: Path, flat: str, line: str
) -> None:
    content = path.read_text()
    own = "estimator: {name: truncated, window: 20}"
    assert own in content
    path.write_text(content.replace(own, flat, 1))
    with pytest.raises(SuiteError, match=r"tiny.yaml: training.t.phases\[0\] has no") as caught:
        load(path, "quick")
    assert str(caught.value).endswith(f": write estimator: {line}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "line 1"),
        ("- a", "must be a table"),
        ("title: a\ntitle: b", "line 2: is not valid YAML: the key 'title' is duplicated"),
        ("title: a", "needs 'sizes'"),
        (FILE.replace("title: Tiny", "titel: Tiny"), "has no 'titel': did you mean 'title'"),
        (FILE.replace("smoke:", "somke:"), "known are smoke, quick, small, reference, paper"),
        (FILE.replace("t: {use: shipped}", "u: {use: shipped}"), "profiles.smoke.training"),
        *(
            (FILE.partition("profiles:")[0] + f"profiles: {{smoke: {value}}}", f"smoke is {told},")
            for value, told in (("true", "True"), ("[]", "[]"), ("false", "False"), ("0", "0"))
        ),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_wrong_file_is_told_where(path: Path, text: str, expected: str) -> None:
    path.write_text(text)
    with pytest.raises(SuiteError) as caught:
        load(path, "smoke")
    assert expected in str(caught.value)
    assert "tiny.yaml" in str(caught.value)


@pytest.mark.parametrize("name", ["fig4", "4", "figure4", "Figure 4", "fig_4"])
def test_experiments_are_found_by_figure_and_by_name(name: str) -> None:
    assert [path.name for path in find_experiments([name])] == ["fig4.yaml"]


def test_entry_of_an_empty_list_is_told_to_be_missing(path: Path) -> None:
    path.write_text(FILE.replace("    checkpoint: tiny", "    checkpoint: tiny\n    seeds: []"))
    with pytest.raises(SuiteError, match="has no entry '0': the list is empty"):
        load(path, "quick", "training.t.seeds.0=1")


def test_setting_may_not_give_two_experiments_one_name(path: Path) -> None:
    other = path.with_name("other.yaml")
    other.write_text(FILE)
    raws = [read_experiment(path), read_experiment(other)]
    for setting in ("name=x", "other.name=tiny"):
        with pytest.raises(SuiteError, match="another experiment is also called"):
            build(raws, "quick", [setting])


def test_trained_optimizer_replaces_another_one_and_the_other_way_round(path: Path) -> None:
    trained = load(path, "quick", "panels.p.optimizers.SGD={trained: t}")
    assert trained.panels["p"].optimizers["SGD"] == {"trained": "t"}
    named = load(path, "quick", "panels.p.optimizers.LSTM={name: adam}")
    assert named.panels["p"].optimizers["LSTM"] == {"name": "adam"}


def test_wrong_experiment_gets_the_nearest_names() -> None:
    with pytest.raises(SuiteError, match="there is no experiment 'fgi4': did you mean 'fig4'"):
        find_experiments(["fgi4"])


@pytest.mark.parametrize("profile", ["smoke", "quick", "small", "reference", "paper"])
def test_every_experiment_of_the_repository_is_valid(profile: str) -> None:
    raws = [read_experiment(path) for path in every_experiment()]
    assert build(raws, profile, [])


GRID = """
title: Grid
sizes: {test_instances: 2, tuning_instances: 2}
grids:
  g:
    over: {dim: [2, 3], distribution: [uniform, gaussian]}
    panel:
      title: "{distribution}, {dim}"
      problem: {name: quadratic, scale: 0.1}
      steps: 5
      paper: {figure: fig6, panel: "{dim}x{dim}"}
      optimizers: {SGD: {name: sgd}}
"""


def test_grid_makes_a_panel_of_each_combination(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    panels = load(path, "paper").every_panel()
    assert list(panels) == ["g-2-uniform", "g-2-gaussian", "g-3-uniform", "g-3-gaussian"]
    last = panels["g-3-gaussian"]
    assert last.title == "gaussian, 3"
    assert last.problem == {
        "name": "quadratic",
        "scale": 0.1,
        "dim": 3,
        "distribution": "gaussian",
    }
    assert last.paper == PaperPanel("fig6", "3x3")


@pytest.mark.parametrize(
    ("over", "panels", "told"),
    [
        ('{dim: [2, 3, "2"]}', "", "2 panels are called 'g-2': rename"),
        ('{scale: [0.1, "0_1"]}', "", "2 panels are called 'g-0_1'"),
        ("{dim: [2]}", "panels: {g-2: *panel}", "2 panels are called 'g-2'"),
        (f"{{dim: [2], a: &a {list(range(40))}, b: *a}}", "", "1,600 combinations"),
        (f"{{text: [{'a' * 195}]}}", "", r"^grid.yaml: .* \(grid\) .* 201 characters together"),
    ],
)
def test_panels_that_cannot_be_called_so_are_refused(
    tmp_path: Path, over: str, panels: str, told: str
) -> None:
    path = tmp_path / "grid.yaml"
    text = GRID.replace("{dim: [2, 3], distribution: [uniform, gaussian]}", over)
    text = text.replace('"{distribution}, {dim}"', "Title").replace('"{dim}x{dim}"', "x")
    path.write_text(text.replace("    panel:\n", "    panel: &panel\n") + panels)
    with pytest.raises(SuiteError, match=told):
        load(path, "paper")


def test_grid_is_over_the_problem_that_rates_are_tuned_on_too(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    tuned = "tuning_problem: {name: quadratic, scale: 0.2, dim: 5}\n      steps: 5"
    path.write_text(GRID.replace("steps: 5", tuned))
    panel = load(path, "paper").every_panel()["g-3-uniform"]
    assert panel.tuning_problem == {**panel.problem, "scale": 0.2}


@pytest.mark.parametrize("title", ["{dim:>50000000}", "{dim.real}", "{dim", "{{dim}}", "{}"])
def test_braces_in_texts_of_a_grid_hold_a_field_and_nothing_else(
    tmp_path: Path, title: str
) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID.replace("{distribution}, {dim}", title))
    with pytest.raises(SuiteError, match=r"grid\.yaml: grids\.g: in .*braces may only contain dim"):
        load(path, "paper")


def test_errors_name_the_file_and_the_key_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("name: other\n" + GRID.replace("[2, 3]", "[2, 0]"))
    with pytest.raises(SuiteError) as caught:
        make_plan([load(path, "paper")])
    place = "file.yaml: grids.g.panel (at dim 0, distribution uniform).problem: problem 'quadratic'"
    assert str(caught.value).startswith(place)
    path.write_text("name: other\n" + FILE.replace("name: lstm", "name: lstmm"))
    with pytest.raises(SuiteError, match=r"^file\.yaml: training\.t\.optimizer: there is no"):
        make_plan([load(path)])


def test_grid_whose_texts_name_another_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID.replace("{distribution}, {dim}", "{units} units"))
    with pytest.raises(SuiteError, match="braces may only contain dim, distribution"):
        load(path, "paper").every_panel()


@pytest.mark.parametrize(
    "setting",
    [
        *("training.t.phases.0.rate=0.1", "tiny.training.t.seeds=[4, 5]"),
        *(
            "training.t.validate_every=3",
            "training.t={seeds: [4]}",
            "tiny={training: {t: {seeds: [4]}}}",
        ),
    ],
)
def test_setting_of_a_training_that_is_not_done_is_refused(path: Path, setting: str) -> None:
    with pytest.raises(SuiteError, match=r"uses the shipped checkpoint .*tiny\.training\.t\.use"):
        load(path, "smoke", setting)
    load(path, "smoke", setting, "tiny.training.t.use=train")
    load(path, "quick", setting)


@dataclass
class Bare:
    """Containers that do not say of what."""

    pair: tuple = (1, 2)  # type: ignore[type-arg]
    some: list | None = None  # type: ignore[type-arg]
    table: typing.Dict = field(default_factory=dict)  # type: ignore[type-arg]  # noqa: UP006


def test_containers_need_not_say_of_what() -> None:
    given = {"pair": [0.8, 0.9], "some": [1], "table": {"x": 1}}
    found = fill(Bare, given, "here")
    assert (found.pair, found.some, found.table) == ((0.8, 0.9), [1], {"x": 1})
    assert fill(Bare, plain(found), "here") == found
    with pytest.raises(SuiteError, match=r"here\.pair is 3, but must be a list"):
        fill(Bare, {"pair": 3}, "here")
