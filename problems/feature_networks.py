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

from problems.data_root import DATA_ROOT, data_root, downloading, may_download
from suite.errors import SuiteError
from suite.registry import nearest
from suite.seeds import Rng

# Images are here in units of UNIT grey levels around the mean RGB of ImageNet, so of order 1.
MEAN = (123.68, 116.779, 103.939)
UNIT = 58.0

# Torchvision's files: their inputs are pixels in 0..1, less a mean, over a deviation.
TORCHVISION = {"vgg19": "vgg19-dcbb9e9d.pth", "squeezenet1_1": "squeezenet1_1-b8a52dc0.pth"}
TORCHVISION_URL = "https://download.pytorch.org/models"
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)

# VGG to conv3_1 with random weights: what stands in where there are none.
RANDOM = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256)}

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
        notice: empty, or what a reader must know about the weights.

    Raises:
        ValueError: the weights are not those of such a network.
    """

    def __init__(
        self, state: Mapping[str, Any], scale: Tensor, shift: Tensor, notice: str = ""
    ) -> None:
        self.layers = _layers(state)
        # Without the classifier, which is most of a VGG.
        weights = {key: value for key, value in state.items() if key.startswith("features.")}
        self._weights = {"scale": scale.view(3, 1, 1), "shift": shift.view(3, 1, 1), **weights}
        self._moved: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}
        self.notice = notice

    def check(self, names: Sequence[str]) -> None:
        """SuiteError if a layer is not there."""
        known = [layer.name for layer in self.layers if not layer.name.startswith("pool")]
        for name in names:
            if name not in known:
                raise SuiteError(
                    f"there is no layer {name!r} in the feature network: {nearest(name, known)}"
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

    `name` is that of a file without its ending, or ``vgg19`` or ``squeezenet1_1``: then any file
    whose name begins so is taken, and if there is none, torchvision's are downloaded, unless
    ``$L2L_OFFLINE`` is set. Where nothing is to be had, VGG with random weights stands in, and says
    so in its `notice`.

    Raises:
        SuiteError: the file is damaged or not of such a network, or there is none of that name.
    """
    folder = data_root() / "weights"
    files = sorted(folder.glob("*.pth"))
    path = next((each for each in files if each.stem.startswith(name)), None)
    if path is None and name not in TORCHVISION:
        known = [*TORCHVISION, *(each.stem for each in files)]
        raise SuiteError(f"there are no weights {name!r} in {folder}: {nearest(name, known)}")
    path = path or _download(TORCHVISION[name], folder)
    if path is None:
        return _random_network(name)
    return read_network(path)


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


def _download(file: str, folder: Path) -> Path | None:
    if not may_download():
        return None
    try:
        with downloading():
            torch.hub.load_state_dict_from_url(
                f"{TORCHVISION_URL}/{file}", str(folder), "cpu", check_hash=True, weights_only=True
            )
    except OSError:
        return None
    return folder / file


def _random_network(name: str) -> FeatureNetwork:
    """He-initialised, so that activations keep their size from layer to layer."""
    state = {}
    for place, (inputs, outputs) in RANDOM.items():
        weight = Rng(0, "feature-network", place).normal(outputs, inputs, 3, 3)
        state[f"features.{place}.weight"] = weight * (2 / (9 * inputs)) ** 0.5
        state[f"features.{place}.bias"] = torch.zeros(outputs)
    notice = f"made with random weights in the place of {name}'s, which were not to be had"
    return FeatureNetwork(state, torch.ones(3), torch.zeros(3), notice)
