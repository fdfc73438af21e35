"""Convolutional networks on images (section 3.3, Figure 7)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from l2l import Problem, Rng, Tensors, register_problem
from l2l.problems.datasets import load_images
from l2l.problems.image_tensors import Images
from l2l.problems.kernels.norm_pool import NormPool, fused_norm_pool
from l2l.problems.kernels.twice import convolved, normalized

POOL = 2


@register_problem("convnet")
@dataclass(frozen=True)
class ConvNet(Problem):
    """Cross entropy of a small convolutional network on minibatches of images.

    `layers` times convolution, batch normalization, 2×2 max pooling and ReLU, then a fully
    connected layer of `units`, batch normalization, ReLU, and the classifier. Batch normalization
    takes the minibatch's own statistics. Layers before it have no biases, which it would cancel.
    θ_0 is Gaussian around 0 with deviation `scale`, but for the factors of batch normalization,
    which are around `factor`. "IID Gaussian" (section 3) makes no exception of them, and the
    plateaus of the figure's curves need a `factor` of 0 (docs/calibration.md).

    `labels` are those of a subset such as CIFAR-5's, all if empty; `split` is that of the data set.
    """

    # A single network's convolutions fill a processor, and their intermediate values its cache.
    one_by_one: ClassVar[bool | Literal["cpu"]] = "cpu"

    dataset: str = "cifar10"
    labels: tuple[int, ...] = ()
    split: Literal["train", "test"] = "train"
    layers: int = 3
    channels: int = 16
    kernel: int = 5
    units: int = 32
    batch_norm: bool = True
    batch_size: int = 128
    scale: float = 0.02
    factor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("layers", "channels", "units", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd and positive, not {self.kernel}")
        if len(set(self.labels)) < len(self.labels) or len(self.labels) == 1:
            raise ValueError(f"labels must be at least two different ones, not {self.labels}")

    @property
    def images(self) -> Images:
        """The images of the split that have one of the labels, which are numbered anew."""
        return _subset(self.dataset, self.split, self.labels)

    @property
    def notice(self) -> str:
        """What a reader of the results must know about the data; empty if nothing."""
        return self.images.notice

    def fingerprints(self) -> dict[str, str]:
        return {"images": self.images.fingerprint}

    def init(self, rng: Rng) -> Tensors:
        images = self.images
        depth, height, width = images.pixels.shape[1:]
        if min(height, width) < POOL**self.layers:
            raise ValueError(f"{height}×{width} images are too small for {self.layers} poolings")
        params: dict[str, tuple[int, ...]] = {}
        for layer in range(self.layers):
            params[f"conv{layer}"] = (self.channels, depth, self.kernel, self.kernel)
            params |= self._norm(f"conv{layer}", self.channels)
            depth, height, width = self.channels, height // POOL, width // POOL
        params["hidden"] = (depth * height * width, self.units)
        params |= self._norm("hidden", self.units)
        params["out"] = (self.units, images.classes)
        params["out_bias"] = (images.classes,)
        return {
            name: self.scale * rng.normal(*shape)
            + (self.factor if name.endswith("_factor") else 0.0)
            for name, shape in params.items()
        }

    def group(self, name: str) -> str:
        """``conv`` for filters; ``fc`` for all else, as in the authors' code."""
        return "conv" if name.startswith("conv") and "_" not in name else "fc"

    def batch(self, rng: Rng) -> Tensors:
        return self.images.minibatch(rng, self.batch_size)

    def batches(self, rngs: Sequence[Rng], device: torch.device) -> Tensors:
        return self.images.minibatches(rngs, self.batch_size, device)

    def loss(self, params: Tensors, instance: Tensors, batch: Tensors) -> Tensor:
        # Faster second derivatives. They know nothing of `torch.func`, which a GPU's networks need.
        transformed = torch._C._are_functorch_transforms_active()
        twice = batch["x"].device.type == "cpu" and not transformed
        return self._loss(params, batch, _TWICE if twice else _ONCE)

    def losses_and_grads(
        self, params: Tensors, instance: Tensors, batch: Tensors
    ) -> tuple[Tensor, Tensors]:
        fused = fused_norm_pool(batch["x"])
        functions = replace(_ONCE, norm_pool=fused) if fused else _ONCE
        losses = params["out_bias"].new_empty(params["out_bias"].shape[:2])
        grads = {name: torch.empty_like(value) for name, value in params.items()}
        for i in range(losses.shape[1]):
            own = {"x": _channels_last(batch["x"][i]), "y": batch["y"][i]}
            for copy in range(len(losses)):
                leaves = {
                    name: value[copy, i].detach().requires_grad_() for name, value in params.items()
                }
                with torch.enable_grad():
                    loss = self._loss(leaves, own, functions)
                    gradient = torch.autograd.grad(loss, list(leaves.values()))
                losses[copy, i] = loss.detach()
                for name, grad in zip(leaves, gradient, strict=True):
                    grads[name][copy, i] = grad
        return losses, grads

    def _loss(self, params: Tensors, batch: Tensors, use: _Functions) -> Tensor:
        x = _channels_last(batch["x"])
        for layer in range(self.layers):
            name = f"conv{layer}"
            x = use.convolved(x, params[name])
            if self.batch_norm:
                x = use.norm_pool(x, params[f"{name}_factor"], params[f"{name}_offset"])
            else:
                x = F.relu(F.max_pool2d(x + params[f"{name}_bias"].view(-1, 1, 1), POOL))
        x = x.flatten(1) @ params["hidden"]
        if self.batch_norm:
            x = use.normalized(x, params["hidden_factor"], params["hidden_offset"])
        else:
            x = x + params["hidden_bias"]
        logits = F.relu(x) @ params["out"] + params["out_bias"]
        return F.cross_entropy(logits, batch["y"])

    def _norm(self, name: str, size: int) -> dict[str, tuple[int, ...]]:
        if not self.batch_norm:
            return {f"{name}_bias": (size,)}
        return {f"{name}_factor": (size,), f"{name}_offset": (size,)}


