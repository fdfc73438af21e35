"""Users' files: what lies beside them, results that follow it, and whose fault an error is."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_kinds import fake_kind
from typer.testing import CliRunner

from l2l.suite.commands.command_line import app
from l2l.suite.core.errors import DataMissing, SuiteError
from l2l.suite.core.kind import Job
from l2l.suite.core.plugins import load_plugin, plugin_files
from l2l.suite.core.registry import optimizers, problems
from l2l.suite.plan.cells import Cell, make_cell
from l2l.suite.plan.resolved import optimizer_config, problem_config
from l2l.suite.plan.unchanged import check_unchanged
from l2l.suite.run.folder import open_results
from l2l.suite.run.ray.worker import Order, run_travelling
from l2l.suite.run.records import failure_of
from l2l.suite.run.store import run_cell

PLUGIN = """
from dataclasses import dataclass
from pathlib import Path
from l2l import Problem, register_problem
import scales
from .relative import offset
from shapes.plain import dim

@register_problem("NAME")
@dataclass(frozen=True)
class Bowl(Problem):
    width: int = 3

    def init(self, rng):
        return {"theta": scales.scale * rng.normal(dim) + offset}

    def loss(self, params, instance, batch):
        return params["theta"].square().sum()
"""
BESIDE = {
    # One of the standard library that nobody has imported before, and that has modules of its own.
    "scales.py": "import wsgiref.util\nscale = 1.0",
    "relative.py": "from scales import scale\nfrom . import scales\noffset = 0 * scales.scale",
    # A folder without an __init__.py.
    "shapes/plain.py": "from ..scales import scale\ndim = 2",
}
YAML = """
title: Own
sizes: {test_instances: 2, tuning_instances: 2}
panels:
  p: {title: P, problem: {name: own-bowl}, steps: 3, optimizers: {SGD: {name: sgd, lr: 0.1}}}
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What plugins register is gone after each test."""
    before = [{name: each.cls(name) for name in each} for each in (problems, optimizers)]
    yield
    problems._classes, optimizers._classes = before


def write(folder: Path, name: str = "own-bowl", **changed: str) -> Path:
    for file, text in {**BESIDE, "mine.py": PLUGIN.replace("NAME", name), **changed}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return folder / "mine.py"


def key(folder: Path) -> str:
    """Of a cell with the plugin's problem."""
    load_plugin(folder / "mine.py")
    config = {"problem": problem_config({"name": "own-bowl"}, "here")}
    return make_cell("evaluate", "own", config).key


def test_what_lies_beside_a_plugin_can_be_imported(tmp_path: Path) -> None:
    path, before = list(sys.path), set(sys.modules)
    load_plugin(write(tmp_path))
    module = sys.modules[problems.cls("own-bowl").__module__]
    assert (module.scales.scale, module.offset, module.dim) == (1.0, 0.0, 2)
    assert sys.path == path
    assert not {"scales", "relative", "shapes"} & (set(sys.modules) - before)
    assert not list(tmp_path.rglob("__pycache__")), "users' folders are left as they are"


def test_modules_of_one_name_beside_two_plugins_are_two(tmp_path: Path) -> None:
    for name in ("one", "two"):
        load_plugin(
            write(tmp_path / name, name, **{"scales.py": f"scale = {len(name)}; at='{name}'"})
        )
    for name in ("one", "two"):
        module = sys.modules[problems.cls(name).__module__]
        assert module.scales.at == name
        assert module.scales is sys.modules[f"{module.__package__}.scales"]


@pytest.mark.parametrize(
    ("file", "text", "same"),
    [
        ("scales.py", "import wsgiref.util\nscale = 1.0  # a comment", True),
        ("scales.py", "scale = 2.0", False),
        ("relative.py", "offset = 1.0", False),
        ("shapes/plain.py", "dim = 3", False),
    ],
)
def test_editing_a_module_beside_a_plugin_redoes_cells(
    tmp_path: Path, file: str, text: str, same: bool
) -> None:
    write(tmp_path)
    before = key(tmp_path)
    write(tmp_path, **{file: text})
    assert (key(tmp_path) == before) is same


