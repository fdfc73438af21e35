"""Batch normalization, 2×2 max pooling and ReLU in one, for float32 on CPUs."""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2l.suite.core.native_build import BuildError, load_library
from l2l.suite.core.native_calls import pointer, threads

SOURCE = Path(__file__).parent / "cpp" / "norm_pool.cpp"
# That of `torch.nn.functional.batch_norm`.
EPS = 1e-5

# Images [N, C, H, W] and the factor and offset [C] of batch normalization, to [N, C, H//2, W//2].
NormPool = Callable[[Tensor, Tensor, Tensor], Tensor]


def fused_norm_pool(like: Tensor) -> NormPool | None:
    """The fused function for images such as these; None where there is none.

    Batch normalization takes the statistics of the images. The function can be differentiated
    once, and then the gradient of its images takes their memory: they must be a result that
    nobody else reads, such as that of a convolution. A window's gradient goes to the first of
    several equal extremes. Values do not depend on the number of threads.
    """
    if like.device.type != "cpu" or like.dtype != torch.float32 or not _builds():
        return None
    return _NormPool.apply


@functools.cache
def _builds() -> bool:
    try:
        load_library(SOURCE)
    except BuildError as error:
        warnings.warn(
            f"the fused kernel of convolutional networks is not used ({error}); the same results "
            "come slower from plain PyTorch",
            stacklevel=3,
        )
        return False
    return True


class _NormPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
        z = z.contiguous(memory_format=torch.channels_last)
        factor, offset = factor.contiguous(), offset.contiguous()
        n, channels, height, width = z.shape
        out = torch.empty((n, channels, height // 2, width // 2), memory_format=torch.channels_last)
        extreme, place = torch.empty_like(out), torch.empty_like(out, dtype=torch.uint8)
        mean, inverse_std = torch.empty_like(factor, dtype=torch.float64), torch.empty_like(factor)
        arrays = (z, factor, offset, extreme, place, out, _sums(z), mean, inverse_std)
        load_library(SOURCE).norm_pool_forward(
            *map(pointer, arrays), ctypes.c_double(EPS), *_sizes(z), _threads()
        )
        ctx.save_for_backward(z, factor, extreme, place, mean, inverse_std)
        ctx.overwritten = False
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if ctx.overwritten:
            raise RuntimeError("the fused kernel's gradient was taken before, in the images' place")
        ctx.overwritten = True
        z, factor, *kept = ctx.saved_tensors
        d_out = d_out.contiguous(memory_format=torch.channels_last)
        d_factor, d_offset = torch.empty_like(factor), torch.empty_like(factor)
        arrays = (z, factor, *kept, d_out, _sums(z), d_factor, d_offset)
        load_library(SOURCE).norm_pool_backward(*map(pointer, arrays), *_sizes(z), _threads())
        return z, d_factor, d_offset


def _threads() -> ctypes.c_int:
    # As the convolutions before and after it. It is a small part of a step, in short pieces: with
    # more threads than these, each would wait for the slowest, on a busy machine for its turn.
    return threads(torch.get_num_threads())


def _sizes(z: Tensor) -> map[ctypes.c_long]:
    n, channels, height, width = z.shape
    return map(ctypes.c_long, (n, height, width, channels))


def _sums(z: Tensor) -> Tensor:
    """Memory for two sums of each image and channel."""
    return torch.empty(len(z), 2, z.shape[1], dtype=torch.float64)
