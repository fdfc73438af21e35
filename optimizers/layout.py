"""How φ, one flat vector, is made of named parts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# Far above anything that is trained; keeps a stray number from taking all memory.
MAX_SIZE = 10_000


def check_size(name: str, value: int) -> None:
    """Check a number of layers, units or heads; ValueError if it is not from 1 to `MAX_SIZE`."""
    if not 1 <= value <= MAX_SIZE:
        raise ValueError(f"{name} must be from 1 to {MAX_SIZE:,}, not {value}")


class Layout:
    """Names and shapes of the parts of φ [size], in order."""

    def parameters(self) -> dict[str, torch.Size]:
        """Names and shapes of the parts of φ, in order."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(shape.numel() for shape in self.parameters().values())

    def split(self, weights: Tensor) -> dict[str, Tensor]:
        """The parts of φ [size] by name, as views."""
        shapes = self.parameters()
        pieces = torch.split(weights, [shape.numel() for shape in shapes.values()])
        return {
            name: piece.view(shape)
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """φ [size] from its parts by name."""
        return torch.cat([parts[name].reshape(-1) for name in self.parameters()])
