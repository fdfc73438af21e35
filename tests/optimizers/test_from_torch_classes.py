"""Classes of one's own, in every style that authors of optimizers write them."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import l2l.suite.core.import_path
from l2l.optimizers.learned.checkpoint import FORMAT, VERSION, load_optimizer
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.plugins import load_plugin
from l2l.suite.core.registry import optimizers
from l2l.suite.inner.loop import descend
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point
from l2l.suite.plan.resolved import optimizer_config
from l2l.suite.plan.unchanged import check_unchanged

CLASSES = """
import torch

class Plain(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, scale=1.0, **others):
        super().__init__(params, dict(lr=lr, scale=scale, **others))

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad, alpha=-group["lr"] * group["scale"])

class Rebinding(Plain):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data = p.data - group["lr"] * p.grad

class Named(torch.optim.Optimizer):
    def __init__(self, params, step_size, name=1.0, schedule=1.0, warmup=1.0, optimizer=1.0):
        super().__init__(params, dict(step_size=step_size))
        self.factor = name * schedule * warmup * optimizer

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad, alpha=-group["step_size"] * self.factor)

class Twice(Plain):
    def step(self, closure):
        closure()
        closure()

class ByTheNorm(Plain):
    def step(self, closure=None):
        norm = sum(p.grad.square().sum() for g in self.param_groups for p in g["params"]) ** 0.5
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad / norm, alpha=-group["lr"])

class ScheduleFree(torch.optim.Optimizer):
    def __init__(self, params, lr, beta=0.9):
        super().__init__(params, dict(lr=lr, beta=beta, mode=None, k=0))

    def step(self, closure=None):
        for g in self.param_groups:
            assert g["mode"] == "train"
            g["k"] += 1
            for p in g["params"]:
                s = self.state[p]
                if "z" not in s:
                    s["x"], s["z"] = p.data.clone(), p.data.clone()
                s["z"].sub_(g["lr"] * p.grad)
                s["x"].lerp_(s["z"], 1 / g["k"])
                p.data.copy_(g["beta"] * s["x"] + (1 - g["beta"]) * s["z"])

    def _to(self, mode):
        for g in self.param_groups:
            for p in g["params"]:
                s = self.state[p]
                if "x" in s:
                    mixed = g["beta"] * s["x"] + (1 - g["beta"]) * s["z"]
                    p.data.copy_(s["x"] if mode == "eval" else mixed)
            g["mode"] = mode

    def train(self):
        self._to("train")

    def eval(self):
        self._to("eval")
