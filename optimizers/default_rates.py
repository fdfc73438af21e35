"""The learning rates that optimizers have untuned."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from l2l.suite.core.import_path import class_at

# Where there is one in PyTorch, its default; else that of the authors' own code.
OF_TORCH: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "nag": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "muon": torch.optim.Muon,
}
OF_AUTHORS = {
    "lion": 1e-4,  # Chen et al. 2023
    "soap": 3e-3,  # Vyas et al. 2024
    "schedule-free": 2.5e-3,  # Defazio et al. 2024
}


def default_rate(spec: Mapping[str, Any]) -> float | None:
    """The rate that an optimizer, as an experiment gives it, has by default; None if unknown.

    Of ``{name: torch, optimizer: …}`` it is that of the class.
    """
    name = str(spec["name"])
    if name in OF_AUTHORS:
        return OF_AUTHORS[name]
    given = spec.get("rate", "lr")
    cls = OF_TORCH.get(name)
    if name == "torch":
        cls = class_at(str(spec["optimizer"]), torch.optim.Optimizer)
    found = inspect.signature(cls).parameters.get(str(given)) if cls else None
    # A tensor, a word or nothing at all is no rate.
    return float(found.default) if found and isinstance(found.default, int | float) else None
