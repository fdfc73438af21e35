"""Meta-training: it learns, keeps the best φ, and survives being killed at any point."""

from __future__ import annotations

import csv
import json
import math
import signal
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from example_problems import Cliff
from forked import forked
from moved import moved
from safetensors import safe_open
from torch import Tensor

import l2l.suite.meta.metatrain
import l2l.suite.run.shipped
from l2l.optimizers.learned.checkpoint import about_optimizer, load_optimizer, save_optimizer
from l2l.optimizers.learned.lstm import LSTM
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.convert import fill, plain
from l2l.suite.core.digests import file_digest
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.estimator import Estimate
from l2l.suite.core.kind import Job
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import ParamSpec, Problem
from l2l.suite.files.places import TRAINING_STATE
from l2l.suite.files.progress import silent
from l2l.suite.inner.evaluate import evaluate
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import advance, start
from l2l.suite.meta.estimators.second_order import second_order_gradient
from l2l.suite.meta.estimators.truncated import Truncated, window_gradient
from l2l.suite.meta.meta_loss import loss_weights
from l2l.suite.meta.metatrain import metatrain
from l2l.suite.meta.schedule import Phase, Schedule, as_tables
from l2l.suite.meta.state import TrainingState, load_state
from l2l.suite.run.kinds.metatrain import Metatrain

PROBLEM = Quadratic(dim=3)
SPEC = {"name": "lstm", "preprocessing": "none", "hidden": 4}
FIVE = {"name": "truncated", "window": 5}
FOUR = {"name": "truncated", "window": 4}
SHORT = Phase(runs=24, horizon=10, estimator=FIVE, rate=0.01, batch=4)
# Everything that a state holds is in use: clipping, sampling, a decay, averages, three phases.
PHASES = (
    Phase(
        runs=20,
        horizon=10,
        estimator=FIVE,
        rate=0.02,
        batch=2,
        clip=True,
        rate_end=0.001,
        average=0.8,
        patience=1,
    ),
    Phase(
        runs=12,
        horizon=12,
        estimator={**FIVE, "sample": 2},
        rate=0.01,
        batch=3,
        method="soap",
        beta2=0.95,
        objective="log_loss",
    ),
    Phase(runs=18, horizon=8, estimator=FOUR, rate=0.02, odd=True, average=0.9),
    Phase(7, 8, FOUR, rate=0.02, odd=0.5, average=0.9, batch=2, method="soap-joined"),
)


def training(*phases: Phase, every: int = 6, criterion: Any = "final") -> Schedule:
    return Schedule(phases, every, validation_instances=6, criterion=criterion)


def train(
    folder: Path, *phases: Phase, problem: Problem = PROBLEM, spec: Any = SPEC, **options: Any
) -> list[dict[str, float]]:
    """The rows of the log."""
    folder.mkdir(exist_ok=True)
    metatrain(problem, spec, training(*phases, **options), 1, folder)
    return log_of(folder)


def log_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "log.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def training_state(folder: Path) -> TrainingState:
    """What a meta-training keeps while it runs."""
    state = load_state(folder)
    assert state is not None
    return state


def untrained(spec: Any = SPEC, seed: int = 1) -> Any:
    """The optimizer that a meta-training begins with."""
    made: Any = optimizers.make(spec)
    return made.with_weights(made.initial_weights(Rng(seed, "phi")))


Outcome = tuple[dict[str, bytes], dict[str, str], str]


