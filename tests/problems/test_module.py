"""Problems from a torch.nn.Module: PyTorch's initialisation, its gradients, buffers kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from example_problems import InDouble
from torch import Tensor, nn

from l2l import Rng, Tensors
from l2l.problems.module import ModuleProblem
from l2l.suite.core.errors import SuiteError
from l2l.suite.inner.objective import Objective
from l2l.suite.plan.probe_problem import check_problem


@dataclass(frozen=True)
class Net(ModuleProblem):
    """A small network with batch normalisation on made-up images."""

    def module(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 4)
        )

    def batch(self, rng: Rng) -> Tensors:
        return {"x": rng.normal(6, 1, 5, 5), "y": rng.integers(4, 6)}


class Counting(nn.Module):
    """Scales by a random buffer and a frozen parameter, and counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.frozen = nn.Parameter(torch.rand(3), requires_grad=False)
        self.register_buffer("features", torch.randn(3))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.linear(x * self.features * self.frozen) * self.calls


@dataclass(frozen=True)
class Counted(ModuleProblem):
    def module(self) -> nn.Module:
        return Counting()

    def batch(self, rng: Rng) -> Tensors:
        return {"x": rng.normal(6, 3), "y": rng.integers(4, 6)}


@dataclass(frozen=True)
class Recurrent(ModuleProblem):
    """PyTorch's recurrent layers cannot be vectorised."""

    one_by_one: ClassVar[bool] = True

    def module(self) -> nn.Module:
        return nn.GRU(2, 3, batch_first=True)

    def batch(self, rng: Rng) -> Tensor:
        return rng.normal(4, 5, 2)

    def module_loss(self, module: Any, batch: Any) -> Tensor:
        outputs, _ = module(batch)
        return outputs.square().mean()


@pytest.mark.parametrize("problem", [Net(), Counted(), Recurrent()], ids=lambda p: type(p).__name__)
def test_what_is_checked_of_every_problem_holds(problem: ModuleProblem) -> None:
    check_problem(problem)


def test_parameters_are_initialised_by_pytorch_from_the_rngs_seed() -> None:
    before = torch.get_rng_state()
    params = Net().init(Rng(3, "test/init", 5))
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"
    torch.manual_seed(int(Rng(3, "test/module", 5).integers(2**32)))
    expected = dict(Net().module().named_parameters())
    assert list(params) == list(expected)
    assert all(torch.equal(params[name], expected[name]) for name in expected)
    other = Net().init(Rng(3, "test/init", 6))
    assert not torch.equal(params["0.weight"], other["0.weight"])


def test_losses_and_gradients_are_those_of_plain_autograd(doubles: None) -> None:
    objective = Objective(InDouble(Net()), range(3), "test", 1)
    theta = objective.start()
    losses, grads = objective.value_and_grad(theta, 2)
    for row in range(3):
        module = Net().module().double()
        module.load_state_dict(objective.spec.unflatten(theta[row]), strict=False)
        batch = Net().batch(Rng(1, "test/batch", row, 2))
        loss = F.cross_entropy(module(batch["x"].double()), batch["y"])
        loss.backward()
        expected = torch.cat([each.grad.flatten() for each in module.parameters()])
        torch.testing.assert_close(losses[row], loss.detach())
        torch.testing.assert_close(grads[row], expected)


def test_buffers_and_frozen_parameters_are_fixed_by_the_instance() -> None:
    problem = Counted()
    one, other = (problem.instance(Rng(0, "test/instance", i)) for i in range(2))
    assert set(one) == {"features", "calls", "frozen"}
    assert set(problem.init(Rng(0, "test/init"))) == {"linear.weight", "linear.bias"}
    assert not torch.equal(one["features"], other["features"])
    assert not torch.equal(one["frozen"], other["frozen"])


def test_what_forward_writes_to_buffers_is_dropped() -> None:
    problem = Counted()
    rngs = (Rng(0, stream) for stream in ("test/init", "test/instance", "test/batch"))
    params, instance, batch = (
        draw(rng)
        for draw, rng in zip((problem.init, problem.instance, problem.batch), rngs, strict=True)
    )
    first = problem.loss(params, instance, batch)
    assert torch.equal(problem.loss(params, instance, batch), first)
    assert instance["calls"] == 0


def test_batch_normalisation_in_evaluation_mode_keeps_its_statistics() -> None:
    @dataclass(frozen=True)
    class Evaluated(Net):
        def module(self) -> nn.Module:
            return super().module().eval()

    assert not Net().instance(Rng(0, "test/instance"))
    fixed = Evaluated().instance(Rng(0, "test/instance"))
    assert set(fixed) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    params, batch = Net().init(Rng(0, "test/init")), Net().batch(Rng(0, "test/batch"))
    module = Evaluated().module()
    module.load_state_dict({**params, **fixed})
    expected = F.cross_entropy(module(batch["x"]), batch["y"])
    torch.testing.assert_close(Evaluated().loss(params, fixed, batch), expected)
    assert not torch.isclose(Net().loss(params, {}, batch), expected)


def test_dropout_is_refused() -> None:
    @dataclass(frozen=True)
    class Dropping(Net):
        p: float = 0.5

        def module(self) -> nn.Module:
            return nn.Sequential(super().module(), nn.Dropout(self.p))

    with pytest.raises(SuiteError, match=r"Dropping\.module has a Dropout layer, whose randomness"):
        check_problem(Dropping())
    check_problem(Dropping(p=0.0))


class Anchored(nn.Module):
    """Remembers the weights that it began with."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3))
        self.register_buffer("start", self.w.detach().clone())


@dataclass(frozen=True)
class Leash(ModuleProblem):
    """The distance from θ_0."""

    def module(self) -> nn.Module:
        return Anchored()


def test_buffers_may_be_copies_of_the_first_parameters() -> None:
    problem = Leash()
    start = problem.init(Rng(1, "train/init", 4))
    fixed = problem.instance(Rng(1, "train/instance", 4))
    assert torch.equal(start["w"], fixed["start"])
    assert not torch.equal(start["w"], problem.init(Rng(1, "train/init", 5))["w"])
