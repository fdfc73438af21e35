"""The test suite's parts that take a device, and the command line, on the device."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from l2l.suite.report.results import load_results

ROOT = Path(__file__).resolve().parents[2]
TESTS = (
    "tests/optimizers/test_triton.py",
    "tests/inner/test_devices.py",
    "tests/inner/test_replay.py",
    "tests/optimizers/test_torch_optimizer.py",
    "tests/optimizers/test_torch_optimizer_state.py",
    "tests/optimizers/test_torch_optimizer_tools.py",
)


def run(*command: str, seconds: float) -> str:
    """What a program prints.

    Raises:
        RuntimeError: it fails; the message is the end of what it printed.
    """
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        encoding="utf-8",
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}:\n{done.stdout[-6000:]}")
    return done.stdout


def tests(device: str) -> pd.DataFrame:
    """The kernel's tests and all others that take a device."""
    told = run("-m", "pytest", "-n", str(min(8, os.cpu_count() or 1)), *TESTS, seconds=220)
    (count,) = re.findall(r"\d+ passed.*", told)
    return pd.DataFrame([{"tests": count}])


def experiments(device: str) -> pd.DataFrame:
    """A smoke run of every experiment, each by itself, with what it prints if it fails."""
    names = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(8) as pool:

        def curves(name: str) -> int | str:
            command = ("run", name, "--profile", "smoke", "--device", device)
            where = Path(folder) / name
            try:
                run("reproduce.py", *command, "--results", str(where), seconds=200)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                return f"{name}: {error}"
            found = load_results(where).tables.losses
            return int(found.groupby(["panel", "optimizer"]).ngroups)

        found = dict(zip(names, pool.map(curves, names), strict=True))
    failed = [told for told in found.values() if isinstance(told, str)]
    if failed:
        raise RuntimeError("\n\n".join(failed))
    return pd.DataFrame({"experiment": found.keys(), "curves": found.values()})


def deterministic(device: str) -> pd.DataFrame:
    """Two runs with ``--deterministic`` give the same bits."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2):
            where = Path(folder) / str(number)
            command = ("run", "fig4", "--profile", "smoke", "--device", device, "--deterministic")
            run("reproduce.py", *command, "--results", str(where), seconds=200)
            found.append(load_results(where).tables.losses)
    assert found[0].equals(found[1]), "two deterministic runs differ"
    return pd.DataFrame([{"losses": len(found[0]), "equal": True}])
