"""The wheel has everything that the code needs: what is built is unpacked elsewhere, and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What is in the repository and decides what is built.
SOURCES = ("suite", "problems", "optimizers", "experiments", "results/checkpoints", "results/paper")
FILES = ("pyproject.toml", "README.md", "reproduce.py")
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"

EXPERIMENT = """
title: Tiny
sizes: {test_instances: 2, tuning_instances: 2}
training:
  t:
    problem: &problem {name: mlp, units: 4}
    optimizer: {name: lstm}
    phases: [{runs: 1, horizon: 2, estimator: {name: truncated, window: 2}, rate: 0.01}]
    checkpoint: mnist-lstm
    use: shipped
panels:
  digits:
    title: Digits
    problem: *problem
    steps: 3
    optimizers: {LSTM: {trained: t}, Clipping: {name: gac-clipping}, SGD: {name: sgd, lr: 0.1}}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, folder / "source")
    words = [sys.executable, "-c", BUILD, str(folder)]
    built = subprocess.run(words, cwd=folder / "source", capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_every_file_of_the_packages_is_in_the_wheel(site: Path) -> None:
    for name in SOURCES:
        files = [path for path in (ROOT / name).rglob("*") if path.is_file()]
        wanted = {path.relative_to(ROOT) for path in files if path.parent.name != "__pycache__"}
        there = {path.relative_to(site) for path in (site / name).rglob("*") if path.is_file()}
        assert there == wanted
    assert {path.name for path in site.iterdir()} - {"reproduce.py"} <= {
        *(Path(name).parts[0] for name in SOURCES),
        *(path.name for path in site.glob("*.dist-info")),
    }


def test_experiments_run_from_the_wheel(site: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def command(*words: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", "reproduce", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    listed = json.loads(command("list", "--json"))
    assert {"fig4", "seeds"} <= {each["name"] for each in listed["experiments"]}
    command("run", "tiny.yaml", "--results", "out")
    records = [json.loads(path.read_text()) for path in tmp_path.glob("out/cells/*/cell.json")]
    assert {"evaluate", "tune"} == {record["kind"] for record in records}
    where = [sys.executable, "-c", "import suite; print(suite.__file__)"]
    told = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert told.stdout.strip() == str(site / "suite" / "__init__.py")
