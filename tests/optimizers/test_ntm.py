"""NTM-BFGS and NTM-L-BFGS: the shared memory, and that it is enough for BFGS (Appendix D)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from moved import moved
from torch import Tensor

from l2l.optimizers.by_hand import ntm_bfgs
from l2l.optimizers.by_hand.ntm_bfgs import NTMBFGSByHand
from l2l.optimizers.learned.memory import DenseMemory, HistoryMemory
from l2l.optimizers.learned.ntm import NTMBFGS, NTMLBFGS
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import ParamSpec

N, P = 2, 5
SPEC = ParamSpec({"theta": torch.Size([P])})


def draw(name: str, *shape: int) -> Tensor:
    return Rng(2, name).normal(*shape).double()


def make(cls: Any, **options: Any) -> Any:
    optimizer = cls(**{"hidden": 4, "preprocessing": "none", **options})
    return optimizer.with_weights(0.5 * draw("phi", optimizer.layout.size))


def test_memory_is_the_identity_and_what_was_written() -> None:
    memory = DenseMemory.initial(N, P, like=draw("like", 1))
    r = draw("r", 1, N, P)
    assert torch.equal(memory.read(r), r)
    a, b = draw("a", 3, N, P), draw("b", 3, N, P)
    read = memory.write(a, b).read(r)
    for row in range(N):
        matrix = torch.eye(P) + sum(torch.outer(a[j, row], b[j, row]) for j in range(3)) / P
        torch.testing.assert_close(read[0, row], matrix.double() @ r[0, row])


def test_history_is_the_matrix_of_the_last_writes() -> None:
    r, history = draw("r", 2, N, P), 3
    kept = HistoryMemory.initial(history, 2, N, P, like=r)
    assert torch.equal(kept.read(r), r)
    writes = [(draw(f"a{i}", 2, N, P), draw(f"b{i}", 2, N, P)) for i in range(5)]
    for count, (a, b) in enumerate(writes, 1):
        kept = kept.write(a, b)
        matrix = DenseMemory.initial(N, P, like=r)
        for pair in writes[max(0, count - history) : count]:
            matrix = matrix.write(*pair)
        torch.testing.assert_close(kept.read(r), matrix.read(r))


def test_read_comes_a_step_late_and_from_before_the_write() -> None:
    optimizer = make(NTMBFGS, reads=2)
    state = optimizer.init(SPEC, N)
    for step in range(3):
        grads = draw(f"grads{step}", N, P)
        inputs = torch.cat([grads.unsqueeze(0), state.read])
        outputs, _ = optimizer.layout.step(optimizer.phi, inputs, state.controller)
        r, a, b = outputs[1:3], outputs[3:6], outputs[6:9]
        before = state.memory
        update, state = moved(optimizer, grads, state)
        assert torch.equal(update, optimizer.output_scale * outputs[0])
        assert torch.equal(state.read, before.read(r))
        assert torch.equal(state.memory.matrix, before.write(a, b).matrix)
        assert not torch.allclose(state.memory.read(r), state.read)


def run(optimizer: Any, steps: int) -> Tensor:
    state, made = optimizer.init(SPEC, N), []
    for step in range(steps):
        update, state = moved(optimizer, draw(f"grads{step}", N, P), state)
        made.append(update)
    return torch.stack(made)


def test_with_history_enough_both_kinds_are_one() -> None:
    expected = run(make(NTMBFGS), 6)
    torch.testing.assert_close(run(make(NTMLBFGS, history=6), 6), expected)
    short = run(make(NTMLBFGS, history=2), 6)
    # A write of step t is read at the end of t + 1, and heard at t + 2.
    torch.testing.assert_close(short[:4], expected[:4])
    assert not torch.allclose(short[4], expected[4], rtol=1e-6)


def test_heads_begin_quiet() -> None:
    parts = {}
    for head_init in (0.1, 1.0):
        optimizer = NTMBFGS(head_init=head_init)
        parts[head_init] = optimizer.layout.split(optimizer.initial_weights(Rng(0, "phi")))
    quiet, loud = parts[0.1]["output.weight"], parts[1.0]["output.weight"]
    assert torch.equal(quiet[0], loud[0])
    assert torch.allclose(quiet[1:], 0.1 * loud[1:])


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("ntm-bfgs", {"reads": 0}, "reads must be from 1 to 10,000, not 0"),
        ("ntm-l-bfgs", {"writes": 0}, "writes must be from 1 to 10,000, not 0"),
        ("ntm-l-bfgs", {"history": 0}, "history must be at least 1, not 0"),
        ("ntm-bfgs", {"history": 3}, "history"),
    ],
)
def test_heads_that_cannot_be_are_refused(name: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(SuiteError, match=told):
        optimizers.make({"name": name, **options})


# --- BFGS in the memory, D-2 ------------------------------------------------------------------

INITIAL, RATE, PAIRS = 0.05, 0.8, 8


def hessian(row: int) -> np.ndarray[Any, Any]:
    root = draw("root", N, P, P)[row].numpy()
    return np.asarray(root @ root.T + np.eye(P))


def books_bfgs(row: int) -> tuple[list[Any], list[Any]]:
    """H_k and θ_k on a quadratic, by Nocedal and Wright's (6.17) as it stands."""
    identity, theta = np.eye(P), draw("start", N, P)[row].numpy()
    inverse, grads = INITIAL * identity, hessian(row) @ theta
    inverses, thetas = [inverse], [theta]
    for _ in range(PAIRS):
        s = -RATE * inverse @ grads
        theta = theta + s
        y = hessian(row) @ theta - grads
        grads = grads + y
        rho = 1 / (y @ s)
        left = identity - rho * np.outer(s, y)
        inverse = left @ inverse @ left.T + rho * np.outer(s, s)
        inverses.append(inverse)
        thetas.append(theta)
    return inverses, thetas


