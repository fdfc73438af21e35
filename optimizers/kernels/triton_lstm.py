"""The fused LSTM for GPUs: a step forward is one Triton kernel; `triton_window` goes back.

The kernel takes blocks of BLOCK coordinates. Arrays of a block are [HP, BLOCK], the HIDDEN units
padded to HP, a power of two; weights of units beyond HIDDEN are read as 0, so those units stay 0.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from l2l.optimizers.kernels.shape import LSTMShape, Scales
from l2l.optimizers.kernels.triton_cell import cell
from l2l.optimizers.kernels.triton_window import backward, loss_gradient

__all__ = ["backward", "forward", "loss_gradient", "update"]

# The fastest pair on an H100 (docs/gpu.md).
BLOCK, WARPS = 64, 4


def forward(
    shape: LSTMShape, weights: Tensor, features: Tensor, state: Tensor, last: Tensor
) -> Tensor:
    """As `cpu.forward`."""
    steps, _, n = features.shape
    updates = features.new_empty(steps, n)
    for x, update in zip(features, updates, strict=True):
        rows = (shape.row_length(state), shape.row_length(last))
        grid = (triton.cdiv(n, BLOCK),)
        _forward[grid](weights, x, state, update, last, n, *rows, **_sizes(shape),
                       num_warps=WARPS)  # fmt: skip
        state = last
    return updates


def update(
    shape: LSTMShape, weights: Tensor, grads: Tensor, state: Tensor, last: Tensor, scales: Scales
) -> Tensor:
    """As `cpu.update`."""
    features = scales.features(grads, shape).unsqueeze(0)
    return scales.update * forward(shape, weights, features, state, last)[0]


def _sizes(shape: LSTMShape) -> dict[str, int]:
    # A matrix product of Triton has at least 16 rows.
    padded = max(16, triton.next_power_of_2(shape.hidden))
    return {"L": shape.layers, "H": shape.hidden, "F": shape.inputs, "HP": padded, "B": BLOCK}


@triton.jit(do_not_specialize=["n", "state_row", "last_row"])
def _forward(
    weights, features, state, update, last, n, state_row, last_row,
    L: tl.constexpr, H: tl.constexpr, F: tl.constexpr, HP: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """One step of one block; `last` may be `state`."""
    n, state_row, last_row = n.to(tl.int64), state_row.to(tl.int64), last_row.to(tl.int64)
    ks = (tl.program_id(0) * B + tl.arange(0, B)).to(tl.int64)
    unit = tl.arange(0, HP)
    mask = (unit < H)[:, None] & (ks < n)[None, :]
    state_at = unit[:, None] * state_row + ks[None, :]
    last_at = unit[:, None] * last_row + ks[None, :]
    w = weights
    below = tl.zeros([HP, B], tl.float32)
    for layer in tl.static_range(L):
        h_row, c_row = 2 * layer * H, (2 * layer + 1) * H
        h = tl.load(state + h_row * state_row + state_at, mask=mask, other=0.0)
        c = tl.load(state + c_row * state_row + state_at, mask=mask, other=0.0)
        h, c = cell(w, features, n, below, h, c, ks, layer, H, F, HP)
        tl.debug_barrier()
        tl.store(last + h_row * last_row + last_at, h, mask=mask)
        tl.store(last + c_row * last_row + last_at, c, mask=mask)
        below = h
        w += 4 * H * ((F if layer == 0 else H) + H + 1)
    output = tl.load(w + unit, mask=unit < H, other=0.0)
    total = tl.sum(output[:, None] * below, 0) + tl.load(w + H)
    tl.store(update + ks, total, mask=ks < n)
