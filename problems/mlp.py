"""Multilayer perceptrons on images (section 3.2, Figures 4 to 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from l2l import Problem, Rng, Tensors, register_problem
from l2l.problems.datasets import load_images
from l2l.problems.image_tensors import Images

# Name: (function, and the gradient before it from that after it and its values).
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "sigmoid": (torch.sigmoid, torch.ops.aten.sigmoid_backward),
    "relu": (torch.relu, lambda d, value: torch.ops.aten.threshold_backward(d, value, 0)),
    "tanh": (torch.tanh, torch.ops.aten.tanh_backward),
}


@register_problem("mlp")
@dataclass(frozen=True)
class MLP(Problem):
    """Cross entropy of a small network on minibatches of a data set's training images.

    θ_0 is Gaussian with deviation `scale`, biases too, as in the authors' code. `dataset` is any
    image data set that torchvision knows by name.
    """

    dataset: str = "mnist"
    layers: int = 1
    units: int = 20
    activation: str = "sigmoid"
    batch_size: int = 128
    scale: float = 0.01

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise ValueError(f"layers must be at least 0, not {self.layers}")
        for name in ("units", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"activation must be one of {known}, not {self.activation!r}")

    @property
    def images(self) -> Images:
        """The data set's training split."""
        return load_images(self.dataset)

    @property
    def notice(self) -> str:
        """What a reader of the results must know about the data; empty if nothing."""
        return self.images.notice

    def fingerprints(self) -> dict[str, str]:
        return {"images": self.images.fingerprint}

    def init(self, rng: Rng) -> Tensors:
        widths = [self.images.pixels[0].numel(), *[self.units] * self.layers, self.images.classes]
        params = {}
        for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
            params[f"w{layer}"] = self.scale * rng.normal(fan_in, fan_out)
            params[f"b{layer}"] = self.scale * rng.normal(fan_out)
        return params

    def batch(self, rng: Rng) -> Tensors:
        batch = self.images.minibatch(rng, self.batch_size)
        return {"x": batch["x"].flatten(1), "y": batch["y"]}

    def batches(self, rngs: Sequence[Rng], device: torch.device) -> Tensors:
        batch = self.images.minibatches(rngs, self.batch_size, device)
        return {"x": batch["x"].flatten(2), "y": batch["y"]}

    def loss(self, params: Tensors, instance: Tensors, batch: Tensors) -> Tensor:
        hidden = batch["x"]
        for layer in range(self.layers):
            z = hidden @ params[f"w{layer}"] + params[f"b{layer}"]
            hidden = ACTIVATIONS[self.activation][0](z)
        logits = hidden @ params[f"w{self.layers}"] + params[f"b{self.layers}"]
        return F.cross_entropy(logits, batch["y"])

    def losses(self, params: Tensors, instance: Tensors, batch: Tensors) -> Tensor:
        return self._forward(params, batch)[0]

    def losses_and_grads(
        self, params: Tensors, instance: Tensors, batch: Tensors
    ) -> tuple[Tensor, Tensors]:
        losses, inputs, log_p = self._forward(params, batch)
        # Of the mean cross entropy with respect to the logits: p minus 1 at the label.
        d = log_p.exp_()
        labels = batch["y"].expand(len(d), -1, -1).unsqueeze(-2)
        d.scatter_add_(-2, labels, torch.full_like(labels, -1, dtype=d.dtype))
        d = d.div_(labels.shape[-1]).mT
        grads: Tensors = {}
        backward = ACTIVATIONS[self.activation][1]
        for layer in range(self.layers, 0, -1):
            grads |= {f"w{layer}": inputs[layer].mT @ d, f"b{layer}": d.sum(-2)}
            d = backward(d @ params[f"w{layer}"].mT, inputs[layer])
        return losses, grads | {"w0": _shared_inputs_backward(inputs[0], d), "b0": d.sum(-2)}

    def _forward(self, params: Tensors, batch: Tensors) -> tuple[Tensor, list[Tensor], Tensor]:
        """Losses [r, n], inputs of each layer, and log p of the classes [r, n, classes, batch].

        PyTorch's softmax takes 20 times as long over ten numbers that lie side by side, so there,
        and in all layers after the first, a unit's values for the minibatch do.
        """
        x, labels = batch["x"], batch["y"]
        copies, n = params["w0"].shape[:2]
        # Copies share their minibatch, so their first layers are one wide matrix product.
        wide = params["w0"].permute(1, 2, 0, 3).reshape(n, x.shape[-1], -1)
        z = torch.bmm(x, wide).view(n, x.shape[1], copies, -1).permute(2, 0, 1, 3)
        z = z + params["b0"].unsqueeze(-2)
        inputs = [x]
        for layer in range(1, self.layers + 1):
            inputs.append(ACTIVATIONS[self.activation][0](z))
            z = (params[f"w{layer}"].mT @ inputs[-1].mT).mT + params[f"b{layer}"].unsqueeze(-2)
        log_p = z.mT.log_softmax(-2)
        each = log_p.gather(-2, labels.expand(copies, -1, -1).unsqueeze(-2)).squeeze(-2)
        return -each.mean(-1), inputs, log_p


def _shared_inputs_backward(x: Tensor, d: Tensor) -> Tensor:
    """The gradient [r, n, inputs, units] of the first layer, as one wide matrix product.

    Args:
        x: what copies share [n, batch, inputs].
        d: [r, n, batch, units].
    """
    copies, n, size, units = d.shape
    wide = d.permute(1, 2, 0, 3).reshape(n, size, copies * units)
    return torch.bmm(x.mT, wide).view(n, -1, copies, units).permute(2, 0, 1, 3)
