"""What calls of C++ kernels share: threads and pointers."""

from __future__ import annotations

import ctypes
import os
from contextvars import ContextVar

import torch
from torch import Tensor

# Threads of a kernel, whose results do not depend on them; as many as PyTorch has where None.
kernel_threads: ContextVar[int | None] = ContextVar("kernel_threads", default=None)
# Whether OpenMP has started threads for a kernel, and whether a fork has left them behind.
_pool_started = False
_pool_lost = False


def threads(wanted: int | None = None) -> ctypes.c_int:
    """How many threads a kernel takes: `wanted`, or else as many as it may."""
    global _pool_started
    count = 1 if _pool_lost else wanted or kernel_threads.get() or torch.get_num_threads()
    _pool_started |= count > 1
    return ctypes.c_int(count)


def _after_fork() -> None:
    """One thread in a forked process, whose OpenMP would wait for ever for its parent's others.

    PyTorch shares the pool, so its own operations would too.
    """
    global _pool_lost
    if _pool_started:
        _pool_lost = True
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_after_fork)


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """The address of a tensor's first element, or null."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
