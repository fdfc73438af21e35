"""Which implementation of the LSTM serves a tensor: fused where there is one, else `reference`."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType

import torch
from torch import Tensor

from l2l.optimizers.kernels import operators, reference
from l2l.optimizers.kernels.cpu import lstm_library
from l2l.optimizers.kernels.shape import LSTMShape, Scales
from l2l.optimizers.learned.cotangents import cotangents
from l2l.suite.core.native_build import BuildError

# The largest relative error of a float32 kernel that is taken for rounding.
TOLERANCE = 1e-4

_fused: ContextVar[bool] = ContextVar("_fused", default=True)


def _notice(reason: str) -> None:
    warnings.warn(
        f"the fused LSTM kernel is not used ({reason}); the same results come slower "
        "from plain PyTorch",
        stacklevel=4,
    )


@functools.cache
def _fused_cpu(shape: LSTMShape) -> bool:
    try:
        lstm_library(shape)
    except BuildError as error:
        _notice(str(error))
        return False
    return True


@functools.cache
def _fused_gpu(shape: LSTMShape, device: torch.device) -> bool:
    """Whether Triton's kernel compiles for this device and gives there what `reference` gives."""
    try:
        error = self_check(shape, device)
    except Exception as failure:  # Triton, its compiler and the driver raise what they like
        lines = str(failure).strip().splitlines()
        _notice(f"{type(failure).__name__} on {device}: {lines[0] if lines else 'no message'}")
        return False
    if not error <= TOLERANCE:
        _notice(f"on {device} it differs from the reference by {error:.1e}")
        return False
    return True


def self_check(shape: LSTMShape, device: torch.device) -> float:
    """The largest relative error of the operators against `reference` in a small case.

    It calls all that training and evaluation call on a GPU, with rows of states apart, but for what
    is recorded later. NaN if anything is.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        # Wherever new tensors are by default, the generator is on the CPU.
        return torch.randn(*size, generator=generator, device="cpu").to(device)

    steps, k = 3, 70
    arrays = (
        0.5 * normal(shape.size),
        normal(steps, shape.inputs, k),
        normal(steps, k),
        normal(shape.layers, 2, shape.hidden, k),
        normal(shape.layers, 2, shape.hidden, k),
    )

    scales = Scales(p=10.0, gradient=1.0, update=1.0)

    def of_gradients(
        kernel: ModuleType, weights: Tensor, grads: Tensor, state: Tensor
    ) -> tuple[Tensor, ...]:
        """The meta-gradient of a sum of losses, and one step in place."""
        of_losses = torch.ones_like(grads[1:, :1])
        if kernel is operators:
            window = [x.unsqueeze(0) for x in grads]
            return (
                operators.loss_gradient(shape, weights, window, state, of_losses, 1.0, scales),
                *operators.update(shape, weights, grads[1], state, scales, into=state),
            )
        features = scales.features(grads, shape)
        lambdas = cotangents(grads[1:], of_losses)
        return (
            reference.gradient(shape, weights, features[:-1], state, lambdas),
            *reference.step(shape, weights, features[1], state),
        )

    def results(kernel: ModuleType, dtype: torch.dtype) -> list[Tensor]:
        weights, x, lambdas, *states = (each.to(dtype) for each in arrays)
        state, of_state = (shape.empty_state(k, like=each).copy_(each) for each in states)
        return [
            *kernel.step(shape, weights, x[0], state),
            kernel.gradient(shape, weights, x, state, lambdas),
            *kernel.adjoints(shape, weights, x[0], state, lambdas[0], None),
            *kernel.adjoints(shape, weights, x[0], state, lambdas[0], of_state),
            # Other features than these are not made from gradients by the operators.
            *(of_gradients(kernel, weights, lambdas, state) if shape.inputs <= 2 else ()),
        ]

    pairs = zip(results(operators, torch.float32), results(reference, torch.float64), strict=True)
    return float(torch.stack([(a - b).norm() / b.norm() for a, b in pairs]).max())


@contextmanager
def unfused() -> Iterator[None]:
    """Within the block everything is served by `reference`: nothing has to be compiled first."""
    token = _fused.set(False)
    try:
        yield
    finally:
        _fused.reset(token)


def kernel_for(shape: LSTMShape, like: Tensor) -> ModuleType:
    """The module whose `step`, `gradient` and `adjoints` serve tensors such as `like`."""
    if not _fused.get():
        return reference
    if like.dtype == torch.float32 and (
        (like.device.type == "cpu" and _fused_cpu(shape))
        or (like.device.type == "cuda" and _fused_gpu(shape, like.device))
    ):
        return operators
    return reference
