"""Weights in files of others: the optimizer that they make is the published one."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from flax_files import Tree, array, celo2, flax_file, packed, pylo, small_fc_lopt
from safetensors.torch import save_file
from test_later import as_published, gradients, iterates, updates

from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.celo2 import Celo2Base
from l2l.optimizers.learned.pretrained import Pretrained
from l2l.optimizers.learned.published import CELO2_GROUPS, PYLO_DECAYS
from l2l.optimizers.learned.small_fc_lopt import SmallFCLopt
from l2l.optimizers.torch_optimizer import LearnedOptimizer
from l2l.suite.core.errors import SuiteError, WeightsMissing
from l2l.suite.core.registry import optimizers


def transposed(network: Mapping[str, Any]) -> dict[str, Any]:
    """Haiku's layers as parts of φ."""
    return {
        f"layers.{name[1]}.{'weight' if name[0] == 'w' else 'bias'}": torch.from_numpy(each.T)
        for name, each in network.items()
    }


def phi(optimizer: Learned, parts: Mapping[str, Any]) -> torch.Tensor:
    return optimizer.layout.join({k: torch.as_tensor(v).float() for k, v in parts.items()})


def same_updates(loaded: Learned, expected: Learned) -> None:
    """Those of both, in float64, and of the published formula."""
    loaded, expected = (each.with_weights(each.phi.double()) for each in (loaded, expected))
    grads, theta = gradients(), iterates()
    made = updates(loaded, grads, theta)
    assert made.abs().max() > 1e-4
    assert torch.equal(made, updates(expected, grads, theta))
    by_formula = as_published(loaded, grads[:, 0], theta[:, 0])
    torch.testing.assert_close(made[:, 0], by_formula, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("saved", [False, True], ids=["theta", "with its step"])
@pytest.mark.parametrize("units", [4, 7])
def test_small_fc_lopt_in_flax(tmp_path: Path, units: int, saved: bool) -> None:
    tree = small_fc_lopt(units)
    own = SmallFCLopt(hidden=units)
    names = {"means": "momentum", "squares": "rms", "factors": "adafactor"}
    decays = {f"decays.{part}": tree[f"{name}_decays"] for part, name in names.items()}
    own = own.with_weights(phi(own, {**transposed(tree["nn"]["~"]), **decays}))
    step = {"gen_id": "a", "step": np.array(3, np.int32)}
    path = flax_file(tmp_path / "theta", {"params": tree, **step} if saved else tree)
    same_updates(Pretrained(str(path)).optimizer, own)


def test_celo2_in_flax(tmp_path: Path) -> None:
    tree = celo2()
    network = dict(tree["ff_mod_stack"]["~"])
    groups = [network.pop(f"w0__{k}") for k in range(len(CELO2_GROUPS))]
    own = Celo2Base(lr=1.0, as_published=True)
    own = own.with_weights(phi(own, transposed({**network, "w0": np.concatenate(groups)})))
    same_updates(Pretrained(str(flax_file(tmp_path / "theta.state", tree))).optimizer, own)


def test_pylo_in_safetensors(tmp_path: Path) -> None:
    tensors = pylo()
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    own = SmallFCLopt(hidden=32, step=0.01)
    names = ["input", "linear_0", "output"]
    parts: dict[str, Any] = {f"decays.{name}": values for name, values in PYLO_DECAYS.items()}
    for layer, name in enumerate(names):
        for kind in ("weight", "bias"):
            parts[f"layers.{layer}.{kind}"] = tensors[f"network.{name}.{kind}"]
    own = own.with_weights(phi(own, parts))
    loaded = Pretrained(str(tmp_path / "model.safetensors")).optimizer
    same_updates(loaded, own)
    x = torch.from_numpy(array(5, 39))
    network = torch.nn.Sequential(
        *(torch.nn.Linear(39, 32), torch.nn.ReLU(), torch.nn.Linear(32, 32), torch.nn.ReLU()),
        torch.nn.Linear(32, 2),
    )
    network.load_state_dict(
        {
            f"{2 * layer}.{kind}": tensors[f"network.{name}.{kind}"]
            for layer, name in enumerate(names)
            for kind in ("weight", "bias")
        }
    )
    made = own.layout.apply(loaded.layout.split(loaded.phi), x.T)
    torch.testing.assert_close(made.T, network(x))


def without(tree: Tree, name: str) -> Tree:
    network = {key: each for key, each in tree["ff_mod_stack"]["~"].items() if key != name}
    return {"ff_mod_stack": {"~": network}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (without(celo2(), "w0__13"), r"has no ff_mod_stack/~/w0__13, but Celo2Base has it as \[3,"),
        (
            {"ff_mod_stack": {"~": {**celo2()["ff_mod_stack"]["~"], "w1": array(8, 9)}}},
            r"ff_mod_stack/~/w1 is \[8, 9\], but Celo2Base has it as \[8, 8\]",
        ),
        (
            {"ff_mod_stack": {"~": {**celo2()["ff_mod_stack"]["~"], "w3": array(3, 3)}}},
            "has ff_mod_stack/~/w3, which Celo2Base has not",
        ),
        (
            {**small_fc_lopt(), "rms_decays": np.zeros(1)},
            "rms_decays is torch.float64, but must be float32",
        ),
        (
            {**small_fc_lopt(), "rms_decays": np.zeros(1, np.complex64)},
            "rms_decays is of 'complex64', but must be of float16, float32",
        ),
        (
            {**small_fc_lopt(), "rms_decays": np.full(1, np.inf, np.float32)},
            "rms_decays has values that are not finite",
        ),
        (
            {**small_fc_lopt(), "rms_decays": msgpack.ExtType(7, b"os.system")},
            "rms_decays is an extension of type 7, but must be an array",
        ),
        (
            {
                **small_fc_lopt(),
                "rms_decays": msgpack.ExtType(1, msgpack.packb([[2**40], "float32", b""])),
            },
            r"rms_decays has 0 bytes, but \[1099511627776\] of float32 are",
        ),
        ({**small_fc_lopt(), "rms_decays": msgpack.ExtType(1, b"\x93")}, "rms_decays is damaged"),
        ({"nn": {"~": {"b0": array(2**13)}}}, r"has no nn/~/w0, but SmallFCLopt has it as \[39, 4"),
        ({"rnn_params": {"w": array(2)}}, "VeLO's or Celo's"),
        ({"other": {"w": array(2)}}, "has other/w, but small_fc_lopt has nn/~/w0"),
        ({}, "has no arrays, but small_fc_lopt"),
    ],
)
def test_files_of_other_trees_are_told(tmp_path: Path, tree: Tree, message: str) -> None:
    path = flax_file(tmp_path / "theta.state", tree)
    with pytest.raises(SuiteError, match=f"checkpoint {path}: .*{message}"):
        Pretrained(str(path))


