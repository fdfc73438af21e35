"""Randomness is a function of (seed, stream, instance, step), the same everywhere and for ever."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l2l.suite.core.seeds import Rng

PLACES = [
    (seed, stream, instance, step)
    for seed in (0, 1)
    for stream in ("test/init", "test/batch", "train/init")
    for instance in (0, 1, 11)
    for step in (0, 1, 100)
]


def test_every_seed_stream_instance_and_step_has_draws_of_its_own() -> None:
    draws = torch.stack([Rng(*place).normal(400) for place in PLACES])
    correlations = draws.corrcoef() - torch.eye(len(PLACES))
    # 1/√400 is the deviation of each; five of them are next to impossible in 630 pairs.
    assert correlations.abs().max() < 5 / 20


def test_key_is_the_one_that_philox_is_documented_to_take() -> None:
    digest = hashlib.blake2b(b"3/test/batch/7", digest_size=16).digest()
    key = np.frombuffer(digest, dtype=np.uint64)
    expected = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 5, 0]))
    drawn = Rng(3, "test/batch", 7, 5).uniform(10)
    assert drawn.tolist() == expected.random(10, np.float32).tolist()


def test_steps_do_not_overlap_however_much_is_drawn() -> None:
    long = Rng(0, "test/batch", 3, 0).uniform(100_000)
    assert not torch.isin(Rng(0, "test/batch", 3, 1).uniform(8).double(), long.double()).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**40), st.text(max_size=20), st.integers(0, 10**9), st.integers(0, 2**63))
def test_draws_repeat(seed: int, stream: str, instance: int, step: int) -> None:
    first, again = (Rng(seed, stream, instance, step) for _ in range(2))
    assert torch.equal(first.normal(3, 2), again.normal(3, 2))
    assert torch.equal(first.integers(7, 4), again.integers(7, 4))


def test_draws_do_not_change_with_the_version_of_this_suite() -> None:
    """Committed results hang on these numbers: a change of them is a change of every result."""
    rng = Rng(4, "test/init", 7, 20)
    assert rng.normal(3).tolist() == pytest.approx([-1.053645, -2.2608106, -0.3593254])
    assert rng.uniform(3).tolist() == pytest.approx([0.5597453, 0.1468248, 0.3979592])
    assert rng.integers(60_000, 4).tolist() == [57176, 28465, 31209, 29786]


def test_draws_come_from_the_cpu_whatever_the_default_device_and_global_seeds_are() -> None:
    expected = Rng(0, "test/init", 1).normal(4)
    torch.manual_seed(99)
    with torch.device("meta"):
        drawn = Rng(0, "test/init", 1).normal(4)
    assert drawn.device.type == "cpu"
    assert torch.equal(drawn, expected)


def test_another_process_draws_the_same() -> None:
    """Python salts `hash` for each process; nothing here may depend on it."""
    code = (
        "from l2l.suite.core.seeds import Rng; print(Rng(1, 'a', 2, 3).integers(10**9, 3).tolist())"
    )
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == str(Rng(1, "a", 2, 3).integers(10**9, 3).tolist())


def test_draws_have_their_distributions() -> None:
    rng = Rng(0, "distributions")
    normal, uniform, whole = rng.normal(50_000), rng.uniform(50_000), rng.integers(5, 50_000)
    assert normal.mean().abs() < 0.03
    assert (normal.std() - 1).abs() < 0.03
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert (uniform.mean() - 0.5).abs() < 0.01
    assert (whole.bincount(minlength=5) / 10_000 - 1).abs().max() < 0.1
    assert normal.dtype == uniform.dtype == torch.float32
    assert whole.dtype == torch.int64


def test_shape_without_dimensions_is_a_scalar() -> None:
    rng = Rng(0, "scalars")
    assert rng.normal().shape == rng.uniform().shape == rng.integers(3).shape == ()
