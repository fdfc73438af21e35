"""The optimizer `torch`: a `torch.optim.Optimizer` as one of the suite's."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import torch
from torch import Tensor

from l2l import Optimizer, Params, ParamSpec, register_optimizer
from l2l.optimizers.from_torch.hyperparameters import check_hyperparameters, joined, names_of
from l2l.optimizers.from_torch.runs import Making, Runs
from l2l.suite.core.convert import REST
from l2l.suite.core.import_path import class_at, version_of

Independent = Literal["coordinates", "tensors", "runs"]

# What moves by itself in PyTorch's own; in all others a run, for all that is known of them.
KNOWN: dict[type, Independent] = {
    **dict.fromkeys(
        (
            *(torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adamax),
            *(torch.optim.NAdam, torch.optim.RAdam, torch.optim.RMSprop, torch.optim.Adagrad),
            *(torch.optim.Adadelta, torch.optim.Rprop, torch.optim.ASGD),
        ),
        "coordinates",
    ),
    torch.optim.Adafactor: "tensors",
    torch.optim.Muon: "tensors",
}


@register_optimizer("torch", tune="lr")
@dataclass(frozen=True)
class Torch(Optimizer):
    """A `torch.optim.Optimizer` by its import path, such as ``torch.optim.AdamW``.

    All other fields are hyperparameters of its class: ``{name: torch, optimizer:
    torch.optim.AdamW, weight_decay: 0.01}``. Those whose names are fields here go into
    `hyperparameters`. The state is `Runs`, which moves a copy of itself, or itself
    (`update_in_place`).

    Args:
        lr: the rate η, or a column [n, 1] with each run's own.
        optimizer: the import path of an installed package's or a plugin's class.
        rate: the hyperparameter that η is given as.
        independent: the smallest part whose updates depend on its own gradients alone, which
            decides how runs share one object: single coordinates, a parameter's tensor, or a whole
            run. If not given, what is known of PyTorch's own, and `runs` for others.
        hyperparameters: of the class.

    Raises:
        SuiteError: there is no such class.
        ValueError: it has no such hyperparameter, or needs one that is not given.
    """

    lr: Tensor | float
    optimizer: str
    rate: str = "lr"
    independent: Independent | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict, metadata=REST)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hyperparameters", joined(self.hyperparameters))
        check_hyperparameters(self._class, self.optimizer, self.hyperparameters, self.rate)

    @classmethod
    def own_names(cls, given: Mapping[str, Any]) -> set[str]:
        path = given.get("optimizer")
        named = names_of(_class_at(path)) if isinstance(path, str) else ()
        return super().own_names(given) | set(named)

    def fingerprints(self) -> Mapping[str, str]:
        return version_of(self._class)

    @property
    def coordinatewise(self) -> bool:  # type: ignore[override]
        """Whether coordinates move by themselves."""
        return self._independent == "coordinates"

    @property
    def _class(self) -> type[torch.optim.Optimizer]:
        return _class_at(self.optimizer)

    @property
    def _independent(self) -> Independent:
        return self.independent or KNOWN.get(self._class, "runs")

    def at_rate(self, rate: Tensor | float) -> Self:
        # Once a step where there is a schedule: nothing is checked again.
        changed = copy.copy(self)
        object.__setattr__(changed, "lr", rate)
        return changed

    def init(self, spec: ParamSpec, n: int) -> Runs:
        making = Making(
            self._class, self.optimizer, self.hyperparameters, self.rate, self._independent
        )
        return Runs(making, spec, torch.zeros(n, spec.size))

    def lookahead(self, state: Runs) -> Tensor | None:
        return state.ahead

    def update(self, grads: Tensor, state: Runs, params: Params) -> tuple[Tensor, Runs]:
        return self.update_in_place(grads, state.copied(), params)

    def update_in_place(self, grads: Tensor, state: Runs, params: Params) -> tuple[Tensor, Runs]:
        return state.step(grads, params.theta, self.lr), state


def _class_at(path: str) -> type[torch.optim.Optimizer]:
    return class_at(path, torch.optim.Optimizer)
