"""Trained optimizers by name or path, for use outside the suite."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.celo2 import Celo2Base
from l2l.optimizers.learned.lstm import LSTM
from l2l.optimizers.learned.published import load_any
from l2l.optimizers.learned.rnnprop import RNNProp
from l2l.optimizers.learned.small_fc_lopt import SmallFCLopt
from l2l.suite.core.digests import file_digest
from l2l.suite.core.errors import SuiteError, WeightsMissing
from l2l.suite.core.nearest import nearest
from l2l.suite.files.places import CHECKPOINTS

# The variable with the folder of weights that others published.
WEIGHTS = "L2L_WEIGHTS"
# Those that move each tensor by what they are told of it alone.
BY_TENSOR = (LSTM, RNNProp, SmallFCLopt, Celo2Base)


class Pretrained:
    """The learned optimizer of a checkpoint. The file is read here and never again.

    Args:
        checkpoint: a name in `results/checkpoints`, such as ``mnist-lstm``, or a file's path, of
            the suite or of weights that others published (`published`).

    Raises:
        SuiteError: there is no such checkpoint, or it is damaged; `WeightsMissing` if it lies in
            ``$L2L_WEIGHTS``.
    """

    def __init__(self, checkpoint: str) -> None:
        path = find_checkpoint(checkpoint)
        self.optimizer = load_any(path)
        self.digest = file_digest(path)
        self._copies = {(self.optimizer.phi.device, self.optimizer.phi.dtype): self.optimizer}

    def on(self, device: torch.device, dtype: torch.dtype) -> Learned:
        """The optimizer with its weights on this device, in this type."""
        if (device, dtype) not in self._copies:
            weights = self.optimizer.phi.to(device, dtype)
            self._copies[device, dtype] = self.optimizer.with_weights(weights)
        return self._copies[device, dtype]


def by_tensor(checkpoint: str) -> Pretrained:
    """A checkpoint whose optimizer moves each tensor by itself, whatever the others.

    Raises:
        SuiteError: as `Pretrained`, or the optimizer is another.
    """
    found = Pretrained(checkpoint)
    if not isinstance(found.optimizer, BY_TENSOR):
        reason = (
            "has networks for the groups of one problem's parameters"
            if found.optimizer.coordinatewise
            else "lets coordinates of all parameters exchange information"
        )
        kinds = ", ".join(each.__name__ for each in BY_TENSOR)
        raise SuiteError(
            f"checkpoint {checkpoint} is of type {type(found.optimizer).__name__}, which {reason}: "
            f"LearnedOptimizer needs one of {kinds}, such as 'mnist-lstm'"
        )
    return found


def find_checkpoint(checkpoint: str) -> Path:
    """The file of a checkpoint, given by its name in `results/checkpoints` or by its path.

    What has a folder or a suffix is a path; ``~`` at its beginning is the home folder, and
    ``$L2L_WEIGHTS`` the folder of weights that others published.

    Raises:
        SuiteError: there is no checkpoint of this name.
        WeightsMissing: it should lie in ``$L2L_WEIGHTS``, and does not.
    """
    if checkpoint.startswith(f"${WEIGHTS}/"):
        return _others(checkpoint)
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


def _others(checkpoint: str) -> Path:
    folder = os.environ.get(WEIGHTS, "")
    path = Path(os.path.expanduser(folder), checkpoint.partition("/")[2])
    if not folder or not path.is_file():
        reason = "there is no such file" if folder else "the variable is not set"
        raise WeightsMissing(
            f"{checkpoint}: {reason}; docs/learned-optimizers.md says where others publish it"
        )
    return path
