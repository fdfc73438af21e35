"""Small made-up data in the right layout, and forgetting what was loaded of it."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from l2l.problems import convnet, neural_art, pictures
from l2l.problems.data_root import stand_in
from l2l.problems.datasets import _torchvision_datasets, load_images
from l2l.problems.feature_networks import feature_network

PHOTOS = {"train": 5, "val": 3, "test": 4}
# Inputs, outputs of VGG's first convolutions, made small: relu1_1, relu1_2, relu2_1.
TINY_VGG = {0: (3, 4), 2: (4, 5), 5: (5, 6)}


def forget_data() -> None:
    """What one test loads is not what the next one gets."""
    for cached in (
        load_images,
        stand_in,
        feature_network,
        pictures.style,
        pictures._files,
        neural_art._style_grams,
        convnet._subset,
    ):
        cached.cache_clear()


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch, count: int = 50) -> None:
    """Random images in the original pickles, whose sums torchvision then expects."""
    cifar10 = _torchvision_datasets().CIFAR10
    folder = root / cifar10.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def write(name: str, content: Mapping[str, object]) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(name: str) -> list[str]:
        pixels = rng.integers(256, size=(count, 3072), dtype=np.uint8)
        return write(name, {"data": pixels, "labels": [k % 10 for k in range(count)]})

    train = [batch(name) for name, _ in cifar10.train_list]
    test = [batch(name) for name, _ in cifar10.test_list]
    monkeypatch.setattr(cifar10, "train_list", train)
    monkeypatch.setattr(cifar10, "test_list", test)
    key = cifar10.meta["key"]
    name, md5 = write(cifar10.meta["filename"], {key: [str(k) for k in range(10)]})
    monkeypatch.setattr(cifar10, "meta", {"filename": name, "key": key, "md5": md5})


def write_photos(root: Path) -> None:
    """Photos whose shade tells which they are."""
    for place, (folder, count) in enumerate(PHOTOS.items()):
        (root / "photos" / folder).mkdir(parents=True)
        for number in range(count):
            shade = 80 * place + 10 * number
            Image.new("RGB", (40, 30), (shade, shade, shade)).save(
                root / "photos" / folder / f"{number}.png"
            )


def write_styles(root: Path, names: Sequence[str] = ("waves", "stars")) -> None:
    """Paintings of noise."""
    (root / "styles").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in names:
        pixels = rng.integers(256, size=(20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "styles" / f"{name}.png")


def vgg_state(convolutions: Mapping[int, tuple[int, int]] = TINY_VGG) -> dict[str, Tensor]:
    """A tiny VGG's state dict, by the places of its convolutions."""
    torch.manual_seed(0)
    state = {}
    for place, (inputs, outputs) in convolutions.items():
        state[f"features.{place}.weight"] = torch.randn(outputs, inputs, 3, 3) / (3 * inputs**0.5)
        state[f"features.{place}.bias"] = 0.1 * torch.randn(outputs)
    return state


def write_weights(
    root: Path, name: str = "vgg19.pth", state: Mapping[str, Tensor] | object = None
) -> None:
    """A network's weights, a tiny VGG's if none are given."""
    (root / "weights").mkdir(parents=True, exist_ok=True)
    torch.save(vgg_state() if state is None else state, root / "weights" / name)
