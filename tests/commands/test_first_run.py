"""A first run, whatever data there is: every panel is planned, and shown."""

from __future__ import annotations

import html
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from conftest import write_mnist
from data_files import (
    forget_data,
    vgg_state,
    write_cifar10,
    write_photos,
    write_styles,
    write_weights,
)

import l2l.suite.commands.request
from l2l.problems.data_root import DATA_ROOT
from l2l.problems.downloads import OFFLINE
from l2l.suite.commands.request import Request, load_experiments, plan_request
from l2l.suite.commands.run import run
from l2l.suite.plan.config import Experiment
from l2l.suite.plan.plan import Plan

ROOT = Path(__file__).parents[2]
STYLES = ("shipwreck_of_the_minotaur", "the_scream")
# To relu3_1, as far as the experiments go.
CONVOLUTIONS = {0: (3, 2), 2: (2, 2), 5: (2, 2), 7: (2, 2), 10: (2, 2)}

# What is there or not, and the words that say so of a panel whose problem needs it.
DATA = {
    "mnist": ("mlp", "5,000 MNIST digits"),
    "cifar10": ("convnet", "2,500 of CIFAR-10's 50,000 training images"),
    "photos": ("neural-art", "crops of 6 photos"),
    "styles": ("neural-art", "the painting"),
    "weights": ("neural-art", "half precision"),
}
# Where a panel's minibatches come from test images, other words say so.
OF_TEST_IMAGES = {"cifar10": "1,000 of CIFAR-10's 10,000 test images"}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    forget_data()
    yield
    forget_data()


def write_data(root: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write = {
        "mnist": lambda: write_mnist(root),
        "cifar10": lambda: write_cifar10(root, monkeypatch),
        "photos": lambda: write_photos(root),
        "styles": lambda: write_styles(root, STYLES),
        "weights": lambda: write_weights(root, state=vgg_state(CONVOLUTIONS)),
    }
    for name in names:
        write[name]()


def panels(experiments: tuple[Experiment, ...]) -> set[tuple[str, str]]:
    return {(each.name, name) for each in experiments for name in each.every_panel()}


def planned(plan: Plan) -> set[tuple[str, str]]:
    return {(curve.experiment, curve.panel) for curve in plan.curves}


@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_no_profile_needs_data_that_does_not_come_with_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    monkeypatch.setenv(DATA_ROOT, str(tmp_path))
    plan = plan_request(Request(profile=profile))
    assert not plan.without
    assert planned(plan) == panels(plan.experiments)


@pytest.mark.parametrize("missing", [(), *[(name,) for name in DATA], tuple(DATA)], ids="-".join)
def test_every_panel_is_planned_and_says_what_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    monkeypatch.setenv(DATA_ROOT, str(tmp_path))
    write_data(tmp_path, [name for name in DATA if name not in missing], monkeypatch)
    plan = plan_request(Request(profile="smoke"))
    assert not plan.without
    assert planned(plan) == panels(plan.experiments)
    for experiment in plan.experiments:
        for name, panel in experiment.every_panel().items():
            notice = plan.notices.get((experiment.name, name), "")
            needed = {key for key, (problem, _) in DATA.items() if panel.problem["name"] == problem}
            others = OF_TEST_IMAGES if panel.problem.get("split") == "test" else {}
            told = {key for key, (_, words) in DATA.items() if others.get(key, words) in notice}
            assert told == needed & set(missing), (experiment.name, name, notice)
            # What Python's manual is made into says so, with all data there.
            of_a_text = panel.problem["name"].startswith("char-")
            assert bool(notice) == (bool(told) or of_a_text)


def test_smoke_run_of_everything_with_nothing_shows_every_panel(tmp_path: Path) -> None:
    """As a stranger has it: no data, no network, no home."""
    (tmp_path / "nothing").mkdir()
    nothing = {DATA_ROOT: str(tmp_path / "nothing"), OFFLINE: "1"}
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    out = tmp_path / "out"
    command = [sys.executable, "reproduce.py", "run", "--profile", "smoke", "--results", str(out)]
    # Two runs have a mean and an interval as six have.
    command += ["--set", "sizes.test_instances=2", "--set", "sizes.tuning_instances=1"]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment | nothing, capture_output=True, encoding="utf-8"
    )
    assert ended.returncode == 0, ended.stderr
    assert "left out" not in ended.stderr
    # What stands in is said before the first cell is done.
    before, _, _ = ended.stderr.partition("[1/")
    for absent in ("data set 'mnist'", "data set 'cifar10'", "photos", "weights 'vgg19'"):
        assert f"no {absent} in" in before
    shown = pd.read_csv(out / "final.csv")
    known = tuple(load_experiments(Request(profile="smoke")))
    assert set(zip(shown["experiment"], shown["panel"], strict=True)) == panels(known)
    for experiment in known:
        assert list((out / "figures").glob(f"{experiment.name}*.png"))
    for report in ("report.html", "report.md"):
        text = html.unescape((out / report).read_text("utf-8"))
        assert all(words in text for _, words in DATA.values())
        assert "left out" not in text


EXPERIMENT = """
title: Tiny
source: Figure 0
sizes: {test_instances: 2, tuning_instances: 1}
panels:
  bowl:
    {title: Bowl, steps: 2, problem: {name: quadratic}, optimizers: {SGD: {name: sgd, lr: 0.1}}}
  digits:
    title: House numbers
    steps: 2
    problem: {name: mlp, dataset: svhn}
    optimizers: {SGD: {name: sgd, lr: 0.1}}
"""


def test_panel_without_data_is_left_out_and_said_before_the_work_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(l2l.suite.commands.request, "EXPERIMENTS", tmp_path)
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT, "utf-8")
    # A run in an earlier test may have turned it off.
    monkeypatch.setattr(logging.getLogger("suite"), "propagate", True)
    ended = run(Request(), tmp_path / "out", "cpu", "local", None)
    assert list(ended.without) == [("tiny", "digits")]
    assert not ended.failed
    assert "left out" in (tmp_path / "out" / "report.md").read_text("utf-8")
    # Logged while there was no file to log to: then it is Python that prints it.
    assert "panel digits is left out: tiny.yaml: panels.digits" in caplog.text
    assert "no data set 'svhn' in" in caplog.text