def test_module_in_a_folder_beside_a_plugin_may_import_from_all_of_it(tmp_path: Path) -> None:
    text = PLUGIN.replace("NAME", "own-bowl").replace("import scales", "from ... import scales")
    text = text.replace("from .relative", "from ...relative").replace(
        "from shapes", "from ...shapes"
    )
    files = {"mine.py": "from .sub.deep.mod import Bowl", "sub/deep/mod.py": text}
    write(tmp_path, **files)
    before = key(tmp_path)
    for name, other in (("scales.py", "scale = 2.0"), ("relative.py", "offset = 1.0")):
        write(tmp_path, **files, **{name: other})
        assert key(tmp_path) != before


INNER = """
from dataclasses import dataclass
from l2l import register_optimizer
from l2l.optimizers.learned.lstm import LSTM

@register_optimizer("own-lstm")
@dataclass(frozen=True)
class Own(LSTM):
    factor = 1.0
"""


def test_code_of_optimizers_within_another_decides_it_too(tmp_path: Path) -> None:
    file = tmp_path / "inner.py"

    def config(name: str, factor: float) -> dict[str, Any]:
        file.write_text(INNER.replace("1.0", str(factor)))
        load_plugin(file)
        groups = {"all": {"name": name, "preprocessing": "none"}}
        return optimizer_config({"name": "routed", "groups": groups}, {"name": "quadratic"}, "here")

    before = config("own-lstm", 1.0)
    check_unchanged(before)
    assert config("own-lstm", 1.0) == before
    after = config("own-lstm", 2.0)
    assert {key for key in after if after[key] != before[key]} == {"inner"}
    with pytest.raises(SuiteError, match="optimizer 'own-lstm' changed since this run was planned"):
        check_unchanged(before)
    # Of what `routed` imports itself, its own code is enough.
    assert "inner" not in config("lstm", 1.0)
    assert "inner" in config("scaled-lstm", 1.0)


def test_other_code_of_the_projects_own_is_noticed_where_a_cell_runs() -> None:
    config = problem_config({"name": "quadratic"}, "here")
    check_unchanged({"problem": config})
    with pytest.raises(SuiteError, match="problem 'quadratic' changed since this run was planned"):
        check_unchanged({"problem": {**config, "code": "of another checkout"}})


def test_moving_a_plugin_redoes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "here")
    before = key(tmp_path / "here")
    problems._classes.pop("own-bowl")
    write(tmp_path / "there")
    assert key(tmp_path / "there") == before


READS = "    def files(self):\n        return [GIVEN]\n\n    def init"


@pytest.mark.parametrize("given", ['"data.csv"', 'Path(__file__).parent / "data.csv"'])
def test_cells_follow_the_files_that_a_problem_declares(tmp_path: Path, given: str) -> None:
    text = PLUGIN.replace("NAME", "own-bowl").replace("    def init", READS.replace("GIVEN", given))
    write(tmp_path, **{"mine.py": text, "data.csv": "1"})
    before = key(tmp_path)
    (tmp_path / "data.csv").write_text("2")
    assert key(tmp_path) != before
    (tmp_path / "data.csv").write_text("1")
    assert key(tmp_path) == before
    (tmp_path / "data.csv").unlink()
    with pytest.raises(
        DataMissing, match=r"here: Bowl\.files \(.*mine\.py, line \d+\) names .*data"
    ):
        key(tmp_path)


def test_problem_without_files_has_the_key_that_it_had(tmp_path: Path) -> None:
    load_plugin(write(tmp_path))
    assert set(problem_config({"name": "own-bowl"}, "here")) == {"spec", "code", "notice"}


