"""Checkpoints: they come back as they were, and anything else gets one sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from moved import moved
from safetensors.torch import save_file

from l2l.optimizers.learned import checkpoint
from l2l.optimizers.learned.checkpoint import load_optimizer, save_optimizer
from l2l.optimizers.learned.lstm import LSTM
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng

SPEC = {"name": "lstm", "hidden": 4, "preprocessing": "log", "p": 5.0, "output_scale": 0.01}


def make(spec: dict[str, Any] = SPEC) -> LSTM:
    optimizer: LSTM = optimizers.make(spec)
    return optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "trained.safetensors"
    save_optimizer(path, SPEC, make(), {"seed": 3})
    return path


def refusal(path: Path) -> str:
    """The sentence with which a checkpoint is refused."""
    with pytest.raises(SuiteError) as raised:
        load_optimizer(path)
    told = str(raised.value)
    assert str(path) in told
    assert "\n" not in told
    return told


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        {"name": "lstm"},
        {"name": "lstm", "layers": 1, "hidden": 6, "preprocessing": "none"},
        {"name": "lstm", "layers": 3, "hidden": 2, "preprocessing": "scale", "p": 1.0},
    ],
)
def test_optimizer_comes_back_as_it_was(tmp_path: Path, spec: dict[str, Any]) -> None:
    saved = make(spec)
    save_optimizer(tmp_path / "a.safetensors", spec, saved)
    loaded = load_optimizer(tmp_path / "a.safetensors")
    assert loaded == saved, "its options"
    assert torch.equal(loaded.weights, saved.weights)
    grads = Rng(1, "grads").normal(2, 3)
    state = saved.layout.initial_state(6, like=grads)
    for one, other in zip(moved(saved, grads, state), moved(loaded, grads, state), strict=True):
        assert torch.equal(one, other)


def test_equal_checkpoints_are_equal_files(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in range(5)]
    for file in files:
        save_optimizer(file, SPEC, make(), {"seed": 3})
    assert len({file.read_bytes() for file in files}) == 1


def test_save_over_an_old_checkpoint_replaces_it_and_leaves_nothing_else(path: Path) -> None:
    save_optimizer(path, SPEC, make().with_weights(make().weights * 2))
    assert torch.equal(load_optimizer(path).weights, make().weights * 2)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 0.99])
def test_truncated_file_is_refused(path: Path, kept: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert "is not a whole safetensors file" in refusal(path)


def test_no_byte_of_the_header_can_be_flipped_unnoticed_or_with_a_crash(path: Path) -> None:
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    same = make()
    for place in range(0, header, 7):
        path.write_bytes(bytes([*whole[:place], whole[place] ^ 0x15, *whole[place + 1 :]]))
        try:
            loaded = load_optimizer(path)
        except SuiteError as error:
            assert str(path) in str(error)
        else:
            # A digit of an option, or a letter of what only tells where it comes from.
            assert loaded.layout == same.layout
            assert torch.equal(loaded.weights, same.weights)


@pytest.mark.parametrize("content", [b"", b"weights", b"\x80\x04pickle" * 100, b"\xff" * 4096])
def test_file_that_is_not_safetensors_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "is not a whole safetensors file" in refusal(path)


def test_missing_file_and_folder_are_refused(path: Path) -> None:
    assert "there is no such file" in refusal(path.with_name("other.safetensors"))
    assert "there is no such file" in refusal(path.parent)


def rewrite(path: Path, parts: dict[str, Any] | None = None, **header: Any) -> None:
    """The checkpoint with some entries of its header, or some of its weights, changed."""
    optimizer = make()
    whole = {
        "format": checkpoint.FORMAT,
        "version": checkpoint.VERSION,
        "optimizer": json.dumps(SPEC),
        **header,
    }
    weights = {name: x.clone() for name, x in optimizer.layout.split(optimizer.weights).items()}
    weights = {name: x for name, x in (weights | (parts or {})).items() if x is not None}
    save_file(weights, path, {name: text for name, text in whole.items() if text is not None})


def test_rewriting_alone_changes_nothing(path: Path) -> None:
    rewrite(path)
    assert torch.equal(load_optimizer(path).weights, make().weights)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({"format": "other"}, "its header does not say 'learned-optimizer' version 1"),
        ({"version": "2"}, "its header does not say 'learned-optimizer' version 1"),
        ({"format": None}, "its header does not say"),
        ({"optimizer": None}, "its header names no optimizer"),
        ({"optimizer": "{"}, "its header names no optimizer"),
        ({"optimizer": "[]"}, "optimizer"),
        ({"optimizer": '"lstm"'}, "optimizer"),
        ({"optimizer": '{"hidden": 4}'}, "an optimizer needs a 'name'"),
        ({"optimizer": '{"name": "lsmt"}'}, "did you mean 'lstm'"),
        ({"optimizer": '{"name": "lstm", "hidden": "four"}'}, "hidden"),
        ({"optimizer": '{"name": "lstm", "hidden": 0}'}, "hidden"),
        ({"optimizer": '{"name": "lstm", "preprocessing": "sqrt"}'}, "preprocessing"),
        (
            {"optimizer": '{"name": "lstm-gac", "layers": 1000000000}'},
            "layers must be from 1 to 10,000",
        ),
        ({"optimizer": '{"name": "lstm", "weights": [1]}'}, "weights"),
        ({"optimizer": '{"name": "sgd", "lr": 1.0}'}, "sgd"),
    ],
)
def test_wrong_header_is_refused(path: Path, header: dict[str, Any], told: str) -> None:
    rewrite(path, **header)
    assert told in refusal(path)


@pytest.mark.parametrize("hidden", [3, 5, 20])
def test_another_architecture_is_refused(path: Path, hidden: int) -> None:
    rewrite(path, optimizer=json.dumps({**SPEC, "hidden": hidden}))
    assert re.search(r"is \[.*\], but lstm .* has \[.*\]", refusal(path))


@pytest.mark.parametrize("change", [{"layers": 1}, {"layers": 3}, {"preprocessing": "none"}])
def test_another_number_of_layers_or_inputs_is_refused(path: Path, change: dict[str, Any]) -> None:
    rewrite(path, optimizer=json.dumps({**SPEC, **change}))
    assert "the file is of another architecture" in refusal(path)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"output.bias": None}, "output.bias is None, but lstm"),
        ({"extra": torch.zeros(2)}, "extra is [2], but lstm"),
        ({"output.bias": torch.tensor([torch.nan])}, "output.bias has values that are not finite"),
        ({"output.bias": torch.tensor([torch.inf])}, "output.bias has values that are not finite"),
    ],
)
def test_wrong_weights_are_refused(path: Path, parts: dict[str, Any], told: str) -> None:
    rewrite(path, parts)
    assert told in refusal(path)


def test_huge_file_is_refused_unread(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(checkpoint.MAX_BYTES + 1)
    assert "so not a checkpoint" in refusal(path)


def test_failed_save_keeps_the_old_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SuiteError, match="No space left on device"):
        save_optimizer(path, SPEC, make().with_weights(make().weights * 2))
    assert torch.equal(load_optimizer(path).weights, make().weights)
    assert list(path.parent.iterdir()) == [path]
