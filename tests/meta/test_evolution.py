"""Evolution strategies against the exact gradient of whole runs, and run by run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from example_problems import Cliff
from test_metatrain import PROBLEM, SPEC, log_of, outcome, training, training_state
from torch import Tensor

from l2l.problems.mlp import MLP
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.estimator import CappedLoss, Estimator
from l2l.suite.core.registry import estimators, optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import advance, start
from l2l.suite.meta.estimators.antithetic import walk_pairs
from l2l.suite.meta.metatrain import metatrain
from l2l.suite.meta.schedule import Phase

HORIZON = 12
WINDOW = 3
QUADRATIC = Quadratic(dim=3)
DRAWS = 40


def tiny(scale: float = 0.3) -> Any:
    # An output scale at which what a step does to later windows is most of the gradient.
    spec = {"name": "lstm", "layers": 1, "hidden": 2, "preprocessing": "none"}
    optimizer = optimizers.make({**spec, "output_scale": scale})
    return optimizer.with_weights(optimizer.initial_weights(Rng(3, "phi")))


@torch.no_grad()
def over_a_run(spec: dict[str, Any], draw: int = 0, meta_loss: Any = "loss") -> Tensor:
    """The sum of the estimates of a run's windows, all at one φ."""
    estimator: Estimator = estimators.make(spec)
    objective = Objective(QUADRATIC, [0, 1], "train", 0, estimator.copies)
    place, _ = estimator.begin(tiny(), objective)
    total = torch.zeros_like(tiny().phi)
    for number, steps in enumerate(estimator.windows(HORIZON)):
        rng = Rng(draw, "window", 0, number)
        made = estimator.gradient(tiny(), objective, place, steps, meta_loss, rng)
        place, total = made.place, total + made.gradient
    return total


def exact(meta_loss: Any = "loss") -> Tensor:
    return over_a_run({"name": "second_order"}, meta_loss=meta_loss)


