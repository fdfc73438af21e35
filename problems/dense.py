"""Networks of dense layers, and linear models, on tables that scikit-learn brings along."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

from l2l import Rng, Tensors, register_problem
from l2l.problems.bundled import Examples, table
from l2l.problems.layers import ACTIVATIONS, affine, batch_normalised, dense, layer_normalised, norm
from l2l.problems.supervised import Supervised

NORMALISED = {"layer": layer_normalised, "batch": batch_normalised}


@register_problem("dense")
@dataclass(frozen=True)
class Dense(Supervised):
    """A network of `layers` hidden layers on minibatches of a table's rows.

    Each hidden layer is affine, then normalised if `norm` says so, then `activation`. Without one,
    `layers: 0`, the model is linear: logistic or softmax regression, or least squares on the table
    ``diabetes``. Weights start as He et al. 2015 have them before ReLU and GELU, and as Glorot and
    Bengio 2010 before all else; biases start at 0, factors of a normalisation at 1.
    """

    dataset: Literal["breast-cancer", "diabetes", "digits", "wine"] = "digits"
    layers: int = 1
    units: int = 32
    activation: Literal["gelu", "relu", "sigmoid", "tanh"] = "relu"
    norm: Literal["none", "layer", "batch"] = "none"
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise ValueError(f"layers must be at least 0, not {self.layers}")
        for name in ("units", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.norm == "batch" and self.batch_size == 1:
            raise ValueError("norm 'batch' needs a batch_size of at least 2")

    def examples(self, train: bool) -> Examples:
        return table(self.dataset, train)

    def init(self, rng: Rng) -> Tensors:
        found = self.examples(True)
        widths = [found.inputs.shape[1], *[self.units] * self.layers]
        params: Tensors = {}
        for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
            params |= dense(rng, f"hidden{layer}", fan_in, fan_out, before=self.activation)
            if self.norm != "none":
                params |= norm(f"hidden{layer}", fan_out)
        return params | dense(rng, "out", widths[-1], found.targets.shape[1])

    def predictions(self, params: Tensors, x: Tensor) -> Tensor:
        for layer in range(self.layers):
            x = affine(params, f"hidden{layer}", x)
            if self.norm != "none":
                x = NORMALISED[self.norm](params, f"hidden{layer}", x)
            x = ACTIVATIONS[self.activation](x)
        return affine(params, "out", x)
