"""Convolutional networks trained on ImageNet, as features of images (VGG, SqueezeNet)."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from l2l.problems.data_root import DATA_ROOT, SAMPLES, data_root, not_found, stand_in
from l2l.suite.core.digests import tensors_digest
from l2l.suite.core.errors import DataMissing, SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.files.tensors import load_tensors

# Images are here in units of UNIT grey levels around the mean RGB of ImageNet, so of order 1.
MEAN = (123.68, 116.779, 103.939)
UNIT = 58.0

# Torchvision's files: their inputs are pixels in 0..1, less a mean, over a deviation.
TORCHVISION = {"vgg19": "vgg19-dcbb9e9d.pth", "squeezenet1_1": "squeezenet1_1-b8a52dc0.pth"}
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)

# The project's own weights, for whoever has no others of this name.
SAMPLE = "vgg19"
MAX_SAMPLE = 2**24

WEIGHT = re.compile(r"features\.(\d+)\.(weight|squeeze\.weight)")


class Layer(NamedTuple):
    """A convolution or fire module with the ReLU after it, or a pooling; `key` of its weights."""

    name: str
    kind: str
    key: str


class FeatureNetwork:
    """The convolutional part of a network, whose activations are read by name.

    Layers are named as Gatys et al. name those of VGG: ``relu2_1`` is the first one after the
    first pooling. A fire module of SqueezeNet counts as one layer.

    Args:
        state: weights under torchvision's keys, ``features.N.weight`` and so on. The architecture,
            and where it ends, is read off the keys.
        scale: [3], with `shift` what turns images in units of `UNIT` around `MEAN` into inputs.
        shift: [3].
        sample: what the weights are if they are the project's, else empty.

    Raises:
        ValueError: the weights are not those of such a network.
    """

    def __init__(
        self, state: Mapping[str, Any], scale: Tensor, shift: Tensor, sample: str = ""
    ) -> None:
        self.layers = _layers(state)
        # Without the classifier, which is most of a VGG.
        weights = {key: value for key, value in state.items() if key.startswith("features.")}
        self._weights = {"scale": scale.view(3, 1, 1), "shift": shift.view(3, 1, 1), **weights}
        self._moved: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}
        self.sample = sample

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of weights and inputs; see `Problem.fingerprints`."""
        return tensors_digest(self._weights)

    def check(self, names: Sequence[str]) -> None:
        """DataMissing if the weights lack one of these layers."""
        known = [layer.name for layer in self.layers if not layer.name.startswith("pool")]
        for name in names:
            if name not in known:
                raise DataMissing(
                    f"there is no layer {name!r} in the feature network, whose weights end at "
                    f"{known[-1]}: {nearest(name, known)}"
                )

    def __call__(self, image: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Activations [C, h, w] of the named layers, of an image [3, H, W]."""
        weights = self._for(image)
        hidden = image * weights["scale"] + weights["shift"]
        found: dict[str, Tensor] = {}
        for layer in self.layers:
            hidden = _apply(layer, hidden, weights)
            if layer.name in names:
                found[layer.name] = hidden
                if len(found) == len(set(names)):
                    break
        return found

    def _for(self, image: Tensor) -> dict[str, Tensor]:
        """The weights where the image is, and of its precision."""
        place = (image.device, image.dtype)
        if place not in self._moved:
            self._moved[place] = {k: v.detach().to(*place) for k, v in self._weights.items()}
        return self._moved[place]


def _layers(state: Mapping[str, Any]) -> tuple[Layer, ...]:
    matches = [match for match in map(WEIGHT.fullmatch, state) if match]
    kinds = {int(m[1]): "conv" if m[2] == "weight" else "fire" for m in matches}
    if not kinds or 0 not in kinds:
        raise ValueError("it has no 'features.0.weight', torchvision's name of a first layer")
    squeezenet = "fire" in kinds.values()
    layers, block, number, place = [], 1, 1, 0
    while place <= max(kinds):
        kind = kinds.get(place)
        if kind is None:
            # Modules without weights: each convolution's ReLU is passed below, so it is a pooling.
            layers.append(Layer(f"pool{block}", "pool3" if squeezenet else "pool2", ""))
            block, number, place = block + 1, 1, place + 1
            continue
        if kind == "conv":
            kind = "strided" if squeezenet else "padded"
        layers.append(Layer(f"relu{block}_{number}", kind, f"features.{place}"))
        number, place = number + 1, place + (1 if kind == "fire" else 2)
    return tuple(layers)


def _apply(layer: Layer, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    def conv(name: str, x: Tensor, **how: int) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **how).relu()

    match layer.kind:
        case "padded":
            return conv(layer.key, x, padding=1)
        case "strided":
            return conv(layer.key, x, stride=2)
        case "pool2":
            return F.max_pool2d(x, 2)
        case "pool3":
            return F.max_pool2d(x, 3, 2, ceil_mode=True)
    squeezed = conv(f"{layer.key}.squeeze", x)
    narrow = conv(f"{layer.key}.expand1x1", squeezed)
    return torch.cat([narrow, conv(f"{layer.key}.expand3x3", squeezed, padding=1)], dim=0)


@functools.cache
def feature_network(name: str) -> FeatureNetwork:
    """The network whose weights are in `data_root()`/weights.

    `name` is that of a file without its ending, or how one begins. Where there is none, the
    project's own first layers serve for ``vgg19``, in half precision.

    Raises:
        DataMissing: there are no weights of that name.
        SuiteError: the file is damaged or not of such a network.
    """
    folder = data_root() / "weights"
    files = sorted(folder.glob("*.pth"))
    path = next((each for each in files if each.stem.startswith(name)), None)
    if path is not None:
        return read_network(path)
    if name != SAMPLE:
        known = [SAMPLE, *(each.stem for each in files)]
        raise DataMissing(
            f"there are no weights {name!r} in {folder}: put a state dict with torchvision's keys "
            f"there as {name}.pth, or name others ({nearest(name, known)})"
        )
    sample = _sample_network()
    stand_in(not_found(f"weights {name!r}", [f"weights/{name}.pth"]), sample.sample)
    return sample


def read_network(path: Path) -> FeatureNetwork:
    """A network from a state dict, of which nothing is unpickled but tensors.

    Files with the names that torchvision gives them have torchvision's inputs; all others take grey
    levels (0..255) less `MEAN`, as the networks were first published.

    Raises:
        SuiteError: the file is damaged, or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, Mapping):
            raise ValueError(f"it holds a {type(state).__name__}, not a table of tensors")
        unit, mean = torch.full((3,), UNIT), torch.tensor(MEAN)
        shift = torch.zeros(3)
        if path.name in TORCHVISION.values():
            deviation = 255 * torch.tensor(TORCHVISION_STD)
            unit = unit / deviation
            shift = (mean - 255 * torch.tensor(TORCHVISION_MEAN)) / deviation
        network = FeatureNetwork(state, unit, shift)
        # Whatever does not fit together shows on a small image.
        network(torch.zeros(3, 64, 64), [network.layers[-1].name])
    except Exception as error:
        # Damaged files lead torch.load to whatever their bytes say.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise SuiteError(
            f"{path} cannot be read as weights of a VGG or SqueezeNet ({reason}): "
            f"put a state dict with torchvision's keys there, or set {DATA_ROOT} to where one is"
        ) from error
    return network


def _sample_network() -> FeatureNetwork:
    path = SAMPLES / "weights" / f"{SAMPLE}.safetensors"
    try:
        halves, _ = load_tensors(path, MAX_SAMPLE)
    except Exception as error:
        raise SuiteError(
            f"{path} cannot be read ({error}): get the project's file again"
        ) from error
    state = {name: value.float() for name, value in halves.items()}
    sample = "VGG-19 to conv3_4 with weights in half precision"
    return FeatureNetwork(state, torch.full((3,), UNIT), torch.zeros(3), sample)
