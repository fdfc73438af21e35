"""The memory that all coordinates share: a matrix in the inverse Hessian's place (Appendix D).

Dot products over coordinates are means here, M ← M + Σ a bᵀ / P, as they are in a global averaging
cell. The factor 1/P could as well be in a head's weights; outside of them, weights do not depend on
the number of coordinates, and a head that puts out numbers around 1 changes M r by numbers around 1
whatever it is.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor


class Memory(Protocol):
    """M for n instances, as data; `read` and `write` are differentiable."""

    def read(self, r: Tensor) -> Tensor:
        """M r for what read heads put out: [heads, n, P] to the same."""
        ...

    def write(self, a: Tensor, b: Tensor) -> Self:
        """M + Σ_heads a bᵀ / P for what write heads put out, [heads, n, P] each."""
        ...


class DenseMemory(NamedTuple):
    """M itself [n, P, P], the identity at first, as BFGS's inverse Hessian is."""

    matrix: Tensor

    @staticmethod
    def initial(n: int, coordinates: int, like: Tensor) -> DenseMemory:
        """The identity, in the dtype and on the device of `like`."""
        eye = torch.eye(coordinates, dtype=like.dtype, device=like.device)
        return DenseMemory(eye.repeat(n, 1, 1))

    def read(self, r: Tensor) -> Tensor:
        """As `Memory.read`."""
        return torch.einsum("npq,hnq->hnp", self.matrix, r)

    def write(self, a: Tensor, b: Tensor) -> DenseMemory:
        """As `Memory.write`."""
        change = torch.einsum("hnp,hnq->npq", a, b) / a.shape[-1]
        return DenseMemory(self.matrix + change)


class HistoryMemory(NamedTuple):
    """The identity plus the last writes, of which it keeps a and b: [history, heads, n, P] each.

    Memory and time are linear in P. Places that nothing was written to are 0.
    """

    a: Tensor
    b: Tensor

    @staticmethod
    def initial(history: int, heads: int, n: int, coordinates: int, like: Tensor) -> HistoryMemory:
        """The identity, in the dtype and on the device of `like`."""
        zeros = like.new_zeros(history, heads, n, coordinates)
        return HistoryMemory(zeros, zeros)

    def read(self, r: Tensor) -> Tensor:
        """As `Memory.read`: r + Σ_j a_j (b_j·r) / P."""
        a, b = self.a.flatten(0, 1), self.b.flatten(0, 1)
        dots = torch.einsum("jnp,hnp->jhn", b, r) / r.shape[-1]
        return r + torch.einsum("jnp,jhn->hnp", a, dots)

    def write(self, a: Tensor, b: Tensor) -> HistoryMemory:
        """As `Memory.write`; the oldest writes go."""
        return HistoryMemory(
            torch.cat([self.a[1:], a.unsqueeze(0)]), torch.cat([self.b[1:], b.unsqueeze(0)])
        )
