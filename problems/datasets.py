"""Image data sets: torchvision's by name, and what to do when they are not there."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from types import ModuleType
from typing import Any

import numpy as np
import torch

from l2l.problems.data_root import ARCHIVES, DATA_ROOT, data_root, not_found, stand_in
from l2l.problems.downloads import downloading, why_no_download
from l2l.problems.image_tensors import HELD_OUT, Images, as_images
from l2l.problems.sample_images import SAMPLE_IMAGES
from l2l.suite.core.errors import DataMissing, SuiteError
from l2l.suite.core.nearest import nearest

# What torchvision's data sets call their splits, most usual first.
SPLITS = {True: ("train", "trainval", "train-standard"), False: ("test", "val", "valid")}
# Torchvision's advice to whoever calls it, which nobody does who reads our sentence.
ADVICE = re.compile(r"[\s.;,]*((you can|please)\s+)?use download=True.*", re.IGNORECASE)


@functools.cache
def load_images(name: str, train: bool = True) -> Images:
    """A split of the image data set that torchvision calls `name`, in any case (``mnist``).

    Looked for in `data_root()`, then downloaded there unless ``$L2L_OFFLINE`` is set. EMNIST's
    parts have names of their own (``emnist-letters``; ``emnist`` is the balanced one). Where there
    are no splits, every fifth image is for testing. MNIST and CIFAR-10 fall back on samples, which
    say so in `notice`, and on the terminal why.

    Raises:
        DataMissing: its files are neither there nor to be had, and there is no sample.
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
    if "root" not in inspect.signature(make).parameters:
        raise SuiteError(f"data set {name!r} is not a set of images in files: name another one")
    root = data_root()
    try:
        return _load(make, train, parts.get(name.lower()))
    except Exception as error:
        # Torchvision raises whatever a damaged file leads to, assertions among it.
        where = f"in torchvision's layout, or set {DATA_ROOT} to where they are"
        if _has_files(make):
            raise SuiteError(
                f"data set {name!r} cannot be read from {root} ({_reason(error)}): "
                f"replace what is damaged there {where}"
            ) from error
        absent = not_found(f"data set {name!r}", _places(make))
        missing = f"{absent}, and {_why_not_downloaded(make, error)}"
        if wanted not in SAMPLE_IMAGES:
            raise DataMissing(f"{missing}: put its files there {where}") from error
        sample = SAMPLE_IMAGES[wanted]
        stand_in(missing, sample.what)
        return sample.load(train)


def _reason(error: Exception) -> str:
    """The first line of what torchvision says."""
    return ADVICE.sub("", (str(error) or type(error).__name__).splitlines()[0]).rstrip(":")


def _why_not_downloaded(make: Any, error: Exception) -> str:
    if "download" not in inspect.signature(make).parameters:
        return "torchvision cannot download it"
    return why_no_download() or f"its download failed ({_reason(error)})"


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
        if why_no_download():
            raise
        with downloading():
            return make(data_root(), **options, download=True)


def _places(make: Any) -> set[str]:
    """Files and folders of the data root that a data set may lie in."""
    told = (getattr(make, name, None) for name in ("base_folder", "filename"))
    single = {entry[1] for entry in getattr(make, "split_list", {}).values()}
    names = {name for name in told if isinstance(name, str)}
    return {make.__name__, make.__name__.lower()} | names | single


def _has_files(make: Any) -> bool:
    """Whether anything of a data set is there, archives that a download left aside.

    A download that failed leaves MNIST's folder without its files.
    """
    places = [data_root() / name for name in _places(make)]
    inside = (path for place in places for path in place.rglob("*"))
    return any(path.is_file() and path.suffix not in ARCHIVES for path in (*places, *inside))
