"""A step of a problem so small that what surrounds its gradient could take most of the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad_and_value, vmap

from benchmarks.timing import wall_and_processor
from benchmarks.window import WINDOW, by_suite, evaluate, learned
from l2l import Problem, Rng, Tensors
from l2l.optimizers.hand_designed.adam import Adam
from l2l.optimizers.hand_designed.sgd import SGD
from l2l.suite.inner.graphs import CALLS, CHECKS
from l2l.suite.inner.objective import Objective

FEATURES, EXAMPLES = 30, 128
RUNS = (1, 64)


@dataclass(frozen=True)
class Logistic(Problem):
    """Logistic regression with 31 parameters, as anybody would write it: its loss, and no more."""

    def instance(self, rng: Rng) -> Tensors:
        x = rng.normal(EXAMPLES, FEATURES)
        return {"x": x, "y": (x @ rng.normal(FEATURES) > 0).float()}

    def init(self, rng: Rng) -> Tensors:
        return {"weight": 0.01 * rng.normal(FEATURES), "bias": torch.zeros(())}

    def loss(self, params: Tensors, instance: Tensors, batch: Tensor | None) -> Tensor:
        x, y = instance["x"], instance["y"]
        if batch is not None:
            x, y = x[batch], y[batch]
        return F.binary_cross_entropy_with_logits(x @ params["weight"] + params["bias"], y)


@dataclass(frozen=True)
class OnMinibatches(Logistic):
    """On minibatches of `batch_size` examples."""

    batch_size: int = 32

    def batch(self, rng: Rng) -> Tensor:
        return rng.integers(EXAMPLES, self.batch_size)


def by_hand(objective: Objective) -> Callable[[], object]:
    """Loss and gradient of all runs in plain PyTorch, on the first minibatch."""
    samples = [
        objective.problem.instance(objective.rng("instance", i)) for i in objective.instances
    ]
    draws = [objective.problem.batch(objective.rng("batch", i)) for i in objective.instances]
    if draws[0] is not None:
        samples = [
            {name: each[rows] for name, each in sample.items()}
            for sample, rows in zip(samples, draws, strict=True)
        ]
    x, y = (torch.stack([sample[name] for sample in samples]) for name in ("x", "y"))
    theta = objective.start()
    weight, bias = theta[:, :FEATURES, None].clone(), theta[:, FEATURES:].clone()
    if len(samples) == 1:
        x, y, weight, bias = x[0], y[0], weight[0, :, 0], bias[0]
    given = (weight.requires_grad_(), bias.requires_grad_())

    def call() -> object:
        with torch.enable_grad():
            product = x @ weight
            logits = (product if product.dim() == 1 else product.squeeze(-1)) + bias
            losses = F.binary_cross_entropy_with_logits(logits, y, reduction="none").mean(-1)
            return torch.autograd.grad(losses.sum(), given)

    return call


def by_vmap(objective: Objective) -> Callable[[], object]:
    """The same by `torch.func` alone, over copies and instances."""
    problem, spec = objective.problem, objective.spec
    samples = [problem.instance(objective.rng("instance", i)) for i in objective.instances]
    draws = [problem.batch(objective.rng("batch", i)) for i in objective.instances]
    fixed = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    batch = None if draws[0] is None else torch.stack(draws)
    theta = objective.start().unsqueeze(0)

    def loss(row: Tensor, own: Tensors, minibatch: Tensor | None) -> Tensor:
        return problem.loss(spec.unflatten(row), own, minibatch)

    rows = vmap(grad_and_value(loss), in_dims=(0, 0, None if batch is None else 0))
    copies = vmap(rows, in_dims=(0, None, None))
    return lambda: copies(theta, fixed, batch)


@torch.no_grad()
def small(repeats: int, runs: tuple[int, ...] = RUNS, windows: int = 5) -> pd.DataFrame:
    """Gradients, and steps of optimizers, beside the gradient in plain PyTorch; one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return pd.concat(
            [
                _case(repeats, n, problem, windows)
                for n in runs
                for problem in (Logistic(), OnMinibatches())
            ],
            ignore_index=True,
        )
    finally:
        torch.set_num_threads(threads)


def _case(repeats: int, runs: int, problem: Logistic, windows: int) -> pd.DataFrame:
    objective = Objective(problem, range(runs), "train", 0)
    theta = objective.start()
    lstm = learned()
    steps = WINDOW * windows

    def often(function: Callable[[], object]) -> Callable[[], object]:
        def call() -> None:
            for _ in range(steps):
                function()

        return call

    def train() -> None:
        for _ in range(windows):
            by_suite(objective, lstm, WINDOW)

    ways = {
        "gradient, plain PyTorch": often(by_hand(objective)),
        "gradient, nested vmap": often(by_vmap(objective)),
        "gradient": often(lambda: objective.value_and_grad(theta, 0)),
        "SGD": lambda: evaluate(objective, SGD(0.1), steps),
        "ADAM": lambda: evaluate(objective, Adam(0.1), steps),
        "LSTM": lambda: evaluate(objective, lstm, steps),
        "LSTM, meta-training": train,
    }
    for _ in range(CALLS + CHECKS):
        objective.value_and_grad(theta, 0)
    wall, processor = wall_and_processor(ways, repeats)
    plain = processor["gradient, plain PyTorch"]
    return pd.DataFrame(
        {
            "runs": runs,
            "minibatch": getattr(problem, "batch_size", "none"),
            "what": ways.keys(),
            "wall_ms": [1e3 * wall[name] / steps for name in ways],
            "processor_ms": [1e3 * processor[name] / steps for name in ways],
            "over_plain_gradient": [processor[name] / plain for name in ways],
        }
    )
