"""Convolution and batch normalization whose second derivatives cost little more than their first.

PyTorch differentiates their gradients in many passes over the images, so that a convolutional
network's Hessian times a vector takes some ten times as long as its gradient. These take half of
that. They know nothing of `vmap`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from l2l.problems.kernels.norm_pool import EPS


def convolved(images: Tensor, filters: Tensor) -> Tensor:
    """Images [N, C, H, W] by filters [D, C, k, k] of odd k, padded to the same size."""
    return _convolution(images, filters)


def normalized(x: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Batch normalization of x [N, C] or [N, C, H, W] by its own statistics; all else is [C]."""
    return _normalization(x, factor, offset)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, filters: Tensor) -> Tensor:
        ctx.save_for_backward(images, filters)
        return F.conv2d(images, filters, padding=filters.shape[-1] // 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor]:
        images, filters = ctx.saved_tensors
        of_filters = _filters_gradient(grad, images, filters)
        if not ctx.needs_input_grad[0]:
            return None, of_filters
        return _images_gradient(grad, images, filters), of_filters


class _ImagesGradient(torch.autograd.Function):
    """Linear in `grad` and in the filters; of the images only the size counts."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, images: Tensor, filters: Tensor) -> Tensor:
        ctx.save_for_backward(grad, filters)
        return _gradient(grad, images, filters, 0)

    @staticmethod
    def backward(ctx: Any, adjoint: Tensor) -> tuple[Tensor, None, Tensor]:
        grad, filters = ctx.saved_tensors
        return convolved(adjoint, filters), None, _filters_gradient(grad, adjoint, filters)


class _FiltersGradient(torch.autograd.Function):
    """Linear in `grad` and in the images; of the filters only the size counts."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, images: Tensor, filters: Tensor) -> Tensor:
        ctx.save_for_backward(grad, images)
        return _gradient(grad, images, filters, 1)

    @staticmethod
    def backward(ctx: Any, adjoint: Tensor) -> tuple[Tensor, Tensor | None, None]:
        grad, images = ctx.saved_tensors
        of_grad = convolved(images, adjoint)
        if not ctx.needs_input_grad[1]:
            return of_grad, None, None
        return of_grad, _images_gradient(grad, images, adjoint), None


def _gradient(grad: Tensor, images: Tensor, filters: Tensor, of: int) -> Tensor:
    """That of the images (0) or of the filters (1)."""
    padding = [filters.shape[-1] // 2] * 2
    wanted = [of == 0, of == 1, False]
    found: Tensor = torch.ops.aten.convolution_backward(
        grad, images, filters, None, [1, 1], padding, [1, 1], False, [0, 0], 1, wanted
    )[of]
    return found


class _Normalization(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
        out, mean, r = torch.native_batch_norm(x, factor, offset, None, None, True, 0.0, EPS)
        ctx.save_for_backward(x, factor, mean, r)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return _normalization_gradient(grad, *ctx.saved_tensors)


class _NormalizationGradient(torch.autograd.Function):
    """The gradients of x, factor and offset.

    Let r be a channel's inverse deviation, x̂ = (x − mean)·r, g the gradient given, and ⟨·⟩ the mean
    over a channel's M numbers. Then that of x is r·factor·(g − ⟨g⟩ − x̂·⟨g·x̂⟩), that of the factor
    M·⟨g·x̂⟩ and that of the offset M·⟨g⟩. Mean and r depend on x, which its second derivative knows.
    """

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, x: Tensor, factor: Tensor, mean: Tensor, r: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        g = _rows(grad)
        unit = (_rows(x) - mean).mul_(r)
        of_g, of_product = _means(g, g * unit)
        ctx.save_for_backward(grad, factor, r, unit, of_g, of_product)
        scale = r * factor
        of_x = torch.addcmul(-scale * of_g, g, scale).addcmul_(unit, -scale * of_product)
        return _shaped(of_x, x), len(g) * of_product, len(g) * of_g

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, of_x: Tensor, of_factor: Tensor, of_offset: Tensor
    ) -> tuple[Tensor | None, ...]:
        grad, factor, r, unit, of_g, of_product = ctx.saved_tensors
        g, a = _rows(grad), _rows(of_x)
        scale = r * factor
        of_a, with_unit, with_g = _means(a, a * unit, a * g)
        # The adjoint of x̂ is that much of g and of a; normalizing takes two means out of it.
        on_g, on_a = of_factor - scale * with_unit, -scale * of_product
        mean, product = on_g * of_g + on_a * of_a, on_g * of_product + on_a * with_unit
        of_r = with_g - of_g * of_a - of_product * with_unit
        to_grad = torch.addcmul(of_offset - scale * of_a, a, scale).addcmul_(unit, on_g)
        to_x = torch.addcmul(-r * mean, g, r * on_g).addcmul_(a, r * on_a)
        to_x.addcmul_(unit, -r * (product + scale * of_r))
        to_factor = len(g) * r * of_r
        return _shaped(to_grad, grad), _shaped(to_x, grad), to_factor, None, None


def _means(*parts: Tensor) -> list[Tensor]:
    """Of each column. A product with a vector takes less time than `mean` where columns are few."""
    share = parts[0].new_full((len(parts[0]),), 1 / len(parts[0]))
    return [share @ part for part in parts]


def _rows(x: Tensor) -> Tensor:
    """A row for each place of each image; without a copy where channels are last."""
    return x if x.dim() == 2 else x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _shaped(rows: Tensor, like: Tensor) -> Tensor:
    """`_rows` undone."""
    if like.dim() == 2:
        return rows
    n, channels, height, width = like.shape
    return rows.view(n, height, width, channels).permute(0, 3, 1, 2)


_convolution: Callable[..., Tensor] = _Convolution.apply
_images_gradient: Callable[..., Tensor] = _ImagesGradient.apply
_filters_gradient: Callable[..., Tensor] = _FiltersGradient.apply
_normalization: Callable[..., Tensor] = _Normalization.apply
_normalization_gradient: Callable[..., tuple[Tensor, ...]] = _NormalizationGradient.apply
