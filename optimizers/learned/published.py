"""Weights that others published, as the suite's optimizers.

| file | as written by | optimizer |
| --- | --- | --- |
| flax's msgpack | learned_optimization's ``save_state``, of `adafac_mlp_lopt` | small_fc_lopt |
| flax's msgpack | Celo2's authors, ``theta.state`` | Celo2-base |
| safetensors | PyLO, of its `MetaMLP` | small_fc_lopt |

The files do not say which optimizer they are of: the names of their arrays tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.celo2 import Celo2Base
from l2l.optimizers.learned.checkpoint import FORMAT, MAX_BYTES, load_optimizer
from l2l.optimizers.learned.small_fc_lopt import SmallFCLopt
from l2l.suite.core.errors import SuiteError
from l2l.suite.files.flax import load_flax

# Widths of Celo2's groups of inputs, each of which has a matrix of its own in the first layer.
CELO2_GROUPS = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
# The step and the decays' δ that PyLO's program has for its weights, whose file lacks them.
PYLO_STEP = 0.01
PYLO_DECAYS = {
    "means": (0.15216392, 0.14245212, 0.06812963),
    "squares": (0.01079706,),
    "factors": (0.18621896, -0.10864615, -0.06185547),
}
# More than any of them has.
MAX_LAYERS = 16
# Where learned_optimization saves weights, beside an id and the step.
SAVED = "params/"
# Networks of these trees are VeLO's and Celo's.
RECURRENT = "rnn_params/"


@dataclass(frozen=True)
class _Source:
    """An array of the file, which is a part of φ or some columns of one.

    Args:
        name: in the file.
        shape: that it must have there.
    """

    name: str
    shape: tuple[int, ...]


def load_any(path: Path) -> Learned:
    """The optimizer in a file of the suite's own, or in one that others published.

    Raises:
        SuiteError: the file is missing or damaged, or of an optimizer that the suite lacks.
    """
    if not path.is_file():
        raise SuiteError(f"checkpoint {path}: there is no such file")
    if _is_safetensors(path):
        tensors = _others_safetensors(path)
        return load_optimizer(path) if tensors is None else _pylo(path, tensors)
    try:
        tensors = load_flax(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise SuiteError(
            f"checkpoint {path}: cannot be read as flax's msgpack, nor is it safetensors: {error}; "
            "pickled files, such as PyTorch's .pt, are never read"
        ) from error
    saved = {name: each for name, each in tensors.items() if name.startswith(SAVED)}
    tensors = {name.removeprefix(SAVED): each for name, each in (saved or tensors).items()}
    if any(name.startswith(RECURRENT) for name in tensors):
        raise SuiteError(
            f"checkpoint {path}: has {RECURRENT}…, so it is VeLO's or Celo's, which let a "
            "recurrent network make an MLP's weights for each tensor; the suite has no such network"
        )
    if any(name.startswith("ff_mod_stack/") for name in tensors):
        return _celo2(path, tensors)
    if any(name.startswith("nn/") for name in tensors):
        return _small_fc_lopt(path, tensors)
    raise SuiteError(
        f"checkpoint {path}: has {_told(tensors)}, but small_fc_lopt has nn/~/w0 and Celo2-base "
        "ff_mod_stack/~/w0__0: it is of another optimizer"
    )


def _is_safetensors(path: Path) -> bool:
    """Whether there is JSON after a length of eight bytes, as in no msgpack of ours."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _others_safetensors(path: Path) -> dict[str, Tensor] | None:
    """The tensors of PyLO's file; None if it is the suite's own, or no one's."""
    if path.stat().st_size > MAX_BYTES:
        return None
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            own = (file.metadata() or {}).get("format") == FORMAT
            if own or not any(name.startswith("network.") for name in names):
                return None
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError):
        return None


def _celo2(path: Path, tensors: Mapping[str, Tensor]) -> Learned:
    optimizer = Celo2Base(lr=1.0, as_published=True)
    sources = _haiku(optimizer, "ff_mod_stack/~/")
    (units,) = sources["layers.0.bias"][0].shape
    sources["layers.0.weight"] = [
        _Source(f"ff_mod_stack/~/w0__{group}", (width, units))
        for group, width in enumerate(CELO2_GROUPS)
    ]
    return _assembled(path, optimizer, sources, tensors, transposed=True)


def _small_fc_lopt(path: Path, tensors: Mapping[str, Tensor]) -> Learned:
    layers = _count(path, tensors, "nn/~/w{}") - 1
    optimizer = _sized(tensors, "nn/~/b0", layers, SmallFCLopt())
    sources = _haiku(optimizer, "nn/~/")
    for part, name in (
        ("means", "momentum_decays"),
        ("squares", "rms_decays"),
        ("factors", "adafactor_decays"),
    ):
        sources[f"decays.{part}"] = [_Source(name, (len(PYLO_DECAYS[part]),))]
    return _assembled(path, optimizer, sources, tensors, transposed=True)