"""
PROBLEM = {"name": "quadratic", "dim": 3}
N, STEPS = 4, 10


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path) -> Iterator[Path]:
    """The classes above, in a plugin."""
    path = tmp_path / "ownclasses.py"
    path.write_text(CLASSES, encoding="utf-8")
    load_plugin(path)
    yield path


def spec_of(cls: str, **options: Any) -> dict[str, Any]:
    return {"name": "torch", "optimizer": f"ownclasses.{cls}", **options}


def planned(spec: dict[str, Any]) -> dict[str, Any]:
    return optimizer_config(spec, PROBLEM, "my.yaml: panels.p", STEPS)


@torch.no_grad()
def run(spec: dict[str, Any]) -> list[Point]:
    objective = Objective(Quadratic(dim=3), range(N), "test", 0)
    points = descend(objective, optimizers.make({"lr": 0.02, **spec}), STEPS)
    return [replace(point, theta=point.theta.clone()) for point in points]


def end(spec: dict[str, Any]) -> Tensor:
    return run(spec)[-1].theta


def test_a_class_of_a_plugin_is_what_it_says() -> None:
    planned(spec_of("Plain"))
    torch.testing.assert_close(end(spec_of("Plain")), end({"name": "sgd"}))
    torch.testing.assert_close(end(spec_of("Rebinding")), end({"name": "sgd"}))


def test_hyperparameters_may_have_any_name() -> None:
    spec = spec_of("Named", rate="step_size", warmup=0.5)
    spec["hyperparameters"] = {"name": 0.5, "optimizer": 0.5, "schedule": 4.0}
    config = planned(spec)
    assert "wrapper" not in config, "the class's own warmup comes before that of a schedule"
    torch.testing.assert_close(end(spec), end({"name": "sgd", "lr": 0.01}))
    # As a runner gets it from the configuration.
    torch.testing.assert_close(end(json.loads(json.dumps(config["spec"]))), end(spec))
    torch.testing.assert_close(end(spec_of("Plain", unknown=1)), end({"name": "sgd"}))


def test_runs_are_apart_unless_it_is_said_what_is_independent() -> None:
    planned(spec_of("ByTheNorm"))
    with pytest.raises(SuiteError, match="gives a run other updates alone than beside others"):
        planned(spec_of("ByTheNorm", independent="tensors"))
    planned(spec_of("Plain", independent="coordinates"))


def test_schedule_free_methods_show_x_and_take_gradients_at_y() -> None:
    """Defazio et al. 2024, equations 1 to 3, in double precision."""
    planned(spec_of("ScheduleFree"))
    points = run(spec_of("ScheduleFree", beta=0.8))
    objective = Objective(Quadratic(dim=3), range(N), "test", 0)
    fixed = [Quadratic(dim=3).instance(objective.rng("instance", i)) for i in range(N)]
    matrix, target = (torch.stack([each[name] for each in fixed]).double() for name in ("W", "y"))
    x = z = points[0].theta.double()
    for step, point in enumerate(points):
        torch.testing.assert_close(point.theta.double(), x, rtol=1e-4, atol=1e-5)
        residual = torch.einsum("nij,nj->ni", matrix, x) - target
        torch.testing.assert_close(point.loss.double(), residual.square().sum(1), rtol=1e-4, atol=0)
        y = 0.2 * z + 0.8 * x
        residual = torch.einsum("nij,nj->ni", matrix, y) - target
        z = z - 0.02 * 2 * torch.einsum("nij,ni->nj", matrix, residual)
        x = x + (z - x) / (step + 1)


REFUSED = [
    ({"optimizer": "AdamW"}, "'AdamW' is not an import path: write package.module.Class"),
    ({"optimizer": "torch.optim.AdmW"}, "torch.optim has no 'AdmW': did you mean 'AdamW'"),
    ({"optimizer": "notthere.SOAP"}, "there is no module 'notthere': install its package"),
    ({"optimizer": "torch.nn.Linear"}, "but must be a subclass of torch.optim.Optimizer"),
    ({"optimizer": "torch.compile"}, "torch.compile is a function, but must be a subclass"),
    ({"optimizer": "torch.optim.SGD", "momentun": 1}, "no hyperparameter 'momentun': did you mean"),
    ({"optimizer": "torch.optim.AdamW", "betas": [0.9, 2]}, "Invalid beta parameter at index 1: 2"),
    ({"optimizer": "torch.optim.Adam", "rate": "eta"}, "no hyperparameter 'eta' for the learning"),
    ({"optimizer": "torch.optim.LBFGS"}, "asks for a second gradient in one step"),
    ({"optimizer": "ownclasses.Twice"}, "asks for a second gradient in one step"),
    ({"optimizer": "ownclasses.Named"}, "has no hyperparameter 'lr' for the learning rate"),
    ({"optimizer": "torch.optim.SGD", "hyperparameters": 3}, "must be a table of names and values"),
    ({"optimizer": "torch.optim.Muon"}, "Muon only supports 2D parameters"),
    ({}, "needs 'optimizer': text"),
]


@pytest.mark.parametrize(("given", "sentence"), REFUSED)
def test_mistakes_are_told_before_work_starts(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SuiteError) as caught:
        planned({"name": "torch", **given})
    assert str(caught.value).startswith("my.yaml: panels.p")
    assert sentence in str(caught.value)


def test_a_version_is_part_of_the_key_and_checked_where_a_cell_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = {"name": "torch", "optimizer": "torch.optim.AdamW"}
    config = planned(spec)
    assert config["data"] == {"torch": torch.__version__.partition("+")[0]}
    check_unchanged({"optimizer": config})
    monkeypatch.setattr(l2l.suite.core.import_path, "version", lambda name: "99.0")
    assert planned(spec)["data"] == {"torch": "99.0"}
    assert planned({**spec, "schedule": "cosine"})["data"] == {"torch": "99.0"}
    with pytest.raises(SuiteError, match=r"comes from torch 99\.0 here, but from torch"):
        check_unchanged({"optimizer": config})


def test_the_code_of_a_plugin_is_part_of_the_key(plugin: Path) -> None:
    first = planned(spec_of("Plain"))
    plugin.write_text(CLASSES.replace("scale=1.0", "scale=2.0"), encoding="utf-8")
    load_plugin(plugin)
    assert planned(spec_of("Plain"))["data"] != first["data"]


@pytest.mark.parametrize("nested", [False, True])
def test_a_checkpoint_imports_nothing(
    nested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notasked.py").write_text("from torch.optim import SGD\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec: dict[str, Any] = {"name": "torch", "optimizer": "notasked.SGD", "lr": 1.0}
    if nested:
        spec = {"name": "routed", "groups": {"all": spec}}
    header = {"format": FORMAT, "version": str(VERSION), "optimizer": json.dumps(spec)}
    save_file({"w": torch.zeros(1)}, tmp_path / "bad.safetensors", header)
    with pytest.raises(SuiteError, match="is not imported: a file names it"):
        load_optimizer(tmp_path / "bad.safetensors")
    assert "notasked" not in sys.modules


def test_packages_of_others() -> None:
    """Where they are installed; the suite does not need them."""
    cases = {
        "schedulefree": {"optimizer": "schedulefree.AdamWScheduleFree", "weight_decay": 0.1},
        "lion_pytorch": {"optimizer": "lion_pytorch.Lion", "independent": "coordinates"},
        "pytorch_optimizer": {"optimizer": "pytorch_optimizer.SOAP"},
    }
    there = importlib.metadata.packages_distributions()
    for module, given in cases.items():
        if module in there:
            planned({"name": "torch", **given})
            losses = [p.loss.mean() for p in run({"name": "torch", **given})]
            assert losses[-1] < losses[0]
