"""The convolutional network, against the same network of `torch.nn` modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from l2l.problems.convnet import ConvNet
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import problems
from l2l.suite.core.seeds import Rng
from l2l.suite.inner.objective import Objective, param_spec

SMALL = ConvNet(dataset="mnist", layers=2, channels=3, units=6, batch_size=20)


class Twin(nn.Module):
    """SMALL in the usual way, ReLU before pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 3, 5, padding=2, bias=False),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 3, 5, padding=2, bias=False),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(3 * 7 * 7, 6, bias=False),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.Linear(6, 10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_loss_and_gradient_are_those_of_modules() -> None:
    objective = Objective(SMALL, [5], "train", 2)
    theta = objective.start() + 0.1 * Rng(3, "elsewhere").normal(1, objective.spec.size)
    loss, grads = objective.value_and_grad(theta, 7)
    params, twin = objective.spec.unflatten(theta[0]), Twin()
    with torch.no_grad():
        for own, name in zip(twin.parameters(), params, strict=True):
            value = params[name]
            own.copy_(value.T if value.dim() == 2 else value)
    batch = SMALL.batch(Rng(2, "train/batch", 5, 7))
    expected = nn.functional.cross_entropy(twin(batch["x"]), batch["y"])
    expected.backward()
    torch.testing.assert_close(loss[0], expected.detach())
    for own, (name, grad) in zip(
        twin.parameters(), objective.spec.unflatten(grads[0]).items(), strict=True
    ):
        assert own.grad is not None
        torch.testing.assert_close(grad, own.grad.T if grad.dim() == 2 else own.grad, msg=name)


def test_filters_are_one_group_and_all_else_another() -> None:
    groups = param_spec(SMALL).groups
    assert {name for name, group in groups.items() if group == "conv"} == {"conv0", "conv1"}
    assert set(groups.values()) == {"conv", "fc"}


def test_a_subset_has_its_labels_only_and_numbers_them_anew() -> None:
    subset = ConvNet(dataset="mnist", labels=(7, 2)).images
    whole = ConvNet(dataset="mnist").images
    assert subset.classes == 2
    for number, label in enumerate((7, 2)):
        assert torch.equal(
            subset.pixels[subset.labels == number], whole.pixels[whole.labels == label]
        )
    assert len(subset.labels) == int(torch.isin(whole.labels, torch.tensor([7, 2])).sum())


def test_splits_are_different_images() -> None:
    train, test = (ConvNet(dataset="mnist", split=split).images for split in ("train", "test"))
    assert len(train.labels) != len(test.labels)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"labels": [3]}, "at least two different ones"),
        ({"labels": [3, 3]}, "at least two different ones"),
        ({"kernel": 4}, "kernel must be odd"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"split": "tets"}, "did you mean 'test'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(SuiteError, match=told):
        problems.make({"name": "convnet", **options})


def test_images_and_labels_that_are_not_there_are_told() -> None:
    with pytest.raises(ValueError, match="labels of mnist are 0 to 9, so there is no 10"):
        _ = ConvNet(dataset="mnist", labels=(1, 10)).images
    with pytest.raises(ValueError, match="28×28 images are too small for 5 poolings"):
        ConvNet(dataset="mnist", layers=5).init(Rng(0, "init"))
