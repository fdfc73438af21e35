"""A window of meta-training on MNIST's network: this suite beside one compiled scan in JAX."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from benchmarks.timing import interleaved
from benchmarks.window import WINDOW, by_suite, learned
from l2l.optimizers.learned.lstm import LSTM
from l2l.problems.mlp import MLP
from l2l.suite.inner.objective import Objective


def available() -> bool:
    """Whether JAX is installed; the suite itself has no use for it."""
    return importlib.util.find_spec("jax") is not None


def window_in_jax(
    objective: Objective, optimizer: LSTM, steps: int = WINDOW
) -> Callable[[], Tensor]:
    """What computes dL/dφ [size] of a window from θ_0, as one would write it in JAX.

    One scan over the window's steps, compiled, with the optimizee's gradients stopped
    (section 2.1), on the objective's own minibatches. The optimizer is one with `log` inputs.
    """
    import jax
    import jax.numpy as jnp
    from jax import lax
    from jax.flatten_util import ravel_pytree

    def array(tensor: Tensor) -> Any:
        return jnp.asarray(tensor.numpy())

    layout, hidden = optimizer.layout, optimizer.hidden
    phi = {name: array(part) for name, part in layout.split(optimizer.phi).items()}
    start = objective.spec.unflatten(objective.start()[0])
    theta = {name: array(part) for name, part in start.items()}
    draws = [objective.rng("batch", 0, step) for step in range(steps + 1)]
    batches = [objective.problem.batch(draw) for draw in draws]
    x = jnp.stack([array(batch["x"]) for batch in batches])
    y = jnp.stack([array(batch["y"]) for batch in batches])
    state = [(jnp.zeros((objective.spec.size, hidden)),) * 2 for _ in range(layout.layers)]

    def f(theta: Any, x: Any, y: Any) -> Any:
        z = jax.nn.sigmoid(x @ theta["w0"] + theta["b0"]) @ theta["w1"] + theta["b1"]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1))

    def features(g: Any) -> Any:
        size, least = jnp.abs(g), jnp.exp(-optimizer.p)
        large = size >= least
        magnitude = jnp.where(large, jnp.log(jnp.maximum(size, least)) / optimizer.p, -1.0)
        return jnp.stack([magnitude, jnp.where(large, jnp.sign(g), g / least)], axis=1)

    def update(phi: Any, g: Any, state: Any) -> tuple[Any, Any]:
        below, after = features(g), []
        for layer, (h, c) in enumerate(state):
            weight, bias = phi[f"layers.{layer}.weight"], phi[f"layers.{layer}.bias"]
            gates = jnp.concatenate([below, h], axis=1) @ weight.T + bias
            i, forget, candidate, o = jnp.split(gates, 4, axis=1)
            c = jax.nn.sigmoid(forget) * c + jax.nn.sigmoid(i) * jnp.tanh(candidate)
            below = jax.nn.sigmoid(o) * jnp.tanh(c)
            after.append((below, c))
        return below @ phi["output.weight"] + phi["output.bias"], after

    def total(phi: Any, theta: Any, state: Any) -> Any:
        def step(carry: Any, batch: Any) -> tuple[Any, Any]:
            theta, state = carry
            x, y, next_x, next_y = batch
            g = jax.grad(f)(lax.stop_gradient(theta), x, y)
            flat, back = ravel_pytree(g)
            moved, state = update(phi, lax.stop_gradient(flat), state)
            moved = back(optimizer.output_scale * moved)
            theta = {name: value + moved[name] for name, value in theta.items()}
            return (theta, state), f(theta, next_x, next_y)

        along = (x[:-1], y[:-1], x[1:], y[1:])
        return jnp.sum(lax.scan(step, (theta, state), along)[1])

    compiled = jax.jit(jax.grad(total))

    def run() -> Tensor:
        gradient = jax.block_until_ready(compiled(phi, theta, state))
        return layout.join({name: torch.from_dlpack(part) for name, part in gradient.items()})

    return run


def in_jax(repeats: int, units: int = 20) -> pd.DataFrame:
    """A step of meta-training by both, in turn; JAX takes all cores, too."""
    objective, optimizer = Objective(MLP(units=units), [0], "train", 0), learned()
    times = interleaved(
        {
            "JAX": window_in_jax(objective, optimizer),
            "suite": functools.partial(by_suite, objective, optimizer),
        },
        3 * repeats,
    )
    table = pd.DataFrame(
        {"way": times.keys(), "step_ms": [1e3 * x / WINDOW for x in times.values()]}
    )
    table.insert(0, "parameters", objective.spec.size)
    table["suite_is_faster_by"] = table.step_ms / table.step_ms.iloc[-1]
    return table
