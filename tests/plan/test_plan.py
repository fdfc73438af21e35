"""From experiments to cells: what is shared, what a key depends on, what is refused."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from flax_files import flax_file, small_fc_lopt

import l2l.suite.commands.request
import l2l.suite.plan.learned
from l2l.optimizers.learned.checkpoint import save_optimizer
from l2l.problems.data_root import DATA_ROOT
from l2l.problems.downloads import OFFLINE, why_no_download
from l2l.problems.quadratic import Quadratic
from l2l.suite.commands.request import Request, plan_request
from l2l.suite.core.convert import plain
from l2l.suite.core.errors import DataMissing, SuiteError
from l2l.suite.core.imports import REPOSITORY, definition_files
from l2l.suite.core.plugins import load_plugin
from l2l.suite.core.registry import estimators, optimizers, problems
from l2l.suite.core.seeds import Rng
from l2l.suite.plan.config import Experiment
from l2l.suite.plan.plan import Plan, make_plan
from l2l.suite.plan.profiles import build, read_experiment
from l2l.suite.plan.resolved import _resolved, teacher_config
from l2l.suite.plan.unchanged import check_unchanged
from l2l.suite.report.collect import _told, experiment_infos

FILE = """
title: Tiny
sizes: {test_instances: 4, tuning_instances: 2}
training:
  t:
    problem: {name: quadratic}
    optimizer: {name: lstm, preprocessing: none}
    phases: [{runs: 10, horizon: 20, estimator: {name: truncated, window: 20},
              rate: 0.01, odd: true}]
    checkpoint: tiny
panels:
  p:
    title: Panel
    problem: {name: quadratic}
    steps: 20
    optimizers: &all {LSTM: {trained: t}, SGD: {name: sgd}, ADAM: {name: adam, lr: 0.1}}
  longer:
    title: Longer
    problem: {name: quadratic}
    steps: 40
    tuning_steps: 20
    optimizers: *all
"""

# A problem whose data is not there, and of which the project has no sample.
MISSING = "{name: convnet, dataset: svhn}"

PLUGIN = '''
"""A problem of one's own."""
from dataclasses import dataclass
from l2l import Problem, register_problem

@register_problem("bowl")
@dataclass(frozen=True)
class Bowl(Problem):
    """f(θ) = θ²."""

    def init(self, rng):
        return {"theta": rng.normal(2)}  # around zero

    def loss(self, params, instance, batch):
        return (1 * params["theta"]).square().sum()