def outcome(folder: Path) -> Outcome:
    """What a meta-training leaves, bit for bit: φ, the checkpoint's header, and the log."""
    # safetensors writes a header's entries in an order that differs from process to process.
    with safe_open(folder / "optimizer.safetensors", "pt") as file:
        parts = {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118
        return parts, file.metadata(), (folder / "log.csv").read_text()


def test_meta_training_lowers_the_validation_loss(tmp_path: Path) -> None:
    phase = Phase(1200, 20, {"name": "truncated", "window": 10}, rate=0.01, batch=8)
    log = train(tmp_path, phase, every=200)
    assert log[0]["runs"] == 0, "validated before the first update"
    assert min(row["validation"] for row in log) < 0.7 * log[0]["validation"]
    trained = load_optimizer(tmp_path / "optimizer.safetensors")
    both = (trained, untrained())
    finals = [evaluate(PROBLEM, each, 20, 64, 5)[:, -1].mean() for each in both]
    assert finals[0] < 0.8 * finals[1], "on instances that training never saw"


@pytest.mark.parametrize("name", ["truncated", "second_order"])
def test_one_update_is_adam_on_the_meta_gradient(tmp_path: Path, name: str) -> None:
    """Against the update written out: one run of two windows, plain ADAM at the phase's rate."""
    train(tmp_path, Phase(3, 8, {"name": name, "window": 5}, rate=0.02, batch=3))
    state = training_state(tmp_path)
    learner: Any = optimizers.make(SPEC)
    phi = learner.initial_weights(Rng(1, "phi"))
    objective = Objective(PROBLEM, range(3), "train", 1)
    point = start(objective, learner.with_weights(phi))
    adam = optimizers.make({"name": "adam", "lr": 0.02})
    moments = adam.init(ParamSpec({"phi": phi.shape}), 1)
    for steps in (5, 3):
        points = [point]
        for _ in range(steps):
            points.append(advance(objective, learner.with_weights(phi), points[-1]))
        point = points[-1]
        moving = learner.with_weights(phi)
        weights = loss_weights(points, "loss")
        if name == "second_order":
            gradient = second_order_gradient(moving, objective, points, weights)
        else:
            gradient = window_gradient(moving, points, weights, Rng(0, "x"))
        update, moments = moved(adam, gradient.unsqueeze(0), moments)
        phi = phi + update[0]
    assert torch.allclose(state.weights, phi, rtol=1e-5, atol=1e-7)
    assert state.moments["updates"] == 2


@pytest.mark.parametrize(("runs", "batch"), [(8, 4), (9, 4), (7, 8)])
def test_every_run_is_on_fresh_training_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: int, batch: int
) -> None:
    drawn: list[int] = []

    class Listening(Objective):
        def __init__(self, problem: Problem, instances: Any, split: str, *rest: Any, **k: Any):
            drawn.extend(instances)
            assert split == "train"
            super().__init__(problem, instances, split, *rest, **k)

    monkeypatch.setattr(l2l.suite.meta.metatrain, "Objective", Listening)
    phases = (Phase(runs, 4, FOUR, 0.01, batch=batch), Phase(6, 4, FOUR, 0.01, batch=2))
    log = train(tmp_path, *phases)
    assert drawn == list(range(runs + 6))
    assert [row["runs"] for row in log][-1] == runs + 6


def test_training_loss_in_the_log_is_the_mean_sum_over_runs(tmp_path: Path) -> None:
    """With a rate at which φ hardly moves: the first four runs' own losses, θ_0's among them."""
    log = train(tmp_path, Phase(4, 6, {"name": "truncated", "window": 3}, 1e-9, batch=2), every=4)
    losses = evaluate(PROBLEM, untrained(), 6, 4, 1, split="train")
    assert log[-1]["train"] == pytest.approx(losses.sum(1).mean().item(), rel=1e-4)


def test_rate_falls_along_a_half_cosine(tmp_path: Path) -> None:
    phase = Phase(12, 4, FOUR, rate=0.01, rate_end=0.002, batch=1)
    log = train(tmp_path, phase, every=3)
    for row in log[1:]:
        done = (row["runs"] - 1) / 12
        assert row["rate"] == pytest.approx(0.006 + 0.004 * math.cos(math.pi * done))
    constant = train(tmp_path / "constant", Phase(4, 4, FOUR, rate=0.01))
    assert constant[-1]["rate"] == 0.01


def test_validations_come_as_often_as_asked_and_at_the_end_of_a_phase(tmp_path: Path) -> None:
    log = train(
        tmp_path, Phase(runs=10, horizon=4, estimator=FOUR, rate=0.01, batch=4), SHORT, every=8
    )
    assert [row["runs"] for row in log] == [0, 8, 10, 18, 26, 34]


