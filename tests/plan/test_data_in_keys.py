"""The data that a problem reads is in its cells' keys, and is checked again where they run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from data_files import forget_data, vgg_state, write_photos, write_styles, write_weights
from fake_kinds import fake_kind
from PIL import Image

from l2l.problems.data_root import DATA_ROOT
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.plugins import load_plugin
from l2l.suite.core.registry import optimizers, problems
from l2l.suite.core.types import Problem
from l2l.suite.plan.cells import Cell, make_cell
from l2l.suite.plan.resolved import problem_config
from l2l.suite.plan.unchanged import fingerprints
from l2l.suite.run.folder import open_results
from l2l.suite.run.ray.worker import Order, run_travelling
from l2l.suite.run.records import failure_of
from l2l.suite.run.store import run_cell

DIGITS = Path(__file__).parents[2] / "docs" / "examples" / "digits_net.py"
ART = {
    "name": "neural-art",
    "style": "waves",
    "content_layer": "relu1_2",
    "style_layers": ("relu1_1",),
    "size": 16,
}
CONVNET = {"name": "convnet", "dataset": "mnist", "layers": 2}
SPECS = {
    "mlp": {"name": "mlp"},
    "convnet": CONVNET,
    "test images": {**CONVNET, "split": "test"},
    "art": ART,
    "plugin": {"name": "digits-net"},
    "quadratic": {"name": "quadratic"},
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of data that a test may change."""
    root = tmp_path / "data"
    shutil.copytree(mnist_root, root)
    write_photos(root)
    write_styles(root)
    write_weights(root)
    monkeypatch.setenv(DATA_ROOT, str(root))
    fake_kind(monkeypatch, lambda job: None)
    known = [{name: each.cls(name) for name in each} for each in (problems, optimizers)]
    load_plugin(DIGITS)
    forget_data()
    yield root
    forget_data()
    problems._classes, optimizers._classes = known


def cell_of(name: str) -> Cell:
    """As a process that starts now plans it."""
    forget_data()
    return make_cell("fake", name, {"problem": problem_config(SPECS[name], "here")})


def replace_photo(root: Path) -> None:
    Image.new("RGB", (40, 30), (1, 2, 3)).save(root / "photos" / "train" / "2.png")


def replace_painting(root: Path) -> None:
    Image.new("RGB", (20, 30), (1, 2, 3)).save(root / "styles" / "waves.png")


def replace_weights(root: Path) -> None:
    state = vgg_state()
    state["features.2.bias"] = state["features.2.bias"] + torch.tensor(1e-6)
    write_weights(root, state=state)


def replace_pixel(root: Path) -> None:
    replace_byte(root / "MNIST" / "raw" / "train-images-idx3-ubyte", -1)


def replace_label(root: Path) -> None:
    replace_byte(root / "MNIST" / "raw" / "train-labels-idx1-ubyte", -1)


def replace_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] = (content[place] + 1) % 10
    path.write_bytes(content)


# What is replaced, and whose keys it changes.
REPLACED: dict[Callable[[Path], None], set[str]] = {
    replace_photo: {"art"},
    replace_painting: {"art"},
    replace_weights: {"art"},
    replace_pixel: {"mlp", "convnet", "plugin"},
    replace_label: {"mlp", "convnet", "plugin"},
}


@pytest.mark.parametrize("replace", REPLACED)
def test_replaced_data_changes_the_keys_of_what_reads_it(
    root: Path, tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    before = {name: cell_of(name).key for name in SPECS}
    shutil.copytree(root, tmp_path / "kept")
    replace(root)
    assert {name for name in SPECS if cell_of(name).key != before[name]} == REPLACED[replace]
    shutil.rmtree(root)
    shutil.move(tmp_path / "kept", root)
    assert {name: cell_of(name).key for name in SPECS} == before


def test_order_of_photos_and_what_is_in_other_folders_count_and_their_names_do_not(
    root: Path,
) -> None:
    before = cell_of("art").key
    photos = root / "photos"
    (photos / "train" / "4.png").rename(photos / "train" / "5.png")
    (root / "README").write_text("mine")
    assert cell_of("art").key == before
    (photos / "train" / "5.png").rename(photos / "train" / "0a.png")
    assert cell_of("art").key != before


@pytest.mark.parametrize("replace", REPLACED)
def test_cell_is_not_computed_on_data_that_was_replaced_after_the_planning(
    root: Path, tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    name = sorted(REPLACED[replace])[0]
    cell = cell_of(name)
    open_results(tmp_path / "out")
    replace(root)
    forget_data()
    assert run_cell(cell, tmp_path / "out", "cpu").state == "failed"
    told = failure_of(cell, tmp_path / "out")
    assert "is not what this run was planned with: give this machine the same" in told
    assert cell.config["problem"]["spec"]["name"] in told


@pytest.mark.parametrize(
    ("name", "gone", "told"),
    [
        ("mlp", "MNIST", "is 'made from 4,000 of 5,000 MNIST digits"),
        ("plugin", "MNIST", "is 'made from 4,000 of 5,000 MNIST digits"),
        ("art", "photos", "is 'made with samples that come with the project: crops of 6 photos'"),
        ("art", "photos/val", "there are no pictures in"),
        ("art", "styles", "there is no style 'waves'"),
    ],
)
def test_node_without_the_data_fails_the_cell(root: Path, name: str, gone: str, told: str) -> None:
    order = Order(cell_of(name), "cpu", 1, (), {})
    shutil.rmtree(root / gone)
    forget_data()
    error = run_travelling(order, (), lambda files: None).outcome.error
    assert told in error
    if "made" in told:
        assert "complete where the run was planned: give this machine the same" in error


def test_node_with_other_data_fails_the_cell_and_one_with_the_same_computes_it(root: Path) -> None:
    order = Order(cell_of("art"), "cpu", 1, (), {})
    assert run_travelling(order, (), lambda files: None).outcome.state == "done"
    replace_photo(root)
    forget_data()
    error = run_travelling(order, (), lambda files: None).outcome.error
    assert "the data of problem 'neural-art' (photos) is not what" in error


@pytest.mark.parametrize("given", [{"images": 3}, ["images"]])
def test_fingerprints_of_another_kind_are_a_sentence(given: object) -> None:
    class Reader(Problem):
        def fingerprints(self):  # type: ignore[no-untyped-def]
            return given

    with pytest.raises(SuiteError, match=r"Reader\.fingerprints .* must return a dict of texts"):
        fingerprints(Reader())
