"""A trained optimizer as one whose rate can be tuned, scheduled and warmed up."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer
from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.pretrained import Pretrained
from l2l.suite.core.digests import definition_digest


@register_optimizer("pretrained", tune="lr")
@dataclass(frozen=True)
class Rated(Optimizer):
    """The updates of a learned optimizer times `lr`.

    So one that gives directions alone, as Celo2 does, gets the rate and the schedule that it is
    made for: ``{name: pretrained, checkpoint: celo2-base, schedule: cosine}``.

    `checkpoint` is a name in `results/checkpoints`, or a file's path.
    """

    lr: Tensor | float
    checkpoint: str = "mnist-lstm"

    def __post_init__(self) -> None:
        _ = self._network  # refuses what is no checkpoint

    @functools.cached_property
    def _network(self) -> Pretrained:
        return Pretrained(self.checkpoint)

    @property
    def coordinatewise(self) -> bool:  # type: ignore[override]
        return self._network.optimizer.coordinatewise

    def fingerprints(self) -> Mapping[str, str]:
        network = self._network
        return {
            "checkpoint": network.digest,
            "optimizer": definition_digest(type(network.optimizer)),
        }

    def at_rate(self, rate: Tensor | float) -> Self:
        # Once a step where there is a schedule: the file is not read again.
        changed = copy.copy(self)
        object.__setattr__(changed, "lr", rate)
        return changed

    def init(self, spec: ParamSpec, n: int) -> Any:
        # Where new tensors are made: the loop sets it to where the run is.
        return self._on(torch.get_default_device(), torch.float32).init(spec, n)

    def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        update, following = self._on(grads.device, grads.dtype).update(grads, state, params)
        return self.lr * update, following

    def _on(self, device: torch.device, dtype: torch.dtype) -> Learned:
        return self._network.on(device, dtype)
