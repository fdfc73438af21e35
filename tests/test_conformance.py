"""What every registered problem and optimizer must do; one that is added is tested by itself."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from l2l.optimizers.learned.base import Learned
from l2l.problems.mlp import MLP
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.abilities import has
from l2l.suite.core.registry import optimizers, problems
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Optimizer, Params, ParamSpec, Problem
from l2l.suite.inner import objective as objective_module
from l2l.suite.inner.loop import descend
from l2l.suite.inner.objective import Objective, param_spec

SEED, SPLIT = 11, "validation"

# Where the default needs data that tests do not have, or is large.
DATA: dict[str, dict[str, Any]] = {"convnet": {"dataset": "mnist"}, "neural-art": {"size": 16}}
# Every registered one with its defaults, and these besides.
PROBLEMS: list[dict[str, Any]] = [
    *({"name": name, **DATA.get(name, {})} for name in problems),
    {"name": "quadratic", "distribution": "uniform", "dim": 1},
    {"name": "mlp", "layers": 2, "units": 5, "activation": "relu", "batch_size": 7},
    {"name": "mlp", "layers": 3, "units": 1, "activation": "tanh", "batch_size": 1},
    {
        "name": "convnet",
        "layers": 1,
        "channels": 2,
        "dataset": "mnist",
        "labels": [3, 5],
        "batch_norm": False,
    },
    {"name": "dense", "dataset": "diabetes", "layers": 0},
    {"name": "dense", "dataset": "wine", "layers": 2, "activation": "gelu", "norm": "layer"},
    {"name": "dense", "dataset": "breast-cancer", "activation": "tanh", "norm": "batch"},
    {"name": "char-transformer", "blocks": 2, "heads": 4, "length": 5},
]
# What has no default.
NEEDED: dict[str, dict[str, Any]] = {"torch": {"optimizer": "torch.optim.AdamW"}}
OPTIMIZERS: list[dict[str, Any]] = [
    *({"name": name, **NEEDED.get(name, {})} for name in optimizers),
    {"name": "rmsprop", "momentum": 0.9},
    {"name": "adam", "weight_decay": 0.1, "clip_norm": 1.0},
    {"name": "nag", "schedule": "cosine", "warmup": 2, "schedule_steps": 5},
    {"name": "torch", "optimizer": "torch.optim.NAdam", "clip_norm": 1.0},
    {"name": "torch", "optimizer": "torch.optim.Adafactor"},
    {"name": "torch", "optimizer": "torch.optim.LBFGS", "max_iter": 1},
    {"name": "lstm", "preprocessing": "none", "layers": 1, "hidden": 3},
    {"name": "lstm", "preprocessing": "scale", "p": 2.0},
]
TUNED = [name for name in optimizers if optimizers.cls(name).tuned]
LEARNED = [name for name in optimizers if issubclass(optimizers.cls(name), Learned)]


def _tensors(tree: Any) -> list[Tensor]:
    """Those in a tree, which may hold numbers and `None` as well."""
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def _words(spec: dict[str, Any]) -> str:
    return "-".join(map(str, spec.values()))


@pytest.fixture(params=PROBLEMS, ids=_words)
def problem(request: pytest.FixtureRequest) -> Problem:
    made: Problem = problems.make(request.param)
    return made


@pytest.fixture(params=OPTIMIZERS, ids=_words)
def optimizer(request: pytest.FixtureRequest) -> Optimizer:
    """One with a rate of 0.01, or with untrained weights."""
    made: Optimizer = make_optimizer(request.param)
    return made


def make_optimizer(spec: dict[str, Any], rate: float | Tensor = 0.01) -> Any:
    spec = {**NEEDED.get(spec["name"], {}), **spec}
    tuned = optimizers.cls(spec["name"]).tuned
    cls, arguments = optimizers.options(spec, untuned=True)
    if tuned is not None:
        arguments[tuned] = rate
    made: Any = optimizers.construct(cls, arguments)
    if hasattr(made, "initial_weights"):
        made = made.with_weights(made.initial_weights(Rng(SEED, "phi")))
    return made


# Problems.


def test_loss_and_gradient_are_finite_at_the_start(problem: Problem) -> None:
    objective = Objective(problem, range(3), SPLIT, SEED)
    losses, grads = objective.value_and_grad(objective.start(), 0)
    assert losses.shape == (3,)
    assert grads.shape == (3, objective.spec.size)
    assert losses.isfinite().all()
    assert grads.isfinite().all()
    assert (grads.norm(dim=1) > 0).all(), "nothing to descend"


def test_draws_repeat_and_differ_between_instances(problem: Problem) -> None:
    def drawn(instance: int) -> list[Tensor]:
        rngs = (Rng(SEED, stream, instance) for stream in ("init", "instance", "batch"))
        methods = (problem.init, problem.instance, problem.batch)
        return _tensors([draw(rng) for draw, rng in zip(methods, rngs, strict=True)])

    torch.manual_seed(1)
    first = drawn(0)
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(first, drawn(0), strict=True)), (
        "draws must come from the rng that is given"
    )
    assert not all(torch.equal(a, b) for a, b in zip(first, drawn(1), strict=True))


def test_instance_is_the_same_alone_and_in_a_batch(problem: Problem) -> None:
    """So results are paired, whatever is run side by side."""
    batch = Objective(problem, range(5), SPLIT, SEED)
    alone = Objective(problem, [3], SPLIT, SEED)
    theta = alone.start()
    assert torch.equal(theta[0], batch.start()[3])
    for step in (0, 1, 7):
        losses, grads = batch.value_and_grad(theta.expand(5, -1).contiguous(), step)
        loss, grad = alone.value_and_grad(theta, step)
        torch.testing.assert_close(losses[3], loss[0])
        torch.testing.assert_close(grads[3], grad[0], rtol=1e-4, atol=1e-6)


def minibatches(problem: Problem, optimizer: Optimizer) -> list[list[Tensor]]:
    """Those of three steps, each drawn while the run is there."""
    objective = Objective(problem, range(2), SPLIT, SEED)
    points = descend(objective, optimizer, 3)
    return [_tensors(objective.batch_at(point.step)) for point in points]


def same(some: list[list[Tensor]], others: list[list[Tensor]]) -> bool:
    pairs = zip(chain(*some), chain(*others), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("runs", [1, 2])
def test_minibatches_of_many_steps_at_once_are_those_of_each(
    problem: Problem, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where not all of them are drawn together."""
    objective = Objective(problem, range(runs), SPLIT, SEED)
    size = sum(x.nbytes for x in _tensors(objective.batch_at(0)))
    for together in (1, 3, 8):
        monkeypatch.setattr(objective_module, "BYTES_AHEAD", together * size)
        drawn = [_tensors(batch) for batch in objective.batches_of(range(3, 11))]
        assert same(drawn, [_tensors(objective.batch_at(step)) for step in range(3, 11)])


