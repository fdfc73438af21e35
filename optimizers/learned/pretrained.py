"""Trained LSTM optimizers by name or path, for use outside the suite."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from l2l.optimizers.learned.checkpoint import load_optimizer
from l2l.optimizers.learned.lstm import LSTM
from l2l.suite.core.digests import file_digest
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.files.places import CHECKPOINTS


class Pretrained:
    """The coordinatewise LSTM of a checkpoint. The file is read here and never again.

    Args:
        checkpoint: a name in `results/checkpoints`, such as ``mnist-lstm``, or a file's path.

    Raises:
        SuiteError: there is no such checkpoint, it is damaged, or it holds another optimizer.
    """

    def __init__(self, checkpoint: str) -> None:
        path = find_checkpoint(checkpoint)
        loaded = load_optimizer(path)
        if not isinstance(loaded, LSTM):
            reason = (
                "has networks for the groups of one problem's parameters"
                if loaded.coordinatewise
                else "lets coordinates exchange information"
            )
            raise SuiteError(
                f"checkpoint {checkpoint} is of type {type(loaded).__name__}, which {reason}: "
                "LearnedOptimizer needs a coordinatewise LSTM, such as 'mnist-lstm'"
            )
        self.digest = file_digest(path)
        self.layout = loaded.layout
        self._copies = {(loaded.phi.device, loaded.phi.dtype): loaded}

    def on(self, device: torch.device, dtype: torch.dtype) -> LSTM:
        """The optimizer with its weights on this device, in this type."""
        if (device, dtype) not in self._copies:
            loaded = next(iter(self._copies.values()))
            weights = loaded.phi.to(device, dtype)
            self._copies[device, dtype] = loaded.with_weights(weights)
        return self._copies[device, dtype]


def find_checkpoint(checkpoint: str) -> Path:
    """The file of a checkpoint, given by its name in `results/checkpoints` or by its path.

    What has a folder or a suffix is a path; ``~`` at its beginning is the home folder.

    Raises:
        SuiteError: there is no checkpoint of this name.
    """
    path = Path(os.path.expanduser(checkpoint))
    if path.suffix or len(path.parts) > 1:
        return path
    shipped = CHECKPOINTS / f"{checkpoint}.safetensors"
    if not shipped.is_file():
        known = sorted(each.stem for each in CHECKPOINTS.glob("*.safetensors"))
        raise SuiteError(
            f"there is no checkpoint {checkpoint!r} in {CHECKPOINTS}: {nearest(checkpoint, known)}"
        )
    return shipped