def _channels_last(x: Tensor) -> Tensor:
    """With channels last, oneDNN's convolutions need no reordering: 1.6 times as fast on a CPU."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


@dataclass(frozen=True)
class _Functions:
    """What a network consists of.

    `norm_pool` is batch normalization, 2×2 max pooling and ReLU.
    """

    convolved: Callable[[Tensor, Tensor], Tensor]
    normalized: Callable[[Tensor, Tensor, Tensor], Tensor]
    norm_pool: NormPool


def _convolved(images: Tensor, filters: Tensor) -> Tensor:
    return F.conv2d(images, filters, padding=filters.shape[-1] // 2)


def _normalized(x: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, factor, offset, training=True)


def _norm_pool(x: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    return _pooled(_normalized(x, factor, offset))


def _pooled(x: Tensor) -> Tensor:
    # ReLU after pooling is ReLU before it, on a quarter of the values.
    return F.relu(F.max_pool2d(x, POOL))


_ONCE = _Functions(_convolved, _normalized, _norm_pool)
_TWICE = _Functions(convolved, normalized, lambda *given: _pooled(normalized(*given)))


@functools.cache
def _subset(dataset: str, split: str, labels: tuple[int, ...]) -> Images:
    images = load_images(dataset, split == "train")
    if not labels:
        return images
    unknown = [label for label in labels if not 0 <= label < images.classes]
    if unknown:
        raise ValueError(
            f"labels of {dataset} are 0 to {images.classes - 1}, so there is no {unknown[0]}"
        )
    wanted = torch.tensor(labels)
    keep = torch.isin(images.labels, wanted)
    numbered = torch.full((images.classes,), -1)
    numbered[wanted] = torch.arange(len(labels))
    return Images(images.pixels[keep], numbered[images.labels[keep]], len(labels), images.notice)
