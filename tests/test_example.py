"""The documented example of one's own problem and optimizer runs as it is written."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from command_line import command
from fake_kinds import forget_kinds
from forked import forked

from l2l.problems.quadratic import Quadratic
from l2l.suite.core.registry import estimators, optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Params, ParamSpec
from l2l.suite.inner.objective import Objective

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of the example's smoke run; tests only read it."""
    folder = tmp_path_factory.mktemp("example") / "out"
    words = [EXAMPLES / "rosenbrock.yaml", "--plugin", EXAMPLES / "rosenbrock.py"]
    told = command("run", *words, "--profile", "smoke", "--results", folder)
    assert told.exit_code == 0, told.output
    assert "OWN-1" in told.output
    return folder


def test_table_has_the_four_optimizers(finished: Path) -> None:
    final = pd.read_csv(finished / "final.csv")
    assert set(final.optimizer) == {"LSTM", "Signed", "ADAM", "NAG"}
    assert set(final.experiment) == {"rosenbrock"}
    assert (final.step == 100).all()
    assert (final.n == 8).all()
    assert final["mean"].notna().all()


def test_own_optimizer_has_its_rate_tuned(finished: Path) -> None:
    final = pd.read_csv(finished / "final.csv").set_index("optimizer")
    assert final.learning_rate["Signed"] > 0
    assert pd.isna(final.learning_rate["LSTM"])


def test_optimizers_meet_the_same_instances(finished: Path) -> None:
    losses = pd.read_parquet(finished / "losses.parquet")
    starts = losses[losses.step == 0].pivot(index="instance", columns="optimizer", values="loss")
    assert starts.shape == (8, 4)
    assert (starts.nunique(axis=1) == 1).all()
    assert starts.LSTM.nunique() == 8