def deep() -> bytes:
    tree: Any = 1
    for _ in range(100):
        tree = {"a": tree}
    return bytes(msgpack.packb(tree))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        msgpack.packb(celo2(), default=packed)[:-5],
        msgpack.packb([1, 2]),
        pickle.dumps(celo2()),
        b"PK\x03\x04" + bytes(50),
        b"\xdf\xff\xff\xff\xff",
        deep(),
        msgpack.packb({1: 2}),
    ],
    ids=["empty", "cut", "list", "pickle", "zip", "large", "deep", "number"],
)
def test_files_of_other_kinds_are_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "theta.state"
    path.write_bytes(content)
    with pytest.raises(SuiteError, match=r"cannot be read as flax.s msgpack, .* are never read"):
        Pretrained(str(path))


def test_safetensors_of_no_one_are_told(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(SuiteError, match="its header does not say"):
        Pretrained(str(path))
    save_file({**pylo(), "network.output.weight": torch.zeros(3, 32)}, path)
    with pytest.raises(SuiteError, match=r"network.output.weight is \[3, 32\], but .* \[2, 32\]"):
        Pretrained(str(path))


def test_weights_that_are_not_there_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = "$L2L_WEIGHTS/celo2-base/theta.state"
    monkeypatch.delenv("L2L_WEIGHTS", raising=False)
    with pytest.raises(WeightsMissing, match="the variable is not set; docs/"):
        Pretrained(wanted)
    monkeypatch.setenv("L2L_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsMissing, match="there is no such file; docs/"):
        Pretrained(wanted)
    (tmp_path / "celo2-base").mkdir()
    flax_file(tmp_path / "celo2-base" / "theta.state", celo2())
    assert isinstance(Pretrained(wanted).optimizer, Celo2Base)


def test_files_of_too_many_layers_are_told(tmp_path: Path) -> None:
    layers = {f"{kind}{k}": array(4) for k in range(17) for kind in "wb"}
    path = flax_file(tmp_path / "theta", {"nn": {"~": layers}})
    with pytest.raises(SuiteError, match=f"checkpoint {path}: it has more than 15 layers"):
        LearnedOptimizer([torch.nn.Parameter(torch.ones(2))], path)
    with pytest.raises(SuiteError, match=f"checkpoint {path}: it has more than 15 layers"):
        optimizers.make({"name": "pretrained", "checkpoint": str(path), "lr": 1.0})
