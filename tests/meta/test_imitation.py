"""Runs on another optimizer's trajectory, whose updates φ is taught."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from example_problems import Cliff, InDouble
from moved import moved
from planned_training import planned
from test_metatrain import (
    FIVE,
    PROBLEM,
    SPEC,
    Outcome,
    log_of,
    outcome,
    train,
    train_until,
    training,
    training_state,
    untrained,
)
from torch import Tensor
from torch.utils._pytree import tree_map

from l2l.optimizers.hand_designed.adam import Adam
from l2l.optimizers.hand_designed.nag import NAG
from l2l.optimizers.hand_designed.sgd import SGD
from l2l.optimizers.learned.lstm import LSTM
from l2l.optimizers.learned.small_fc_lopt import SmallFCLopt
from l2l.problems.mlp import MLP
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.convert import fill, plain
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Params, ParamSpec
from l2l.suite.inner.evaluate import evaluate
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import advance, start
from l2l.suite.meta.imitation import Imitating
from l2l.suite.meta.metatrain import metatrain
from l2l.suite.meta.schedule import Imitation, Phase
from l2l.suite.plan.unchanged import check_unchanged

ADAM = {"name": "adam", "lr": 0.01}
SOME = Imitation(ADAM, share=0.4)
PHASES = (
    Phase(20, 10, FIVE, rate=0.02, imitate=SOME, clip=True, average=0.5),
    Phase(16, 10, FIVE, rate=0.01, imitate=SOME, batch=2, method="soap"),
)


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("teacher", [Adam(0.01), NAG(0.003), SGD(0.01)], ids=["adam", "nag", "sgd"])
@pytest.mark.parametrize("kind", [LSTM, SmallFCLopt])
def test_gradient_of_the_imitation_loss_matches_autograd_in_float64(
    kind: Any, teacher: Any
) -> None:
    """Of two windows, with the trajectory walked here and the loss written out."""
    learner = kind(hidden=4, preprocessing="none") if kind is LSTM else kind()
    learner = learner.with_weights(learner.initial_weights(Rng(2, "phi")).double())
    objective = Objective(InDouble(Quadratic(dim=4)), range(3), "train", 1)
    estimator = Imitating(teacher=teacher)
    place, _ = estimator.begin(learner, objective)

    points = [start(objective, teacher)]
    for _ in range(7):
        points.append(advance(objective, teacher, points[-1]))
    state = learner.init(objective.spec, 3)
    for first, steps in ((0, 4), (4, 3)):
        phi = learner.phi.clone().requires_grad_()
        loss = torch.zeros(())
        for point in points[first : first + steps]:
            given = (point.grads, state, Params(point.theta, objective.spec))
            update, state = learner.with_weights(phi).update(*given)
            wanted, _ = teacher.update(point.grads, point.state, given[2])
            loss = loss + 0.5 * (update - wanted).square().sum() / 3
        (expected,) = torch.autograd.grad(loss, phi)
        state = tree_map(Tensor.detach, state)
        with torch.no_grad():
            found = estimator.gradient(learner, objective, place, steps, "loss", Rng(0, "x"))
        place = found.place
        assert expected.norm() > 0
        torch.testing.assert_close(found.gradient, expected, rtol=1e-9, atol=1e-12)
        assert torch.equal(torch.stack(list(found.losses))[-1], points[first + steps].loss)


def test_runs_are_the_teacher_s_own() -> None:
    """The same losses as an evaluation of ADAM alone, on MNIST's minibatches."""
    problem, adam = MLP(units=3, batch_size=8), Adam(0.01)
    learner = untrained({"name": "lstm", "hidden": 4})
    objective, estimator = Objective(problem, range(2), "train", 3), Imitating(teacher=adam)
    place, first = estimator.begin(learner, objective)
    losses = [first]
    with torch.no_grad():
        for steps in (3, 4):
            found = estimator.gradient(learner, objective, place, steps, "loss", Rng(0, "x"))
            place = found.place
            losses += found.losses
    expected = evaluate(problem, adam, 7, 2, 3, split="train")
    torch.testing.assert_close(torch.stack(losses, 1), expected, rtol=1e-6, atol=0)


def test_run_in_which_the_teacher_diverges_adds_nothing() -> None:
    """Of two runs one falls off: the gradient is half of the other's alone."""
    learner = untrained()
    estimator = Imitating(teacher=SGD(0.45))
    found = {}
    for instances in (range(8), [0], [1], [2], [3], [4], [5], [6], [7]):
        objective = Objective(Cliff(), instances, "train", 1)
        place, _ = estimator.begin(learner, objective)
        with torch.no_grad():
            given = (learner, objective, place, 3, "loss", Rng(0, "x"))
            found[tuple(instances)] = estimator.gradient(*given)
    alive = {each: one.place.alive for each, one in found.items()}
    assert 0 < int(alive[tuple(range(8))].sum()) < 8
    singles = [found[(i,)].gradient for i in range(8)]
    assert all((each.norm() > 0) == bool(alive[(i,)]) for i, each in enumerate(singles))
    torch.testing.assert_close(found[tuple(range(8))].gradient, sum(singles) / 8)