def spoil(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> list[Tensor]:
    """Make validation k return losses[k]; returns the φ that each one saw."""
    seen: list[Tensor] = []

    def pretend(problem: Problem, optimizer: LSTM, steps: int, instances: int, *_: Any) -> Tensor:
        assert optimizer.weights is not None
        seen.append(optimizer.weights)
        return torch.full((instances, steps + 1), losses[len(seen) - 1])

    monkeypatch.setattr(l2l.suite.meta.metatrain, "evaluate", pretend)
    return seen


def test_phi_with_the_best_validation_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spoil(monkeypatch, [5.0, 3.0, 1.0, 2.0, math.nan, math.inf, 4.0])
    train(tmp_path, SHORT, every=4)
    best = load_optimizer(tmp_path / "optimizer.safetensors").weights
    assert torch.equal(best, seen[2])
    assert not torch.equal(best, seen[-1])


def test_first_validation_that_is_not_finite_is_beaten_by_any_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spoil(monkeypatch, [math.inf, 9.0, 9.5, 9.5, 9.5, 9.5, 9.5])
    train(tmp_path, SHORT, every=4)
    assert torch.equal(load_optimizer(tmp_path / "optimizer.safetensors").weights, seen[1])


def test_later_phases_begin_from_the_best_phi_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first phase is at its best after 4 runs; the second goes on from there."""
    seen = spoil(monkeypatch, [5.0, 1.0, 2.0, 3.0, 9.0, 9.0])
    phases = [
        Phase(12, 4, FOUR, rate=0.05),
        # At this rate φ hardly moves, so where it began is where it ends.
        Phase(8, 4, FOUR, rate=1e-7),
    ]
    train(tmp_path, *phases, every=4)
    assert (seen[3] - seen[1]).abs().max() > 0.01
    for phi in seen[4:]:
        assert torch.allclose(phi, seen[1], atol=1e-5)
    state = training_state(tmp_path)
    assert state.moments["updates"] == 8, "with fresh moments"


def test_phi_goes_back_to_the_best_when_patience_is_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best φ is the second one seen; two validations later training goes on from there."""
    seen = spoil(monkeypatch, [5.0, 1.0, 2.0, 3.0, 9.0, 9.0])
    train(tmp_path, Phase(20, 4, FOUR, rate=0.05, patience=2), every=4)
    distance = [(phi - seen[1]).abs().max() for phi in seen]
    assert distance[4] < distance[3] and distance[4] < distance[5]
    state = training_state(tmp_path)
    assert torch.equal(state.weights, seen[1]), "and again after the last two"
    assert state.moments["updates"] == 20, "the moments stay"


def test_an_odd_phase_goes_back_to_the_odd_part_of_a_best_phi_from_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best φ is that of the free phase; the last validation brings φ back to it."""
    seen = spoil(monkeypatch, [5.0, 1.0, 2.0])
    odd = Phase(4, 4, FOUR, rate=0.05, odd=True, patience=1)
    train(tmp_path, Phase(4, 4, FOUR, rate=0.05), odd, every=4)
    state = training_state(tmp_path)
    assert torch.equal(state.best_weights, seen[1])
    assert torch.equal(state.weights, optimizers.make(SPEC).odd_part(seen[1]))
    assert not torch.equal(state.weights, seen[1])


def test_partly_odd_phase_takes_its_part_of_what_leads_away_from_odd_networks(
    tmp_path: Path,
) -> None:
    phase = Phase(6, 4, FOUR, rate=0.05)
    first = {}
    for odd in (False, 0.9, True):
        folder = tmp_path / str(odd)
        # Not moved: rates of 0 are refused, and this one is below what φ's precision has.
        train(folder, replace(phase, odd=odd, rate=1e-12), every=6)
        still = training_state(folder)
        train(folder / "moved", replace(phase, odd=odd), every=6)
        moved = training_state(folder / "moved")
        first[odd] = (still.weights, moved.weights - still.weights)
    optimizer = optimizers.make(SPEC)

    def even(vector: Tensor) -> Tensor:
        return vector - optimizer.odd_part(vector)

    torch.testing.assert_close(even(first[0.9][0]), 0.1 * even(first[False][0]))
    assert even(first[True][0]).abs().max() < 1e-6
    # ADAM's steps are as long however small gradients are, so the part is taken from updates, too.
    assert 0 < even(first[0.9][1]).norm() < 0.2 * even(first[False][1]).norm()
    assert optimizer.odd_part(first[0.9][1]).norm() > 0.5 * first[False][1].norm()


def test_partly_odd_phase_begins_with_the_best_phi_as_it_is(tmp_path: Path) -> None:
    """Only the φ that training begins with has not been trained."""
    free = Phase(4, 4, FOUR, rate=0.05)
    train(tmp_path, free, Phase(4, 4, FOUR, rate=1e-12, odd=0.9), every=4)
    train(tmp_path / "free", free, every=4)
    after, before = training_state(tmp_path), training_state(tmp_path / "free")
    torch.testing.assert_close(after.weights, before.best_weights)


def test_partly_odd_phase_begins_with_a_checkpoints_phi_as_it_is(tmp_path: Path) -> None:
    phase, phi = Phase(4, 4, FOUR, rate=1e-12, odd=0.9), untrained(seed=7).phi
    metatrain(PROBLEM, SPEC, training(phase, every=4), 1, tmp_path, initial=phi)
    torch.testing.assert_close(training_state(tmp_path).weights, phi)


def test_partly_odd_phase_goes_back_to_the_random_phi_as_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spoil(monkeypatch, [1.0, 2.0, 3.0])
    train(tmp_path, Phase(8, 4, FOUR, rate=1e-12, odd=0.9, patience=2), every=4)
    torch.testing.assert_close(training_state(tmp_path).weights, seen[1])


def test_average_of_phi_is_validated_and_kept_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the plain training's φ after each of four updates, averaged here."""
    phase = Phase(4, 4, FOUR, rate=0.05)
    plain = spoil(monkeypatch, [9.0, 4.0, 3.0, 2.0, 1.0])
    train(tmp_path / "plain", phase, every=1)
    seen = spoil(monkeypatch, [9.0, 4.0, 3.0, 2.0, 1.0])
    train(tmp_path / "averaged", replace(phase, average=0.7), every=1)
    expected = [plain[0], plain[1], (plain[1] + plain[2]) / 2, sum(plain[1:4]) / 3]
    expected.append(expected[-1] + 0.3 * (plain[4] - expected[-1]))
    for phi, other in zip(seen, expected, strict=True):
        assert torch.allclose(phi, other, rtol=1e-5, atol=1e-7)
    assert torch.equal(load_optimizer(tmp_path / "averaged" / "optimizer.safetensors").phi, seen[4])


def test_entering_a_phase_again_after_a_resume_changes_nothing() -> None:
    state = TrainingState(*3 * [torch.zeros(3)])
    state.enter(1, Tensor.clone)
    state.weights = torch.ones(3)
    state.enter(1, Tensor.clone)
    assert torch.equal(state.weights, torch.ones(3))


@pytest.mark.parametrize(("criterion", "expected"), [("final", 1.0), ("mean", 5.5)])
def test_criterion_is_the_end_or_the_whole_of_validation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, criterion: str, expected: float
) -> None:
    curve = torch.linspace(10.0, 1.0, 11)
    monkeypatch.setattr(l2l.suite.meta.metatrain, "evaluate", lambda *_: curve.expand(6, -1))
    log = train(tmp_path, Phase(4, 10, FIVE, 0.01), criterion=criterion)
    assert log[-1]["validation"] == pytest.approx(expected)
    assert log[-1]["final"] == 1.0
    assert log[-1]["sum"] == pytest.approx(59.5), "the losses before each of ten updates"


