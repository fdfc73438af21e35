"""The learned optimizer in processes that are set up in other ways, and what its page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch_training import network, train, weights, with_gradient

from l2l import LearnedOptimizer

PAGE = Path(__file__).parents[2] / "docs" / "torch-optimizer.md"


def test_default_dtype_changes_nothing(checkpoint: Path, device: str, doubles: None) -> None:
    parameter = with_gradient(torch.ones(3).float().to(device), torch.ones(3).float().to(device))
    LearnedOptimizer([parameter], checkpoint).step()
    torch.set_default_dtype(torch.float32)
    twin = with_gradient(torch.ones(3, device=device), torch.ones(3, device=device))
    LearnedOptimizer([twin], checkpoint).step()
    assert torch.equal(parameter, twin)


@pytest.fixture(params=["meta", *(["cuda"] if torch.cuda.is_available() else [])])
def default_device(request: pytest.FixtureRequest) -> Iterator[str]:
    torch.set_default_device(request.param)
    yield request.param
    torch.set_default_device(None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parameters_need_not_be_on_the_default_device(
    checkpoint: Path, default_device: str, dtype: torch.dtype
) -> None:
    parameter, twin = (
        with_gradient(*(torch.ones(3, device="cpu", dtype=dtype) for _ in range(2)))
        for _ in range(2)
    )
    optimizer = LearnedOptimizer([parameter], checkpoint)
    if default_device != "meta":
        optimizer.step()
    torch.set_default_device(None)
    if default_device == "meta":  # for the initialization of models, not for training
        optimizer.step()
    LearnedOptimizer([twin], checkpoint).step()
    assert torch.equal(parameter, twin)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_in_inference_mode_are_steps(
    checkpoint: Path, device: str, dtype: torch.dtype
) -> None:
    net, twin = network(device).to(dtype), network(device).to(dtype)
    pairs = [(x, LearnedOptimizer(x.parameters(), checkpoint)) for x in (net, twin)]
    for each, optimizer in pairs:
        for parameter in each.parameters():
            parameter.grad = torch.ones_like(parameter)
        with torch.inference_mode(each is net):
            optimizer.step()
        train(each, optimizer, range(2))
    assert torch.equal(weights(net), weights(twin))


IN_OTHER_PROCESSES = """
import multiprocessing, sys
import torch
from torch import nn
from torch.utils.data import DataLoader
from l2l import LearnedOptimizer

def step(size=20_000):
    parameter = nn.Parameter(torch.zeros(size))
    parameter.grad = torch.ones(size)
    LearnedOptimizer([parameter], "mnist-lstm").step()
    return parameter.detach().abs().sum()

class Steps(torch.utils.data.Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return step()

if __name__ == "__main__":
    here = step()  # starts OpenMP's threads
    process = multiprocessing.get_context("fork").Process(target=step, daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == 0, process.exitcode
    loader = DataLoader(Steps(), num_workers=1, multiprocessing_context="fork", timeout=60)
    assert all(torch.allclose(each, here) for each in loader)
    print("done", torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_it_steps_in_forked_processes(tmp_path: Path) -> None:
    """Though the threads of their parent's kernel are not there."""
    script = tmp_path / "forks.py"
    script.write_text(IN_OTHER_PROCESSES)
    root = str(PAGE.parents[1])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "done 2\n", done.stderr


def test_the_page_about_it_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 4
    torch.manual_seed(0)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    model = names["model"]
    assert isinstance(model, nn.Module)
    assert weights(model).isfinite().all()
