"""How far what runs on a device is from the definition in float64, and from the CPU."""

from __future__ import annotations

import pandas as pd
import torch

from l2l.optimizers.hand_designed.adam import Adam
from l2l.optimizers.kernels import reference
from l2l.optimizers.kernels.dispatch import kernel_for, self_check
from l2l.optimizers.kernels.shape import LSTMShape
from l2l.optimizers.learned.checkpoint import load_optimizer
from l2l.problems.convnet import ConvNet
from l2l.problems.mlp import MLP
from l2l.problems.quadratic import Quadratic
from l2l.suite.core.types import Optimizer, Problem
from l2l.suite.files.places import CHECKPOINTS
from l2l.suite.inner.evaluate import evaluate
from l2l.suite.inner.process import full_float32

# The paper's network with and without the logarithm.
SHAPES = (LSTMShape(2, 20, 2), LSTMShape(2, 20, 1))
COORDINATES = 1000
STEPS = 20


def kernels(device: str) -> pd.DataFrame:
    """Relative errors against `reference` in float64, for several networks.

    Raises:
        AssertionError: there is no fused kernel for a network on this device.
    """
    rows = []
    for shape in SHAPES:
        where = torch.device(device)
        generator = torch.Generator().manual_seed(1)

        def normal(*size: int, generator: torch.Generator = generator) -> torch.Tensor:
            return torch.randn(*size, generator=generator)

        arrays = [
            0.3 * normal(shape.size),
            normal(STEPS, shape.inputs, COORDINATES),
            0.5 * normal(shape.layers, 2, shape.hidden, COORDINATES),
            normal(STEPS, COORDINATES),
        ]
        weights, features, state, lambdas = (each.to(where) for each in arrays)
        kernel = kernel_for(shape, weights)
        assert kernel is not reference, f"there is no fused kernel for {shape} on {device}"
        true_weights, true_features, true_state, true_lambdas = (x.double() for x in arrays)
        expected = (
            *reference.step(shape, true_weights, true_features[0], true_state),
            reference.gradient(shape, true_weights, true_features, true_state, true_lambdas),
            *reference.adjoints(
                shape, true_weights, true_features[0], true_state, true_lambdas[0], None
            ),
        )
        found = (
            *kernel.step(shape, weights, features[0], state),
            kernel.gradient(shape, weights, features, state, lambdas),
            *kernel.adjoints(shape, weights, features[0], state, lambdas[0], None),
        )
        names = ("update", "state", "window_gradient", "of_weights", "of_features", "of_state")
        errors = {
            name: float((mine.cpu().double() - true).norm() / true.norm())
            for name, mine, true in zip(names, found, expected, strict=True)
        }
        network = f"{shape.layers}x{shape.hidden}, {shape.inputs} inputs"
        rows.append({"network": network, "self_check": self_check(shape, where), **errors})
    table = pd.DataFrame(rows)
    worst = table.select_dtypes("number").max(axis=None)
    assert worst <= 1e-4, f"a kernel differs from its definition by {worst:.1e}"
    return table


def devices(device: str, steps: int = 100, instances: int = 16) -> pd.DataFrame:
    """The same evaluations on the CPU and on the device: mean losses, and how far runs are apart.

    Raises:
        AssertionError: mean losses differ by more than single runs do.
    """
    lstm = load_optimizer(CHECKPOINTS / "mnist-lstm.safetensors")
    cases: list[tuple[str, Problem, Optimizer, int, int]] = [
        ("quadratics, ADAM", Quadratic(), Adam(0.3), steps, instances),
        ("MNIST, ADAM", MLP(), Adam(0.03), steps, instances),
        ("MNIST, LSTM", MLP(), lstm, steps, instances),
        ("convolutions, ADAM", ConvNet(dataset="mnist"), Adam(0.01), min(steps, 30), 4),
    ]
    rows = []
    for name, problem, optimizer, updates, count in cases:
        here = evaluate(problem, optimizer, updates, count, 0, "cpu")
        moved = optimizer
        if getattr(optimizer, "weights", None) is not None:
            moved = optimizer.with_weights(optimizer.weights.to(device))  # type: ignore[attr-defined]
        with full_float32():
            there = evaluate(problem, moved, updates, count, 0, device)
        apart = ((there - here).abs() / here).median(0).values
        spread = float(here[:, -1].std() / count**0.5)
        end = (float(here[:, -1].mean()), float(there[:, -1].mean()))
        rows.append(
            {
                "run": name,
                "updates": updates,
                "end_cpu": end[0],
                "end_device": end[1],
                "standard_error": spread,
                **{f"apart_after_{s}": float(apart[s]) for s in (1, 10, updates)},
            }
        )
        assert abs(end[0] - end[1]) <= 3 * spread + 1e-3 * end[0], f"{name}: {end}"
    return pd.DataFrame(rows)
