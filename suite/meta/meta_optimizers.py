"""What moves φ: ADAM (section 2), or ADAM in the eigenbasis of the meta-gradient (SOAP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from l2l.optimizers.hand_designed.adam import Adam, AdamState
from l2l.optimizers.layout import Layout
from l2l.suite.core.types import Params

# Tensors by name, so that a training's state can be kept in a file whatever moves φ.
MetaState = dict[str, Tensor]
Method = Literal["adam", "soap", "soap-joined"]

# Updates between new eigenbases, beside the first few, when the statistics still change fast.
REFRESH = 10
EARLY = (1, 2, 5)


class MetaOptimizer(Protocol):
    """A functional optimizer of φ [size]."""

    def init(self, weights: Tensor) -> MetaState:
        """The state before the first update."""
        ...

    def update(self, gradient: Tensor, state: MetaState, rate: float) -> tuple[Tensor, MetaState]:
        """What is added to φ [size], and the next state."""
        ...


@dataclass(frozen=True)
class MetaAdam:
    """ADAM on every weight by itself, as in the paper."""

    beta2: float = 0.999

    def init(self, weights: Tensor) -> MetaState:
        zeros = torch.zeros_like(weights).unsqueeze(0)
        return AdamState(zeros, zeros, zeros.new_zeros(()))._asdict()

    def update(self, gradient: Tensor, state: MetaState, rate: float) -> tuple[Tensor, MetaState]:
        adam = Adam(rate, beta2=self.beta2)
        grads = gradient.unsqueeze(0)
        update, following = adam.update(grads, AdamState(**state), Params.unread(grads))
        return update[0], following._asdict()


@dataclass(frozen=True)
class MetaSoap:
    """ADAM in a rotated basis, one for each weight matrix (Vyas et al. 2024, SOAP).

    For a matrix with gradients G, running means of GGᵀ and GᵀG are kept, and ADAM works on
    Q_LᵀGQ_R, with their eigenvectors Q_L and Q_R. Steps are as long as ADAM's, but along directions
    in which the meta-loss curves alike, not along single weights. A vector counts as one row.

    With `joined`, a layer's biases are one more column of its weights, as if one more input were
    always 1. So directions may mix both: an input whose mean is far from 0, such as log|∇|/p, moves
    the units as their biases do.

    Args:
        layout: of φ.
        joined: whether `X.bias` belongs to the matrix of `X.weight`, if that has a row for each, or
            is a matrix of its own.
        beta1: decay of the mean.
        beta2: decay of the squares, and of GGᵀ and GᵀG.
        epsilon: the least root of a mean square, as a part of the largest. Along directions
            that no gradient has had, there is only rounding noise, which must not be scaled up.
    """

    layout: Layout
    joined: bool = False
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-5

    def init(self, weights: Tensor) -> MetaState:
        state = {"updates": weights.new_zeros(())}
        for name, part in self._matrices(weights).items():
            state[f"mean.{name}"] = torch.zeros_like(part)
            state[f"square.{name}"] = torch.zeros_like(part)
            for side, size in (("left", part.shape[0]), ("right", part.shape[1])):
                state[f"{side}.{name}"] = weights.new_zeros(size, size)
                state[f"{side}_basis.{name}"] = torch.eye(
                    size, dtype=weights.dtype, device=weights.device
                )
        return state

    def update(self, gradient: Tensor, state: MetaState, rate: float) -> tuple[Tensor, MetaState]:
        updates = state["updates"] + 1
        count = int(updates)
        refresh = count % REFRESH == 0 or count in EARLY
        following = {"updates": updates}
        parts = {}
        for name, part in self._matrices(gradient).items():
            own = {key: state[f"{key}.{name}"] for key in _KEPT}
            parts[name], own = self._update_matrix(part, own, count, refresh)
            following.update({f"{key}.{name}": value for key, value in own.items()})
        return -rate * self._vector(parts), following

    def _update_matrix(
        self, gradient: Tensor, state: MetaState, count: int, refresh: bool
    ) -> tuple[Tensor, MetaState]:
        left = state["left"].lerp(gradient @ gradient.T, 1 - self.beta2)
        right = state["right"].lerp(gradient.T @ gradient, 1 - self.beta2)
        q_left, q_right, square = state["left_basis"], state["right_basis"], state["square"]
        if refresh:
            old_left, old_right = q_left, q_right
            q_left, q_right = _eigenvectors(left), _eigenvectors(right)
            # The squares as they would be along the new directions, had the old been independent.
            square = (q_left.T @ old_left).square() @ square @ (old_right.T @ q_right).square()
        rotated = q_left.T @ gradient @ q_right
        square = square.lerp(rotated.square(), 1 - self.beta2)
        mean = state["mean"].lerp(gradient, 1 - self.beta1)
        size = (square / (1 - self.beta2**count)).sqrt()
        # Squares of smaller gradients underflow, but their mean does not.
        least = (self.epsilon * size.max()).clamp_min(torch.finfo(size.dtype).tiny ** 0.5)
        direction = (q_left.T @ mean @ q_right) / (1 - self.beta1**count) / size.clamp_min(least)
        values = (mean, square, left, right, q_left, q_right)
        return q_left @ direction @ q_right.T, dict(zip(_KEPT, values, strict=True))

    def _matrices(self, vector: Tensor) -> dict[str, Tensor]:
        parts = {
            name: part.reshape(_rows(part.shape), -1)
            for name, part in self.layout.split(vector).items()
        }
        for weight, bias in self._joined:
            parts[weight] = torch.cat([parts[weight], parts.pop(bias).T], dim=1)
        return parts

    def _vector(self, matrices: dict[str, Tensor]) -> Tensor:
        """A change of φ [size] from that of its matrices."""
        parts = dict(matrices)
        for weight, bias in self._joined:
            parts[weight], parts[bias] = parts[weight][:, :-1], parts[weight][:, -1]
        return self.layout.join(parts)

    @property
    def _joined(self) -> list[tuple[str, str]]:
        """The weights and biases that share a matrix."""
        if not self.joined:
            return []
        shapes = self.layout.parameters()
        pairs = [(f"{name.removesuffix('.bias')}.weight", name) for name in shapes]
        return [
            (weight, bias)
            for weight, bias in pairs
            if weight in shapes and _rows(shapes[weight]) == shapes[bias].numel()
        ]


def _rows(shape: torch.Size) -> int:
    """Of a part of φ as a matrix."""
    return shape[0] if len(shape) == 2 else 1


_KEPT = ("mean", "square", "left", "right", "left_basis", "right_basis")


def _eigenvectors(symmetric: Tensor) -> Tensor:
    """Orthonormal eigenvectors as columns; computed in float64, where close ones part better."""
    vectors: Tensor = torch.linalg.eigh(symmetric.double())[1]
    # Contiguous, as they come back from a file: products round by layout, and a resume is exact.
    return vectors.to(symmetric.dtype).contiguous()


def meta_optimizer(method: Method, beta2: float, layout: Layout) -> MetaOptimizer:
    """The one that a phase names."""
    if method == "adam":
        return MetaAdam(beta2)
    return MetaSoap(layout, joined=method == "soap-joined", beta2=beta2)
