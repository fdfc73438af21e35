"""How many runs to take side by side, from a budget of memory."""

from __future__ import annotations

import os

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from l2l.suite.core.device import is_one_by_one
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.generators import seeded_generators
from l2l.suite.core.types import Optimizer, Params, ParamSpec, Problem
from l2l.suite.inner.objective import Objective, param_spec

BUDGET = "L2L_MEMORY_MIB"
# Bytes of a row and parameter beside the optimizer's state: θ, gradients, updates, and what the
# optimizee keeps for its gradient.
OTHERS = 32
# On a CPU a larger batch is not faster.
CPU_BYTES = 96 * 2**20
# Runs on a problem whose losses are computed one after the other gain nothing from being many, and
# what is done of them is kept the sooner.
ONE_BY_ONE = 4


def memory_budget(device: torch.device) -> int:
    """Bytes that one batch of runs may take: ``$L2L_MEMORY_MIB``, or a part of what is there.

    Raises:
        SuiteError: the variable is not a positive number.
    """
    given = os.environ.get(BUDGET)
    if given:
        if not given.isdecimal() or int(given) < 1:
            raise SuiteError(f"{BUDGET} must be a whole number of MiB from 1, not {given!r}")
        return int(given) * 2**20
    if device.type == "cuda":
        # What is free at the moment may change it only where others leave next to nothing: a run
        # that is resumed looks for groups of the size that it had.
        free, total = torch.cuda.mem_get_info(device)
        return min(total // 8, free // 2)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total // 8, CPU_BYTES)


def state_bytes(optimizer: Optimizer, spec: ParamSpec) -> int:
    """Bytes that one run's state takes after its first update, when all of it is there."""
    ones = torch.ones(1, spec.size)
    # A run that follows draws what it would draw without this.
    with torch.no_grad(), seeded_generators():
        _, state = optimizer.update(ones, optimizer.init(spec, 1), Params(ones.clone(), spec))
    # Objects of other libraries in the state say for themselves how large they are.
    return sum(int(getattr(each, "nbytes", 0)) for each in tree_leaves(state))


def rows_at_once(spec: ParamSpec, optimizer: Optimizer, device: torch.device) -> int:
    """How many rows of the optimizer's runs fit the budget; at least one.

    Args:
        spec: the layout of one row's parameters.
        optimizer: whose state, and the next one beside it, each row keeps.
        device: where they live.
    """
    with device:
        leaves = tree_leaves(optimizer.init(spec, 1))
        state = sum(x.nbytes for x in leaves if isinstance(x, Tensor))
        # Objects of other libraries keep nothing before their first update.
        if any(hasattr(x, "nbytes") and not isinstance(x, Tensor) for x in leaves):
            state = state_bytes(optimizer, spec)
    return max(1, memory_budget(device) // (2 * state + OTHERS * spec.size))


def runs_at_once(problem: Problem, optimizer: Optimizer, device: torch.device) -> int:
    """How many runs on a problem to take side by side; as `rows_at_once`."""
    rows = rows_at_once(param_spec(problem), optimizer, device)
    if is_one_by_one(problem, device):
        return min(rows, ONE_BY_ONE)
    if device.type == "cuda":
        rows = min(rows, max(1, memory_budget(device) // _peak_of_a_gradient(problem, device)))
    return rows


def _peak_of_a_gradient(problem: Problem, device: torch.device) -> int:
    """Bytes of GPU memory that one run's loss and gradient take while they are computed."""
    objective = Objective(problem, [0], "train", 0, device=device)
    theta = objective.start()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    objective.value_and_grad(theta, 0)
    return max(1, torch.cuda.max_memory_allocated(device) - before)
