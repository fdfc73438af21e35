"""Where tensors live."""

from __future__ import annotations

import torch

from suite.errors import SuiteError


def find_device(name: str) -> str:
    """``cpu`` or ``cuda``, for ``auto`` whichever is the better one here.

    Raises:
        SuiteError: an unknown name, or no GPU where one is asked for.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise SuiteError(f"--device is {name!r}, but must be 'auto', 'cpu' or 'cuda'")
    if name == "cuda" and not torch.cuda.is_available():
        raise SuiteError("--device cuda: PyTorch finds no GPU here, use --device cpu or auto")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
