"""Work of a cell that is kept piece by piece, so that an interrupted one goes on after the last."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from l2l.suite.files.places import PIECE
from l2l.suite.files.tensors import load_tensors, save_tensors

# A piece is the losses of some runs.
MAX_BYTES = 2**28

# Called with the name of a piece and what computes it; returns the piece.
Keep = Callable[[str, Callable[[], Tensor]], Tensor]

log = logging.getLogger("suite")


def anew(name: str, make: Callable[[], Tensor]) -> Tensor:
    """A `Keep` that keeps nothing."""
    return make()


class Pieces:
    """A `Keep` that has its pieces in a cell's folder, each whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """The piece of that name, computed if it is not there or damaged."""
        path = self._folder / f"{PIECE}{name}.safetensors"
        if path.exists():
            try:
                return load_tensors(path, MAX_BYTES)[0]["value"]
            except (SafetensorError, OSError, KeyError, ValueError) as error:
                log.warning("%s is damaged (%s) and computed again", path, error)
        value = make().cpu().contiguous()
        save_tensors(path, {"value": value}, {})
        return value


def remove_pieces(folder: Path) -> None:
    """Delete those of a cell that is done."""
    for path in folder.glob(f"{PIECE}*"):
        path.unlink()
