"""Convolution and batch normalization for second derivatives are what PyTorch's are."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from l2l import Rng
from l2l.problems import convnet
from l2l.problems.convnet import ConvNet
from l2l.problems.kernels.twice import convolved, normalized
from l2l.suite.inner.objective import Objective
from l2l.suite.meta.estimators.second_order import hessian_product

SMALL = ConvNet(dataset="mnist", layers=2, channels=3, units=6, batch_size=20)


def drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    rng = Rng(0, "twice")
    return [rng.normal(*shape).double().requires_grad_() for shape in shapes]


@pytest.mark.parametrize("kernel", [1, 5])
def test_convolution_twice_differentiated(kernel: int) -> None:
    images, filters = drawn((2, 3, 6, 5), (4, 3, kernel, kernel))
    assert torch.equal(convolved(images, filters), F.conv2d(images, filters, padding=kernel // 2))
    assert gradcheck(convolved, (images, filters))
    assert gradgradcheck(convolved, (images, filters))
    # Images of the first layer have no gradient.
    assert gradgradcheck(lambda leaf: convolved(images.detach(), leaf), (filters,))


@pytest.mark.parametrize("shape", [(6, 3, 4, 5), (7, 4)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalization_twice_differentiated(
    shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    def function(x: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
        laid = x if x.dim() == 2 else x.contiguous(memory_format=layout)
        return normalized(laid, factor, offset)

    x, factor, offset = drawn(shape, shape[1:2], shape[1:2])
    expected = F.batch_norm(x, None, None, factor, offset, training=True)
    torch.testing.assert_close(function(x, factor, offset), expected)
    assert gradcheck(function, (x, factor, offset))
    assert gradgradcheck(function, (x, factor, offset))


def test_network_has_the_hessian_of_plain_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(SMALL, range(2), "train", 1)
    noise = Rng(1, "twice").normal(2, *objective.start().shape)
    theta, vector = objective.start() + 0.05 * noise[0], noise[1]
    found = hessian_product(objective, theta, 1, vector)
    monkeypatch.setattr(convnet, "_TWICE", convnet._ONCE)
    expected = hessian_product(objective, theta, 1, vector)
    assert not torch.equal(found, expected)
    assert (found - expected).norm() < 1e-4 * expected.norm()


def test_loss_works_within_torch_func() -> None:
    theta, batch = SMALL.init(Rng(0, "twice")), SMALL.batch(Rng(1, "twice"))
    found = torch.func.grad(lambda own: SMALL.loss(own, {}, batch))(theta)
    leaves = {name: value.requires_grad_() for name, value in theta.items()}
    expected = torch.autograd.grad(SMALL.loss(leaves, {}, batch), list(leaves.values()))
    for own, right in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(own, right, rtol=1e-4, atol=1e-6)