'''


def experiment(tmp_path: Path, *settings: str, name: str = "tiny") -> Experiment:
    path = tmp_path / f"{name}.yaml"
    path.write_text(FILE)
    return build([read_experiment(path)], "quick", list(settings))[0]


def plan(tmp_path: Path, *settings: str) -> Plan:
    return make_plan([experiment(tmp_path, *settings)])


def kinds(found: Plan) -> list[str]:
    return [cell.kind for cell in found.cells]


def keys(found: Plan) -> dict[tuple[str, str], str]:
    return {(curve.panel, curve.optimizer): curve.cell.key for curve in found.curves}


def test_equal_work_is_one_cell_within_and_across_experiments(tmp_path: Path) -> None:
    one = plan(tmp_path)
    # Both panels share the training and SGD's tuning; ADAM's rate is given.
    assert sorted(kinds(one)) == ["evaluate"] * 6 + ["metatrain", "tune"]
    two = make_plan([experiment(tmp_path), experiment(tmp_path, name="again")])
    assert two.cells == one.cells
    assert len(two.curves) == 12


def test_sweep_that_two_problems_share_is_one_folder(tmp_path: Path) -> None:
    shared = "tuning_problem={name: quadratic, dim: 3}"
    found = plan(
        tmp_path,
        *(f"panels.{panel}.{shared}" for panel in ("p", "longer")),
        "panels.p.problem={name: matrix-factorisation}",
    )
    sweeps = [each for curve in found.curves for each in curve.cell.inputs if each.kind == "tune"]
    assert len(sweeps) == 2
    assert len({cell.key for cell in sweeps}) == 1
    assert {cell.label for cell in sweeps} <= {cell.label for cell in found.cells}


def test_inputs_come_before_what_reads_them(tmp_path: Path) -> None:
    seen: set[str] = set()
    for cell in plan(tmp_path, "training.t.seeds=[1,2]").cells:
        assert all(each.key in seen for each in cell.inputs)
        seen.add(cell.key)


def test_several_seeds_are_selected_from(tmp_path: Path) -> None:
    found = plan(tmp_path, "training.t.seeds=[1,2,3]")
    assert kinds(found).count("metatrain") == 3
    (select,) = (cell for cell in found.cells if cell.kind == "select")
    assert [cell.config["seed"] for cell in select.inputs] == [1, 2, 3]


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        ("panels.p.steps=21", {"LSTM", "SGD", "ADAM"}),
        ("panels.p.problem.dim=3", {"LSTM", "SGD", "ADAM"}),
        ("sizes.tuning_instances=3", {"SGD"}),
        ("sizes.test_instances=5", {"LSTM", "SGD", "ADAM"}),
        ("seed=5", {"LSTM", "SGD", "ADAM"}),
        ("training.t.phases.0.rate=0.02", {"LSTM"}),
        ("training.t.phases.0.estimator={name: second_order, window: 20}", {"LSTM"}),
        ("training.t.phases.0.estimator.window=10", {"LSTM"}),
        ("training.t.phases.0.estimator.discount=1.0", set()),
        ("training.t.seeds=[2]", {"LSTM"}),
        ("panels.p.optimizers.ADAM.beta1=0.8", {"ADAM"}),
        ("panels.p.optimizers.ADAM.beta1=0.9", set()),
        ("panels.p.problem.dim=10", set()),
        ("panels.p.title=Other", set()),
        ("panels.p.first_shown=3", set()),
        ("training.t.checkpoint=other", set()),
    ],
)
def test_key_changes_with_what_decides_the_result_only(
    tmp_path: Path, setting: str, changed: set[str]
) -> None:
    before, after = keys(plan(tmp_path)), keys(plan(tmp_path, setting))
    assert {
        label
        for panel, label in before
        if before[panel, label] != after[panel, label] and panel == "p"
    } == changed


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("f(θ) = θ².", "Another docstring.", True),
        ("# around zero", "# elsewhere", True),
        ("(1 * params", "(2 * params", False),
    ],
)
def test_editing_code_redoes_cells_and_editing_docstrings_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, same: bool
) -> None:
    monkeypatch.delitem(problems._classes, "bowl", raising=False)
    file = tmp_path / "bowl_plugin.py"
    found = []
    for text in (PLUGIN, PLUGIN.replace(old, new)):
        assert old in PLUGIN
        file.write_text(text)
        load_plugin(file)
        found.append(keys(plan(tmp_path, "panels.p.problem={name: bowl}")))
    assert (found[0] == found[1]) is same


def test_plugin_cannot_take_the_name_of_a_class_that_is_there(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "from l2l import Optimizer, register_optimizer\n"
        "@register_optimizer('sgd')\n"
        "@dataclass(frozen=True)\n"
        "class SGD(Optimizer):\n"
        "    'Another one.'\n"
    )
    ours = optimizers.cls("sgd")
    with pytest.raises(SuiteError, match="'sgd' is registered twice"):
        load_plugin(file)
    assert optimizers.cls("sgd") is ours


def test_digest_follows_imports_between_definitions() -> None:
    assert "problems/datasets.py" in definition_files(REPOSITORY / "problems" / "mlp.py")


def test_shipped_checkpoint_replaces_training_and_its_content_is_in_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(l2l.suite.plan.learned, "CHECKPOINTS", tmp_path)
    with pytest.raises(SuiteError, match=r"no results/checkpoints/tiny\.safetensors"):
        plan(tmp_path, "training.t.use=shipped")
    save_checkpoint(tmp_path, seed=1)
    before = plan(tmp_path, "training.t.use=shipped")
    save_checkpoint(tmp_path, seed=2)
    after = plan(tmp_path, "training.t.use=shipped")
    assert "metatrain" not in kinds(before)
    assert keys(before)["p", "LSTM"] != keys(after)["p", "LSTM"]
    assert keys(before)["p", "SGD"] == keys(after)["p", "SGD"]


def test_shipped_checkpoint_needs_no_data_of_problems_that_training_mixes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(l2l.suite.plan.learned, "CHECKPOINTS", tmp_path)
    save_checkpoint(tmp_path, seed=1)
    own = experiment(tmp_path)
    (phase,) = own.training["t"].phases
    phase = replace(phase, also=({"name": "convnet", "dataset": "svhn"},))
    training = replace(own.training["t"], phases=(phase,))

    def planned(use: Literal["train", "shipped"]) -> Plan:
        return make_plan([replace(own, training={"t": replace(training, use=use)})])

    with pytest.raises(DataMissing):
        planned("train")
    assert keys(planned("shipped")) == keys(plan(tmp_path, "training.t.use=shipped"))


@dataclasses.dataclass(frozen=True)
class Capped(Quadratic):
    cap: float = math.inf


def test_defaults_that_json_lacks_are_left_to_the_code() -> None:
    assert "cap" not in _resolved(Capped, {"name": "capped"})
    assert _resolved(Capped, {"name": "capped", "cap": 2.0})["cap"] == 2.0


def test_checkpoint_of_an_unknown_problem_is_of_no_panel_here(tmp_path: Path) -> None:
    spec = {"name": "lstm", "preprocessing": "none"}
    lstm = optimizers.make(spec)
    trained = lstm.with_weights(lstm.initial_weights(Rng(1, "phi")))
    path = tmp_path / "own.safetensors"
    save_optimizer(path, spec, trained, {"problem": {"name": "of_a_plugin"}})
    assert _told(path) == []


def save_checkpoint(folder: Path, seed: int) -> None:
    spec = {"name": "lstm", "preprocessing": "none"}
    lstm = optimizers.make(spec)
    trained = lstm.with_weights(lstm.initial_weights(Rng(seed, "phi")))
    save_optimizer(folder / "tiny.safetensors", spec, trained)


def test_checkpoint_of_another_architecture_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(l2l.suite.plan.learned, "CHECKPOINTS", tmp_path)
    save_checkpoint(tmp_path, seed=1)
    with pytest.raises(SuiteError, match=r"training\.t\.optimizer\.hidden differs from that of"):
        plan(tmp_path, "training.t.use=shipped", "training.t.optimizer.hidden=6")
    (tmp_path / "tiny.safetensors").write_bytes(b"cut short")
    with pytest.raises(SuiteError, match="not a whole safetensors file"):
        plan(tmp_path, "training.t.use=shipped")


def test_training_from_a_checkpoint_follows_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(l2l.suite.plan.learned, "CHECKPOINTS", tmp_path)
    start = "training.t.start=tiny"
    with pytest.raises(SuiteError, match=r"training\.t\.start: there is no .*; omit training\.t\."):
        plan(tmp_path, start)
    save_checkpoint(tmp_path, seed=1)
    before = plan(tmp_path, start)
    assert keys(before)["p", "LSTM"] != keys(plan(tmp_path))["p", "LSTM"]
    with pytest.raises(SuiteError, match=r"hidden differs from that of .*, or omit training"):
        plan(tmp_path, start, "training.t.optimizer.hidden=6")
    save_checkpoint(tmp_path, seed=2)
    assert keys(before)["p", "LSTM"] != keys(plan(tmp_path, start))["p", "LSTM"]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("panels.p.optimizers.step={name: adam, lr: 0.1}", "'step' is that of a column of the"),
        ("panels.p.problem={name: quadratc}", "panels.p.problem: there is no problem 'quadratc'"),
        ("panels.p.problem={name: xyz}", "; if it is in a file of your own, give it with --plugin"),
        ("panels.p.problem.dmi=3", "panels.p.problem: problem 'quadratic' has no 'dmi'"),
        ("panels.p.problem.dim=big", "dim is 'big', but must be a whole number"),
        ("panels.p.problem.dim=0", "dim must be at least 1"),
        ("panels.p.optimizers.SGD={name: sdg}", "panels.p.optimizers.SGD: there is no optimizer"),
        ("panels.p.optimizers.ADAM=adam", "keys and values; write {name: adam}"),
        ("panels.p.optimizers.ADAM.lr=fast", "lr is 'fast', but must be a number"),
        ("panels.p.optimizers.ADAM.lr=-0.1", "ADAM.lr is -0.1, but must be a number above 0"),
        (
            "panels.p.optimizers.ADAM.beta2=1.5",
            "'adam'.beta2 is 1.5, but must be a number, at least",
        ),
        ("panels.p.optimizers.SGD={name: nag, momentum: 1}", "'nag'.momentum is 1, but must be"),
        ("panels.p.optimizers.ADAM.lr=0", "tiny.yaml: panels.p.optimizers.ADAM.lr is 0, but must"),
        (
            "panels.p.optimizers.T={name: torch, optimizer: torch.optim.SGD, lr: 0.0}",
            "T.lr is 0, but must",
        ),
        (
            "panels.p.optimizers.SGD={name: lstm}",
            "panels.p.optimizers.SGD: 'lstm' is learned and has no weights here: write {trained: "
            "NAME} of a training, or {name: pretrained, checkpoint: …}",
        ),
        ("panels.p.optimizers.LSTM.trained=u", "there is no training 'u': known are t"),
        ("panels.p.optimizers.LSTM.trained=[t]", "there is no training"),
        ("panels.p.optimizers.LSTM.name=null", "'trained', which stands in place of 'name': omit"),
        ("panels.p.optimizers.LSTM.layers=3", "'layers' belongs under training.t"),
        ("training.t.optimizer.preprocessing=lgo", "preprocessing must be one of"),
        ("training.t.optimizer={name: adam, lr: 0.1}", "'adam' has no weights that could be"),
        ("training.t.optimizer={name: adam}", "'adam' has no weights that could be trained"),
        (
            "training.t.optimizer={name: lstm, hidden: 3}",
            "training.t.phases[0].odd: hidden must be even",
        ),
        (
            "training.t.phases.0.estimator={name: truncted}",
            "training.t.phases[0].estimator: there is no estimator 'truncted': did you mean",
        ),
        (
            "training.t.phases.0.estimator={name: second_order, sample: 10}",
            "training.t.phases[0].estimator: estimator 'second_order' has no 'sample'",
        ),
        (
            "training.t.phases.0.estimator.window=21",
            "training.t.phases[0].estimator: window 21 must not be above horizon 20",
        ),
    ],
)
def test_wrong_definitions_are_refused_before_any_work(
    tmp_path: Path, setting: str, expected: str
) -> None:
    with pytest.raises(SuiteError) as caught:
        plan(tmp_path, setting)
    assert expected in str(caught.value)
    assert "tiny.yaml" in str(caught.value) or f"--set {setting}: tiny." in str(caught.value)


LEARNED = """
from dataclasses import dataclass
import torch
from l2l.optimizers.layout import Layout
from l2l.optimizers.learned.base import Learned
from l2l import register_optimizer

class Scale(Layout):
    def parameters(self):
        return {"scale": torch.Size([1])}

@register_optimizer("pair")
@dataclass(frozen=True)
class Pair(Learned):
    coordinatewise = True
    layout = Scale()

    def initial_weights(self, rng):
        return rng.normal(1)

    def init(self, spec, n):
        return STATE

    def update(self, grads, state, params):
        return self.phi * grads, state
"""


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("torch.zeros(n, spec.size), torch.zeros(n, spec.size)", "is a tuple,"),
        ("torch.zeros(n, spec.size)", "is float32 [2, 3], but must be one tensor whose last"),
        ("None", "is None,"),
        ("torch.zeros(2, n * spec.size)", ""),
    ],
)
def test_states_that_no_coordinates_can_be_picked_from_are_refused_while_planning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, told: str
) -> None:
    monkeypatch.setattr(optimizers, "_classes", {name: optimizers.cls(name) for name in optimizers})
    (tmp_path / "pair.py").write_text(LEARNED.replace("STATE", state))
    load_plugin(tmp_path / "pair.py")
    settings = ["training.t.optimizer={name: pair}", "training.t.phases.0.odd=false"]
    plan(tmp_path, *settings)
    if not told:
        plan(tmp_path, *settings, "training.t.phases.0.estimator.sample=5")
        return
    with pytest.raises(SuiteError, match=r"phases\[0\]\.estimator: the state of Pair") as caught:
        plan(tmp_path, *settings, "training.t.phases.0.estimator.sample=5")
    assert told in str(caught.value)


def test_problems_that_are_mixed_in_decide_what_is_trained(tmp_path: Path) -> None:
    (alone,) = (cell for cell in plan(tmp_path).cells if cell.kind == "metatrain")
    assert "also" not in alone.config["training"]["phases"][0], "so no other key depends on it"
    also = "training.t.phases.0.also=[{name: quadratic, dim: 4}]"
    (mixed,) = (cell for cell in plan(tmp_path, also).cells if cell.kind == "metatrain")
    assert mixed.key != alone.key
    check_unchanged(mixed.config)
    found = plain(mixed.config)
    assert found["also"][0]["spec"]["dim"] == 4
    found["also"][0]["notice"] = "another"
    with pytest.raises(SuiteError, match="the data of problem 'quadratic' is complete here"):
        check_unchanged(found)
    with pytest.raises(
        SuiteError, match=r"training.t.phases\[0\].also\[0\]: problem .quadratic..dim is 0.5"
    ):
        plan(tmp_path, "training.t.phases.0.also=[{name: quadratic, dim: 0.5}]")


def test_what_is_imitated_is_tried_on_all_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def recorded(spec: Any, problem: Any, *given: Any) -> Any:
        tried.append(problem.get("dim"))
        return teacher_config(spec, problem, *given)

    monkeypatch.setattr(l2l.suite.plan.learned, "teacher_config", recorded)
    imitate = "{optimizer: {name: adam, lr: 0.01}, share: 0.5}"
    also = "training.t.phases.0.also=[{name: quadratic, dim: 4}]"
    plan(tmp_path, f"training.t.phases.0.imitate={imitate}", also)
    assert tried == [None, 4]


def test_fields_of_a_curriculum_are_part_of_a_key_only_where_they_are_given(
    tmp_path: Path,
) -> None:
    (plain_,) = (cell for cell in plan(tmp_path).cells if cell.kind == "metatrain")
    phase = plain_.config["training"]["phases"][0]
    keys = {plain_.key}
    for setting in ("validation_steps=30", "until_worse=3"):
        assert setting.split("=")[0] not in phase
        given = plan(tmp_path, f"training.t.phases.0.{setting}").cells
        keys |= {cell.key for cell in given if cell.kind == "metatrain"}
    assert len(keys) == 3


def test_seeds_are_compared_over_the_most_steps_of_their_validations(tmp_path: Path) -> None:
    seeds = "training.t.seeds=[1, 2]"
    for steps, expected in ((None, 20), (30, 30), (12, 12)):
        setting = f"training.t.phases.0.validation_steps={steps}"
        cells = plan(tmp_path, seeds, *([] if steps is None else [setting])).cells
        assert [cell.config["steps"] for cell in cells if cell.kind == "select"] == [expected]


ESTIMATOR = """
from dataclasses import dataclass
from l2l import register_estimator
from l2l.suite.meta.estimators.truncated import Truncated

@register_estimator("mine")
@dataclass(frozen=True)
class Mine(Truncated):
    def windows(self, horizon):
        return [horizon]
"""


def test_code_of_a_plugins_estimator_decides_what_is_trained_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimators, "_classes", {name: estimators.cls(name) for name in estimators})
    file, setting = tmp_path / "mine.py", "training.t.phases.0.estimator={name: mine}"

    def planned(code: str) -> Plan:
        file.write_text(code)
        load_plugin(file)
        return plan(tmp_path, setting)

    first = planned(ESTIMATOR)
    assert planned(ESTIMATOR + "# the same code\n").cells == first.cells
    (training,) = (cell for cell in first.cells if cell.kind == "metatrain")
    check_unchanged(training.config)
    changed = keys(planned(ESTIMATOR.replace("[horizon]", "[1] * horizon")))
    differing = {
        name for place, name in changed if changed[place, name] != keys(first)[place, name]
    }
    assert differing == {"LSTM"}
    with pytest.raises(SuiteError, match="estimator 'mine' changed since this run was planned"):
        check_unchanged(training.config)


def test_sizes_of_a_panel_replace_those_of_the_experiment(tmp_path: Path) -> None:
    before = plan(tmp_path)
    after = plan(tmp_path, "panels.p.test_instances=7", "panels.p.tuning_instances=3")
    sizes = {
        (cell.kind, curve.panel, cell.config["instances"])
        for curve in after.curves
        for cell in (curve.cell, *curve.cell.inputs)
        if cell.kind in ("evaluate", "tune")
    }
    assert sizes == {
        ("evaluate", "p", 7),
        ("evaluate", "longer", 4),
        ("tune", "p", 3),
        ("tune", "longer", 2),
    }
    assert {curve.cell.key for curve in before.curves if curve.panel == "longer"} == {
        curve.cell.key for curve in after.curves if curve.panel == "longer"
    }


def test_planning_for_a_look_downloads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(OFFLINE)
    seen = []

    def watched(*given: Any, **more: Any) -> Plan:
        seen.append(why_no_download() if OFFLINE in os.environ else None)
        return make_plan(*given, **more)

    monkeypatch.setattr(l2l.suite.commands.request, "make_plan", watched)
    experiment(tmp_path)
    for probing in (False, True):
        plan_request(Request((str(tmp_path / "tiny.yaml"),)), probing)
    assert seen == ["nothing is downloaded at this point", None]


def test_the_five_seeds_on_means_are_those_of_figure_4() -> None:
    """The schedule stands in two files; if they part, work would be done twice."""
    both = plan_request(Request(names=("fig4", "seeds"), profile="paper"))
    trained = [
        cell
        for cell in both.cells
        if cell.kind == "metatrain"
        and cell.config["problem"]["spec"]["name"] == "mlp"
        and cell.config["optimizer"]["spec"]["name"] == "lstm"
        # One from scratch, with a short schedule of its own, is beside them.
        and len(cell.config["training"]["phases"]) > 1
    ]
    assert sorted(cell.config["seed"] for cell in trained) == [1, 2, 3, 4, 5]


def test_without_its_data_a_panel_is_left_out_if_others_are_asked_for_too(
    tmp_path: Path,
) -> None:
    tiny = experiment(tmp_path)
    svhn = experiment(tmp_path, f"panels.longer.problem={MISSING}", name="pictures")
    plan = make_plan([tiny, svhn], forgiving=True)
    assert plan.experiments == (tiny, svhn)
    assert list(plan.without) == [("pictures", "longer")]
    told = plan.without["pictures", "longer"]
    assert "pictures.yaml: panels.longer.problem: no data set 'svhn' in" in told
    assert "left out" in plan.notices["pictures", "longer"]
    panels = {(curve.experiment, curve.panel) for curve in plan.curves}
    assert panels == {("tiny", "p"), ("tiny", "longer"), ("pictures", "p")}
    with pytest.raises(DataMissing, match="no data set 'svhn' in"):
        make_plan([tiny, svhn])


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("content_layer: relu4_1", "no layer 'relu4_1' in the feature network, whose weights end"),
        ("style: the_shout", "no style 'the_shout'"),
        ("network: squeezenet1_1", "no weights 'squeezenet1_1'"),
    ],
)
def test_samples_that_do_not_reach_leave_out_the_panel_that_needs_more(
    tmp_path: Path, field: str, told: str
) -> None:
    art = experiment(tmp_path, f"panels.longer.problem={{name: neural-art, {field}}}", name="art")
    plan = make_plan([experiment(tmp_path), art], forgiving=True)
    assert list(plan.without) == [("art", "longer")]
    assert told in plan.without["art", "longer"]


def test_missing_data_of_a_training_leaves_out_the_panels_that_use_it(tmp_path: Path) -> None:
    without = experiment(tmp_path, f"training.t.problem={MISSING}", name="pictures")
    plan = make_plan([experiment(tmp_path), without], forgiving=True)
    assert list(plan.without) == [("pictures", "p"), ("pictures", "longer")]
    assert {curve.experiment for curve in plan.curves} == {"tiny"}


def test_without_weights_of_others_their_optimizer_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("L2L_WEIGHTS", str(tmp_path))
    theirs = "{name: pretrained, checkpoint: $L2L_WEIGHTS/theta.state, lr: 1.0}"
    asked = experiment(tmp_path, f"panels.p.optimizers.theirs={theirs}", "omitted.VeLO=no network")
    plan = make_plan([asked])
    assert {curve.optimizer for curve in plan.curves if curve.panel == "p"} == {
        label for label in asked.panels["p"].optimizers if label != "theirs"
    }
    (info,) = experiment_infos(plan, "quick")
    assert list(info.left_out) == ["theirs", "VeLO"]
    assert info.left_out["theirs"].startswith("$L2L_WEIGHTS/theta.state: there is no such file;")
    assert "theirs" not in info.panels[0].optimizers
    flax_file(tmp_path / "theta.state", small_fc_lopt())
    plan = make_plan([asked])
    (info,) = experiment_infos(plan, "quick")
    assert list(info.left_out) == ["VeLO"]
    assert "theirs" in info.panels[0].learned
    (cell,) = [curve.cell for curve in plan.curves if curve.optimizer == "theirs"]
    assert cell.config["optimizer"]["data"]["checkpoint"]


def test_with_no_data_at_all_its_absence_is_the_error(tmp_path: Path) -> None:
    settings = [f"panels.{panel}.problem={MISSING}" for panel in ("p", "longer")]
    with pytest.raises(DataMissing, match="no data set 'svhn' in"):
        make_plan([experiment(tmp_path, *settings)], forgiving=True)


def test_damaged_data_is_refused_whatever_else_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = tmp_path / "data" / "cifar-10-batches-py" / "data_batch_1"
    batch.parent.mkdir(parents=True)
    batch.write_bytes(b"half a bat")
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "data"))
    cifar = experiment(tmp_path, "panels.longer.problem={name: convnet}", name="pictures")
    with pytest.raises(SuiteError, match="'cifar10' cannot be read") as raised:
        make_plan([experiment(tmp_path), cifar], forgiving=True)
    assert not isinstance(raised.value, DataMissing)


def test_plugins_of_one_name_are_told_apart(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "bowl.py")
        files[-1].write_text(PLUGIN.replace('"bowl"', f'"bowl-{name}"'))
        load_plugin(files[-1])
    for name, file in zip(("one", "two"), files, strict=True):
        cls = problems.cls(f"bowl-{name}")
        assert sys.modules[cls.__module__].__file__ == str(file)
