"""What the learned optimizer cannot do is said in one sentence, before anything has moved."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch_training import with_gradient

from l2l.optimizers.learned.checkpoint import save_optimizer
from l2l.optimizers.learned.gac import LSTMGAC
from l2l.optimizers.torch_optimizer import LearnedOptimizer
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.seeds import Rng


def ones(*shape: int, **options: Any) -> nn.Parameter:
    return nn.Parameter(torch.ones(*shape, **options))


def sparse() -> nn.Parameter:
    embedding = nn.Embedding(10, 3, sparse=True)
    embedding(torch.tensor([1, 2])).sum().backward()
    return embedding.weight


def unfrozen_complex() -> nn.Parameter:
    """Frozen when the optimizer is made, so that only a step can find it."""
    data = torch.ones(2, dtype=torch.complex64)
    parameter = nn.Parameter(data, requires_grad=False)
    parameter.grad = data.clone()
    return parameter


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (sparse, r"shape \[10, 3\] in group 1 has a sparse gradient"),
        (unfrozen_complex, r"shape \[2\] in group 1 is complex64, but must be one of float64, "),
    ],
)
def test_nothing_moves_if_something_cannot(
    checkpoint: Path, wrong: Callable[[], nn.Parameter], told: str
) -> None:
    good = with_gradient(torch.ones(3), torch.ones(3))
    optimizer = LearnedOptimizer([{"params": [good]}, {"params": [wrong()]}], checkpoint)
    with pytest.raises(ValueError, match=told):
        optimizer.step()
    assert torch.equal(good, torch.ones(3))
    assert not optimizer.state[good]["hidden"].any()


def test_nothing_moves_if_a_hidden_state_does_not_fit(checkpoint: Path) -> None:
    """A group's checkpoint may be changed, but only for one of the same architecture."""
    parameters = [with_gradient(torch.ones(3), torch.ones(3)) for _ in range(2)]
    optimizer = LearnedOptimizer([{"params": [each]} for each in parameters], checkpoint)
    optimizer.step()
    before = [each.detach().clone() for each in parameters]
    optimizer.param_groups[1]["checkpoint"] = "mnist-lstm"
    told = (
        r"shape \[3\] in group 1 needs a hidden state of shape \[2, 2, 20, 3\], not \[2, 2, 4, 3\]"
    )
    with pytest.raises(ValueError, match=told):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
def test_trainable_parameters_of_other_types_are_refused_at_once(
    checkpoint: Path, dtype: torch.dtype
) -> None:
    parameter = nn.Parameter(torch.ones(2).to(dtype))
    with pytest.raises(ValueError, match=r"in group 0 is \w+, but must be one of float64, float32"):
        LearnedOptimizer([parameter], checkpoint)


def test_frozen_parameters_of_other_types_are_left_alone(checkpoint: Path) -> None:
    quantized = nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)
    LearnedOptimizer([quantized, ones(2)], checkpoint).step()
    assert torch.equal(quantized, torch.ones(2, dtype=torch.int8))


RATES = [
    (-1, ValueError, "lr must be at least 0 and finite, not -1"),
    (float("nan"), ValueError, "lr must be at least 0 and finite, not nan"),
    (float("inf"), ValueError, "lr must be at least 0 and finite, not inf"),
    (torch.tensor(-0.5), ValueError, "lr must be at least 0 and finite, not -0.5"),
    (torch.ones(2), TypeError, r"a tensor of one element, not a tensor of shape \[2\]"),
    ("0.1", TypeError, "lr must be a number or a tensor of one element, not '0.1'"),
    (None, TypeError, "lr must be a number or a tensor of one element, not None"),
]


@pytest.mark.parametrize(("lr", "error", "told"), RATES)
def test_rates_that_are_none_are_refused(
    checkpoint: Path, lr: Any, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        LearnedOptimizer([ones(2)], checkpoint, lr=lr)
    with pytest.raises(error, match="group 0: lr must be"):
        LearnedOptimizer([{"params": [ones(2)], "lr": lr}], checkpoint)


@pytest.mark.parametrize(
    ("group", "told"),
    [
        ({"parms": []}, "group 1 has no 'params'"),
        ({"params": [], "checkpont": "mnist-lstm"}, "'checkpont', did you mean 'checkpoint'"),
        ({"params": [], "LR": 1.0}, "'LR', did you mean 'lr'"),
        ({"params": [], "weight_decay": 0.1}, "has no 'weight_decay', remove it"),
        ({"params": [], "betas": (0.9, 0.99)}, "has no 'betas', remove it"),
        ({"params": [], "lr": -1}, "group 1: lr must be at least 0"),
        ({"params": [], "checkpoint": "mnist-ltsm"}, "no checkpoint 'mnist-ltsm' in .*mnist-lstm"),
        ({"params": [], "checkpoint": None}, "checkpoint must be a name or a path, not None"),
    ],
)
def test_groups_are_checked_when_they_are_added(
    checkpoint: Path, group: dict[str, Any], told: str
) -> None:
    optimizer = LearnedOptimizer([ones(2)], checkpoint)
    with pytest.raises((ValueError, TypeError, SuiteError), match=told):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1


def test_groups_may_carry_keys_for_others(checkpoint: Path) -> None:
    group = {"params": [ones(2)], "name": "head", "lr_scale": 0.5, "initial_lr": 1.0}
    optimizer = LearnedOptimizer([group | {"weight_decay": 0.0}], checkpoint)
    assert optimizer.param_groups[0]["name"] == "head"


def refusal(checkpoint: Any) -> str:
    with pytest.raises(SuiteError) as raised:
        LearnedOptimizer([ones(2)], checkpoint)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_checkpoints_that_are_none_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    assert re.search("no checkpoint 'mnist-ltsm' in .*'mnist-lstm'", refusal("mnist-ltsm"))
    with pytest.raises(SuiteError, match="did you mean 'mnist-lstm'"):
        LearnedOptimizer([{"params": [ones(2)], "checkpoint": checkpoint}], "mnist-ltsm")
    with pytest.raises(TypeError, match="checkpoint must be a name or a path, not 3"):
        LearnedOptimizer([ones(2)], 3)  # type: ignore[arg-type]
    missing = tmp_path / "none.safetensors"
    assert refusal(missing) == f"checkpoint {missing}: there is no such file"
    assert "there is no such file" in refusal(str(tmp_path))
    assert refusal("some/folder") == "checkpoint some/folder: there is no such file"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    assert "is not a whole safetensors file" in refusal(checkpoint)


def test_home_folder_may_be_written_as_tilde(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    for text in ("~/small.safetensors", Path("~/small.safetensors")):
        optimizer = LearnedOptimizer([with_gradient(torch.ones(2), torch.ones(2))], text)
        optimizer.step()
        assert optimizer.param_groups[0]["checkpoint"] == "~/small.safetensors"
    assert f"{checkpoint.parent}/none.safetensors" in refusal("~/none.safetensors")


def test_optimizers_whose_parameters_meet_are_refused(tmp_path: Path) -> None:
    assert "has networks for the groups of one problem's parameters" in refusal("cifar10")
    path = tmp_path / "gac.safetensors"
    gac = LSTMGAC(hidden=4)
    weights = gac.initial_weights(Rng(0, "phi"))
    save_optimizer(path, {"name": "lstm-gac", "hidden": 4}, gac.with_weights(weights))
    told = refusal(path)
    assert "is of type LSTMGAC, which lets coordinates of all parameters exchange" in told
    assert told.endswith("one of LSTM, RNNProp, SmallFCLopt, Celo2Base, such as 'mnist-lstm'")
