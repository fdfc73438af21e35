"""Content photos and style paintings for neural art, and what stands in where there are none."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from problems.data_root import DATA_ROOT, data_root
from problems.image_tensors import middle_square
from suite.errors import SuiteError
from suite.registry import nearest
from suite.seeds import Rng

# The folder of each split below `photos/`.
FOLDERS = {"train": "train", "validation": "val", "test": "test"}
KINDS = (".jpg", ".jpeg", ".png")

# Without photos: places of crops in scikit-learn's picture of a Chinese palace, by split, as
# horizontal ranges, so that no pixel is in two splits.
STAND_IN_RANGES = {"train": (0, 320), "validation": (320, 480), "test": (480, 640)}
STAND_INS = {"train": 200, "validation": 8, "test": 32}
STAND_IN_SIDE = 128


def pictures_notice() -> str:
    """What a reader must know about the pictures; empty if they are the user's."""
    stand_ins = [] if _folder("photos") else ["parts of its picture of a palace as photos"]
    stand_ins += [] if _folder("styles") else ["its picture of a flower as the style"]
    return f"made with scikit-learn's sample pictures: {', '.join(stand_ins)}" * bool(stand_ins)


def photo(split: str, number: int, size: int) -> Tensor:
    """A content photo: uint8 [3, size, size].

    The photos of a split are numbered in a fixed random order, over and over again: equal numbers
    are equal photos, and any len(split) numbers in a row are all of them.

    Args:
        split: ``train``, ``validation`` (folder ``val``) or ``test``; all else counts as ``train``.
        number: from 0.
        size: height and width that its middle square is resized to.

    Raises:
        SuiteError: the folder of photos lacks that split, or the file is no picture.
    """
    split = split if split in FOLDERS else "train"
    folder = _folder("photos")
    if folder is None:
        return middle_square(_stand_in_photo(split, number % STAND_INS[split]), size)
    files = _files(folder / FOLDERS[split])
    return middle_square(_open(files[_order(split, len(files))[number % len(files)]]), size)


@functools.cache
def style(name: str, size: int) -> Tensor:
    """The painting `name` (its file's name without ending), as `photo`: uint8 [3, size, size].

    Raises:
        SuiteError: the folder of styles has none of that name, or the file is no picture.
    """
    folder = _folder("styles")
    if folder is None:
        return middle_square(_sample("flower.jpg"), size)
    files = {path.stem: path for path in _files(folder)}
    if name not in files:
        raise SuiteError(f"there is no style {name!r} in {folder}: {nearest(name, list(files))}")
    return middle_square(_open(files[name]), size)


def _folder(name: str) -> Path | None:
    """A folder of the data root; None if it is not there, and stand-ins are to be taken."""
    folder = data_root() / name
    return folder if folder.is_dir() else None


@functools.cache
def _files(folder: Path) -> tuple[Path, ...]:
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in KINDS)
    if not found:
        raise SuiteError(
            f"there are no pictures in {folder}: put JPEG or PNG files there, "
            f"or set {DATA_ROOT} to where they are (docs/neural-art.md)"
        )
    return tuple(found)


@functools.cache
def _order(split: str, count: int) -> list[int]:
    """A fixed order: the first few photos of a sorted folder may all be of one class."""
    order: list[int] = Rng(0, f"{split}/photos").uniform(count).argsort().tolist()
    return order


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise SuiteError(
            f"{path} cannot be read as a picture ({type(error).__name__}): replace or remove it"
        ) from error


@functools.cache
def _sample(name: str) -> Image.Image:
    datasets = importlib.import_module("sklearn.datasets")
    return Image.fromarray(datasets.load_sample_image(name))


def _stand_in_photo(split: str, number: int) -> Image.Image:
    image = _sample("china.jpg")
    first, end = STAND_IN_RANGES[split]
    across, down = Rng(0, f"{split}/stand-in", number).uniform(2).tolist()
    left = first + int(across * (end - first - STAND_IN_SIDE))
    top = int(down * (image.height - STAND_IN_SIDE))
    return image.crop((left, top, left + STAND_IN_SIDE, top + STAND_IN_SIDE))
