"""Completing a matrix of digits' pixels from two factors of low rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from l2l import Problem, Rng, Tensors, register_problem
from l2l.problems.bundled import table
from l2l.suite.core.bounds import Above


@register_problem("matrix-factorisation")
@dataclass(frozen=True)
class MatrixFactorisation(Problem):
    """f(U, V) = mean (UVᵀ − M)² over the known elements of M (Koren, Bell and Volinsky 2009).

    M [rows, 64] has the pixels, from 0 to 1, of some of scikit-learn's digits, other ones for each
    instance. Of its elements the part `hidden` is held out. U [rows, rank] and V [64, rank] start
    Gaussian with deviation `scale`. There are no minibatches: f stays the same along a run.
    """

    rows: int = 100
    rank: int = 8
    hidden: float = 0.1
    scale: Annotated[float, Above(0)] = 0.1

    def __post_init__(self) -> None:
        for name in ("rows", "rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.hidden < 1:
            raise ValueError(f"hidden must be between 0 and 1, not {self.hidden}")

    def fingerprints(self) -> dict[str, str]:
        return {"digits": table("digits").fingerprint}

    def init(self, rng: Rng) -> Tensors:
        sides = {"rows": self.rows, "columns": table("digits").inputs.shape[1]}
        return {name: self.scale * rng.normal(size, self.rank) for name, size in sides.items()}

    def instance(self, rng: Rng) -> Tensors:
        pixels = table("digits").inputs
        matrix = pixels[rng.integers(len(pixels), self.rows)]
        return {"matrix": matrix, "known": (rng.uniform(*matrix.shape) >= self.hidden).float()}

    def held_out(self, rng: Rng) -> Tensor:
        return 1 - self.instance(rng)["known"]

    def loss(self, params: Tensors, instance: Tensors, batch: Tensor | None) -> Tensor:
        return self.losses(params, instance, batch)

    def losses(self, params: Tensors, instance: Tensors, batch: Tensor | None) -> Tensor:
        counted = instance["known"] if batch is None else batch
        apart = params["rows"] @ params["columns"].mT - instance["matrix"]
        return (apart.square() * counted).sum((-2, -1)) / counted.sum((-2, -1))
