"""Images as tensors: whole data sets and single pictures."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from l2l import Rng, Tensors
from l2l.suite.core.device import to_device
from l2l.suite.core.digests import tensors_digest

# Images that come as files of any size are brought to CIFAR's.
SIDE = 32
# Where nothing else tells training images from those for testing, every fifth is for testing.
HELD_OUT = 5


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
    # Pixels and labels on other devices, where they are copied once.
    _copies: dict[torch.device, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of pixels and labels; see `Problem.fingerprints`."""
        return tensors_digest({"pixels": self.pixels, "labels": self.labels})

    def minibatch(self, rng: Rng, size: int) -> Tensors:
        """Images `x` [size, C, H, W] from 0 to 1 and labels `y` [size], drawn with replacement."""
        many = self.minibatches([rng], size, self.pixels.device)
        return {name: values[0] for name, values in many.items()}

    def minibatches(self, rngs: Sequence[Rng], size: int, device: torch.device) -> Tensors:
        """The minibatches of n draws, on a device: `x` [n, size, C, H, W] and `y` [n, size]."""
        shape = (len(rngs), size, *self.pixels.shape[1:])
        if device.type == "cpu":
            # NumPy's memory, and before all else, takes the place of the last minibatch. PyTorch's
            # asks glibc for more than it leaves, for the sake of alignment, and each comes to lie
            # elsewhere.
            x = torch.from_numpy(np.empty(shape, np.float32))
        else:
            x = torch.empty(shape, device=device)
        pixels, labels = self._on(device)
        rows = torch.stack([rng.integers(len(self.labels), size) for rng in rngs])
        rows = to_device(rows.flatten(), device)
        x.copy_(pixels.index_select(0, rows).view(shape)).div_(255)
        return {"x": x, "y": labels.index_select(0, rows).view(shape[:2])}

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device.type == "cpu":
            return self.pixels, self.labels
        if device not in self._copies:
            self._copies[device] = (self.pixels.to(device), self.labels.to(device))
        return self._copies[device]


def as_images(dataset: Any, rows: Sequence[int] | None = None) -> Images:
    """All of one of torchvision's data sets, or these `rows` of it.

    Those that hold their images in one array keep them as they are; of all others, whose images
    are files of any size, each one's middle square is resized to `SIDE`.

    Raises:
        ValueError: it is not a set of labelled 8-bit images.
    """
    if hasattr(dataset, "data"):
        images = _from_array(dataset)
        if rows is None:
            return images
        chosen = torch.as_tensor(rows)
        return Images(images.pixels[chosen], images.labels[chosen], images.classes)
    labels, pixels = [], []
    for row in range(len(dataset)) if rows is None else rows:
        image, label = dataset[row]
        if not isinstance(image, Image.Image) or not isinstance(label, int):
            raise ValueError("it is not a set of labelled images")
        pixels.append(middle_square(image.convert("RGB"), SIDE))
        labels.append(label)
    return Images(torch.stack(pixels), torch.tensor(labels), max(labels) + 1)


def middle_square(image: Image.Image, size: int) -> Tensor:
    """The middle square of an RGB image, resized: uint8 [3, size, size]."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.resize(
        (size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side)
    )
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).contiguous()


def _from_array(dataset: Any) -> Images:
    pixels = torch.as_tensor(np.asarray(dataset.data))
    labels = getattr(dataset, "targets", None)
    labels = torch.as_tensor(np.asarray(dataset.labels if labels is None else labels)).long()
    if labels.dim() == 2:
        # QMNIST's rows begin with the class, and go on with who wrote the digit.
        labels = labels[:, 0]
    if pixels.dim() == 3:
        pixels = pixels.unsqueeze(1)
    elif pixels.shape[-1] == 3:
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
    if pixels.dim() != 4 or len(pixels) != len(labels) or pixels.dtype != torch.uint8:
        raise ValueError("it is not a set of labelled 8-bit images of one size")
    return Images(pixels, labels, int(labels.max()) + 1)
