"""Learning to learn by gradient descent by gradient descent: benchmark and reproduction suite.

Authors of problems, optimizers, estimators and kinds of cell, and users of `LearnedOptimizer`,
import what they need from here. The packages inside are those of the repository's folders of the
same names.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from l2l.optimizers.torch_optimizer import LearnedOptimizer
    from l2l.suite.core.estimator import CappedLoss, Estimate, Estimator, MetaLoss
    from l2l.suite.core.kind import Job, Kind
    from l2l.suite.core.registry import (
        register_estimator,
        register_kind,
        register_optimizer,
        register_problem,
    )
    from l2l.suite.core.seeds import Rng
    from l2l.suite.core.types import Optimizer, Params, ParamSpec, Problem, Tensors

__all__ = [
    "CappedLoss",
    "Estimate",
    "Estimator",
    "Job",
    "Kind",
    "LearnedOptimizer",
    "MetaLoss",
    "Optimizer",
    "ParamSpec",
    "Params",
    "Problem",
    "Rng",
    "Tensors",
    "register_estimator",
    "register_kind",
    "register_optimizer",
    "register_problem",
]

_MODULES = {
    "l2l.optimizers.torch_optimizer": ("LearnedOptimizer",),
    "l2l.suite.core.estimator": ("CappedLoss", "Estimate", "Estimator", "MetaLoss"),
    "l2l.suite.core.kind": ("Job", "Kind"),
    "l2l.suite.core.registry": (
        *("register_estimator", "register_kind", "register_optimizer", "register_problem"),
    ),
    "l2l.suite.core.seeds": ("Rng",),
    "l2l.suite.core.types": ("Optimizer", "ParamSpec", "Params", "Problem", "Tensors"),
}


def __getattr__(name: str) -> Any:
    """One of `__all__`, imported when it is first asked for: PyTorch takes seconds."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