def bad_gradients(monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> None:
    real, calls = Truncated.gradient, 0

    def sometimes(*arguments: Any) -> Estimate:
        nonlocal calls
        calls += 1
        made = real(*arguments)
        return replace(made, gradient=made.gradient * (math.nan if calls in bad else 1.0))

    monkeypatch.setattr(Truncated, "gradient", sometimes)


def test_windows_without_a_finite_gradient_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad_gradients(monkeypatch, {2, 3, 7})
    log = train(tmp_path, SHORT, every=8)
    state = training_state(tmp_path)
    assert [row["skipped"] for row in log] == [0, 2, 3, 3]
    assert state.weights.isfinite().all()
    assert state.moments["updates"] == 24 / 4 * 2 - 3, "a skipped window is no step of ADAM"


def test_training_goes_on_where_every_run_diverges(tmp_path: Path) -> None:
    spec = {"name": "lstm", "hidden": 4, "output_scale": 1e6}
    log = train(tmp_path, SHORT, problem=Cliff(), spec=spec)
    assert log[-1]["runs"] == SHORT.runs
    assert log[-1]["validation"] == math.inf
    assert log[-1]["skipped"] > 0
    assert load_optimizer(tmp_path / "optimizer.safetensors").weights.isfinite().all()


def test_meta_gradients_are_clipped_at_the_running_median(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient a million times the usual moves φ no further than a usual one would."""
    real, calls, given = Truncated.gradient, 0, []

    def spike(*arguments: Any) -> Estimate:
        nonlocal calls
        calls += 1
        made = real(*arguments)
        size = 1e6 if calls == 6 else 2.0
        return replace(made, gradient=made.gradient / made.gradient.norm() * size)

    adam = optimizers.cls("adam")
    update = adam.update

    def listen(self: Any, grads: Tensor, *rest: Any) -> Any:
        given.append(grads.norm().item())
        return update(self, grads, *rest)

    monkeypatch.setattr(Truncated, "gradient", spike)
    monkeypatch.setattr(adam, "update", listen)
    train(tmp_path, Phase(10, 4, FOUR, rate=0.01, clip=True))
    assert given == pytest.approx([2.0] * 10)


# --- interruptions ---------------------------------------------------------------------------


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder, *PHASES)
    return outcome(folder)


def train_until(folder: Path, call: int, *phases: Phase, every: int = 6) -> bool:
    """Train until the progress is told for the `call`-th time; whether it came to its end."""
    folder.mkdir(exist_ok=True)
    calls = 0

    def progress(done: int, total: int, note: str) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed

    try:
        metatrain(PROBLEM, SPEC, training(*phases, every=every), 1, folder, progress=progress)
    except Killed:
        return False
    return True


@pytest.mark.parametrize("seed", range(6))
def test_resume_equals_uninterrupted_run(tmp_path: Path, undisturbed: Outcome, seed: int) -> None:
    rng = Rng(seed, "interruptions")
    for _ in range(50):
        if train_until(tmp_path, 1 + int(rng.integers(8)), *PHASES):
            break
    else:
        train(tmp_path, *PHASES)
    assert outcome(tmp_path) == undisturbed


@pytest.mark.parametrize("name", ["save_state", "write_text_atomic", "save_optimizer", "evaluate"])
def test_resume_equals_uninterrupted_run_when_killed_before_writing(
    tmp_path: Path, undisturbed: Outcome, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the files of one validation, or in the midst of it."""

    def die(*_: Any) -> None:
        raise Killed

    train_until(tmp_path, 5, *PHASES)
    with monkeypatch.context() as patch:
        patch.setattr(l2l.suite.meta.metatrain, name, die)
        with pytest.raises(Killed):
            train(tmp_path, *PHASES)
    train(tmp_path, *PHASES)
    assert outcome(tmp_path) == undisturbed


def test_finished_training_is_not_done_again(
    tmp_path: Path, undisturbed: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, *PHASES)
    monkeypatch.setattr(l2l.suite.meta.metatrain, "_update_over_run", None)
    train(tmp_path, *PHASES)
    assert outcome(tmp_path) == undisturbed


def test_killed_process_goes_on_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    """A real kill −9, somewhere after the first state was written."""
    folder, expected = tmp_path / "killed", tmp_path / "expected"
    phase = Phase(120, 10, {"name": "truncated", "window": 10}, rate=0.01, clip=True)
    with forked(tmp_path / "printed", partial(train, folder, phase, every=10)) as process:
        deadline = time.monotonic() + 40
        while not (folder / TRAINING_STATE).exists():
            assert time.monotonic() < deadline, "it never wrote a state"
            assert process.is_alive(), "it ended before it was killed"
            time.sleep(0.005)
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (folder / "optimizer.safetensors").exists()
    before = training_state(folder)
    assert 0 < before.runs < phase.runs
    train(folder, phase, every=10)
    train(expected, phase, every=10)
    assert outcome(folder) == outcome(expected)


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_truncated_state_is_named_and_left_alone(tmp_path: Path, size: int) -> None:
    train(tmp_path, SHORT)
    path = tmp_path / TRAINING_STATE
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    with pytest.raises(SuiteError, match=r"state.safetensors: is not a whole training state"):
        train(tmp_path, SHORT)
    assert path.read_bytes() == whole[:size]


def test_training_into_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SuiteError, match="cannot write"):
        metatrain(PROBLEM, SPEC, training(SHORT), 1, tmp_path / "file")


@dataclass(frozen=True)
class Broken(Quadratic):
    """Its third training instance has no value anywhere."""

    def instance(self, rng: Rng) -> dict[str, Tensor]:
        parts = super().instance(rng)
        return {**parts, "y": parts["y"] * math.nan} if parts["y"][0] > 1.2 else parts


def test_problem_that_is_not_finite_at_its_start_ends_training_with_a_sentence(
    tmp_path: Path,
) -> None:
    with pytest.raises(SuiteError, match=r"Broken: the loss of instance \d+ is not finite at θ_0"):
        train(tmp_path, SHORT, problem=Broken(dim=3))


def test_seeds_give_different_optimizers(tmp_path: Path) -> None:
    weights = []
    for seed in (1, 2):
        metatrain(PROBLEM, SPEC, training(SHORT), seed, tmp_path / str(seed))
        weights.append(load_optimizer(tmp_path / str(seed) / "optimizer.safetensors").weights)
    assert not torch.allclose(*weights, atol=0.01)


def test_checkpoint_says_how_it_came_about(tmp_path: Path) -> None:
    told = {"problem": {"name": "quadratic"}}
    metatrain(PROBLEM, SPEC, training(SHORT), 1, tmp_path, about=told)
    with safe_open(tmp_path / "optimizer.safetensors", "pt") as file:
        about = json.loads(file.metadata()["about"])
    assert about["seed"] == 1
    assert about["problem"] == {"name": "quadratic"}
    assert [fill(Phase, phase, "phases") for phase in about["phases"]] == [SHORT]


def test_training_from_a_checkpoint_begins_with_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(l2l.suite.run.shipped, "CHECKPOINTS", tmp_path)
    lstm = optimizers.make(SPEC)
    given = lstm.with_weights(lstm.initial_weights(Rng(5, "phi")))
    save_optimizer(tmp_path / "given.safetensors", SPEC, given)
    digest = file_digest(tmp_path / "given.safetensors")
    config = {
        "problem": {"spec": {"name": "quadratic", "dim": 3}},
        "optimizer": {"spec": SPEC},
        "training": {**plain(training(SHORT)), "phases": as_tables([SHORT])},
        "seed": 1,
    }
    began = []
    for name, more in (("a", {}), ("b", {"start": {"checkpoint": "given", "sha256": digest}})):
        (tmp_path / name).mkdir()
        Metatrain().run(Job({**config, **more}, (), tmp_path / name, "cpu", silent))
        began.append(log_of(tmp_path / name)[0]["sum"])
        assert about_optimizer(tmp_path / name / "optimizer.safetensors").get("start") == (
            "given" if more else None
        )
    losses = evaluate(PROBLEM, given, 10, 6, 1, "cpu", "validation")
    assert began[1] == pytest.approx(losses[:, :10].sum(1).mean().item(), rel=1e-6)
    assert began[0] != began[1]
    (tmp_path / "c").mkdir()
    changed = {**config, "start": {"checkpoint": "given", "sha256": "0"}}
    with pytest.raises(SuiteError, match=r"given\.safetensors changed since this run was planned"):
        Metatrain().run(Job(changed, (), tmp_path / "c", "cpu", silent))


@dataclass(frozen=True)
class Other(Quadratic):
    """The quadratic in another unit of the loss."""

    def loss(self, params: Any, instance: Any, batch: Any) -> Tensor:
        return 4 * super().loss(params, instance, batch)


@pytest.mark.parametrize(
    "estimator",
    [FIVE, {"name": "second_order", "window": 5}, {"name": "pes", "window": 5}],
    ids=str,
)
def test_relative_losses_are_the_same_in_every_unit(
    tmp_path: Path, estimator: dict[str, Any]
) -> None:
    """So an optimizer that sees gradients in the old unit is trained to the same bits."""

    def phi(problem: Problem, scale: float, objective: Any) -> Tensor:
        folder = tmp_path / f"{scale}-{objective}"
        spec = {"name": "scaled-lstm", "preprocessing": "none", "hidden": 4, "input_scale": scale}
        phase = Phase(12, 10, estimator, rate=0.02, objective=objective)
        train(folder, phase, problem=problem, spec=spec)
        return training_state(folder).weights

    def in_both(objective: Any) -> bool:
        here, there = phi(PROBLEM, 1.0, objective), phi(Other(dim=3), 0.25, objective)
        return torch.equal(here, there)

    assert in_both("relative_loss")
    assert not in_both("loss")