@pytest.mark.usefixtures("doubles")
def test_memory_holds_bfgs_inverse_hessian_and_the_moves_are_its_own() -> None:
    """To 1e−10, two steps an iteration: one looks, the next one moves."""
    optimizer = NTMBFGSByHand(lr=RATE, initial=INITIAL)
    theta, state = draw("start", N, P), optimizer.init(SPEC, N)
    books = [books_bfgs(row) for row in range(N)]
    for step in range(2 * PAIRS + 1):
        grads = torch.stack([torch.from_numpy(hessian(row)) @ theta[row] for row in range(N)])
        update, state = moved(optimizer, grads, state)
        theta = theta + update
        if step % 2:
            assert torch.equal(update, torch.zeros_like(update))
            continue
        for row, (inverses, thetas) in enumerate(books):
            # The memory is that of f times `initial`, as M begins as the identity.
            matrix = INITIAL * state.memory.matrix[row].numpy()
            np.testing.assert_allclose(matrix, inverses[step // 2], rtol=1e-10, atol=1e-10)
            if step // 2 < PAIRS:
                expected = thetas[step // 2 + 1]
                np.testing.assert_allclose(theta[row].numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("doubles")
def test_its_controller_stays_within_one_read_three_writes_and_two_averages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And sees other coordinates in no other way: their order makes no difference."""
    optimizer = NTMBFGSByHand(lr=RATE, initial=INITIAL)
    averages: list[int] = []
    average = ntm_bfgs._average
    monkeypatch.setattr(ntm_bfgs, "_average", lambda x: averages.append(1) or average(x))
    order = torch.tensor([4, 2, 0, 1, 3])
    state, shuffled = optimizer.init(SPEC, N), optimizer.init(SPEC, N)
    for step in range(6):
        averages.clear()
        grads = draw(f"grads{step // 2}", N, P)
        update, state = moved(optimizer, grads, state)
        assert len(averages) == 2
        assert state.read.shape == (1, N, P)
        other, shuffled = moved(optimizer, grads[:, order], shuffled)
        torch.testing.assert_close(other, update[:, order])


def test_each_of_its_steps_writes_with_three_heads() -> None:
    zeros, mean = torch.zeros(N, P), torch.zeros(N, 1)
    notes = ntm_bfgs.Notes(zeros, zeros, zeros, zeros, mean, mean)
    for outputs, _ in (ntm_bfgs.look(zeros, notes), ntm_bfgs.move(zeros, zeros, notes, 1.0)):
        assert outputs.r.shape == (1, N, P)
        assert outputs.a.shape == outputs.b.shape == (3, N, P)
