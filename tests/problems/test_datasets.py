"""Data sets: torchvision's files where they are, a notice or a sentence where they are not."""

from __future__ import annotations

import logging
import shutil
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TEST_IMAGES, TRAIN_IMAGES
from data_files import forget_data
from PIL import Image

from l2l.problems import datasets, downloads, sample_images
from l2l.problems.convnet import ConvNet
from l2l.problems.data_root import DATA_ROOT, data_root
from l2l.problems.datasets import load_images
from l2l.problems.image_tensors import Images, as_images
from l2l.problems.mlp import MLP
from l2l.suite.core.errors import DataMissing, SuiteError
from l2l.suite.core.registry import problems
from l2l.suite.core.seeds import Rng


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a test loads is not what the next one gets."""
    forget_data()
    yield
    forget_data()


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root without any data set."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "empty"))
    return tmp_path / "empty"


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were one."""
    monkeypatch.delenv("L2L_OFFLINE")
    monkeypatch.setattr(downloads, "_network_answers", lambda: True)


@pytest.fixture
def copy(tmp_path: Path, mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with the tiny MNIST, to be damaged."""
    shutil.copytree(mnist_root, tmp_path / "copy")
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "copy"))
    return tmp_path / "copy" / "MNIST" / "raw"


def test_root_is_the_variables_or_the_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_ROOT, str(tmp_path))
    assert data_root() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv(DATA_ROOT, f"~/{tmp_path.name}")
    assert data_root() == tmp_path
    monkeypatch.delenv(DATA_ROOT)
    assert data_root() == Path(datasets.__file__).resolve().parents[1] / "data"


@pytest.mark.parametrize("named", ["missing", "file", "~/missing", "~nobody-of-this-name/data"])
def test_root_that_is_no_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    named = named if "~" in named else str(tmp_path / named)
    monkeypatch.setenv(DATA_ROOT, named)
    with pytest.raises(SuiteError, match=f"{DATA_ROOT} is '{named}', but there is no such folder"):
        load_images("mnist")


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
    with pytest.raises(DataMissing) as raised:
        load_images("fashionmnist")
    told = str(raised.value)
    assert f"no data set 'fashionmnist' in {empty}" in told
    assert "nothing is downloaded because L2L_OFFLINE is set" in told
    assert DATA_ROOT in told
    assert "\n" not in told


@pytest.mark.parametrize("name", ["fashionmnist", "svhn", "eurosat", "stl10", "emnist", "imagenet"])
def test_nobody_is_advised_what_only_a_caller_of_torchvision_can_do(empty: Path, name: str) -> None:
    with pytest.raises(DataMissing) as raised:
        load_images(name)
    assert "download=True" not in str(raised.value)


def test_nor_where_files_are_damaged(empty: Path) -> None:
    (empty / "cifar-10-batches-py").mkdir()
    (empty / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"half a bat")
    with pytest.raises(SuiteError, match=r"not found or corrupted\): replace what is damaged"):
        load_images("cifar10")


def test_what_is_no_set_of_labelled_images_is_a_sentence(empty: Path) -> None:
    with pytest.raises(SuiteError, match="'fakedata' is not a set of images in files"):
        load_images("fakedata")


def _check_sample(train: Images, test: Images, shape: tuple[int, ...]) -> None:
    for images in (train, test):
        assert images.pixels.shape[1:] == shape
        assert images.pixels.dtype == torch.uint8
        assert images.pixels.max() == 255
        # As many of each class.
        assert images.labels.bincount().tolist() == [len(images.labels) // 10] * 10
    ours = {bytes(image.numpy()) for image in train.pixels}
    assert not any(bytes(image.numpy()) in ours for image in test.pixels)


def test_without_mnist_a_subset_serves_and_says_so(empty: Path) -> None:
    train, test = load_images("mnist"), load_images("mnist", train=False)
    _check_sample(train, test, (1, 28, 28))
    assert (len(train.labels), len(test.labels)) == (4000, 1000)
    assert "4,000 of 5,000 MNIST digits" in train.notice
    assert "1,000 of 5,000 MNIST digits" in test.notice
    assert MLP().notice == train.notice


def test_without_cifar10_a_sample_serves_and_says_so(empty: Path) -> None:
    train, test = load_images("CIFAR10"), load_images("CIFAR10", train=False)
    _check_sample(train, test, (3, 32, 32))
    assert (len(train.labels), len(test.labels)) == (2500, 1000)
    assert "2,500 of CIFAR-10's 50,000 training images" in train.notice
    assert "1,000 of CIFAR-10's 10,000 test images" in test.notice
    assert ConvNet().notice == train.notice
    # The first airplane and truck, by their mean colours in the original data set.
    means = train.pixels[::250].float().mean((2, 3))
    assert means[0].tolist() == pytest.approx([147.9, 148.7, 149.3], abs=0.05)
    assert means[9].tolist() == pytest.approx([130.2, 130.4, 130.5], abs=0.05)


@pytest.mark.parametrize("content", [None, b"", b"RIFF not a picture"])
def test_sample_that_is_not_whole_is_a_sentence(
    empty: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.setattr(sample_images, "SAMPLES", empty)
    if content is not None:
        (empty / "cifar10").mkdir()
        (empty / "cifar10" / "train.webp").write_bytes(content)
        # Or else it would be taken for the user's data set.
        monkeypatch.setattr(datasets, "_has_files", lambda make: False)
    with pytest.raises(SuiteError, match=r"train\.webp cannot be read .*get the project's file"):
        load_images("cifar10")


@pytest.mark.parametrize(
    ("root", "files", "told"),
    [
        (".", (), "no data set 'mnist' in {root}, and nothing is downloaded"),
        (
            "MNIST",
            ("MNIST/raw/train-images-idx3-ubyte",),
            "one folder too deep: set L2L_DATA to {root}",
        ),
        ("MNIST/raw", ("MNIST/raw/train-images-idx3-ubyte",), "too deep: set L2L_DATA to {root}"),
        (".", ("sets/MNIST/raw/train-images-idx3-ubyte",), "too high: set L2L_DATA to {root}/sets"),
        (".", ("MNIST/raw/train-images-idx3-ubyte.gz",), "only an archive, MNIST/raw/train-images"),
    ],
)
def test_why_a_sample_is_used_is_said_on_the_terminal(
    empty: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    root: str,
    files: tuple[str, ...],
    told: str,
) -> None:
    for name in files:
        (empty / name).parent.mkdir(parents=True)
        (empty / name).touch()
    monkeypatch.setenv(DATA_ROOT, str(empty / root))
    # A run in an earlier test may have turned it off.
    monkeypatch.setattr(logging.getLogger("suite"), "propagate", True)
    assert load_images("mnist").notice and load_images("mnist", False).notice
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert told.format(root=empty) in record.getMessage()
    assert "a sample is used, 5,000 of its digits" in record.getMessage()


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
    with pytest.raises(DataMissing, match="L2L_OFFLINE is set"):
        load_images("fashionmnist")
    assert not attempts
    monkeypatch.delenv("L2L_OFFLINE")
    monkeypatch.setattr(downloads, "_network_answers", lambda: True)
    with pytest.raises(DataMissing, match="its download failed"):
        load_images("fashionmnist")
    assert attempts, "and otherwise it is"
    assert not any(empty.rglob("*ubyte*"))


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


@pytest.mark.usefixtures("network")
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
    for _ in range(2):
        assert "5,000 MNIST digits" in load_images("mnist").notice
        load_images.cache_clear()
    assert len(attempts) == 2 * len(mnist.MNIST.mirrors)


@pytest.mark.usefixtures("network")
def test_sample_serves_where_the_root_cannot_be_written_to(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("os.makedirs", read_only)
    for name in ("mnist", "cifar10"):
        assert "not from the full data set" in load_images(name).notice


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
    (empty / "train_32x32.mat").write_bytes(b"half a file")
    with pytest.raises(SuiteError, match="'svhn' cannot be read") as raised:
        load_images("svhn")
    assert not isinstance(raised.value, DataMissing)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts and says nothing, as some firewalls do."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


@pytest.mark.usefixtures("network")
def test_silent_download_is_given_up_and_other_sockets_are_left_alone(
    empty: Path, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "SILENCE", 0.2)
    monkeypatch.setattr(datasets._torchvision_datasets().FashionMNIST, "mirrors", [silent])
    with pytest.raises(DataMissing, match="its download failed"):
        load_images("fashionmnist")
    assert socket.getdefaulttimeout() is None


def test_network_that_does_not_answer_is_asked_once_and_waited_for_as_long_as_said(
    empty: Path, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("L2L_OFFLINE")
    asked = []

    def swallow(request: urllib.request.Request, **_: object) -> None:
        asked.append(request.full_url)
        time.sleep(5)  # as asking for a name may, whatever the time limit

    monkeypatch.setattr("urllib.request.urlopen", swallow)
    monkeypatch.setattr(downloads, "PATIENCE", 0.2)
    downloads._network_answers.cache_clear()
    started = time.monotonic()
    try:
        for name in ("mnist", "cifar10", "mnist"):
            load_images(name)
        with pytest.raises(DataMissing, match="and no network answers"):
            load_images("svhn")
    finally:
        downloads._network_answers.cache_clear()
    assert len(asked) == len(downloads.SERVERS)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("status", "there"), [(b"200 OK", True), (b"404 Not Found", True), (b"", False)]
)
def test_any_answer_is_a_network(
    monkeypatch: pytest.MonkeyPatch, status: bytes, there: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        monkeypatch.setattr(downloads, "SERVERS", (url,))
        monkeypatch.setattr(downloads, "PATIENCE", 2.0)

        def serve() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.0 " + status + b"\r\n\r\n" if status else b"")
            connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        downloads._network_answers.cache_clear()
        assert downloads._network_answers() is there
        downloads._network_answers.cache_clear()


def test_labels_with_further_columns_are_the_first_one() -> None:
    """QMNIST's rows go on with who wrote the digit."""
    pixels = np.zeros((3, 28, 28), dtype=np.uint8)
    labels = np.array([[7, 900], [2, 901], [1, 902]])
    images = as_images(SimpleNamespace(data=pixels, targets=labels))
    assert images.labels.tolist() == [7, 2, 1]
    assert images.classes == 8