def cell_of(folder: Path) -> Cell:
    load_plugin(folder / "mine.py")
    config = {"problem": problem_config({"name": "own-bowl"}, "here")}
    return make_cell("fake", "own", config)


@pytest.mark.parametrize("file", ["mine.py", "scales.py"])
def test_plugin_that_changed_after_the_planning_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """As in a worker process that imports it a moment later."""
    fake_kind(monkeypatch, lambda job: None)
    open_results(tmp_path / "out")
    write(tmp_path)
    cell = cell_of(tmp_path)
    text = (tmp_path / file).read_text()
    write(tmp_path, **{file: f"{text}\nmore = 1\n"})
    load_plugin(tmp_path / "mine.py")
    assert run_cell(cell, tmp_path / "out", "cpu").state == "failed"
    assert "changed since this run was planned" in failure_of(cell, tmp_path / "out")
    write(tmp_path)
    load_plugin(tmp_path / "mine.py")
    assert run_cell(cell, tmp_path / "out", "cpu").state == "done"


def test_file_that_changed_after_the_planning_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_kind(monkeypatch, lambda job: None)
    open_results(tmp_path / "out")
    given = READS.replace("GIVEN", '"data.csv"')
    text = PLUGIN.replace("NAME", "own-bowl").replace("    def init", given)
    write(tmp_path, **{"mine.py": text, "data.csv": "1"})
    cell = cell_of(tmp_path)
    (tmp_path / "data.csv").write_text("2")
    assert run_cell(cell, tmp_path / "out", "cpu").state == "failed"
    assert "changed since this run was planned" in failure_of(cell, tmp_path / "out")


def test_what_lies_beside_a_plugin_travels_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To nodes that do not see this machine's files."""
    fake_kind(monkeypatch, lambda job: None)
    plugin = write(tmp_path)
    cell = cell_of(tmp_path)
    assert set(plugin_files(plugin)) == {"mine.py", *BESIDE}
    problems._classes.pop("own-bowl")
    order = Order(cell, "cpu", 1, (("mine.py", plugin_files(plugin)),), {})
    returned = run_travelling(order, (), lambda files: None)
    assert returned.outcome.error == ""
    assert returned.outcome.state == "done"


def test_every_cell_finds_the_global_generators_alike_and_leaves_them_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def work(job: Job) -> None:
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))

    fake_kind(monkeypatch, work)
    open_results(tmp_path)
    states = torch.get_rng_state(), random.getstate()
    for text in "ab":
        run_cell(make_cell("fake", text, {"text": text}), tmp_path, "cpu")
    assert drawn[0] == drawn[1]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_plugin_finds_the_global_generators_alike_whenever_it_is_imported(tmp_path: Path) -> None:
    plugin = write(tmp_path, **{"scales.py": "import torch\nscale = torch.rand(1).item()"})
    scales = []
    for _ in range(2):
        load_plugin(plugin)
        scales.append(sys.modules[problems.cls("own-bowl").__module__].scales.scale)
        torch.rand(3)
    assert scales[0] == scales[1]


def test_random_numbers_drawn_while_a_module_of_the_suite_is_imported_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import l2l.problems as package

    text = PLUGIN.replace("NAME", "own-bowl").replace(
        "from shapes.plain import dim", "import torch"
    )
    for old, new in (
        ("import scales", "START = torch.rand(2)"),
        ("from .relative import offset", ""),
        ("scales.scale * rng.normal(dim) + offset", "START.clone()"),
    ):
        text = text.replace(old, new)
    text = text.replace("START = ", "import torch\nSTART = ", 1)
    (tmp_path / "own_module.py").write_text(text)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.setattr(problems, "_loaded", False)
    try:
        with pytest.raises(
            SuiteError, match=r"Bowl\.init .* gives a value at \['theta'\] that depends on"
        ):
            problem_config({"name": "own-bowl"}, "here")
        cls = problems.cls("own-bowl")
        assert sys.modules["l2l.problems.own_module"].Bowl is package.own_module.Bowl is cls
    finally:
        del sys.modules["l2l.problems.own_module"], package.own_module
        problems.drew.clear()