def test_learning_to_imitate_brings_updates_closer(tmp_path: Path) -> None:
    """With nothing but imitation, the LSTM becomes much like its teacher."""
    every = Imitation(ADAM, share=1.0)
    phase = Phase(300, 10, {"name": "truncated"}, 0.01, batch=4, imitate=every, clip=True)
    metatrain(PROBLEM, SPEC, training(phase, every=300), 1, tmp_path)
    state = training_state(tmp_path)
    assert state.moments == {} and state.imitation["updates"] == 75
    assert state.norms == [], "these gradients are not clipped"
    estimator, gaps = Imitating(teacher=Adam(0.01)), []
    learner: Any = optimizers.make(SPEC)
    for phi in (learner.initial_weights(Rng(1, "phi")), state.weights):
        objective = Objective(PROBLEM, range(16), "test", 1)
        taught = learner.with_weights(phi)
        place, _ = estimator.begin(taught, objective)
        with torch.no_grad():
            place = estimator.gradient(taught, objective, place, 5, "loss", Rng(0, "x")).place
        gaps.append(place.state.gap.square().mean().item())
    assert gaps[1] < 0.2 * gaps[0]
    assert math.isnan(log_of(tmp_path)[-1]["train"]), "there were no other runs"


def test_share_is_that_of_the_runs_and_the_others_are_as_they_were(tmp_path: Path) -> None:
    phase = Phase(2000, 4, FIVE, 0.01, imitate=SOME)
    drawn = [phase.imitates(1, run) for run in range(2000)]
    assert sum(drawn) / 2000 == pytest.approx(0.4, abs=0.04)
    assert drawn == [phase.imitates(1, run) for run in range(2000)]
    assert drawn != [phase.imitates(2, run) for run in range(2000)]
    assert not any(replace(phase, imitate=None).imitates(1, run) for run in range(99))
    # With a share that draws none of these runs, training is the one without.
    few = Phase(6, 10, FIVE, rate=0.02)
    train(tmp_path / "none", few)
    train(tmp_path / "rare", replace(few, imitate=Imitation(ADAM, 1e-6)))
    assert outcome(tmp_path / "none")[::2] == outcome(tmp_path / "rare")[::2]


def test_first_update_on_an_imitated_run_is_adam_s_on_its_gradient(tmp_path: Path) -> None:
    phase = Phase(1, 10, {"name": "truncated"}, 0.02, imitate=Imitation(ADAM, 1.0))
    train(tmp_path, phase)
    state = training_state(tmp_path)
    learner = untrained()
    objective, estimator = Objective(PROBLEM, [0], "train", 1), Imitating(teacher=Adam(0.01))
    place, _ = estimator.begin(learner, objective)
    with torch.no_grad():
        given = (learner, objective, place, 10, "loss", Rng(0, "x"))
        gradient = estimator.gradient(*given).gradient
    adam = Adam(0.02)
    fresh = adam.init(ParamSpec({"phi": gradient.shape}), 1)
    update, _ = moved(adam, gradient.unsqueeze(0), fresh)
    torch.testing.assert_close(state.weights, learner.phi + update[0])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder, *PHASES, every=2)
    return outcome(folder)


@pytest.mark.parametrize("last", [2, 5, 9])
def test_resume_equals_uninterrupted_run(tmp_path: Path, undisturbed: Outcome, last: int) -> None:
    assert any(train_until(tmp_path, last, *PHASES, every=2) for _ in range(100))
    assert outcome(tmp_path) == undisturbed
    state = training_state(tmp_path)
    assert state.imitation and state.moments, "both kinds of runs came"


def test_teacher_is_part_of_the_key_with_all_that_decides_it(tmp_path: Path) -> None:
    without = planned(tmp_path)
    assert "imitate" not in without.config["training"]["phases"][0]
    teacher = "{optimizer: {name: adam, lr: 0.01, schedule: cosine}, share: 0.3}"
    with_it = planned(tmp_path, f"phases.0.imitate={teacher}")
    assert with_it.key != without.key
    check_unchanged(plain(with_it.config))
    assert with_it.config["imitated"][0]["code"]
    spec = with_it.config["training"]["phases"][0]["imitate"]["optimizer"]
    assert spec["schedule_steps"] == 12, "a schedule is over the runs of the phase"
    assert spec["beta1"] == 0.9
    schedule = fill(Phase, with_it.config["training"]["phases"][0], "phase")
    metatrain(PROBLEM, SPEC, training(schedule), 1, tmp_path)


@pytest.mark.parametrize(
    ("imitate", "told"),
    [
        (
            "{optimizer: {name: adam}, share: 0.3}",
            "optimizer: 'adam' needs its rate: add lr",
        ),
        ("{optimizer: {name: adma}, share: 0.3}", "there is no optimizer 'adma'"),
        ("{optimizer: {name: adam, lr: 0.1}}", "imitate needs 'share'"),
        ("{optimizer: {name: adam, lr: 0.1}, share: 1.5}", "share 1.5 must be at most 1"),
        ("{optimizer: {name: adam, lr: 0.1}, share: 0}", "share is 0, but must be a number, above"),
        ("{optimizer: {name: lstm}, share: 0.3}", "imitate.optimizer: 'lstm' has no weights"),
        (
            "{optimizer: {name: adam, lr: 0.1, earlier_runs: 2}, share: 0.3}",
            "earlier_runs: imitated runs have none before them: omit it",
        ),
    ],
)
def test_teachers_that_cannot_be_are_refused_while_planning(
    tmp_path: Path, imitate: str, told: str
) -> None:
    with pytest.raises(SuiteError) as refused:
        planned(tmp_path, f"phases.0.imitate={imitate}")
    assert told in str(refused.value)
    assert "phases[0].imitate" in str(refused.value)
