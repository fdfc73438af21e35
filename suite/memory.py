"""How many runs to take side by side, from a budget of memory."""

from __future__ import annotations

import os

import torch

from suite.errors import SuiteError

BUDGET = "L2L_MEMORY_MIB"
# A parameter of one row costs its gradient, its update, the optimizer's state (80 numbers for a
# 2×20 LSTM, and as many for the next one) and the optimizee's activations.
BYTES_PER_PARAMETER = 1024


def memory_budget(device: torch.device) -> int:
    """Bytes that one batch of runs may take: ``$L2L_MEMORY_MIB``, or a part of what is there.

    Raises:
        SuiteError: the variable is not a positive number.
    """
    given = os.environ.get(BUDGET)
    if given:
        if not given.isdigit() or int(given) < 1:
            raise SuiteError(f"{BUDGET} must be a whole number of MiB from 1, not {given!r}")
        return int(given) * 2**20
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 4
    # On a CPU a larger batch is not faster: one that stays near the caches is.
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total // 8, 2**29)


def rows_at_once(parameters: int, device: torch.device) -> int:
    """How many rows of P parameters fit the budget; at least one."""
    return max(1, memory_budget(device) // (BYTES_PER_PARAMETER * parameters))