def _pylo(path: Path, tensors: Mapping[str, Tensor]) -> Learned:
    between = _count(path, tensors, "network.linear_{}.weight")
    start = SmallFCLopt(step=PYLO_STEP)
    optimizer = _sized(tensors, "network.input.bias", 1 + between, start)
    names = ["input", *(f"linear_{layer}" for layer in range(between)), "output"]
    shapes = optimizer.layout.parameters()
    sources = {
        f"layers.{layer}.{kind}": [
            _Source(f"network.{name}.{kind}", tuple(shapes[f"layers.{layer}.{kind}"]))
        ]
        for layer, name in enumerate(names)
        for kind in ("weight", "bias")
    }
    decays = {f"decays.{name}": torch.tensor(values) for name, values in PYLO_DECAYS.items()}
    sources |= {name: [_Source(name, tuple(each.shape))] for name, each in decays.items()}
    return _assembled(path, optimizer, sources, {**tensors, **decays}, transposed=False)


def _count(path: Path, tensors: Mapping[str, Tensor], name: str) -> int:
    """How many arrays of these names there are, counted from 0."""
    for number in range(MAX_LAYERS):
        if name.format(number) not in tensors:
            return number
    raise SuiteError(f"checkpoint {path}: it has more than {MAX_LAYERS - 1} layers of one kind")


def _sized(tensors: Mapping[str, Tensor], bias: str, layers: int, like: SmallFCLopt) -> SmallFCLopt:
    """As `like`, with the layers that there are and the units of the first; else as published."""
    found = tensors.get(bias)
    units = found.numel() if found is not None and found.dim() == 1 else 0
    if not 1 <= units <= 4096 or layers < 1:
        return like
    return SmallFCLopt(hidden=units, layers=layers, step=like.step)


def _haiku(optimizer: Celo2Base | SmallFCLopt, prefix: str) -> dict[str, list[_Source]]:
    """The layers as haiku names them: w and b with a number, weights [in, out]."""
    return {
        name: [
            _Source(
                f"{prefix}{'w' if name.endswith('weight') else 'b'}{name.split('.')[1]}",
                tuple(reversed(shape)),
            )
        ]
        for name, shape in optimizer.layout.parameters().items()
        if name.startswith("layers.")
    }


def _assembled(
    path: Path,
    optimizer: Celo2Base | SmallFCLopt,
    sources: Mapping[str, Sequence[_Source]],
    tensors: Mapping[str, Tensor],
    transposed: bool,
) -> Learned:
    """The optimizer with the file's weights, each checked.

    Args:
        path: for errors.
        optimizer: without weights.
        sources: what each part of φ is made of, its columns in order.
        tensors: the file's arrays.
        transposed: whether the file has weights as [in, out].
    """
    kind = type(optimizer).__name__
    parts = {}
    for part, own in sources.items():
        read = [_checked(path, kind, tensors, source) for source in own]
        joined = torch.cat(read)
        parts[part] = joined.T if transposed and joined.dim() == 2 else joined
    known = {source.name for own in sources.values() for source in own}
    if extra := sorted({*tensors} - known):
        raise SuiteError(
            f"checkpoint {path}: has {_told(extra)}, which {kind} has not: "
            "the file is of another architecture"
        )
    return optimizer.with_weights(optimizer.layout.join(parts))


def _checked(path: Path, kind: str, tensors: Mapping[str, Tensor], source: _Source) -> Tensor:
    tensor = tensors.get(source.name)
    if tensor is None:
        raise SuiteError(
            f"checkpoint {path}: has no {source.name}, but {kind} has it as "
            f"{list(source.shape)}: the file is of another architecture"
        )
    if tuple(tensor.shape) != source.shape:
        raise SuiteError(
            f"checkpoint {path}: {source.name} is {list(tensor.shape)}, but {kind} has it as "
            f"{list(source.shape)}: the file is of another architecture"
        )
    if tensor.dtype != torch.float32:
        raise SuiteError(f"checkpoint {path}: {source.name} is {tensor.dtype}, but must be float32")
    if not tensor.isfinite().all():
        raise SuiteError(f"checkpoint {path}: {source.name} has values that are not finite")
    return tensor


def _told(names: Mapping[str, Tensor] | Sequence[str]) -> str:
    """The first few names."""
    some = list(names) or ["no arrays"]
    return ", ".join(some[:3]) + (f" and {len(some) - 3} more" if len(some) > 3 else "")
