"""The architecture of the coordinatewise LSTM and the layout of its weights φ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from l2l.optimizers.layout import Layout, check_size
from l2l.optimizers.preprocessing import PREPROCESSINGS

# Elements in a cache line: 64 bytes, in float32.
LINE = 16


@dataclass(frozen=True)
class LSTMShape(Layout):
    """`layers` LSTM layers of `hidden` units on `inputs` features, then a linear output.

    φ is one flat vector: for each layer W [4·hidden, below + hidden] and b [4·hidden], gates in
    the order input, forget, cell, output; then w [hidden] and b [1] of the output layer.
    The state is [layers, 2, hidden, K]: h and c of every layer.
    """

    layers: int = 2
    hidden: int = 20
    inputs: int = 2

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "inputs"):
            check_size(name, getattr(self, name))

    def parameters(self) -> dict[str, torch.Size]:
        """Names and shapes of the parts of φ, in order."""
        shapes = {}
        for layer in range(self.layers):
            below = self.inputs if layer == 0 else self.hidden
            shapes[f"layers.{layer}.weight"] = torch.Size([4 * self.hidden, below + self.hidden])
            shapes[f"layers.{layer}.bias"] = torch.Size([4 * self.hidden])
        shapes["output.weight"] = torch.Size([self.hidden])
        shapes["output.bias"] = torch.Size([1])
        return shapes

    def initial_state(self, coordinates: int, like: Tensor) -> Tensor:
        """The state h = c = 0 for K coordinates, in the dtype and on the device of `like`."""
        return self.empty_state(coordinates, like).zero_()

    def empty_state(self, coordinates: int, like: Tensor) -> Tensor:
        """Memory for the state of K coordinates, in the dtype and on the device of `like`.

        Each row begins on a cache line, which makes a step forward faster by a fifth.
        """
        row = -(-coordinates // LINE) * LINE
        return like.new_empty(self.layers, 2, self.hidden, row)[..., :coordinates]

    def row_length(self, state: Tensor) -> int:
        """Elements from one row of a state to the next, where its rows are even."""
        return state.stride(1) // self.hidden

    def has_even_rows(self, state: Tensor) -> bool:
        """Whether the rows of a state are contiguous and evenly spaced."""
        row = self.row_length(state)
        wanted = (2 * self.hidden * row, self.hidden * row, row, 1)
        # Where there is one of something, how far the next would be does not matter.
        sizes = zip(state.shape, state.stride(), wanted, strict=True)
        return all(size == 1 or stride == each for size, stride, each in sizes)

    def mirror(self, feature_signs: tuple[int, ...] | None) -> tuple[Tensor, Tensor]:
        """A signed permutation T of φ that turns m(∇) into −m(−∇).

        T swaps the two halves of every layer's units, flips the weights of the features that
        change sign with the gradient, and flips the output.

        Args:
            feature_signs: 1 for a feature that stays when the gradient's sign flips, −1 for one
                that flips with it. None if features are units of a layer below, whose two halves
                swap as well; there are as many of them as hidden units.

        Returns:
            Indices and signs [size] with (Tφ)_i = signs_i · φ[indices_i].

        Raises:
            ValueError: the number of hidden units is odd.
        """
        if self.hidden % 2:
            raise ValueError(f"hidden must be even for a mirror symmetry, not {self.hidden}")
        swapped = torch.arange(self.hidden).roll(self.hidden // 2)
        indices = self.split(torch.arange(self.size))
        signs = self.split(torch.ones(self.size))
        for name, index in indices.items():
            if name == "output.bias":
                signs[name].neg_()
            elif name == "output.weight":
                indices[name] = index[swapped]
                signs[name].neg_()
            else:
                by_gate = index.view(4, self.hidden, -1)[:, swapped]
                if name == "layers.0.weight" and feature_signs is not None:
                    signs[name][:, : self.inputs] *= torch.tensor(feature_signs)
                    columns = torch.cat([torch.arange(self.inputs), self.inputs + swapped])
                    by_gate = by_gate[:, :, columns]
                elif name.endswith("weight"):
                    columns = torch.cat([swapped, self.hidden + swapped])
                    by_gate = by_gate[:, :, columns]
                indices[name] = by_gate
        return self.join(indices), self.join(signs)

    def fan_in(self, name: str) -> int:
        """Inputs of the unit that parameter `name` belongs to."""
        if name.startswith("output"):
            return self.hidden
        layer = int(name.split(".")[1])
        return self.hidden + (self.inputs if layer == 0 else self.hidden)


class Scales(NamedTuple):
    """What stands before and after the network.

    Args:
        p: of Appendix A's logarithm, where the network has two inputs.
        gradient: the factor of a gradient before it.
        update: the factor of the network's output.
    """

    p: float
    gradient: float
    update: float

    def features(self, grads: Tensor, shape: LSTMShape) -> Tensor:
        """Gradients [..., K] to the network's inputs [..., inputs, K]."""
        function, _ = PREPROCESSINGS["none" if shape.inputs == 1 else "log"]
        return function(self.gradient * grads, self.p)


def fan_in_bound(fan_in: int) -> float:
    """The half width 1/√fan_in of the uniform distribution that PyTorch's cells start from."""
    return 1.0 / math.sqrt(fan_in)
