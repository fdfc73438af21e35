"""Content photos and style paintings for neural art: the user's, or the project's samples."""

from __future__ import annotations

import functools
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from l2l.problems.data_root import DATA_ROOT, SAMPLES, data_root, not_found, stand_in
from l2l.problems.image_tensors import SIDE, middle_square
from l2l.suite.core.digests import current_digest, digest
from l2l.suite.core.errors import DataMissing, SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.core.seeds import Rng

# The folder of each split below `photos/`.
FOLDERS = {"train": "train", "validation": "val", "test": "test"}
KINDS = (".jpg", ".jpeg", ".png")

# Without photos: so many squares of the project's few, by split, at random places and of random
# sides, from that of the paper's larger images to most of a photo.
CROPS = {"train": 600, "validation": 20, "test": 100}
CROP_SIDES = (128, 224)


def pictures_samples(style_name: str) -> list[str]:
    """What stands in for the user's pictures, told once on the terminal; empty if nothing does.

    Raises:
        DataMissing: a split has no photos, or there is no such style.
        SuiteError: a picture is damaged.
    """
    for split in FOLDERS:
        photo(split, 0, SIDE)
    style(style_name, SIDE)
    found = []
    if _photos() is None:
        count = len(list((SAMPLES / "photos").glob("*/*")))
        found.append(f"crops of {count} photos")
        stand_in(not_found("photos", ["photos"]), found[-1])
    if style_name not in _paintings(data_root() / "styles"):
        found.append(f"the painting {style_name}")
        places = [f"styles/{style_name}{kind}" for kind in KINDS]
        stand_in(not_found(f"style {style_name!r}", places), found[-1])
    return found


def pictures_fingerprints(style_name: str) -> dict[str, str]:
    """Digests of all photos, by split and in order, and of a painting; see `Problem.fingerprints`.

    Raises:
        DataMissing: there is no such style.
        OSError: a file cannot be read.
    """
    folder = _photos() or SAMPLES / "photos"
    photos = {
        split: [current_digest(each) for each in _files(folder / name)]
        for split, name in FOLDERS.items()
    }
    return {"photos": digest(photos), "style": current_digest(_painting(style_name))}


def photo(split: str, number: int, size: int) -> Tensor:
    """A content photo: uint8 [3, size, size].

    The photos of a split are numbered in a fixed random order, over and over again: equal numbers
    are equal photos, and any len(split) numbers in a row are all of them.

    Args:
        split: ``train``, ``validation`` (folder ``val``) or ``test``; all else counts as ``train``.
        number: from 0.
        size: height and width that its middle square is resized to.

    Raises:
        DataMissing: the folder of photos lacks that split.
        SuiteError: the file is no picture.
    """
    split = split if split in FOLDERS else "train"
    folder = _photos()
    if folder is None:
        return middle_square(_crop(split, number % CROPS[split]), size)
    files = _files(folder / FOLDERS[split])
    if not files:
        raise DataMissing(
            f"there are no pictures in {folder / FOLDERS[split]}: put JPEG or PNG files there, "
            f"or set {DATA_ROOT} to where they are (docs/neural-art.md)"
        )
    return middle_square(_open(files[_order(split, len(files))[number % len(files)]]), size)


@functools.cache
def style(name: str, size: int) -> Tensor:
    """The painting `name` (its file's name without ending), as `photo`: uint8 [3, size, size].

    Raises:
        DataMissing: there is none of that name, neither in the folder of styles nor in the project.
        SuiteError: the file is no picture.
    """
    return middle_square(_open(_painting(name)), size)


def _painting(name: str) -> Path:
    folder = data_root() / "styles"
    known = _paintings(SAMPLES / "styles") | _paintings(folder)
    if name not in known:
        raise DataMissing(
            f"there is no style {name!r} in {folder}: put its picture there, or name another "
            f"({nearest(name, list(known))})"
        )
    return known[name]


def _photos() -> Path | None:
    """The user's folder of photos; None if there is no photo in it, and samples are to be taken."""
    folder = data_root() / "photos"
    return folder if any(_files(folder / split) for split in FOLDERS.values()) else None


def _paintings(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in _files(folder)}


@functools.cache
def _files(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.glob("*") if path.suffix.lower() in KINDS))


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


def _crop(split: str, number: int) -> Image.Image:
    """A square of one of the project's photos of the split, which take turns."""
    files = _files(SAMPLES / "photos" / FOLDERS[split])
    image = _open(files[number % len(files)])
    large, across, down = Rng(0, f"{split}/crops", number).uniform(3).tolist()
    side = CROP_SIDES[0] + int(large * (CROP_SIDES[1] - CROP_SIDES[0]))
    left, top = int(across * (image.width - side)), int(down * (image.height - side))
    return image.crop((left, top, left + side, top + side))