def test_claim_has_a_verdict_and_the_report_its_figure(finished: Path) -> None:
    claims = pd.read_csv(finished / "claims.csv").set_index("id")
    assert claims.verdict["OWN-1"] == "unchecked"  # of 8 runs, however they end
    assert claims.reason["OWN-1"] == "8 of at least 20 runs"
    assert (finished / "figures" / "rosenbrock.png").stat().st_size
    assert "Rosenbrock" in (finished / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_problem_from_a_module_runs_as_it_is_documented(tmp_path: Path) -> None:
    words: list[object] = [EXAMPLES / "digits_net.yaml", "--plugin", EXAMPLES / "digits_net.py"]
    # The rates that are best after a few updates will do.
    words += ["--set", "panels.digits.tuning_steps=20"]
    told = command("run", *words, "--profile", "smoke", "--results", tmp_path / "out")
    assert told.exit_code == 0, told.output
    losses = pd.read_parquet(tmp_path / "out" / "losses.parquet")
    starts = losses[losses.step == 0].pivot(index="instance", columns="optimizer", values="loss")
    assert (starts.ADAM == starts.SGD).all()
    assert starts.ADAM.nunique() == 3
    means = losses.groupby(["optimizer", "step"]).loss.mean()
    assert (means.loc[:, 100] < 0.5 * means.loc[:, 0]).all()


LION_FILE = EXAMPLES.parents[1] / "optimizers" / "hand_designed" / "lion.py"
LION = """
title: Lion
sizes: {test_instances: 4, tuning_instances: 4}
panels:
  p:
    title: Quadratics
    problem: {name: quadratic}
    steps: 30
    optimizers: {Decayed: {name: lion, weight_decay: 0.3}, Lion: {name: lion, weight_decay: 0}}
"""


@pytest.mark.usefixtures("undrawn")
def test_baseline_with_weight_decay_runs_as_it_is_documented(tmp_path: Path) -> None:
    (tmp_path / "lion.yaml").write_text(LION)
    words = [tmp_path / "lion.yaml", "--results", tmp_path / "out"]
    told = command("run", *words)
    assert told.exit_code == 0, told.output
    losses = pd.read_parquet(tmp_path / "out" / "losses.parquet")
    means = losses.groupby(["optimizer", "step"]).loss.mean().unstack("optimizer")
    assert (means.loc[30] < means.loc[0]).all()
    assert means.Decayed[30] != means.Lion[30]

    lion = optimizers.make({"name": "lion", "lr": 0.1, "weight_decay": 0.3})
    theta, spec = torch.tensor([[1.0, -2.0]]), ParamSpec({"theta": torch.Size([2])})
    grads = torch.tensor([[0.5, 0.0]])
    update, state = lion.update(grads, lion.init(spec, 1), Params(theta, spec))
    assert torch.allclose(update, torch.tensor([[-0.1 - 0.03, 0.06]]))
    assert torch.allclose(state, 0.01 * grads)
    assert len(LION_FILE.read_text().splitlines()) <= 40


@pytest.mark.usefixtures("undrawn")
def test_class_of_torch_optim_runs_as_it_is_documented(tmp_path: Path) -> None:
    words = [EXAMPLES / "your_optimizer.yaml", "--plugin", EXAMPLES / "your_optimizer.py"]
    told = command("run", *words, "--profile", "smoke", "--results", tmp_path / "out")
    assert told.exit_code == 0, told.output
    final = pd.read_csv(tmp_path / "out" / "final.csv").set_index("optimizer")
    assert set(final.index) == {"LSTM", "ADAM", "AdamW", "Mine", "Mine, cosine"}
    assert (final.learning_rate.drop("LSTM") > 0).all()
    assert (tmp_path / "out" / "report.html").stat().st_size
    losses = pd.read_parquet(tmp_path / "out" / "losses.parquet")
    means = losses.groupby(["optimizer", "step"]).loss.mean().unstack("optimizer")
    assert (means.loc[20] < 0.8 * means.loc[0]).all()

    told = command("benchmark", "--results", tmp_path / "out")
    assert told.exit_code == 0, told.output
    assert "- On problems it was trained on (1 problem), the best learned optimizer" in told.output
    scores = pd.read_csv(tmp_path / "out" / "overall.csv").set_index("optimizer")
    assert set(scores.index) == set(final.index)
    assert scores.kind["Mine"] == "tuned"
    assert scores.rates["Mine"] >= 10
    assert scores.state_bytes["Mine"] == 4
    assert scores.state_bytes["AdamW"] == pytest.approx(8, rel=1e-3)
    assert 0 < scores.speedup["ADAM"] <= 1
    assert "Mine, cosine" in (tmp_path / "out" / "benchmark.html").read_text(encoding="utf-8")

    page = (EXAMPLES.parent / "your-optimizer.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    example = (EXAMPLES / "your_optimizer.yaml").read_text(encoding="utf-8")
    assert all(line.strip() in example for line in shown.splitlines())


LAST_LOSS = """
title: Last loss
sizes: {test_instances: 4, tuning_instances: 4}
training:
  t:
    problem: {name: quadratic, dim: 3}
    optimizer: {name: lstm, hidden: 4, preprocessing: none}
    phases:
      - {runs: 320, horizon: 12, estimator: {name: last_loss, window: 6}, batch: 8, rate: 0.02}
    validate_every: 320
panels:
  p:
    title: Quadratics
    problem: {name: quadratic, dim: 3}
    steps: 12
    optimizers: {LSTM: {trained: t}}
"""


@pytest.mark.usefixtures("undrawn")
def test_estimator_runs_as_it_is_documented(tmp_path: Path) -> None:
    (tmp_path / "last.yaml").write_text(LAST_LOSS)
    example, out = EXAMPLES / "last_loss.py", tmp_path / "out"
    words = [tmp_path / "last.yaml", "--plugin", example, "--results", out]
    told = command("run", *words)
    assert told.exit_code == 0, told.output
    log = pd.read_csv(next(out.glob("cells/metatrain-*/log.csv")))
    assert log.validation.iloc[-1] < 0.8 * log.validation.iloc[0]
    assert len(example.read_text().splitlines()) <= 40

    learner: Any = optimizers.make({"name": "lstm", "hidden": 4, "preprocessing": "none"})
    learner = learner.with_weights(learner.initial_weights(Rng(0, "phi")))
    objective = Objective(Quadratic(dim=3), [0], "train", 0)
    with torch.no_grad():
        made = []
        for name in ("last_loss", "truncated"):
            estimator = estimators.make({"name": name})
            place, _ = estimator.begin(learner, objective)
            given = (learner, objective, place)
            made.append(
                [
                    estimator.gradient(*given, steps, "loss", Rng(0, "unused")).gradient
                    for steps in (1, 2)
                ]
            )
    torch.testing.assert_close(made[0][0], made[1][0])
    # A window's gradient is the sum of those of its losses, of which this is the last.
    torch.testing.assert_close(made[0][1], made[1][1] - made[1][0], rtol=1e-3, atol=1e-4)


FOLLOWED = """
title: Followed
sizes: {test_instances: 24, tuning_instances: 4}
panels:
  p:
    title: Quadratics
    problem: {name: quadratic, dim: 3}
    steps: 20
    optimizers: {Slow: {name: sgd, lr: 0.001}, Fast: {name: sgd, lr: 0.03}}
claims:
  OWN-1: {text: Fast wins, test: wins_on_most, panel: p, optimizer: Fast, than: Slow}
  OWN-2: {text: Slow wins, test: wins_on_most, panel: p, optimizer: Slow, than: Fast, share: 0.2}
"""


@pytest.mark.usefixtures("undrawn")
def test_kind_of_cell_and_claim_test_run_as_they_are_documented(tmp_path: Path) -> None:
    path, out = tmp_path / "followed.yaml", tmp_path / "out"
    path.write_text(FOLLOWED)
    halving = tmp_path / "halving.py"
    halving.write_text((EXAMPLES / "halving.py").read_text())
    words = ["run", path, "--results", out]
    words += ["--plugin", halving, "--plugin", EXAMPLES / "wins_on_most.py"]
    with pytest.MonkeyPatch.context() as patch:
        forget_kinds(patch)
        told = command(*words)
        assert told.exit_code == 0, told.output
        losses = pd.read_parquet(out / "losses.parquet").pivot_table(
            "loss", ["optimizer", "instance"], "step"
        )
        cells = sorted(out.glob("cells/halving-*"))
        assert len(cells) == 2
        steps = [pd.read_csv(cell / "halving.csv").step for cell in cells]
        fast, slow = sorted(steps, key=lambda found: found.isna().sum())
        assert slow.isna().all()
        for instance, step in fast.dropna().astype(int).items():
            run = losses.loc[("Fast", instance)]
            assert (run[: step - 1] > run[0] / 2).all() and run[step] <= run[0] / 2
        assert fast.notna().sum() >= 12
        claims = pd.read_csv(out / "claims.csv").set_index("id")
        assert claims.verdict["OWN-1"] == "reproduced"
        assert claims.verdict["OWN-2"] == "contradicted"
        assert claims.n["OWN-1"] == 24

        before = {cell.name for cell in out.glob("cells/*-*")}
        halving.write_text(halving.read_text().replace("losses[0] / 2", "losses[0] / 3"))
        told = command(*words)
        assert told.exit_code == 0, told.output
        computed = {cell.name for cell in out.glob("cells/*-*")} - before
    assert {name.split("-")[0] for name in computed} == {"halving"}
    assert len(computed) == 2
    for name in ("halving.py", "wins_on_most.py"):
        assert len((EXAMPLES / name).read_text().splitlines()) <= 40


def test_documentation_shows_the_examples_as_they_are() -> None:
    text = (EXAMPLES.parent / "extending.md").read_text(encoding="utf-8")
    names = ("rosenbrock.py", "digits_net.py", "last_loss.py", "halving.py", "wins_on_most.py")
    for path in (*(EXAMPLES / name for name in names), LION_FILE):
        example = path.read_text(encoding="utf-8")
        for block in re.findall(r"```python\n(@register.*?)```", text, re.DOTALL):
            first = block.partition("\n")[0]
            assert first not in example or block.strip() in example


def test_training_loop_of_the_docs_learns_the_digits() -> None:
    spec = importlib.util.spec_from_file_location("train_digits", EXAMPLES / "train_digits.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main() > 0.8


STATES = """
from dataclasses import dataclass
from typing import NamedTuple
import torch
from l2l import Optimizer, register_optimizer

class Memory(NamedTuple):
    steps: int
    nothing: None
    inner: tuple

@register_optimizer("states", tune="lr")
@dataclass(frozen=True)
class States(Optimizer):
    lr: object

    def init(self, spec, n):
        return Memory(0, None, (torch.zeros(n, spec.size), (1.5, "text")))

    def update(self, grads, state, params):
        last, others = state.inner
        return -self.lr * (grads + 0.5 * last), Memory(state.steps + 1, None, (grads, others))
"""


def run_tests(words: list[str]) -> None:
    """In a process of its own."""
    os.chdir(ROOT)
    sys.exit(pytest.main(words))


def test_conformance_tests_take_in_files_of_ones_own(tmp_path: Path) -> None:
    """The example passes them, as does a state of all kinds; drawing outside of `rng` does not."""
    states = tmp_path / "states.py"
    states.write_text(STATES)
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        (EXAMPLES / "rosenbrock.py")
        .read_text()
        .replace('"rosenbrock"', '"wrong"')
        .replace('"signed"', '"signed-too"')
        .replace("0.5 * rng.normal(2)", "torch.randn(2)")
        .replace("from torch import Tensor", "import torch\nfrom torch import Tensor")
    )
    words = ["-q", "-rfp", "-p", "no:cacheprovider"]
    words += [
        f"--rootdir={ROOT}",
        str(ROOT / "tests" / "test_conformance.py"),
        "-k",
        "rosenbrock or signed or digits-net or wrong or states or lion",
    ]
    shipped = (EXAMPLES / name for name in ("rosenbrock.py", "digits_net.py"))
    for plugin in (*shipped, states, wrong):
        words += ["--plugin", str(plugin)]
    with forked(tmp_path / "printed", run_tests, words) as process:
        process.join()
    told = (tmp_path / "printed").read_text(encoding="utf-8")
    assert process.exitcode == 1, told
    test = "test_draws_repeat_and_differ_between_instances"
    ended = re.findall(r"^(FAILED|PASSED) \S*::(\S+)", told, re.MULTILINE)
    assert ("FAILED", f"{test}[wrong]") in ended
    assert ("PASSED", f"{test}[rosenbrock]") in ended
    assert ("PASSED", "test_state_is_data_and_a_run_can_stop_and_go_on[signed]") in ended
    assert ("PASSED", "test_state_is_data_and_a_run_can_stop_and_go_on[states]") in ended
    assert ("PASSED", "test_runs_side_by_side_do_not_see_each_other[lion]") in ended
    assert ("PASSED", "test_vectorised_equals_a_loop_over_instances[digits-net]") in ended
    assert [name for state, name in ended if state == "FAILED" and "wrong" not in name] == []
