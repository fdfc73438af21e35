"""Recorded steps are the loop's own; recording is a GPU's, so elsewhere something stands in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from test_devices import OPTIMIZERS, PROBLEMS
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec
from l2l.optimizers.hand_designed.sgd import SGD
from l2l.optimizers.learned.rnnprop import RNNProp
from l2l.suite.core import recorded
from l2l.suite.core.recorded import Recordings
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
    """As a recording: only tensors count, and what they are is decided once."""
    call()
    results = list(call())

    def launch() -> None:
        for own, x in zip(results, call(), strict=True):
            own.copy_(x)

    return results, launch


@pytest.fixture(autouse=True)
def recordings(monkeypatch: pytest.MonkeyPatch) -> Recordings:
    """Empty ones, that record at the first call."""
    made = Recordings(calls=1)
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


def routed(**settings: Any) -> Any:
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


def same(one: list[Point], other: list[Point]) -> bool:
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6} if GPU else {"rtol": 0, "atol": 0}
    pairs = [(a.loss, b.loss) for a, b in zip(one, other, strict=True)]
    pairs += [(a.grads, b.grads) for a, b in zip(one, other, strict=True)]
    pairs += [(one[-1].theta, other[-1].theta), (one[STEPS].theta, other[STEPS].theta)]
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
    assert sum(each.replays for _, each in recordings._made.values() if each) == 4 * STEPS


@pytest.mark.parametrize("kind", [RNNProp, routed])
def test_one_recording_serves_every_phi(kind: Any, recordings: Recordings) -> None:
    for seed in range(2):
        optimizer = trained(kind, seed)
        found = points_of(PROBLEMS["convnet"], optimizer)
        assert same(found, points_of(PROBLEMS["convnet"], optimizer, recorded_too=False))
    assert len(recordings._made) == 1


def test_evaluations_are_recorded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(PROBLEMS["mlp"], range(2), "test", 0, device=DEVICE)
    optimizer = OPTIMIZERS["nag"](DEVICE)
    with torch.no_grad():
        losses = torch.stack([p.loss for p in descend(objective, optimizer, STEPS)])
        monkeypatch.setattr(replay, "MOST", 0)
        expected = torch.stack([p.loss for p in descend(objective, optimizer, STEPS)])
    torch.testing.assert_close(losses, expected, rtol=1e-4 if GPU else 0, atol=0)


def test_runs_that_take_turns_do_not_share_memory() -> None:
    optimizer = OPTIMIZERS["adam"](DEVICE)
    objectives = [Objective(PROBLEMS["mlp"], [i], "test", 0, device=DEVICE) for i in range(2)]
    with torch.no_grad():
        alone = [[p.loss for p in descend(each, optimizer, STEPS)] for each in objectives]
        turns = zip(*(descend(each, optimizer, STEPS) for each in objectives), strict=True)
        together = [[point.loss for point in points] for points in turns]
    assert torch.equal(torch.tensor(alone), torch.tensor(together).T)


@dataclass(frozen=True)
class Growing(SGD):
    """Its state has another structure after the first step."""

    def init(self, spec: ParamSpec, n: int) -> list[Tensor]:
        return []

    def update(self, grads: Tensor, state: list[Tensor], params: Params) -> tuple[Tensor, Any]:
        return -0.01 * grads, [grads]


@dataclass(frozen=True)
class Swapping(SGD):
    """Its next state is in the memory of what it is given."""

    def init(self, spec: ParamSpec, n: int) -> tuple[Tensor, Tensor]:
        return torch.ones(n, spec.size), torch.zeros(n, spec.size)

    def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        one, other = state
        return -0.01 * (grads + one), (other, grads)


def test_what_shares_memory_is_read_before_it_is_written() -> None:
    found = points_of(PROBLEMS["mlp"], Swapping(0.1))
    assert same(found, points_of(PROBLEMS["mlp"], Swapping(0.1), recorded_too=False))


def test_a_recording_that_gives_other_numbers_is_not_used(
    monkeypatch: pytest.MonkeyPatch, recordings: Recordings
) -> None:
    step = replay._step_in

    def frozen(*given: Any) -> None:
        step(*given[:2], replace(given[2], lr=0.5))

    monkeypatch.setattr(replay, "_step_in", frozen)
    found = points_of(PROBLEMS["mlp"], SGD(0.1))
    assert same(found, points_of(PROBLEMS["mlp"], SGD(0.1), recorded_too=False))
    assert all(each is None for _, each in recordings._made.values())


def test_states_that_change_their_structure_are_not_recorded() -> None:
    found = points_of(PROBLEMS["mlp"], Growing(0.1))
    assert same(found, points_of(PROBLEMS["mlp"], Growing(0.1), recorded_too=False))


@dataclass(frozen=True)
class Asking(SGD):
    """Waits for a number, which cannot be recorded."""

    def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        return (-0.01 if grads.sum().item() > 0 else -0.02) * grads, state


@pytest.mark.skipif(not GPU, reason="there is no GPU")
def test_after_a_recording_that_fails_others_succeed(recordings: Recordings) -> None:
    found = points_of(PROBLEMS["mlp"], Asking(0.1))
    assert same(found, points_of(PROBLEMS["mlp"], Asking(0.1), recorded_too=False))
    assert all(each is None for _, each in recordings._made.values())
    assert points_of(PROBLEMS["mlp"], SGD(0.1))
    assert any(each for _, each in recordings._made.values())


def test_the_oldest_recording_makes_room(recordings: Recordings) -> None:
    x = torch.zeros(1, device=DEVICE)
    for name in range(recorded.MOST + 1):
        assert recordings.find(name, lambda given: [given[0] + 1], [x])
    assert len(recordings._made) == recorded.MOST
    assert all(key[0] != 0 for key in recordings._made)  # type: ignore[index]
