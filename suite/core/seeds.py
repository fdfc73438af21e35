"""Counter-based randomness: every draw is a function of (seed, stream, instance, step).

So instance 7 is the same function with the same minibatches for every optimizer, at every batch
size, on every device and after a resume.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray
from torch import Tensor


class _Key(ISeedSequence):
    """A key of Philox, in the place of what it would make one from.

    Given as ``key=``, it is the same key, but NumPy first asks the system for random bytes, which
    takes longer than all else here.
    """

    def __init__(self, key: NDArray[np.uint64]) -> None:
        self._key = key

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> NDArray[np.uint64]:
        return self._key


@functools.lru_cache(maxsize=4096, typed=True)  # every step of a run has the same one
def _key(seed: int, stream: str, instance: int) -> _Key:
    digest = hashlib.blake2b(f"{seed}/{stream}/{instance}".encode(), digest_size=16).digest()
    return _Key(np.frombuffer(digest, dtype=np.uint64))


class Rng:
    """Draws for one place in a run, made on the CPU so that every device sees the same numbers.

    Args:
        seed: the experiment's seed.
        stream: what the draws are for, such as ``"test/init"``.
        instance: which instance.
        step: which step of the run.

    `split` (``train``, ``validation`` or ``test`` in a run) and `instance` are there for problems
    that take instances from a finite set, such as photos; with `seed`, they make another stream.
    """

    def __init__(self, seed: int, stream: str, instance: int = 0, step: int = 0) -> None:
        self.seed = seed
        self.split = stream.partition("/")[0]
        self.instance = instance
        # The upper half of Philox's counter is the step, so steps never overlap.
        counter = [0, 0, step, 0]
        key: Any = _key(seed, stream, instance)
        philox = np.random.Philox(key, counter=counter)
        self._generator = np.random.Generator(philox)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, float32."""
        return torch.from_numpy(np.asarray(self._generator.standard_normal(shape, np.float32)))

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on [0, 1), float32."""
        return torch.from_numpy(np.asarray(self._generator.random(shape, np.float32)))

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform on 0 … high − 1, int64."""
        return torch.from_numpy(np.asarray(self._generator.integers(high, size=shape)))
