"""Data sets that installed packages bring along: scikit-learn's tables, and Python's manual."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from l2l.suite.core.digests import tensors_digest
from l2l.suite.core.errors import DataMissing

Floats = NDArray[np.float64]

# Where a data set has no splits of its own, every fifth row is held out.
HELD_OUT = 5
# The brightest of scikit-learn's digits.
BRIGHTEST = 16

# scikit-learn's name of each table, its rows and columns, and what is predicted.
TABLES = {
    "breast-cancer": "load_breast_cancer",  # 569 × 30, benign or malignant
    "diabetes": "load_diabetes",  # 442 × 10, how far the disease has come after a year
    "digits": "load_digits",  # 1,797 × 64, which of ten digits
    "wine": "load_wine",  # 178 × 13, which of three growers
}
# Symbols of texts; capitals count as small letters, and the first stands for all that is not here.
ALPHABET = "?\n abcdefghijklmnopqrstuvwxyz.,\"'()_=-"
# Characters of Python's manual: for training, and those after them.
TEXT = {True: 80_000, False: 4_096}


@dataclass(frozen=True)
class Examples:
    """Examples to learn from, or those held out.

    Args:
        inputs: float32 [N, …].
        targets: float32 [N, outputs]: one-hot classes, or standardised numbers.
        classes: whether they are classes.
    """

    inputs: Tensor
    targets: Tensor
    classes: bool = True

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of inputs and targets; see `Problem.fingerprints`."""
        return tensors_digest({"inputs": self.inputs, "targets": self.targets})


@functools.cache
def table(name: str, train: bool = True) -> Examples:
    """A split of one of scikit-learn's `TABLES`: four fifths of each class to train, or the rest.

    Columns, and targets that are numbers, have mean 0 and deviation 1 in the training split. The
    pixels of digits are from 0 to 1 instead.
    """
    found = getattr(importlib.import_module("sklearn.datasets"), TABLES[name])()
    # By class, or by size, of which both splits then have as much.
    order = np.argsort(found.target, kind="stable")
    held_out = np.arange(len(order)) % HELD_OUT == 0
    x, y = found.data[order], found.target[order]
    classes = hasattr(found, "target_names")
    x = x / BRIGHTEST if name == "digits" else _standardised(x, ~held_out)
    y = np.eye(y.max() + 1)[y] if classes else _standardised(y[:, np.newaxis], ~held_out)
    kept = ~held_out if train else held_out
    inputs, targets = (torch.from_numpy(each[kept].astype(np.float32)) for each in (x, y))
    return Examples(inputs, targets, classes)


@functools.cache
def text(train: bool = True) -> Tensor:
    """Part of the manual that Python's `help` shows (module `pydoc_data.topics`), int64 [N].

    Numbers are places in `ALPHABET`. Topics come in alphabetical order, with the layout of their
    lines. Each minor version of Python has a manual of its own.

    Raises:
        DataMissing: Python is installed without it.
    """
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise DataMissing(
            "this Python lacks its manual (module pydoc_data.topics): use one that is installed "
            "with the whole standard library"
        ) from error
    manual = "\n".join(topics[name] for name in sorted(topics)).lower()
    part = manual[: TEXT[True]] if train else manual[TEXT[True] : sum(TEXT.values())]
    return torch.tensor([max(0, ALPHABET.find(symbol)) for symbol in part])


def text_fingerprint() -> str:
    """A digest of both splits of `text`; see `Problem.fingerprints`."""
    return tensors_digest({"train": text(True), "held out": text(False)})


def _standardised(values: Floats, reference: NDArray[np.bool_]) -> Floats:
    """Columns [N, C] with mean 0 and deviation 1 over the rows of `reference`, bool [N]."""
    known = values[reference]
    standardised: Floats = (values - known.mean(0)) / known.std(0)
    return standardised
