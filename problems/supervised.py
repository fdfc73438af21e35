"""What problems have in common that learn from examples, and are judged by others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from l2l import Problem, Rng, Tensors
from l2l.problems.bundled import Examples
from l2l.problems.layers import cross_entropy
from l2l.suite.core.device import to_device


class Supervised(Problem):
    """The loss of predictions for minibatches of examples, drawn with replacement.

    Subclasses are frozen dataclasses with a field `batch_size`, and define `init`, `examples` and
    `predictions`. Targets that are classes have a cross entropy, all others a mean squared error.
    """

    batch_size: int

    def examples(self, train: bool) -> Examples:
        """The training split, or what is held out."""
        raise NotImplementedError

    def predictions(self, params: Tensors, x: Tensor) -> Tensor:
        """Inputs [*lead, rows, …] to outputs [*lead, rows, outputs].

        Parameters are [*lead, *shape]; inputs may lack leading dimensions, and are then shared.
        """
        raise NotImplementedError

    def fingerprints(self) -> dict[str, str]:
        splits = {"train": True, "held out": False}
        return {name: self.examples(train).fingerprint for name, train in splits.items()}

    def batch(self, rng: Rng) -> Tensors:
        many = self.batches([rng], torch.device("cpu"))
        return {name: values[0] for name, values in many.items()}

    def batches(self, rngs: Sequence[Rng], device: torch.device) -> Tensors:
        found = self.examples(True)
        rows = torch.stack([rng.integers(len(found.inputs), self.batch_size) for rng in rngs])
        values = {"x": found.inputs[rows], "y": found.targets[rows]}
        return {name: to_device(value, device) for name, value in values.items()}

    def held_out(self, rng: Rng) -> Tensors:
        found = self.examples(False)
        return {"x": found.inputs, "y": found.targets}

    def loss(self, params: Tensors, instance: Tensors, batch: Tensors) -> Tensor:
        return self.losses(params, instance, batch)

    def losses(self, params: Tensors, instance: Tensors, batch: Tensors) -> Tensor:
        found = self.predictions(params, batch["x"])
        if self.examples(True).classes:
            return cross_entropy(found, batch["y"])
        return (found - batch["y"]).square().mean((-2, -1))
