"""Neural art: an image with the content of a photo and the style of a painting (section 3.4)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from l2l import Problem, Rng, Tensors, register_problem
from l2l.problems.feature_networks import MEAN, UNIT, FeatureNetwork, feature_network
from l2l.problems.pictures import photo, pictures_fingerprints, pictures_samples, style


@register_problem("neural-art")
@dataclass(frozen=True)
class NeuralArt(Problem):
    """f(θ) = α L_content(c, θ) + β L_style(s, θ) + γ L_reg(θ), after Gatys et al. (2015).

    θ is the image [3, size, size], in units of `UNIT` grey levels around the mean. L_content is the
    squared distance of its activations in `content_layer` from the photo's, L_style the mean over
    `style_layers` of the squared distance of its Gram matrix from the painting's, each relative to
    the squared norm of what it is to meet; L_reg is the total variation. An instance is a photo of
    the split that the run is for, and θ_0 is Gaussian with deviation `scale`.

    Args:
        size: height and width of the image.
        style: the painting, by its file's name.
        network: whose activations are compared, see `feature_network`.
        content_layer: its name, such as ``relu2_2``.
        style_layers: their names.
        alpha: weight of the content; `beta` of the style, `gamma` of the total variation.
        scale: of θ_0.
    """

    # One image's convolutions fill a processor; many at once would only take its memory.
    one_by_one: ClassVar[bool | Literal["cpu"]] = "cpu"

    size: int = 64
    style: str = "shipwreck_of_the_minotaur"
    network: str = "vgg19"
    content_layer: str = "relu2_2"
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1")
    alpha: float = 5.0
    beta: float = 20.0
    gamma: float = 5.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ValueError(f"size must be at least 16, not {self.size}")
        if not self.style_layers:
            raise ValueError("style_layers must name at least one layer")

    @property
    def notice(self) -> str:
        """What a reader of the results must know about the data; empty if nothing.

        Raises:
            DataMissing: pictures, weights or layers that are not there.
            SuiteError: what is there is damaged.
        """
        self._features.check(self._layers)
        samples = [*pictures_samples(self.style), *filter(None, [self._features.sample])]
        if not samples:
            return ""
        return f"made with samples that come with the project: {', '.join(samples)}"

    def fingerprints(self) -> dict[str, str]:
        return {"weights": self._features.fingerprint, **pictures_fingerprints(self.style)}

    def instance(self, rng: Rng) -> Tensors:
        image = to_theta(photo(rng.split, rng.instance, self.size))
        return {"content": self._activations(image)[self.content_layer], **_style_grams(self)}

    def init(self, rng: Rng) -> Tensors:
        return {"image": self.scale * rng.normal(3, self.size, self.size)}

    def loss(self, params: Tensors, instance: Tensors, batch: None) -> Tensor:
        activations = self._activations(params["image"])
        content = relative_distance(activations[self.content_layer], instance["content"])
        styles = [
            relative_distance(gram(activations[layer]), instance[f"gram {layer}"])
            for layer in self.style_layers
        ]
        return (
            self.alpha * content
            + self.beta * torch.stack(styles).mean()
            + self.gamma * total_variation(params["image"])
        )

    def picture(self, params: Tensors) -> Tensor:
        """θ as an image: uint8 [3, size, size]."""
        return to_pixels(params["image"])

    def sources(self, rng: Rng) -> Tensors:
        """The photo and the painting."""
        return {
            "content": photo(rng.split, rng.instance, self.size),
            "style": style(self.style, self.size),
        }

    @property
    def _features(self) -> FeatureNetwork:
        return feature_network(self.network)

    @property
    def _layers(self) -> tuple[str, ...]:
        return (self.content_layer, *self.style_layers)

    def _activations(self, image: Tensor) -> Tensors:
        return self._features(image, self._layers)


def gram(activations: Tensor) -> Tensor:
    """Means over places of products of two channels: [C, h, w] to [C, C]."""
    flat = activations.flatten(1)
    return flat @ flat.T / flat.shape[1]


def total_variation(image: Tensor) -> Tensor:
    """Mean squared difference of neighbours, across plus down: [3, H, W] to a scalar."""
    across = (image[:, :, 1:] - image[:, :, :-1]).square().mean()
    down = (image[:, 1:] - image[:, :-1]).square().mean()
    return across + down


def relative_distance(values: Tensor, target: Tensor) -> Tensor:
    """‖values − target‖² / ‖target‖²."""
    return (values - target).square().sum() / target.square().sum()


def to_theta(pixels: Tensor) -> Tensor:
    """Pixels uint8 [3, H, W] to θ."""
    return (pixels.float() - torch.tensor(MEAN).view(3, 1, 1)) / UNIT


def to_pixels(image: Tensor) -> Tensor:
    """θ to the nearest pixels, uint8 [3, H, W]."""
    grey = image.cpu().float() * UNIT + torch.tensor(MEAN).view(3, 1, 1)
    return grey.round().clamp(0, 255).to(torch.uint8)


@functools.cache
def _style_grams(problem: NeuralArt) -> Tensors:
    image = to_theta(style(problem.style, problem.size))
    activations = feature_network(problem.network)(image, problem.style_layers)
    return {f"gram {layer}": gram(activations[layer]) for layer in problem.style_layers}