def off(estimate: Tensor, expected: Tensor) -> float:
    return float((estimate - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("name", "window", "meta_loss"),
    [("nres", None, "loss"), ("nres", None, "log_loss"), ("pes", WINDOW, "loss")],
)
def test_mean_of_many_estimates_is_the_exact_gradient_of_the_whole_run(
    name: str, window: int | None, meta_loss: str
) -> None:
    spec = {"name": name, "window": window, "sigma": 0.003, "pairs": 24}
    drawn = torch.stack([over_a_run(spec, draw, meta_loss) for draw in range(DRAWS)]).double()
    mean, error = drawn.mean(0), drawn.std(0) / DRAWS**0.5
    expected = exact(meta_loss).double()
    # Squares of about as many standard normal numbers as there are weights, on average 1.
    assert ((mean - expected) / error).square().mean() < 2
    assert torch.cosine_similarity(mean, expected, dim=0) > 0.95


def test_windows_alone_are_another_gradient() -> None:
    """What PES and NRES add: the gradients of windows do not sum to that of the run."""
    for name in ("truncated", "second_order"):
        assert off(over_a_run({"name": name, "window": WINDOW}), exact()) > 0.3


def test_windows_of_noise_reuse_sum_to_the_estimate_of_the_whole_run() -> None:
    options = {"name": "nres", "pairs": 4}
    whole = over_a_run(options)
    assert off(over_a_run({**options, "window": WINDOW}), whole) < 1e-3
    assert off(over_a_run({**options, "name": "pes", "window": WINDOW}), whole) > 0.1


def test_estimates_depend_on_the_draw_and_on_nothing_else() -> None:
    for name in ("pes", "nres"):
        spec = {"name": name, "window": WINDOW, "pairs": 2}
        assert torch.equal(over_a_run(spec, 1), over_a_run(spec, 1))
        assert not torch.equal(over_a_run(spec, 1), over_a_run(spec, 2))


@pytest.mark.parametrize("problem", [QUADRATIC, MLP(units=2, batch_size=8)], ids=["quad", "mlp"])
@pytest.mark.parametrize(
    "spec",
    [
        {"name": "lstm", "hidden": 4},
        {"name": "lstm-gac", "hidden": 4},
        {"name": "ntm-l-bfgs", "hidden": 4},
        {"name": "routed", "groups": {"all": {"name": "lstm", "hidden": 4}}},
    ],
    ids=lambda spec: spec["name"],
)
@torch.no_grad()
def test_pairs_are_runs_with_perturbed_weights_alone(spec: dict[str, Any], problem: Any) -> None:
    made = optimizers.make(spec)
    optimizer = made.with_weights(made.initial_weights(Rng(1, "phi")))
    estimator = estimators.make({"name": "pes", "pairs": 2})
    objective = Objective(problem, [4, 2], "train", 5, estimator.copies)
    begun, _ = estimator.begin(optimizer, objective)
    noise = 0.3 * Rng(2, "noise").normal(2, optimizer.layout.size)
    window = walk_pairs(optimizer, objective, begun.point, noise, 3, "loss")

    alone = Objective(problem, [4, 2], "train", 5)
    totals = []
    for weights in optimizer.phi + torch.cat((noise, -noise)):
        moved = optimizer.with_weights(weights)
        point, total = start(alone, moved), 0.0
        for _ in range(3):
            point = advance(alone, moved, point)
            total += point.loss.mean().item()
        rows = slice(2 * len(totals), 2 * len(totals) + 2)
        torch.testing.assert_close(window.point.theta[rows], point.theta, rtol=1e-4, atol=1e-5)
        totals.append(total)
    gaps = torch.tensor(totals[:2]) - torch.tensor(totals[2:])
    torch.testing.assert_close(window.gaps, gaps, rtol=1e-2, atol=1e-5)
    assert gaps.abs().max() > 1e-4


@torch.no_grad()
def test_window_leaves_the_place_before_it_as_it_is() -> None:
    estimator = estimators.make({"name": "pes", "window": WINDOW, "pairs": 2})
    objective = Objective(QUADRATIC, [0], "train", 0, estimator.copies)
    begun, _ = estimator.begin(tiny(), objective)
    given = (tiny(), objective)
    first = estimator.gradient(*given, begun, WINDOW, "loss", Rng(0, "a"))
    again = [estimator.gradient(*given, first.place, WINDOW, "loss", Rng(0, "b")) for _ in range(2)]
    assert torch.equal(again[0].gradient, again[1].gradient)


@pytest.mark.parametrize("name", ["pes", "nres"])
@torch.no_grad()
def test_run_that_diverges_on_either_side_adds_nothing(name: str) -> None:
    sigma = 0.5
    estimator = estimators.make({"name": name, "pairs": 4, "sigma": sigma})
    objective = Objective(Cliff(), range(8), "train", 3, estimator.copies)
    begun, _ = estimator.begin(tiny(0.5), objective)
    made = estimator.gradient(tiny(0.5), objective, begun, 6, "loss", Rng(0, "x"))
    alive = made.place.point.alive.view(2, 4, 8).all(0)
    assert 0 < alive.sum() < alive.numel(), "some diverge"
    plus, minus = torch.stack(list(made.losses)).sum(0).view(2, 4, 8)
    gaps = torch.where(alive, plus - minus, 0.0).sum(1) / 8
    expected = (gaps.unsqueeze(1) * made.place.noise).mean(0) / (2 * sigma**2)
    torch.testing.assert_close(made.gradient, expected)
    assert made.gradient.norm() > 0


@torch.no_grad()
def test_with_a_cap_a_run_that_diverges_counts_as_the_cap() -> None:
    sigma, cap = 0.5, 2.0
    estimator = estimators.make({"name": "nres", "pairs": 4, "sigma": sigma})
    objective = Objective(Cliff(), range(8), "train", 3, estimator.copies)
    begun, _ = estimator.begin(tiny(0.5), objective)
    made = estimator.gradient(tiny(0.5), objective, begun, 6, CappedLoss(cap), Rng(0, "x"))
    assert not made.place.point.alive.all()
    losses = torch.stack(list(made.losses))
    assert (losses[losses.isfinite()] > cap).any()
    plus, minus = losses.clamp_max(cap).sum(0).view(2, 4, 8)
    expected = ((plus - minus).mean(1).unsqueeze(1) * made.place.noise).mean(0) / (2 * sigma**2)
    torch.testing.assert_close(made.gradient, expected)


# --- as phases of a meta-training --------------------------------------------------------------

PHASES = (
    Phase(9, 8, {"name": "pes", "window": 3, "pairs": 2}, rate=0.02, batch=2, clip=True),
    Phase(
        9,
        8,
        {"name": "nres", "window": 3, "pairs": 2},
        rate=0.01,
        objective=CappedLoss(9.0),
        batch=2,
        odd=True,
    ),
    Phase(4, 8, {"name": "nres", "pairs": 2}, rate=0.01, objective="log_loss"),
)


def trained(folder: Path, *stops: int | None, seed: int = 1) -> Any:
    folder.mkdir()
    for until in stops:
        metatrain(PROBLEM, SPEC, training(*PHASES, every=3), seed, folder, until=until)
    return outcome(folder)


def test_training_that_stopped_in_every_phase_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", None)
    assert trained(tmp_path / "stopped", 3, 7, 12, 19, None) == whole
    assert trained(tmp_path / "other", None, seed=2) != whole
    state = training_state(tmp_path / "whole")
    assert state.skipped == 0


def test_persistent_evolution_lowers_the_validation_loss(tmp_path: Path) -> None:
    phase = Phase(160, 12, {"name": "pes", "window": 4, "pairs": 8}, rate=0.02, batch=4)
    metatrain(PROBLEM, SPEC, training(phase, every=40), 1, tmp_path)
    log = log_of(tmp_path)
    assert min(row["validation"] for row in log) < 0.8 * log[0]["validation"]
