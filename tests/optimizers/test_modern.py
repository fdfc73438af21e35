"""Later baselines by their published formulas, in a loop over one run, and by packages."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from l2l.optimizers.hand_designed.muon import orthogonalised
from l2l.suite.core.registry import optimizers
from l2l.suite.core.types import Params, ParamSpec

SPEC = ParamSpec({"w": torch.Size([4, 3]), "b": torch.Size([3])})
STEPS, N = 25, 3
pytestmark = pytest.mark.usefixtures("doubles")


def gradient(theta: Tensor, step: int) -> Tensor:
    scale = torch.linspace(1, 4, theta.shape[-1])
    return scale * (theta - 1) + torch.sin(3 * theta + step)


def starts() -> Tensor:
    return torch.randn(N, SPEC.size, generator=torch.Generator().manual_seed(1))


def rates() -> Tensor:
    return torch.tensor([[0.01], [0.03], [0.1]])


def path(spec: dict[str, Any], rate: Any = None) -> Tensor:
    """Iterates [T + 1, n, P]; each run has its own rate."""
    optimizer = optimizers.make({"lr": 1.0, **spec}).at_rate(rates() if rate is None else rate)
    theta, state = starts(), optimizer.init(SPEC, N)
    found = [theta]
    for step in range(STEPS):
        ahead = optimizer.lookahead(state)
        grads = gradient(theta if ahead is None else theta + ahead, step)
        update, state = optimizer.update(grads, state, Params(theta, SPEC))
        theta = theta + update
        found.append(theta)
    return torch.stack(found)


def lion(theta: Tensor, eta: float) -> Iterator[Tensor]:
    m = torch.zeros_like(theta)
    for step in range(STEPS):
        g = gradient(theta, step)
        theta = theta - eta * ((0.9 * m + 0.1 * g).sign() + 0.01 * theta)
        m = 0.99 * m + 0.01 * g
        yield theta


def schedule_free(theta: Tensor, eta: float) -> Iterator[Tensor]:
    x, z, v = theta, theta, torch.zeros_like(theta)
    for t in range(1, STEPS + 1):
        y = 0.1 * z + 0.9 * x
        g = gradient(y, t - 1)
        v = 0.999 * v + 0.001 * g**2
        z = z - eta * (g / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8) + 0.1 * y)
        x = (1 - 1 / t) * x + z / t
        yield x


def muon(theta: Tensor, eta: float) -> Iterator[Tensor]:
    m, v = torch.zeros_like(theta), torch.zeros(3)
    for t in range(1, STEPS + 1):
        g = gradient(theta, t - 1)
        m = torch.cat([0.95 * m[:12] + 0.05 * g[:12], 0.9 * m[12:] + 0.1 * g[12:]])
        v = 0.999 * v + 0.001 * g[12:] ** 2
        # The polynomial acts on singular values alone.
        u, s, vh = torch.linalg.svd((0.05 * g + 0.95 * m)[:12].view(4, 3), full_matrices=False)
        s = s / (s.norm() + 1e-7)
        for _ in range(5):
            s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
        o = 0.2 * 4**0.5 * (u * s) @ vh
        adam = m[12:] / (1 - 0.9**t) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
        theta = theta - eta * torch.cat([o.flatten(), adam])
        yield theta


def soap(theta: Tensor, eta: float) -> Iterator[Tensor]:
    m, v = torch.zeros_like(theta), torch.zeros_like(theta)
    left = right = q_left = q_right = torch.zeros(())
    for t in range(STEPS):
        g = gradient(theta, t)
        matrix = g[:12].view(4, 3)
        if t == 0:
            left, right = 0.05 * matrix @ matrix.T, 0.05 * matrix.T @ matrix
            q_left, q_right = (torch.linalg.eigh(each)[1].flip(1) for each in (left, right))
            yield theta
            continue

        def turned(x: Tensor, a: Tensor = q_left, b: Tensor = q_right) -> Tensor:
            return torch.cat([(a.T @ x[:12].view(4, 3) @ b).flatten(), x[12:]])

        m = 0.95 * m + 0.05 * g
        v = 0.95 * v + 0.05 * turned(g) ** 2
        step = turned(m) / (1 - 0.95**t) / ((v / (1 - 0.95**t)) ** 0.5 + 1e-12)
        back = (q_left @ step[:12].view(4, 3) @ q_right.T).flatten()
        theta = theta - eta * torch.cat([back, step[12:]])
        left = 0.95 * left + 0.05 * matrix @ matrix.T
        right = 0.95 * right + 0.05 * matrix.T @ matrix
        if t % 10 == 0:
            pairs = ((q_left, left), (q_right, right))
            orders = [(q.T @ s @ q).diag().argsort(descending=True) for q, s in pairs]
            v = torch.cat([v[:12].view(4, 3)[orders[0]][:, orders[1]].flatten(), v[12:]])
            q_left = torch.linalg.qr((left @ q_left)[:, orders[0]])[0]
            q_right = torch.linalg.qr((right @ q_right)[:, orders[1]])[0]
        yield theta


FORMULAS: dict[str, tuple[dict[str, Any], Callable[[Tensor, float], Iterator[Tensor]]]] = {
    "lion": ({}, lion),
    "schedule-free": ({"weight_decay": 0.1}, schedule_free),
    "muon": ({}, muon),
    "soap": ({"epsilon": 1e-12}, soap),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_rows_are_the_published_formula(name: str) -> None:
    given, formula = FORMULAS[name]
    found = path({"name": name, **given})
    for row in range(N):
        theirs = torch.stack([starts()[row], *formula(starts()[row], rates()[row].item())])
        torch.testing.assert_close(found[:, row], theirs, rtol=1e-7, atol=1e-8)
    assert (found[-1] != found[0]).all()


def test_muon_moves_matrices_as_pytorchs_does() -> None:
    """Which orthogonalises in bfloat16, so three digits agree."""
    spec = ParamSpec({"w": torch.Size([4, 3])})
    theirs = optimizers.make(
        {"name": "torch", "optimizer": "torch.optim.Muon", "lr": 0.1, "weight_decay": 0.0}
        | {"adjust_lr_fn": "match_rms_adamw"}
    )
    ours = optimizers.make({"name": "muon", "lr": 0.1})
    states, params = [each.init(spec, 2) for each in (ours, theirs)], torch.zeros(2, 12)
    for step in range(5):
        grads = gradient(starts()[:2, :12], step)
        (own, states[0]), (other, states[1]) = (
            each.update(grads, state, Params(params, spec))
            for each, state in zip((ours, theirs), states, strict=True)
        )
        torch.testing.assert_close(own, other, rtol=0.05, atol=0.004)


def test_singular_values_come_near_one() -> None:
    values = torch.linalg.svdvals(orthogonalised(starts()[:, :12].view(N, 3, 4)))
    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.parametrize("name", ["muon", "soap"])
@pytest.mark.parametrize("size", [[], [0], [0, 2]])
def test_scalars_and_empty_parameters_are_no_matrices(name: str, size: list[int]) -> None:
    """And change nothing for the parameters beside them."""
    optimizer = optimizers.make({"name": name, "lr": 0.1})
    spec = ParamSpec({"w": torch.Size([3, 2]), "other": torch.Size(size)})
    alone = ParamSpec({"w": torch.Size([3, 2])})
    grads = gradient(torch.zeros(N, spec.size), 0)
    update, _ = optimizer.update(grads, optimizer.init(spec, N), Params(grads, spec))
    expected, _ = optimizer.update(
        grads[:, :6], optimizer.init(alone, N), Params(grads[:, :6], alone)
    )
    torch.testing.assert_close(update[:, :6], expected)


def test_soap_keeps_a_run_apart_whose_gradient_overflows() -> None:
    optimizer = optimizers.make({"name": "soap", "lr": 0.1})
    spec = ParamSpec({"w": torch.Size([2, 3])})
    grads = gradient(torch.zeros(N, 6), 0)
    expected, _ = optimizer.update(grads, optimizer.init(spec, N), Params(grads, spec))
    grads[1] *= 1e300
    update, _ = optimizer.update(grads, optimizer.init(spec, N), Params(grads, spec))
    torch.testing.assert_close(update[[0, 2]], expected[[0, 2]])


def test_schedules_weigh_schedule_free_steps_by_their_rates() -> None:
    """x is the mean of z weighed by η², so a warmup's first steps hardly count."""
    warm = {"schedule": "constant", "warmup": 5, "schedule_steps": STEPS}
    found = path({"name": "schedule-free", **warm})[:, 0]
    x, z, v, total = starts()[0], starts()[0], torch.zeros(SPEC.size), 0.0
    for t in range(1, STEPS + 1):
        eta = 0.01 * min(1, t / 5)
        g = gradient(0.1 * z + 0.9 * x, t - 1)
        v = 0.999 * v + 0.001 * g**2
        z = z - eta * g / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
        total += eta**2
        x = x + eta**2 / total * (z - x)
    torch.testing.assert_close(found[-1], x)


PACKAGES: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("lion_pytorch", {"name": "lion"}, "Lion", {"weight_decay": 0.01}),
    (
        "schedulefree",
        {"name": "schedule-free", "weight_decay": 0.1},
        "AdamWScheduleFree",
        {"weight_decay": 0.1, "foreach": False},
    ),
    ("pytorch_optimizer", {"name": "soap"}, "SOAP", {"weight_decay": 0.0, "betas": [0.95, 0.95]}),
]


@pytest.mark.parametrize(("module", "own", "cls", "given"), PACKAGES)
def test_packages_do_the_same(
    module: str, own: dict[str, Any], cls: str, given: dict[str, Any]
) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed (pip install -e .[modern])")
    theirs = path({"name": "torch", "optimizer": f"{module}.{cls}", **given})
    torch.testing.assert_close(path(own), theirs, rtol=1e-4, atol=1e-5)
