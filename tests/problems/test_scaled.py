"""Random scaling of coordinates: what stays, and what it does to gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from l2l.problems.quadratic import Quadratic
from l2l.problems.scaled import SCALE, Scaled
from l2l.suite.core.abilities import has
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import problems
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Tensors
from l2l.suite.inner.objective import Objective
from l2l.suite.plan.unchanged import declared_files

INNER = [
    {"name": "quadratic", "dim": 4},
    {"name": "mlp", "units": 3, "batch_size": 8},
]


class WithFile(Quadratic):
    def files(self) -> tuple[str]:
        return (Path(__file__).name,)


def pair(inner: dict[str, Any], **options: Any) -> tuple[Objective, Objective]:
    """The problem itself and scaled, two copies of three runs of each."""
    scaled = {"name": "scaled", "problem": inner, **options}
    made = (problems.make(spec) for spec in (inner, scaled))
    plain, of_scaled = (Objective(each, range(3), "train", 1, copies=2) for each in made)
    return plain, of_scaled


@pytest.mark.parametrize("inner", INNER, ids=lambda spec: spec["name"])
def test_runs_begin_where_those_of_the_problem_itself_do(inner: dict[str, Any]) -> None:
    """The loss and c · (∂f/∂θ)(cθ), for c between e⁻³ and e³, each coordinate with its own."""
    plain, scaled = pair(inner)
    theta, seen = plain.start(), scaled.start()
    c = theta / seen
    assert c.min() > 0.049 and c.max() < 20.1
    assert c.log().std() == pytest.approx(3 / 3**0.5, rel=0.4)
    assert torch.equal(c[:3], c[3:]), "copies share it"
    assert not torch.allclose(c[0], c[1]), "instances do not"
    loss, grads = plain.value_and_grad(theta, 5)
    same, own = scaled.value_and_grad(seen, 5)
    torch.testing.assert_close(same, loss)
    torch.testing.assert_close(own, c * grads, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("inner", INNER, ids=lambda spec: spec["name"])
def test_it_is_as_fast_as_the_problem_itself(inner: dict[str, Any]) -> None:
    plain, scaled = (each.problem for each in pair(inner))
    for ability in ("batch", "batches", "held_out", "losses", "losses_and_grads"):
        wanted = has(plain, ability) or ability == "batch"
        assert has(scaled, ability) == wanted, ability


def test_scales_are_of_the_seed() -> None:
    made = problems.make({"name": "scaled", "problem": INNER[0]})
    one, other = (made.instance(Rng(seed, "train/instance"))[SCALE + "theta"] for seed in (0, 1))
    assert not torch.allclose(one, other)


class FrozenScale(Quadratic):
    """Has a key of its own that begins like those of the scales."""

    def instance(self, rng: Rng) -> Tensors:
        return {**super().instance(rng), "scale.weight": rng.normal(1)}

    def loss(self, params: Tensors, instance: Tensors, batch: Any) -> torch.Tensor:
        return super().loss(params, instance, batch) * instance["scale.weight"].sum()


def test_the_problem_keeps_what_is_fixed_of_it() -> None:
    inner, scaled = FrozenScale(), Scaled()
    vars(scaled)["_inner"] = inner
    plain, own = (Objective(each, range(3), "train", 1) for each in (inner, scaled))
    torch.testing.assert_close(own.value(own.start(), 0), plain.value(plain.start(), 0))


def test_scaled_twice_is_refused() -> None:
    with pytest.raises(SuiteError, match="is itself scaled: give one of them both spreads"):
        problems.make({"name": "scaled", "problem": {"name": "scaled"}})


def test_held_out_loss_is_that_of_the_problem_itself() -> None:
    plain, scaled = pair({"name": "dense", "dataset": "diabetes"})
    assert has(plain.problem, "held_out")
    found = scaled.held_out(scaled.start())
    torch.testing.assert_close(found, plain.held_out(plain.start()))


def test_files_lie_beside_the_problem_itself() -> None:
    with_file = WithFile()
    scaled = Scaled()
    # As if it were registered.
    vars(scaled)["_inner"] = with_file
    assert declared_files(scaled) == declared_files(with_file)


def test_spread_says_how_far_scales_go() -> None:
    plain, scaled = pair(INNER[1], spread=0.5)
    c = (plain.start() / scaled.start()).log()
    assert c.abs().max() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("inner", INNER, ids=lambda spec: spec["name"])
def test_losses_of_random_units(inner: dict[str, Any]) -> None:
    """u f(θ) and u ∇f(θ), for one u between e⁻² and e² an instance."""
    plain, scaled = pair(inner, spread=0.0, loss_spread=2.0)
    theta = plain.start()
    assert torch.equal(theta, scaled.start())
    loss, grads = plain.value_and_grad(theta, 5)
    scaled_loss, scaled_grads = scaled.value_and_grad(theta, 5)
    unit = scaled_loss / loss
    assert unit.min() > 0.135 and unit.max() < 7.39
    assert unit[:3].log().std() > 0.1, "each instance has its own"
    torch.testing.assert_close(unit[:3], unit[3:])
    torch.testing.assert_close(scaled_grads, unit.unsqueeze(1) * grads)


def test_results_follow_the_data_and_the_code_of_the_problem() -> None:
    plain, scaled = (each.problem for each in pair(INNER[1]))
    found = dict(scaled.fingerprints())
    assert found.pop("problem") != dict(pair(INNER[0])[1].problem.fingerprints())["problem"]
    assert found == plain.fingerprints()
    assert scaled.notice == plain.notice


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"problem": {"name": "quadratics"}}, "did you mean 'quadratic'"),
        ({"problem": {"name": "mlp", "units": 0}}, "units must be at least 1, not 0"),
        ({"spread": 20.5}, "spread must be at least 0 and at most 20, not 20.5"),
        ({"loss_spread": -1.0}, "loss_spread must be at least 0 and at most 20, not -1"),
        ({"spread": 0.0}, "spread or loss_spread must be above 0"),
    ],
)
def test_what_cannot_be_scaled_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SuiteError, match=told):
        problems.make({"name": "scaled", **options})
