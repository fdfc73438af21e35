"""The wheel has everything that the code needs: what is built is unpacked elsewhere, and run."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from command_line import as_program
from forked import forked

ROOT = Path(__file__).parents[1]
# What is in the repository and decides what is built.
SOURCES = ("suite", "problems", "optimizers", "experiments", "results/checkpoints", "results/paper")
FILES = ("pyproject.toml", "README.md", "reproduce.py")
# Several commands in one process, which takes seconds to import the suite.
COMMANDS = """
import shlex, sys
from l2l.suite.commands.command_line import main
for words in sys.argv[1:]:
    sys.argv = ["l2l", *shlex.split(words)]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"

# A project of somebody else's, which has packages of the names that the suite's folders have.
OWN = {
    "optimizers/__init__.py": "RATE = 0.25",
    "problems/__init__.py": "",
    "main.py": """
import torch
from l2l import LearnedOptimizer
from optimizers import RATE
import problems
model = torch.nn.Linear(2, 1)
optimizer = LearnedOptimizer(model.parameters(), "mnist-lstm")
before = model.weight.detach().clone()
model(torch.ones(3, 2)).square().mean().backward()
optimizer.step()
assert not torch.equal(before, model.weight)
print(RATE, problems.__file__)
""",
    "plugin.py": """
from dataclasses import dataclass
from l2l import Optimizer, Params, Tensors, register_optimizer
from optimizers import RATE

@register_optimizer("own")
@dataclass(frozen=True)
class Own(Optimizer):
    def update(self, grads, state, params):
        return -RATE * grads, state
""",
}
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
    optimizers: {LSTM: {trained: t}, Clipping: {name: gac-clipping}, Own: {name: own}}
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
    shutil.copytree(ROOT / "l2l", folder / "source" / "l2l", symlinks=True, ignore=ignored)
    words = [sys.executable, "-c", BUILD, str(folder)]
    built = subprocess.run(words, cwd=folder / "source", capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def python(site: Path) -> Path:
    """The interpreter of an environment that has the wheel, and what it depends on."""
    venv.create(site.parent / "venv")
    there = next((site.parent / "venv").glob("lib/python*/site-packages"))
    for each in site.iterdir():
        shutil.move(each, there)
    # Of our own environment, after its own; what is installed here by links is not found so.
    (there / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return site.parent / "venv" / "bin" / "python"


def ran(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


def test_wheel_holds_one_package_with_every_file_of_the_repositorys(site: Path) -> None:
    for name in SOURCES:
        files = [path for path in (ROOT / name).rglob("*") if path.is_file()]
        wanted = {path.relative_to(ROOT) for path in files if path.parent.name != "__pycache__"}
        whole = site / "l2l"
        there = {path.relative_to(whole) for path in (whole / name).rglob("*") if path.is_file()}
        assert there == wanted
    (about,) = site.glob("*.dist-info")
    assert {path.name for path in site.iterdir()} == {"l2l", about.name}
    assert (about / "top_level.txt").read_text().split() == ["l2l"]
    assert "l2l = l2l.suite.commands.command_line:main" in (about / "entry_points.txt").read_text()


def test_package_is_used_beside_a_projects_own_optimizers_and_problems(
    python: Path, tmp_path: Path
) -> None:
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)
    told = ran(python, "main.py", folder=tmp_path)
    assert told.stdout.split() == ["0.25", str(tmp_path / "problems" / "__init__.py")], told.stderr

    words = ("list --json", "run tiny.yaml --plugin plugin.py")
    told = ran(python, "-c", COMMANDS, *words, folder=tmp_path)
    assert told.returncode == 0, told.stderr
    listed, _ = json.JSONDecoder().raw_decode(told.stdout)
    assert {"fig4", "seeds"} <= {each["name"] for each in listed["experiments"]}
    records = tmp_path.glob("results/report/cells/*/cell.json")
    assert {"evaluate", "tune"} == {json.loads(path.read_text())["kind"] for path in records}


@pytest.mark.parametrize("name", ["suite", "optimizers.learned.lstm"])
def test_plugin_with_another_name_of_the_package_is_told_what_to_write(
    python: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "old.py").write_text(f"import torch\nfrom {name} import Problem\n")
    words = ("list", "--plugin", str(tmp_path / "old.py"))
    if name == "suite":  # which a checkout has beside l2l
        with forked(tmp_path / "printed", as_program, *words) as process:
            process.join()
        code, printed = process.exitcode, (tmp_path / "printed").read_text(encoding="utf-8")
    else:
        told = ran(python, "-c", COMMANDS, shlex.join(words), folder=tmp_path)
        code, printed = told.returncode, told.stderr
    assert code == 2
    assert "write `from l2l import ...` for what authors need" in printed
    assert "line 2" in printed