def test_steps_have_minibatches_of_their_own_whatever_optimizes(problem: Problem) -> None:
    """One that draws nothing, one that looks ahead, and one that is learned."""
    seen, *others = (
        minibatches(problem, make_optimizer({"name": name}, 1e-3))
        for name in ("sgd", "nag", "lstm")
    )
    assert all(same(seen, other) for other in others)
    assert not seen[0] or not same(seen[:1], seen[1:2])


# A routed optimizer is made for a problem's own groups, and those with a matrix of all
# coordinates for small ones.
FOR_OTHERS = ("routed", "bfgs", "ntm-bfgs", "ntm-bfgs-by-hand")


@pytest.mark.parametrize("spec", [s for s in OPTIMIZERS if s["name"] not in FOR_OTHERS], ids=_words)
def test_minibatches_are_the_same_for_any_optimizer(spec: dict[str, Any]) -> None:
    problem = MLP(units=2, batch_size=4)
    expected = minibatches(problem, make_optimizer({"name": "sgd"}, 1e-3))
    assert same(minibatches(problem, make_optimizer(spec, 1e-3)), expected)


def _elsewhere(objective: Objective) -> Tensor:
    """θ near θ_0, different in every row."""
    start = objective.start()
    return start + 0.1 * Rng(SEED, "elsewhere").normal(*start.shape)


