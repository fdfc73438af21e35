"""A problem from a `torch.nn.Module` and a data set, for --plugin; see docs/extending.md."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from l2l import Rng, Tensors, register_problem
from l2l.problems.datasets import load_images
from l2l.problems.module import ModuleProblem


@register_problem("digits-net")
@dataclass(frozen=True)
class DigitsNet(ModuleProblem):
    """Cross entropy of a network with batch normalisation on minibatches of digits."""

    units: int = 20
    batch_size: int = 64

    def module(self) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(28 * 28, self.units),
            nn.BatchNorm1d(self.units),
            nn.ReLU(),
            nn.Linear(self.units, 10),
        )

    def batch(self, rng: Rng) -> Tensors:
        return load_images("mnist").minibatch(rng, self.batch_size)

    @property
    def notice(self) -> str:
        return load_images("mnist").notice

    def fingerprints(self) -> dict[str, str]:
        return {"images": load_images("mnist").fingerprint}
