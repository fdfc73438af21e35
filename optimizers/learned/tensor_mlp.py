"""What the per-parameter MLP optimizers share: inputs of one tensor, their scale, the network.

Metz et al. 2022, "Practical tradeoffs between memory, compute, and performance in learned
optimizers"; the authors' program is `adafac_mlp_lopt` of learned_optimization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from l2l import Rng
from l2l.optimizers.layout import Layout, check_size
from l2l.optimizers.learned.accumulators import Factors
from l2l.optimizers.learned.initial import truncated_normal

# Mean squares below it count as this much under a root that divides.
LEAST_SQUARE = 1e-9


@dataclass(frozen=True)
class MLPLayout(Layout):
    """Fully connected layers, W [out, in] and b [out] each, then vectors of other weights.

    Args:
        sizes: numbers of inputs, of units of each layer, and of outputs.
        others: sizes of the vectors, by name.
    """

    sizes: tuple[int, ...]
    others: Mapping[str, int]

    def __post_init__(self) -> None:
        for size in self.sizes:
            check_size("hidden", size)

    def parameters(self) -> dict[str, torch.Size]:
        """Names and shapes of the parts of φ, in order."""
        shapes = {}
        for layer, (below, above) in enumerate(pairwise(self.sizes)):
            shapes[f"layers.{layer}.weight"] = torch.Size([above, below])
            shapes[f"layers.{layer}.bias"] = torch.Size([above])
        return shapes | {name: torch.Size([size]) for name, size in self.others.items()}

    def initial_weights(self, rng: Rng) -> Tensor:
        """φ before meta-training: normal with deviation 1/√fan_in, cut at two; all else 0."""
        parts = {}
        for name, shape in self.parameters().items():
            parts[name] = torch.zeros(shape)
            if name.endswith("weight"):
                parts[name] = truncated_normal(rng, *shape) * shape[1] ** -0.5
        return self.join(parts)

    def apply(self, parts: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """The network with ReLU: [inputs, K] to [outputs, K]."""
        last = len(self.sizes) - 2
        for layer in range(last + 1):
            weight, bias = parts[f"layers.{layer}.weight"], parts[f"layers.{layer}.bias"]
            inputs = torch.addmm(bias.unsqueeze(1), weight, inputs)
            inputs = inputs if layer == last else inputs.relu()
        return inputs


def stacked(parts: Sequence[Tensor], epsilon: float) -> Tensor:
    """Inputs of one tensor, each x · rsqrt(ε + mean x²), the mean over the tensor.

    Args:
        parts: of [some, n, …] each; a dimension of the tensor may be 1, and is broadcast.
        epsilon: ε.

    Returns:
        [all, n · size of the tensor].
    """
    shape = parts[0].shape[1:]
    over = tuple(range(2, parts[0].dim()))
    scaled = []
    for part in parts:
        square = part.square()
        # The mean over a dimension that is broadcast is that over its one entry.
        mean = square.mean(over, keepdim=True) if over else square
        scaled.append((part * (mean + epsilon).rsqrt()).expand(-1, *shape).flatten(1))
    return torch.cat(scaled)


def rsqrt(squares: Tensor) -> Tensor:
    """1/√x, x at least `LEAST_SQUARE`."""
    return squares.clamp_min(LEAST_SQUARE).rsqrt()


def factored(x: Tensor, factors: Factors, epsilon: float) -> Tensor:
    """`x` over the root of its mean square as the factors tell it: Adafactor's step [decays, n, …].

    Of a tensor of fewer than two dimensions the mean square is there, and ε is added to it.
    """
    if not factors.factored:
        return x * rsqrt(factors.columns + epsilon)
    of_rows = rsqrt(factors.rows / (factors.row_mean + LEAST_SQUARE))
    return x * of_rows * rsqrt(factors.columns)