# After an import that failed.

SECOND = """
@register_problem("other-bowl")
@dataclass(frozen=True)
class Other(Bowl):
    pass

"""


def names() -> set[str]:
    return {*problems, *optimizers}


@pytest.mark.parametrize("where", ["mine.py", "scales.py"])
def test_plugin_that_fails_leaves_nothing_registered_and_can_be_mended(
    tmp_path: Path, where: str
) -> None:
    before, modules = names(), set(sys.modules)
    text = PLUGIN.replace("NAME", "own-bowl") + SECOND
    broken = {"mine.py": text + "1 / 0", "scales.py": BESIDE["scales.py"] + "\n1 / 0"}
    plugin = write(tmp_path, **{"mine.py": text, where: broken[where]})
    with pytest.raises(SuiteError, match="ZeroDivisionError"):
        load_plugin(plugin)
    assert names() == before
    assert not [name for name in set(sys.modules) - modules if name.startswith("plugin_")]
    load_plugin(write(tmp_path, **{"mine.py": text}))
    assert names() == before | {"own-bowl", "other-bowl"}


def test_plugin_that_fails_when_loaded_again_stays_as_it_was(tmp_path: Path) -> None:
    load_plugin(write(tmp_path))
    cls, before = problems.cls("own-bowl"), names()
    text = PLUGIN.replace("NAME", "own-bowl") + SECOND
    with pytest.raises(SuiteError, match="ZeroDivisionError"):
        load_plugin(write(tmp_path, **{"mine.py": text + "1 / 0"}))
    assert names() == before
    assert problems.cls("own-bowl") is cls
    assert sys.modules[cls.__module__].Bowl is cls
    assert key(write(tmp_path).parent)


@pytest.mark.parametrize("kind", ["problem", "optimizer"])
def test_decorator_without_a_name_is_refused(tmp_path: Path, kind: str) -> None:
    text = f"from l2l import register_{kind}\n\n\n@register_{kind}\nclass Mine:\n    pass\n"
    with pytest.raises(SuiteError) as caught:
        load_plugin(write(tmp_path, **{"mine.py": text}))
    place = tmp_path / "mine.py"
    assert str(caught.value) == f'{place}, line 4: write @register_{kind}("name")'


def test_plugin_with_one_name_that_is_taken_registers_none(tmp_path: Path) -> None:
    before = names()
    text = PLUGIN.replace("NAME", "own-bowl") + SECOND.replace("other-bowl", "quadratic")
    places = r"by .*problems/quadratic\.py, line \d+ and by .*mine\.py, line \d+: choose"
    with pytest.raises(SuiteError, match=f"'quadratic' is registered twice, {places}"):
        load_plugin(write(tmp_path, **{"mine.py": text}))
    assert names() == before


def test_module_of_the_suite_that_fails_is_told_each_time_and_can_be_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import l2l.problems as package

    before = names()
    text = PLUGIN.replace("NAME", "own-bowl")
    for line in ("import scales", "from .relative import offset", "from shapes.plain import dim"):
        text = text.replace(line, "")
    file = tmp_path / "zz_own_module.py"
    file.write_text(text + "1 / 0")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.setattr(problems, "_loaded", False)
    try:
        for _ in range(2):
            with pytest.raises(SuiteError, match="ZeroDivisionError"):
                problems.names()
        assert "own-bowl" not in problems._classes
        file.write_text(text)
        assert names() == before | {"own-bowl"}
    finally:
        sys.modules.pop("l2l.problems.zz_own_module", None)


def test_what_a_plugin_sets_for_the_whole_process_is_set_back(tmp_path: Path) -> None:
    sets = "import os, torch\ntorch.set_default_dtype(torch.float64)\nos.chdir('/')\n"
    plugin = write(tmp_path, **{"scales.py": sets + "torch.set_grad_enabled(False)\nscale = 1.0"})
    before = Path.cwd()
    load_plugin(plugin)
    assert (Path.cwd(), torch.get_default_dtype()) == (before, torch.float32)
    assert torch.is_grad_enabled()


