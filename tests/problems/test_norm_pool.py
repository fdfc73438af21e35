"""The fused kernel of convolutional networks, against the definition in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from l2l.problems import convnet
from l2l.problems.convnet import ConvNet
from l2l.problems.kernels import norm_pool
from l2l.suite.core import native_build
from l2l.suite.core.seeds import Rng
from l2l.suite.inner.objective import Objective

try:
    native_build.load_library(norm_pool.SOURCE)
    BUILDS = ""
except native_build.BuildError as error:
    BUILDS = str(error)
fused = pytest.mark.skipif(bool(BUILDS), reason=f"no fused kernel here: {BUILDS}")

# N, C, H, W: the network's own; odd sizes, single windows, fewer channels than a vector
# has and more, a single image.
SHAPES = [
    (8, 16, 32, 32),
    (5, 16, 7, 5),
    (3, 1, 6, 9),
    (4, 3, 28, 28),
    (2, 17, 5, 4),
    (2, 40, 3, 3),
    (1, 16, 8, 8),
    (1, 5, 2, 2),
    (6, 16, 2, 3),
]
SMALL = ConvNet(dataset="mnist", layers=2, channels=3, units=6, batch_size=20)


def make_case(shape: tuple[int, int, int, int], seed: int = 0) -> tuple[Tensor, ...]:
    """Images, factors (positive, negative and nearly 0), offsets, and the gradient of the result.

    No two values of a window are alike.
    """
    rng = Rng(seed, "norm-pool")
    n, channels, height, width = shape
    z = (3 + rng.normal(*shape)).contiguous(memory_format=torch.channels_last)
    factor = rng.normal(channels)
    factor[channels // 2] *= 1e-6
    return z, factor, 0.5 * rng.normal(channels), rng.normal(n, channels, height // 2, width // 2)


def value_and_grads(function: norm_pool.NormPool, *case: Tensor) -> list[Tensor]:
    z, factor, offset, cotangent = (each.detach().clone() for each in case)
    leaves = [each.requires_grad_() for each in (z, factor, offset)]
    # As with a convolution, the images are no leaf.
    value = function(1 * z, factor, offset)
    return [value.detach(), *torch.autograd.grad(value, leaves, cotangent)]


def of_kernel(*case: Tensor) -> list[Tensor]:
    function = norm_pool.fused_norm_pool(case[0])
    assert function is not None
    return value_and_grads(function, *case)


def assert_as_defined(*case: Tensor) -> None:
    expected = value_and_grads(convnet._norm_pool, *(each.double() for each in case))
    for name, own, right in zip(("value", "z", "γ", "β"), of_kernel(*case), expected, strict=True):
        assert own.shape == right.shape
        error = ((own - right).norm() / right.norm().clamp(min=1e-6)).item()
        assert error < 3e-6, f"{name} is off by {error:.1e}"


@fused
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_are_the_definitions_in_float64(
    shape: tuple[int, int, int, int],
) -> None:
    assert_as_defined(*make_case(shape))


@fused
@pytest.mark.usefixtures("older_processor")
def test_older_processors_get_the_same_numbers() -> None:
    for shape in SHAPES[1:]:
        assert_as_defined(*make_case(shape))


@fused
def test_images_in_another_layout_are_read_alike() -> None:
    z, *others = make_case((5, 16, 7, 5))
    for own, right in zip(of_kernel(z.contiguous(), *others), of_kernel(z, *others), strict=True):
        assert torch.equal(own, right)


@fused
def test_statistics_are_sound_where_the_mean_is_large() -> None:
    """Float32 sums of squares would have no digit of the variance left."""
    z, factor, offset, cotangent = make_case((16, 16, 12, 12))
    z = z + 1000 * torch.arange(16.0).view(-1, 1, 1)
    # Images of other means than the first, which a shift by its mean would not help.
    z[1:] += 50
    assert_as_defined(z, factor, offset, cotangent)


@fused
def test_factor_of_zero_lets_the_offset_pass_and_has_its_own_gradient() -> None:
    z, factor, offset, cotangent = make_case((4, 16, 6, 6))
    factor[:3], offset[:3] = 0, torch.tensor([-1.0, 0.5, 2.0])
    assert_as_defined(z, factor, offset, cotangent)


@fused
def test_ties_send_the_whole_gradient_to_one_of_them() -> None:
    z, factor, offset, cotangent = make_case((4, 16, 8, 8))
    z, offset = z.round(), offset.abs() + 9  # ReLU is open everywhere
    assert (z[..., ::2, :] == z[..., 1::2, :]).any()
    assert_as_defined(z, factor, offset, cotangent)


@fused
def test_value_that_is_not_finite_is_told_by_the_result() -> None:
    for bad in (torch.nan, torch.inf):
        z, *others = make_case((2, 16, 4, 4))
        z[1, 3, 2, 2] = bad
        value, d_z, d_factor, _ = of_kernel(z, *others)
        assert value[:, 3].isnan().all()
        assert value[:, 4].isfinite().all()
        assert d_z[:, 3].isnan().all()
        assert d_factor[3].isnan()


@fused
def test_results_do_not_depend_on_threads() -> None:
    case = make_case((9, 19, 10, 11))
    results, before = [], torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            assert norm_pool._threads().value == count
            results.append(of_kernel(*case))
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(others, results[0], strict=True))


@fused
def test_second_gradient_in_the_place_of_the_images_is_refused() -> None:
    z, factor, offset, _ = make_case((2, 16, 4, 4))
    function = norm_pool.fused_norm_pool(z)
    assert function is not None
    total = function(z, factor.requires_grad_(), offset).sum()
    torch.autograd.grad(total, factor, retain_graph=True)
    with pytest.raises(RuntimeError, match="was taken before"):
        torch.autograd.grad(total, factor)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_network_by_hand_is_its_loss_by_autograd(batch_norm: bool) -> None:
    problem = ConvNet(
        dataset="mnist", layers=2, channels=3, units=6, batch_size=20, batch_norm=batch_norm
    )
    objective = Objective(problem, range(2), "train", 0, copies=2)
    theta = objective.start() + 0.1 * Rng(1, "elsewhere").normal(4, objective.spec.size)
    assert objective._grads_and_losses == objective._grads_and_losses_by_hand
    losses, grads = objective.value_and_grad(theta, 3)
    split, batch = objective._split_copies(theta), objective.batch_at(3)
    right_grads, right_losses = objective._grads_and_losses_one_by_one(split, batch)
    torch.testing.assert_close(losses, right_losses.flatten())
    torch.testing.assert_close(grads, right_grads.view_as(grads), rtol=1e-4, atol=1e-6)


def test_subclass_with_another_loss_has_that_ones_gradient() -> None:
    class Doubled(ConvNet):
        def loss(self, *args: object) -> Tensor:
            return 2 * super().loss(*args)  # type: ignore[arg-type]

    plain, doubled = (
        Objective(kind(dataset="mnist", layers=1, channels=2, batch_size=8), [0], "train", 0)
        for kind in (ConvNet, Doubled)
    )
    theta = plain.start()
    for one, two in zip(
        plain.value_and_grad(theta, 0), doubled.value_and_grad(theta, 0), strict=True
    ):
        torch.testing.assert_close(two, 2 * one)


def test_runs_stay_side_by_side_where_they_are_not_computed_one_by_one() -> None:
    objective = Objective(SMALL, range(2), "train", 0, device="meta")
    assert objective._grads_and_losses == objective._grads_and_losses_by_vmap


def test_gradient_can_be_differentiated_again() -> None:
    objective = Objective(SMALL, [0], "train", 0)
    theta = objective.start().requires_grad_()
    _, grads = objective.value_and_grad(theta, 1)
    torch.testing.assert_close(
        grads, objective.value_and_grad(theta.detach(), 1)[1], rtol=1e-4, atol=1e-6
    )
    (again,) = torch.autograd.grad(grads.square().sum(), theta)
    assert again.abs().sum() > 0


def test_without_a_compiler_pytorch_serves_after_one_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = Objective(SMALL, [0], "train", 0)
    theta = objective.start()
    losses, grads = objective.value_and_grad(theta, 1)

    def forget() -> None:
        native_build.load_library.cache_clear()
        norm_pool._builds.cache_clear()

    forget()
    try:
        monkeypatch.setenv("CXX", "/nonexistent/c++")
        with pytest.warns(UserWarning, match="the fused kernel of convolutional networks is not"):
            slower = objective.value_and_grad(theta, 1)
        assert norm_pool.fused_norm_pool(theta) is None
    finally:
        monkeypatch.undo()
        forget()
    torch.testing.assert_close(slower[0], losses)
    torch.testing.assert_close(slower[1], grads, rtol=1e-4, atol=1e-6)


def test_float64_and_other_devices_have_no_kernel() -> None:
    assert norm_pool.fused_norm_pool(torch.zeros(1, dtype=torch.float64)) is None
    assert norm_pool.fused_norm_pool(torch.zeros(1, device="meta")) is None
