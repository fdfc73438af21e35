"""LSTM layers whose coordinates talk: some cells speak for all coordinates (Appendix D)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from l2l import Rng
from l2l.optimizers.kernels.reference import cell
from l2l.optimizers.layout import Layout, check_size
from l2l.optimizers.preprocessing import PREPROCESSINGS


@dataclass(frozen=True)
class Controller(Layout):
    """`layers` LSTM layers of `hidden` cells on `inputs` features, then `outputs` linear outputs.

    Every coordinate has the same weights and a state of its own, as in the coordinatewise LSTM. The
    last `gacs` cells of each layer are global averaging cells: what they put out, upwards and to
    the next step, is its mean over the coordinates of an instance. What they remember, c, is each
    coordinate's own.

    φ holds for each layer W [4·hidden, below + hidden] and b [4·hidden], gates in the order input,
    forget, cell, output; then W [outputs, hidden] and b [outputs]. The state is
    [layers, 2, hidden, n, P]: h and c of every layer.
    """

    layers: int
    hidden: int
    gacs: int
    inputs: int
    outputs: int

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "inputs", "outputs"):
            check_size(name, getattr(self, name))
        if not 0 <= self.gacs <= self.hidden:
            raise ValueError(f"gacs must be from 0 to hidden, {self.hidden}, not {self.gacs}")

    def parameters(self) -> dict[str, torch.Size]:
        """Names and shapes of the parts of φ, in order."""
        shapes = {}
        for layer in range(self.layers):
            below = self.inputs if layer == 0 else self.hidden
            shapes[f"layers.{layer}.weight"] = torch.Size([4 * self.hidden, below + self.hidden])
            shapes[f"layers.{layer}.bias"] = torch.Size([4 * self.hidden])
        shapes["output.weight"] = torch.Size([self.outputs, self.hidden])
        shapes["output.bias"] = torch.Size([self.outputs])
        return shapes

    def initial_parts(self, rng: Rng) -> dict[str, Tensor]:
        """The parts of φ before meta-training, as the coordinatewise LSTM's.

        Uniform in ±1/√fan_in, forget biases 1, other biases 0.
        """
        parts = {}
        for name, size in self.parameters().items():
            if name.endswith("weight"):
                parts[name] = (2 * rng.uniform(*size) - 1) * size[-1] ** -0.5
            else:
                parts[name] = torch.zeros(size)
                if name.startswith("layers"):
                    parts[name][self.hidden : 2 * self.hidden] = 1.0
        return parts

    def initial_state(self, n: int, coordinates: int, like: Tensor) -> Tensor:
        """The state h = c = 0, in the dtype and on the device of `like`."""
        return like.new_zeros(self.layers, 2, self.hidden, n, coordinates)

    def step(self, weights: Tensor, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step, differentiable in everything.

        Args:
            weights: φ [size].
            features: [inputs, n, P].
            state: [layers, 2, hidden, n, P].

        Returns:
            The outputs [outputs, n, P] and the next state.
        """
        parts = self.split(weights)
        below = features.flatten(1)
        layers = []
        for layer, own in enumerate(state.flatten(3)):
            h, c = cell(parts, layer, below, own)
            below = self._averaged(h, features.shape[1:])
            layers.append(torch.stack([below, c]))
        outputs = torch.addmm(parts["output.bias"].unsqueeze(1), parts["output.weight"], below)
        following = torch.stack(layers).view_as(state)
        return outputs.view(self.outputs, *features.shape[1:]), following

    def _averaged(self, h: Tensor, shape: torch.Size) -> Tensor:
        """`h` [hidden, n·P] with the last `gacs` rows averaged over coordinates, P = shape[1]."""
        if self.gacs == 0:
            return h
        own, shared = torch.split(h, [self.hidden - self.gacs, self.gacs])
        by_instance = shared.view(self.gacs, *shape)
        mean = by_instance.mean(-1, keepdim=True).expand_as(by_instance)
        return torch.cat([own, mean.reshape_as(shared)])


def gradient_features(grads: Tensor, preprocessing: str, p: float) -> Tensor:
    """Gradients [n, P] to inputs [features, n, P] (Appendix A)."""
    function, _ = PREPROCESSINGS[preprocessing]
    return function(grads.flatten(), p).view(-1, *grads.shape)