def test_vectorised_equals_a_loop_over_instances(problem: Problem) -> None:
    objective = Objective(problem, range(3), SPLIT, SEED)
    theta = _elsewhere(objective)
    losses, grads = objective.value_and_grad(theta, 4)
    torch.testing.assert_close(objective.value(theta, 4), losses)
    for i in range(3):
        fixed = problem.instance(Rng(SEED, f"{SPLIT}/instance", i))
        batch = problem.batch(Rng(SEED, f"{SPLIT}/batch", i, 4))
        leaf = theta[i].clone().requires_grad_()
        loss = problem.loss(objective.spec.unflatten(leaf), fixed, batch)
        assert loss.shape == (), "a loss is a scalar"
        (grad,) = torch.autograd.grad(loss, leaf)
        torch.testing.assert_close(losses[i], loss.detach())
        # PyTorch's own batch normalization in float32 is off by some 1e-6.
        torch.testing.assert_close(grads[i], grad, rtol=1e-4, atol=1e-5)


def test_optional_methods_equal_the_vectorised_loss(problem: Problem) -> None:
    if not has(problem, "losses"):
        pytest.skip("it leaves `losses` to the harness")
    objective = Objective(problem, range(3), SPLIT, SEED, copies=2)
    theta = _elsewhere(objective)
    split, batch = objective._split_copies(theta), objective.batch_at(2)
    expected_grads, expected_losses = objective._grads_and_losses_by_vmap(split, batch)
    ways = [objective._grads_and_losses_by_autograd]
    if has(problem, "losses_and_grads"):
        ways.append(objective._grads_and_losses_by_hand)
    for way in ways:
        grads, losses = way(split, batch)
        assert losses.shape == (2, 3)
        torch.testing.assert_close(losses, expected_losses)
        torch.testing.assert_close(grads, expected_grads, rtol=1e-4, atol=1e-6)


def test_held_out_loss_is_finite_and_that_of_each_run(problem: Problem) -> None:
    if not has(problem, "held_out"):
        pytest.skip("it has no held-out data")
    both = Objective(problem, range(2), SPLIT, SEED, copies=2)
    theta = _elsewhere(both)
    losses = both.held_out(theta)
    assert losses.isfinite().all()
    alone = Objective(problem, [1], SPLIT, SEED)
    assert torch.equal(alone.held_out(theta[3:]), losses[3:])


def test_copies_are_each_the_run_on_its_own(problem: Problem) -> None:
    both = Objective(problem, range(3), SPLIT, SEED, copies=2)
    one = Objective(problem, range(3), SPLIT, SEED)
    assert torch.equal(both.start(), one.start().repeat(2, 1))
    theta = _elsewhere(both)
    losses, grads = both.value_and_grad(theta, 1)
    for copy in range(2):
        rows = slice(3 * copy, 3 * copy + 3)
        loss, grad = one.value_and_grad(theta[rows], 1)
        torch.testing.assert_close(losses[rows], loss)
        torch.testing.assert_close(grads[rows], grad, rtol=1e-4, atol=1e-6)


def test_parameters_have_names_and_groups(problem: Problem) -> None:
    spec = param_spec(problem)
    assert spec.size > 0
    assert list(spec.groups) == list(spec.shapes)
    assert all(isinstance(group, str) and group for group in spec.groups.values())
    params = problem.init(Rng(SEED, "init"))
    back = spec.unflatten(spec.flatten(params))
    assert all(torch.equal(back[key], value) for key, value in params.items())


# Optimizers.

SPEC = ParamSpec({"w": torch.Size([3, 2]), "b": torch.Size([4])}, {"w": "all", "b": "all"})
N = 4


def gradients(step: int, n: int = N) -> Tensor:
    return Rng(SEED, "gradients", 0, step).normal(n, SPEC.size)


def iterate(step: int, rows: slice = slice(None)) -> Params:
    return Params(Rng(SEED, "iterates", 0, step).normal(N, SPEC.size)[rows], SPEC)


@torch.no_grad()
def updates_of(optimizer: Optimizer, steps: int, rows: slice = slice(None)) -> Tensor:
    """Updates [steps, rows, P] on the same gradients."""
    state = optimizer.init(SPEC, len(gradients(0)[rows]))
    made = []
    for step in range(steps):
        update, state = optimizer.update(gradients(step)[rows], state, iterate(step, rows))
        made.append(update)
    return torch.stack(made)


def test_updates_and_lookahead_have_the_shape_of_gradients(optimizer: Optimizer) -> None:
    state = optimizer.init(SPEC, N)
    for step in range(2):
        ahead = optimizer.lookahead(state)
        assert ahead is None or ahead.shape == (N, SPEC.size)
        update, following = optimizer.update(gradients(step), state, iterate(step))
        assert update.shape == (N, SPEC.size)
        assert update.isfinite().all()
        shapes = [[x.shape for x in _tensors(each)] for each in (state, following)]
        assert shapes[0] == shapes[1], "the state keeps its shapes"
        state = following


