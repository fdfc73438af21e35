"""The global random generators: authors' code shall not draw from them, and if it does, repeats."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

SEED = 0


@contextmanager
def seeded_generators(seed: int = SEED) -> Iterator[None]:
    """Python's, NumPy's and PyTorch's, seeded for the block and left as they were before it.

    Those of GPUs are seeded too, and stay so: to ask for their state would start CUDA.
    """
    python, of_numpy, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    # `torch.manual_seed` notes who called it, which takes longer than all else here.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)


@contextmanager
def noticed_draws() -> Iterator[list[str]]:
    """A list that after the block has something in it if anything random was drawn within.

    From one of the three, or from the system, as generators without a seed of their own do.
    """
    drawn: list[str] = []
    before, urandom = _states(), os.urandom

    def noticed(size: int, /) -> bytes:
        drawn.append("the system")
        return urandom(size)

    os.urandom = random._urandom = noticed  # type: ignore[attr-defined]
    try:
        yield drawn
    finally:
        os.urandom = random._urandom = urandom  # type: ignore[attr-defined]
        if _states() != before:
            drawn.append("a global generator")


def _states() -> tuple[object, ...]:
    _, keys, *place = np.random.get_state(legacy=True)
    return random.getstate(), tuple(keys), *place, tuple(torch.get_rng_state().tolist())
