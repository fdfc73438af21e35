"""Recorded steps are the loop's own; recording is a GPU's, so elsewhere something stands in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from test_devices import OPTIMIZERS, PROBLEMS
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, Tensors
from l2l.optimizers.hand_designed.sgd import SGD
from l2l.optimizers.learned.rnnprop import RNNProp
from l2l.problems.mlp import MLP
from l2l.problems.quadratic import Quadratic
from l2l.suite.core import recorded
from l2l.suite.core.recorded import Recorded, Recordings
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Problem
from l2l.suite.inner import replay
from l2l.suite.inner.loop import descend, walk
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point, start

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
STEPS = 6


def in_place_of_a_recording(
    call: Callable[[], Sequence[Tensor]], device: torch.device
) -> tuple[list[Tensor], Callable[[], None]]:
    """As a recording, except that the function is called each time."""
    call()
    results = list(call())

    def launch() -> None:
        for own, x in zip(results, call(), strict=True):
            own.copy_(x)

    return results, launch


@pytest.fixture(autouse=True)
def recordings(monkeypatch: pytest.MonkeyPatch) -> Recordings:
    """Empty ones, that record at the first call."""
    made = Recordings(calls=1, most=8)
    monkeypatch.setattr(replay, "_recordings", made)
    if not GPU:
        monkeypatch.setattr(recorded, "_record", in_place_of_a_recording)
        for module in (recorded, replay):
            monkeypatch.setattr(module, "is_recordable", lambda _: True)
    return made


def trained(kind: Any, seed: int, **settings: Any) -> Optimizer:
    made = kind(**settings)
    optimizer: Optimizer = made.with_weights(made.initial_weights(Rng(seed, "phi")).to(DEVICE))
    return optimizer


def routed() -> Any:
    spec = {"name": "lstm", "hidden": 4}
    return optimizers.make({"name": "routed", "groups": {"conv": spec, "fc": spec}})


def points_of(
    problem: Problem, optimizer: Optimizer, first: int = 0, recorded_too: bool = True
) -> list[Point]:
    """Two windows, of which the second goes on where the first one ends."""
    objective = Objective(problem, [first, first + 1], "test", 0, device=DEVICE)
    points = [start(objective, optimizer)]
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        if not recorded_too:
            patch.setattr(replay, "MOST", 0)
        for _ in range(2):
            points += walk(objective, optimizer, points[-1], STEPS)[1:]
    return points


def replays(recordings: Recordings) -> int:
    return sum(each.replays for _, each in recordings._made.values())


def same(one: list[Point], other: list[Point]) -> bool:
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6} if GPU else {"rtol": 0, "atol": 0}
    pairs = [(a.loss, b.loss) for a, b in zip(one, other, strict=True)]
    for name in ("grads", "theta", "alive"):
        pairs += [(getattr(a, name), getattr(b, name)) for a, b in zip(one, other, strict=True)]
    for end in (STEPS, -1):
        pairs += zip(
            replay._tensors(one[end].state), replay._tensors(other[end].state), strict=True
        )
    return all(torch.allclose(a, b, **close) for a, b in pairs)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_recorded_steps_are_the_loops_own(
    problem: str, optimizer: str, recordings: Recordings
) -> None:
    made = OPTIMIZERS[optimizer](DEVICE)
    for first in (0, 2):  # other instances by the same recording
        found = points_of(PROBLEMS[problem], made, first)
        assert same(found, points_of(PROBLEMS[problem], made, first, recorded_too=False))
    # One for states as they are at first, and perhaps one for states as they are later.
    assert 1 <= len(recordings._made) <= 2
    assert replays(recordings) == 4 * STEPS


@pytest.mark.parametrize("kind", [RNNProp, routed])
def test_one_recording_serves_every_phi(kind: Any, recordings: Recordings) -> None:
    made = kind()
    for seed in range(2):
        optimizer = made.with_weights(made.initial_weights(Rng(seed, "phi")).to(DEVICE))
        found = points_of(PROBLEMS["convnet"], optimizer)
        assert same(found, points_of(PROBLEMS["convnet"], optimizer, recorded_too=False))
    assert len(recordings._made) == 1


def test_evaluations_are_recorded_too(recordings: Recordings) -> None:
    objective = Objective(PROBLEMS["mlp"], range(2), "test", 0, device=DEVICE)
    torch.testing.assert_close(*losses_of(objective, OPTIMIZERS["nag"](DEVICE)))
    assert replays(recordings) == STEPS


def test_runs_that_take_turns_do_not_share_memory() -> None:
    optimizer = OPTIMIZERS["adam"](DEVICE)
    objectives = [Objective(PROBLEMS["mlp"], [i], "test", 0, device=DEVICE) for i in range(2)]
    with torch.no_grad():
        alone = [[p.loss for p in descend(each, optimizer, STEPS)] for each in objectives]
        turns = zip(*(descend(each, optimizer, STEPS) for each in objectives), strict=True)
        together = [[point.loss for point in points] for points in turns]
    torch.testing.assert_close(torch.tensor(alone), torch.tensor(together).T)


@dataclass(frozen=True)
class Hidden(RNNProp):
    """Has a setting that is not shown."""

    factor: float = field(default=1.0, repr=False)

    def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        update, state = super().update(grads, state, params)
        return self.factor * update, state


@pytest.mark.parametrize(
    "optimizers",
    [
        [SGD(0.1), SGD(0.2)],
        [SGD(torch.tensor(0.1)), SGD(torch.tensor(0.2))],
        [trained(Hidden, 0, factor=x) for x in (1.0, 0.5)],
        [trained(RNNProp, 0, step=x) for x in (0.1, 0.05)],
    ],
)
def test_each_optimizer_has_a_recording_of_its_own(
    optimizers: list[Any], recordings: Recordings
) -> None:
    for optimizer in optimizers:
        found = points_of(PROBLEMS["mlp"], optimizer)
        assert same(found, points_of(PROBLEMS["mlp"], optimizer, recorded_too=False))
    assert len(recordings._made) == len(optimizers)
    assert replays(recordings) == 2 * STEPS * len(optimizers)


def test_each_problem_has_a_recording_of_its_own(recordings: Recordings) -> None:
    optimizer = SGD(0.1)
    for activation in ("sigmoid", "tanh"):
        problem = MLP(units=5, batch_size=8, activation=activation)
        found = points_of(problem, optimizer)
        assert same(found, points_of(problem, optimizer, recorded_too=False))
    assert replays(recordings) == 4 * STEPS


def test_runs_that_diverge_stand_still(recordings: Recordings) -> None:
    found = points_of(Quadratic(), SGD(1e15))
    assert same(found, points_of(Quadratic(), SGD(1e15), recorded_too=False))
    assert found[1].alive.all() and not found[-1].alive.any()
    assert replays(recordings) == 2 * STEPS


def losses_of(objective: Objective, optimizer: Optimizer, steps: int = STEPS) -> list[Tensor]:
    """Those of a run by a recording, and without."""
    found = []
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        for most in (replay.MOST, 0):
            patch.setattr(replay, "MOST", most)
            found.append(torch.stack([x.loss for x in descend(objective, optimizer, steps)]))
    return found


def test_copies_and_instances_are_told_apart(recordings: Recordings) -> None:
    for numbers, copies in (([0, 1], 1), ([0], 2)):
        objective = Objective(Quadratic(), numbers, "test", 0, copies, DEVICE)
        torch.testing.assert_close(*losses_of(objective, SGD(0.1)))
    assert len(recordings._made) == 2


@dataclass(frozen=True)
class Resizing(MLP):
    """Draws minibatches of sizes of its own."""

    def batch(self, rng: Rng) -> Tensors:
        size = 4 + int(rng.integers(3))
        return {name: x[:size] for name, x in super().batch(rng).items()}


def test_minibatches_of_other_sizes_end_the_recorded_steps(recordings: Recordings) -> None:
    objective = Objective(Resizing(units=5, batch_size=8), [0], "test", 0, device=DEVICE)
    sizes = [objective.batch_at(step)["x"].shape[-2] for step in range(1, 9)]
    assert len(set(sizes)) > 1
    torch.testing.assert_close(*losses_of(objective, SGD(0.1), 8))
    assert 0 < replays(recordings) < 8


@dataclass(frozen=True)
class Growing(SGD):
    """Its state has another structure after the first step."""

    def init(self, spec: ParamSpec, n: int) -> list[Tensor]:
        return []

    def update(self, grads: Tensor, state: list[Tensor], params: Params) -> tuple[Tensor, Any]:
        return -0.01 * grads, [grads]


@dataclass(frozen=True)
class Turning(SGD):
    """Its state comes back in another order."""

    def init(self, spec: ParamSpec, n: int) -> dict[str, Tensor]:
        return {"a": torch.ones(n, spec.size), "b": torch.zeros(n, spec.size)}

    def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        a, b = state["a"], state["b"]
        return -0.01 * (grads + a), {"b": b + 0.1, "a": 0.9 * a + b}


@dataclass(frozen=True)
class Widening(SGD):
    """Its state has another type after the first step."""

    def init(self, spec: ParamSpec, n: int) -> Tensor:
        return torch.zeros(n, spec.size)

    def update(self, grads: Tensor, state: Tensor, params: Params) -> tuple[Tensor, Any]:
        state = state.double() + 1 / 3
        return (-0.01 * state * grads).float(), state


@pytest.mark.parametrize("kind", [Growing, Turning, Widening])
def test_states_that_change_their_structure_are_not_recorded(kind: Any) -> None:
    found = points_of(PROBLEMS["mlp"], kind(0.1))
    assert same(found, points_of(PROBLEMS["mlp"], kind(0.1), recorded_too=False))


@dataclass(frozen=True)
class Swapping(SGD):
    """Its next state is in the memory of what it is given."""

    def init(self, spec: ParamSpec, n: int) -> tuple[Tensor, Tensor]:
        return torch.ones(n, spec.size), torch.zeros(n, spec.size)

    def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        one, other = state
        return -0.01 * (grads + other), (grads, one)


def test_what_shares_memory_is_read_before_it_is_written(recordings: Recordings) -> None:
    found = points_of(PROBLEMS["mlp"], Swapping(0.1))
    assert same(found, points_of(PROBLEMS["mlp"], Swapping(0.1), recorded_too=False))
    assert replays(recordings) == 2 * STEPS


def test_what_is_not_finite_is_told_apart() -> None:
    def moving(*losses: float, state: float = 1.0) -> replay._Moving:
        ones = torch.ones(2, 3)
        of_run = torch.tensor(losses)
        return replay._Moving(ones, torch.tensor([state]), of_run, ones, of_run.isfinite())

    nan, inf = torch.nan, torch.inf
    assert replay._near(moving(1.0, inf, state=nan), moving(1.00001, inf, state=nan))
    assert not replay._near(moving(1.0, 1.0, state=nan), moving(1.0, 1.0))
    assert not replay._near(moving(1e6, inf), moving(1.0, inf))
    assert not replay._near(moving(1.0, inf), moving(1.0, 1.0))


def test_a_recording_that_gives_other_numbers_is_not_used(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings
) -> None:
    step = replay._step_in

    def faster(*given: Any) -> None:
        step(*given[:2], replace(given[2], lr=0.5))

    monkeypatch.setattr(replay, "_step_in", faster)
    found = points_of(PROBLEMS["mlp"], SGD(0.1))
    assert same(found, points_of(PROBLEMS["mlp"], SGD(0.1), recorded_too=False))
    assert not recordings._made and len(recordings._unusable) == 1


@dataclass(frozen=True)
class Asking(SGD):
    """Waits for a number, which cannot be recorded."""

    def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        return (-0.01 if grads.sum().item() > 0 else -0.02) * grads, state


@dataclass(frozen=True)
class Waiting(SGD):
    """Waits for the GPU, which is found only while it is recorded."""

    def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        torch.cuda.synchronize()
        return -0.01 * grads, state


@pytest.mark.skipif(not GPU, reason="there is no GPU")
@pytest.mark.parametrize("kind", [Asking, Waiting])
def test_after_a_recording_that_fails_others_succeed(kind: Any, recordings: Recordings) -> None:
    found = points_of(PROBLEMS["mlp"], kind(0.1))
    assert same(found, points_of(PROBLEMS["mlp"], kind(0.1), recorded_too=False))
    torch.randn(2, device=DEVICE)
    assert not recordings._made
    assert same(points_of(PROBLEMS["mlp"], SGD(0.1)), points_of(PROBLEMS["mlp"], SGD(0.1)))
    assert recordings._made


def test_the_recording_that_was_not_used_for_longest_makes_room(recordings: Recordings) -> None:
    x = torch.zeros(1, device=DEVICE)

    def find(name: int) -> Recorded | None:
        return recordings.find(name, lambda given: [given[0] + 1], [x])

    assert all(find(name) for name in (*range(8), 0, 8))
    assert {key[0] for key in recordings._made} == {0, *range(2, 9)}  # type: ignore[index]


def test_a_recording_outlives_another_that_its_memory_could_have_been_of() -> None:
    some, big = Recordings(calls=1, most=1), torch.randn(64, 4096, device=DEVICE)
    other = Recordings(calls=1, most=1)

    def product(given: list[Tensor]) -> list[Tensor]:
        return [given[0] @ given[0].T]

    assert some.find("first", product, [big])
    second = other.find("second", product, [big])
    assert second and some.find("third", product, [big])  # in the place of the first
    if GPU:
        torch.cuda.empty_cache()
    torch.testing.assert_close(second([big + 1])[0], (big + 1) @ (big + 1).T)


def test_what_cannot_be_recorded_takes_no_place() -> None:
    def failing(given: list[Tensor]) -> list[Tensor]:
        raise ValueError

    some, x = Recordings(calls=1, most=1), torch.zeros(1, device=DEVICE)
    assert some.find("good", lambda given: [given[0] + 1], [x])
    assert not some.find("bad", failing, [x]) and not some.find("bad", failing, [x])
    good = some.find("good", lambda given: [], [x])
    assert good and len(good.results) == 1
    good.forbidden = True
    assert not some.find("good", lambda given: [given[0] + 1], [x]) and not some._made


def test_a_function_is_recorded_after_so_many_calls() -> None:
    some, x = Recordings(calls=3, most=1), torch.zeros(1, device=DEVICE)
    found = [some.find("", lambda given: [given[0] + 1], [x]) for _ in range(4)]
    assert [each is not None for each in found] == [False, False, True, True]
    assert some.find("other", lambda given: [given[0] + 1], [x], calls=3)


def test_a_recorded_function_reads_what_it_is_given(recordings: Recordings) -> None:
    numbers = torch.arange(3.0, device=DEVICE)
    made = recordings.find("", lambda given: [given[0] * given[1]], [numbers, numbers])
    assert made
    first = made([numbers, numbers])
    second = made([numbers, numbers + 1])
    assert torch.equal(first[0], numbers**2)
    assert torch.equal(second[0], numbers * (numbers + 1))


def test_recordings_of_other_precisions_are_told_apart(recordings: Recordings) -> None:
    """Also where a program sets them by PyTorch's newer names, which makes the older ones raise."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        for count, precision in enumerate(("ieee", "tf32"), 1):
            matmul.fp32_precision = precision
            points_of(PROBLEMS["quadratic"], SGD(0.1))
            assert len(recordings._made) == count
    finally:
        matmul.fp32_precision = before
