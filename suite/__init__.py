"""The harness. Authors of problems, optimizers and estimators import what they need from here."""

from suite.core.estimator import Estimate, Estimator, MetaLoss
from suite.core.registry import register_estimator, register_optimizer, register_problem
from suite.core.seeds import Rng
from suite.core.types import Optimizer, Params, ParamSpec, Problem, Tensors

__all__ = [
    "Estimate",
    "Estimator",
    "MetaLoss",
    "Optimizer",
    "ParamSpec",
    "Params",
    "Problem",
    "Rng",
    "Tensors",
    "register_estimator",
    "register_optimizer",
    "register_problem",
]
