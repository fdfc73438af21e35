"""The harness. Authors of problems and optimizers import what they need from here."""

from suite.registry import register_optimizer, register_problem
from suite.seeds import Rng
from suite.types import Optimizer, Params, ParamSpec, Problem, Tensors

__all__ = [
    "Optimizer",
    "ParamSpec",
    "Params",
    "Problem",
    "Rng",
    "Tensors",
    "register_optimizer",
    "register_problem",
]
