"""The state of a learned optimizer on one parameter, as `LearnedOptimizer` keeps and saves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from l2l import ParamSpec
from l2l.optimizers.learned.base import Learned

# By name, as PyTorch saves them: a state that is one tensor is `hidden`, others have their fields.
Entries = dict[str, Tensor]
HIDDEN = "hidden"


def spec_of(shape: torch.Size) -> ParamSpec:
    """The layout of a single parameter."""
    return ParamSpec({"parameter": shape})


def fresh_state(optimizer: Learned, shape: torch.Size) -> Any:
    """The state before a parameter's first step, where the optimizer's weights are."""
    # One that is made in inference mode could not be changed outside it.
    with torch.inference_mode(False):
        return optimizer.init(spec_of(shape), 1)


def entries_of(state: Any) -> Entries:
    """A state's tensors by name."""
    return {HIDDEN: state} if isinstance(state, Tensor) else dict(state._asdict())


@dataclass(frozen=True)
class Form:
    """What the state of a parameter is like.

    Args:
        kind: its type, a tensor or a named tuple of tensors.
        shapes: of its tensors, by name.
    """

    kind: type
    shapes: dict[str, torch.Size]

    @staticmethod
    def of(optimizer: Learned, shape: torch.Size) -> Form:
        """That of an optimizer on a parameter of this shape; it takes no memory."""
        state = fresh_state(optimizer.with_weights(optimizer.phi.to("meta")), shape)
        return Form(type(state), {name: each.shape for name, each in entries_of(state).items()})

    def state(self, entries: Entries) -> Any:
        """What the optimizer's `update` takes."""
        if issubclass(self.kind, Tensor):
            return entries[HIDDEN]
        return self.kind(**{name: entries[name] for name in self.shapes})