def test_own_module_called_as_a_part_of_the_suite_is_told_how_to_be_imported(
    tmp_path: Path,
) -> None:
    text = PLUGIN.replace("import scales", "import problems as scales")
    plugin = write(tmp_path, **{"mine.py": text, "problems.py": "scale = 1.0"})
    with pytest.raises(SuiteError, match=r"write `from .problems import ...` for your own"):
        load_plugin(plugin)


def test_exit_in_a_cell_fails_that_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(job: Job) -> None:
        raise SystemExit(0)

    fake_kind(monkeypatch, leave)
    monkeypatch.delitem(sys.modules, "ray", raising=False)  # as other tests may have left it
    open_results(tmp_path)
    outcome = run_cell(make_cell("fake", "cell", {}), tmp_path, "cpu")
    assert outcome.state == "failed"
    assert outcome.error.startswith("SystemExit: 0 (")


# Whose fault it is.

BAD = {
    "import": ("import scales", "import scales\n1 / 0", "ZeroDivisionError: division by zero"),
    "beside": ("import scales", "import broken", "ZeroDivisionError: division by zero"),
    "exit": ("import scales", "raise SystemExit(3)", "SystemExit: 3"),
    "syntax": ("import scales", "import scales as", "SyntaxError: invalid syntax"),
    "missing": ("import scales", "import nowhere", "No module named 'nowhere'"),
    "post_init": (
        "    def init",
        "    def __post_init__(self):\n        raise KeyError(1)\n\n    def init",
        "Bowl raises KeyError: 1",
    ),
    "no dataclass": ("@dataclass(frozen=True)\n", "", "must be a dataclass"),
    "init": ("scales.scale *", "nothing *", "NameError: name 'nothing' is not defined"),
    "loss": (".square()", ".sqare()", "AttributeError: 'Tensor' object has no attribute"),
    "steps": ("width: int = 3", "width: int = 3 + None", "TypeError"),
}


@pytest.mark.parametrize("bad", BAD)
def test_fault_of_a_plugin_is_wrong_input_with_its_file(tmp_path: Path, bad: str) -> None:
    old, new, told = BAD[bad]
    assert old in PLUGIN
    text = PLUGIN.replace("NAME", "own-bowl").replace(old, new, 1)
    plugin = write(tmp_path, **{"mine.py": text, "broken.py": "1 / 0"})
    (tmp_path / "own.yaml").write_text(YAML)
    words = ["run", tmp_path / "own.yaml", "--plugin", plugin, "--results", tmp_path / "out"]
    ended = CliRunner().invoke(app, list(map(str, words)))
    assert ended.exit_code == 2, ended.output
    assert told in ended.output
    assert ("broken.py" if bad == "beside" else "mine.py") in ended.output
    assert "bug in the suite" not in ended.output


def test_fault_that_appears_while_running_fails_the_cell_with_file_and_line(
    tmp_path: Path,
) -> None:
    late = "    def instance(self, rng):\n        return {} if rng.split == 'train' else 1 / 0\n\n"
    text = PLUGIN.replace("NAME", "own-bowl").replace("    def init", f"{late}    def init", 1)
    plugin = write(tmp_path, **{"mine.py": text})
    (tmp_path / "own.yaml").write_text(YAML)
    words = ["run", tmp_path / "own.yaml", "--plugin", plugin, "--results", tmp_path / "out"]
    ended = CliRunner().invoke(app, list(map(str, words)))
    assert ended.exit_code == 1, ended.output
    line = 1 + text[: text.index("else 1 / 0")].count("\n")
    assert f"ZeroDivisionError: division by zero ({plugin}, line {line})" in ended.output.replace(
        "\n", ""
    )
