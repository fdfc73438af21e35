"""Pictures as a results folder keeps them: those that the report shows, as JPEG."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from l2l.suite.files.atomic import write_bytes_atomic
from l2l.suite.files.tensors import as_bytes
from l2l.suite.inner.pictures import Pictures, read_pictures
from l2l.suite.plan.definitions import PanelInfo
from l2l.suite.report.figures.svg import jpeg_of

# Of the file, and the pixels of one picture.
MAX_BYTES, MAX_PIXELS = 2**26, 2**22
# What a picture that was read has beside its pixels: compressed again, it would lose a little.
COMPRESSED = "_compressed"


def shown_pictures(panel: PanelInfo, pictures: Pictures) -> Pictures:
    """What the report shows of one panel's pictures, by (optimizer, instance, step or source).

    These are the first optimizer's sources, what every run ended with, and the first instance's
    way there.
    """
    first = next((name for name in panel.optimizers if any(k[0] == name for k in pictures)), None)
    on_its_way = min((int(instance) for _, instance, _ in pictures), default=0)

    def is_shown(optimizer: str | int, instance: str | int, what: str | int) -> bool:
        if isinstance(what, str):
            return optimizer == first
        return what == panel.steps or instance == on_its_way

    return {key: picture for key, picture in pictures.items() if is_shown(*key)}


def store_pictures(path: Path, pictures: Pictures) -> None:
    """Write them as JPEG into a safetensors file; raises as `write_bytes_atomic` does."""
    write_bytes_atomic(
        path, as_bytes({json.dumps(key): _jpeg(picture) for key, picture in pictures.items()})
    )


def load_stored_pictures(path: Path) -> Pictures:
    """Read what `store_pictures` wrote.

    Raises:
        SuiteError: as `read_pictures`.
    """
    return read_pictures(path, MAX_BYTES, _image)


def _jpeg(picture: Tensor) -> Tensor:
    as_read = getattr(picture, COMPRESSED, None)
    if isinstance(as_read, Tensor):
        return as_read
    image = Image.fromarray(picture.permute(1, 2, 0).cpu().contiguous().numpy())
    return torch.frombuffer(bytearray(jpeg_of(image)), dtype=torch.uint8)


def _image(data: Tensor) -> Tensor:
    if data.dtype != torch.uint8 or data.ndim != 1:
        raise ValueError(f"{data.dtype} {list(data.shape)} is not the bytes of a picture")
    image = Image.open(io.BytesIO(data.numpy().tobytes()), formats=["JPEG"])
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"a picture has {image.width}×{image.height} pixels, which is too many")
    picture = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    setattr(picture, COMPRESSED, data)
    return picture
