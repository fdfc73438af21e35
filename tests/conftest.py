"""What every test stands on: few threads, no network, and a tiny MNIST made here."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Iterator
from pathlib import Path

# Before PyTorch is imported, and inherited by every process that a test starts. Tests side by side
# take one thread each: with more they would wait for each other's. The process that starts them
# reads this too, and they inherit what it chose for itself, so they must know whose choice it was.
if "OMP_NUM_THREADS" not in os.environ:
    os.environ["L2L_TESTS_CHOSE_THREADS"] = "1"
if "L2L_TESTS_CHOSE_THREADS" in os.environ:
    os.environ["OMP_NUM_THREADS"] = (
        "2" if os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1") == "1" else "1"
    )
os.environ["L2L_OFFLINE"] = "1"
# Whoever has weights that others published has other rows in the benchmark.
os.environ.pop("L2L_WEIGHTS", None)
# A shell's background job ignores Ctrl-C, and so would the runs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Triton's kernels run on the processor where there is no GPU.
if not Path("/proc/driver/nvidia").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
import torch

from l2l.optimizers.learned.checkpoint import save_optimizer
from l2l.optimizers.learned.lstm import LSTM
from l2l.problems.data_root import DATA_ROOT
from l2l.problems.datasets import load_images
from l2l.suite.core import native_build
from l2l.suite.core.plugins import load_plugin
from l2l.suite.core.seeds import Rng

TRAIN_IMAGES, TEST_IMAGES = 600, 200
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--plugin FILE`: the conformance tests take in what it registers."""
    parser.addoption("--plugin", action="append", default=[], type=Path)


def pytest_configure(config: pytest.Config) -> None:
    """Before the tests are collected, whose parameters are all that is registered."""
    for plugin in config.getoption("--plugin"):
        load_plugin(plugin)


@pytest.fixture(scope="session", autouse=True)
def mnist_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of data sets, with a made-up MNIST in torchvision's layout, for all tests."""
    root = tmp_path_factory.mktemp("data")
    write_mnist(root)
    before = os.environ.get(DATA_ROOT)
    os.environ[DATA_ROOT] = str(root)
    load_images.cache_clear()
    yield root
    if before is None:
        del os.environ[DATA_ROOT]
    else:
        os.environ[DATA_ROOT] = before
    load_images.cache_clear()


@pytest.fixture
def doubles() -> Iterator[None]:
    """New tensors are float64, as the references of the numerics need them."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what is in tables: a small run takes half its time to draw."""
    from command_line import leave_figures_empty  # which imports all of the suite

    leave_figures_empty(monkeypatch)


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working folder of one's own, for `own_file`, of which nothing stays registered."""
    from own_file import forget

    monkeypatch.chdir(tmp_path)
    yield
    forget()


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """The processor, and the GPU where there is one."""
    return str(request.param)


@pytest.fixture(params=["x86-64", "x86-64-v3"])
def older_processor(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """Kernels are compiled anew, with vectors of 4 and 8 floats."""
    if platform.machine() != "x86_64":
        pytest.skip("the instruction sets are x86-64's")
    march = f"-march={request.param}"
    flags = [march if flag.startswith("-march") else flag for flag in native_build.FLAGS]
    monkeypatch.setattr(native_build, "FLAGS", tuple(flags))
    monkeypatch.setenv("L2L_CACHE", str(tmp_path))
    native_build.load_library.cache_clear()
    yield
    native_build.load_library.cache_clear()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small LSTM optimizer that was never trained, in a file."""
    optimizer = LSTM(hidden=4)
    optimizer = optimizer.with_weights(optimizer.initial_weights(Rng(0, "phi")))
    path = tmp_path / "small.safetensors"
    save_optimizer(path, {"name": "lstm", "hidden": 4}, optimizer)
    return path


def write_mnist(root: Path) -> None:
    """Random digits-like images below `root`: a class is a blob at a place of its own."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, count in (("train", TRAIN_IMAGES), ("t10k", TEST_IMAGES)):
        labels = rng.integers(10, size=count).astype(np.uint8)
        labels[:10] = np.arange(10)
        images = np.zeros((count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            top, left = 4 + 10 * (label // 5), 2 + 5 * (label % 5)
            # The border stays black, as it is in the real ones.
            image[top : top + 9, left : left + 6] = rng.integers(256, size=(9, 6))
        _write_idx(raw / f"{prefix}-images-idx3-ubyte", images)
        _write_idx(raw / f"{prefix}-labels-idx1-ubyte", labels)


def _write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    path.write_bytes(header + values.tobytes())
