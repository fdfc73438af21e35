"""Later learned optimizers as they were published, in plain float64 NumPy: one tensor, one step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = Any
Weights = dict[str, Array]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def rms_normalised(x: Array, epsilon: float) -> Array:
    return x / np.sqrt(epsilon + np.mean(x**2))


def relu_network(weights: Weights, x: Array) -> Array:
    for layer in range(3):
        x = weights[f"layers.{layer}.weight"] @ x + weights[f"layers.{layer}.bias"]
        x = np.maximum(x, 0) if layer < 2 else x
    return x


@dataclass
class RNNPropCoordinate:
    """RNNProp (Lv, Jiang and Li 2017) on one number."""

    weights: Weights
    layers: int
    hidden: int
    m: float = 0.0
    v: float = 0.0
    t: int = 0
    memory: list[tuple[Array, Array]] = field(default_factory=list)

    def step(self, g: float) -> float:
        """The update."""
        self.t += 1
        self.m = 0.95 * self.m + 0.05 * g
        self.v = 0.95 * self.v + 0.05 * g**2
        m_hat, v_hat = self.m / (1 - 0.95**self.t), self.v / (1 - 0.95**self.t)
        size = np.sqrt(v_hat) + 1e-8
        x = self.weights["inputs.weight"] @ [m_hat / size, g / size] + self.weights["inputs.bias"]
        x = np.where(x > 0, x, np.exp(x) - 1)
        memory = self.memory or [(np.zeros(self.hidden), np.zeros(self.hidden))] * self.layers
        self.memory = []
        for layer, (h, c) in enumerate(memory):
            z = self.weights[f"layers.{layer}.weight"] @ np.concatenate([x, h])
            i, f, g_, o = np.split(z + self.weights[f"layers.{layer}.bias"], 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g_)
            x = sigmoid(o) * np.tanh(c)
            self.memory.append((x, c))
        a = self.weights["output.weight"] @ x + self.weights["output.bias"][0]
        return float(-0.1 * np.tanh(a))


@dataclass
class TensorMLP:
    """What small_fc_lopt (Metz et al. 2022) and Celo2-base are told of one tensor."""

    weights: Weights
    mean_decays: Array
    square_decays: Array
    factor_decays: Array
    t: int = 0
    m: Any = 0.0
    v: Any = 0.0
    r: Any = 0.0
    c: Any = 0.0

    def remember(self, g: Array) -> None:
        """Move the accumulators on; each has one entry a decay."""
        squares = g**2 + 1e-30
        self.t += 1
        self.m = [b * old + (1 - b) * g for b, old in self._pairs(self.mean_decays, self.m)]
        self.v = [b * old + (1 - b) * g**2 for b, old in self._pairs(self.square_decays, self.v)]
        if g.ndim >= 2:
            order = np.argsort(g.shape, kind="stable")
            row, column = squares.mean(order[-1]), squares.mean(order[-2])
        else:
            row = column = squares
        self.r = [b * old + (1 - b) * row for b, old in self._pairs(self.factor_decays, self.r)]
        self.c = [b * old + (1 - b) * column for b, old in self._pairs(self.factor_decays, self.c)]

    def spread(self, like: Array) -> tuple[list[Array], list[Array], list[Array]]:
        """R and c at every place of the tensor, and the mean of r over what is left of c."""
        if like.ndim < 2:
            return self.r, self.c, self.r
        second, first = np.argsort(like.shape, kind="stable")[[-2, -1]]
        rows = [np.expand_dims(r, first) for r in self.r]
        full = np.ones_like(like)
        means = [r.mean(second, keepdims=True) * full for r in rows]
        columns = [np.expand_dims(c, second) * full for c in self.c]
        return [r * full for r in rows], columns, means

    def factored(self, x: list[Array], epsilon: float) -> list[Array]:
        """Adafactor's x."""
        rows, columns, means = self.spread(x[0])
        if x[0].ndim < 2:
            return [
                a / np.sqrt(np.maximum(c + epsilon, 1e-9)) for a, c in zip(x, columns, strict=True)
            ]
        return [
            a / np.sqrt(np.maximum(r / (mean + 1e-9), 1e-9)) / np.sqrt(np.maximum(c, 1e-9))
            for a, r, c, mean in zip(x, rows, columns, means, strict=True)
        ]

    @staticmethod
    def _pairs(decays: Array, old: Any) -> Any:
        return zip(decays, [0.0] * len(decays) if isinstance(old, float) else old, strict=True)


def small_fc_lopt(weights: Weights) -> TensorMLP:
    """Before the first step, with decays as learned."""

    def decays(name: str, initial: list[float]) -> Array:
        return 1 - np.exp(10 * (np.log(1 - np.array(initial)) / 10 + weights[f"decays.{name}"]))

    return TensorMLP(
        weights,
        decays("means", [0.9, 0.99, 0.999]),
        np.clip(decays("squares", [0.999]), 0, 1),
        np.clip(decays("factors", [0.9, 0.99, 0.999]), 0, 1),
    )


def small_fc_lopt_step(mlp: TensorMLP, g: Array, theta: Array, step: float = 0.001) -> Array:
    """The update of one tensor."""
    times = [np.tanh(mlp.t / 10 ** (k // 2) / (3 if k % 2 else 1) - 1) for k in range(11)]
    mlp.remember(g)
    rows, columns, _ = mlp.spread(g)
    root = 1 / np.sqrt(mlp.v[0] + 1e-6)
    inputs = [g, theta, *mlp.m, *mlp.v, *[m * root for m in mlp.m], root]
    inputs += mlp.factored([g] * 3, 1e-9) + rows + columns
    inputs += [1 / np.sqrt(x + 1e-8) for x in rows + columns]
    inputs += mlp.factored(mlp.m, 1e-6)
    scaled = [rms_normalised(x, 1e-5) for x in inputs]
    update = np.zeros_like(g)
    for place in np.ndindex(g.shape):
        d, mu = relu_network(mlp.weights, np.array([*[x[place] for x in scaled], *times]))
        update[place] = -step * d * np.exp(0.001 * mu)
    return update


def celo2_base(weights: Weights) -> TensorMLP:
    """Before the first step."""
    decays = np.array([0.9, 0.99, 0.999])
    return TensorMLP(weights, decays, np.array([0.95]), decays)


def celo2_base_step(
    mlp: TensorMLP, g: Array, theta: Array, lr: float, weight_decay: float, program: bool = False
) -> Array:
    """The update of one tensor; of the authors' `program` in what it does otherwise."""
    g = np.clip(g, -1000, 1000) if program else g
    mlp.remember(g)
    rows, columns, _ = mlp.spread(g)
    root = 1 / np.sqrt(mlp.v[0] + 1e-8)
    inputs = [g, np.clip(g, -0.1, 0.1), theta, *mlp.m, *mlp.v, *[m * root for m in mlp.m], root]
    inputs += [*mlp.factored([g] * 3, 1e-9), g * root, *rows, *columns]
    inputs += [1 / np.sqrt(x + 1e-8 if program else np.maximum(x, 1e-9)) for x in rows + columns]
    inputs += mlp.factored(mlp.m, 1e-6)
    if program and g.ndim < 2:
        inputs[15:] = [np.zeros_like(g)] * 15
    scaled = [rms_normalised(x, 1e-9) for x in inputs]
    direction = np.zeros_like(g)
    for place in np.ndindex(g.shape):
        direction[place] = relu_network(mlp.weights, np.array([x[place] for x in scaled]))[0]
    return -lr * (rms_normalised(direction, 1e-9) + weight_decay * theta)
