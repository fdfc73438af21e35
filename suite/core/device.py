"""Where tensors live."""

from __future__ import annotations

import torch
from torch import Tensor

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.types import Problem


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there; a GPU is not waited for."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        # Only from pinned memory does a copy go on beside what the host does next.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def is_one_by_one(problem: Problem, device: torch.device) -> bool:
    """Whether runs on a problem are computed one after the other there."""
    return problem.one_by_one is True or problem.one_by_one == device.type


def find_device(name: str) -> str:
    """``cpu`` or ``cuda``, for ``auto`` whichever is the better one here.

    Raises:
        SuiteError: no GPU where one is asked for.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise SuiteError("--device cuda: PyTorch finds no GPU here, use --device cpu or auto")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