def test_state_is_data_and_a_run_can_stop_and_go_on(optimizer: Optimizer) -> None:
    """Bit for bit, with the state copied through plain numbers in between."""
    state: Any = optimizer.init(SPEC, N)
    for step in range(6):
        update, state = optimizer.update(gradients(step), state, iterate(step))
        if step == 2:
            state = tree_map(
                lambda x: torch.tensor(x.tolist(), dtype=x.dtype) if isinstance(x, Tensor) else x,
                state,
            )
    assert torch.equal(update, updates_of(optimizer, 6)[-1])


def test_update_changes_nothing_that_it_is_given_in_place(
    optimizer: Optimizer,
) -> None:
    grads = gradients(0)
    params = iterate(0)
    _, state = optimizer.update(grads, optimizer.init(SPEC, N), params)
    leaves = [grads, params.theta, *_tensors(state)]
    before = [x.clone() for x in leaves]
    optimizer.update(grads, state, params)
    assert all(torch.equal(a, b) for a, b in zip(leaves, before, strict=True))


def test_runs_side_by_side_do_not_see_each_other(optimizer: Optimizer) -> None:
    together = updates_of(optimizer, 5)
    for row in range(N):
        alone = updates_of(optimizer, 5, slice(row, row + 1))
        torch.testing.assert_close(together[:, row : row + 1], alone, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", TUNED)
def test_column_of_rates_is_a_sweep(name: str) -> None:
    rates = [1e-3, 0.02, 0.3, 1.0]
    together = updates_of(make_optimizer({"name": name}, torch.tensor(rates).unsqueeze(1)), 5)
    for row, rate in enumerate(rates):
        alone = updates_of(make_optimizer({"name": name}, rate), 5, slice(row, row + 1))
        torch.testing.assert_close(together[:, row : row + 1], alone)
    assert len({update.norm().item() for update in together[-1]}) == N


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e4])
def test_gradients_of_any_size_give_finite_updates(optimizer: Optimizer, size: float) -> None:
    state = optimizer.init(SPEC, N)
    for step in range(3):
        update, state = optimizer.update(size * gradients(step).sign(), state, iterate(step))
        assert update.isfinite().all()


@pytest.mark.parametrize("name", TUNED)
def test_some_rate_descends_a_quadratic(name: str) -> None:
    rates = torch.logspace(-3, -1, 3).repeat_interleave(4).unsqueeze(1)
    objective = Objective(Quadratic(), range(4), SPLIT, SEED, copies=3)
    points = list(descend(objective, make_optimizer({"name": name}, rates), 30))
    finals, starts = (points[i].loss.view(3, 4).mean(1) for i in (-1, 0))
    assert (finals / starts).min() < 0.7


@pytest.mark.parametrize("name", LEARNED)
def test_learned_optimizer_has_weights_to_begin_with(name: str) -> None:
    optimizer = make_optimizer({"name": name})
    weights = optimizer.initial_weights(Rng(SEED, "phi"))
    assert weights.shape == (optimizer.layout.size,)
    assert not torch.equal(weights, optimizer.initial_weights(Rng(SEED + 1, "phi")))


@pytest.mark.parametrize("spec", [s for s in OPTIMIZERS if s["name"] in LEARNED], ids=_words)
def test_meta_gradient_is_that_of_the_updates(spec: dict[str, Any]) -> None:
    """However an optimizer computes it, networks of its own and all."""
    optimizer: Learned = make_optimizer(spec)
    grads = torch.stack([gradients(step) for step in range(4)])
    cotangents = torch.stack([gradients(step) for step in range(4, 8)])
    params = Params(torch.stack([iterate(step).theta for step in range(4)]), SPEC)
    state = optimizer.init(SPEC, N)
    parts = [
        network.window_gradient(*own)
        for network, *own in optimizer.networks(grads, state, cotangents, params)
    ]
    # In double precision nothing is fused.
    exact = optimizer.with_weights(optimizer.phi.double())
    state = exact.init(SPEC, N)
    doubles = (grads.double(), state, cotangents.double(), Params(params.theta.double(), SPEC))
    expected = Learned.window_gradient(exact, *doubles)
    torch.testing.assert_close(torch.cat(parts).double(), expected, rtol=1e-4, atol=1e-6)
