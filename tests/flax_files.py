"""Files of weights as others write them, with weights that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import torch

from l2l.optimizers.learned.published import CELO2_GROUPS

Tree = dict[str, Any]


def array(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([*shape, seed]).normal(size=shape).astype(np.float32)


def packed(value: Any) -> msgpack.ExtType:
    """An array as flax has it in msgpack."""
    inner = (value.shape, value.dtype.name, value.tobytes("C"))
    return msgpack.ExtType(1, msgpack.packb(inner, use_bin_type=True))


def flax_file(path: Path, tree: Tree) -> Path:
    path.write_bytes(msgpack.packb(tree, default=packed, strict_types=True))
    return path


def small_fc_lopt(units: int = 4) -> Tree:
    """The tree that learned_optimization's `adafac_mlp_lopt` makes."""
    network = {"w0": array(39, units), "b0": array(units, seed=1), "w1": array(units, units)}
    network |= {"b1": array(units, seed=2), "w2": array(units, 2), "b2": array(2)}
    decays = {"momentum_decays": 3, "rms_decays": 1, "adafactor_decays": 3}
    shifts = {name: 0.05 * array(size, seed=4) for name, size in decays.items()}
    return {**shifts, "nn": {"~": network}}


def celo2() -> Tree:
    """The tree of Celo2's ``theta.state``."""
    first = {f"w0__{k}": array(width, 8, seed=k) for k, width in enumerate(CELO2_GROUPS)}
    network = {"b0": array(8), "w1": array(8, 8), "b1": array(8, seed=1), "w2": array(8, 3)}
    return {"ff_mod_stack": {"~": {**first, **network, "b2": array(3)}}}


def pylo(units: int = 32) -> dict[str, torch.Tensor]:
    """The tensors of PyLO's `MetaMLP` with one layer between the first and the last."""
    layers = {"input": (units, 39), "linear_0": (units, units), "output": (2, units)}
    found = {}
    for name, shape in layers.items():
        found[f"network.{name}.weight"] = torch.from_numpy(array(*shape))
        found[f"network.{name}.bias"] = torch.from_numpy(array(shape[0]))
    return found
