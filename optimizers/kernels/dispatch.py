"""Which implementation of the LSTM serves a tensor: fused where there is one, else `reference`."""

from __future__ import annotations

import functools
import warnings
from types import ModuleType

import torch
from torch import Tensor

from optimizers.kernels import cpu, reference
from optimizers.kernels.build import BuildError, lstm_library
from optimizers.kernels.shape import LSTMShape


@functools.cache
def _fused_cpu(shape: LSTMShape) -> bool:
    try:
        lstm_library(shape.layers, shape.hidden, shape.inputs)
    except BuildError as error:
        warnings.warn(
            f"the fused LSTM kernel is not used ({error}); the same results come slower "
            "from plain PyTorch",
            stacklevel=3,
        )
        return False
    return True


def kernel_for(shape: LSTMShape, like: Tensor) -> ModuleType:
    """The module whose `step` and `gradient` serve tensors such as `like`."""
    if torch.is_grad_enabled() and like.requires_grad:
        return reference  # the one that leaves a graph
    if like.device.type == "cpu" and like.dtype == torch.float32 and _fused_cpu(shape):
        return cpu
    return reference
