"""One layer of the LSTM in Triton, for `triton_lstm`: in a block, and between matrix products."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

# Of products in a block: on tensor cores, float32 as sums of three TF32 numbers, which is as exact.
PRECISION = tl.constexpr("tf32x3")
# Coordinates of a program that works element by element on one unit.
BLOCK = 1024


@triton.jit
def sigmoid(x):
    """The logistic function."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def tanh(x):
    """With a small relative error for small x too: there Cephes' polynomial."""
    size = tl.abs(x)
    e = tl.exp(-2.0 * size)
    large = (1.0 - e) / (1.0 + e)
    z = tl.minimum(size, 0.625)
    z = z * z
    p = -5.70498872745e-3 * z + 2.06390887954e-2
    p = p * z - 5.37397155531e-2
    p = p * z + 1.33314422036e-1
    p = p * z - 3.33332819422e-1
    return tl.where(size < 0.625, x + x * z * p, tl.where(x < 0.0, -large, large))


@triton.jit
def matrix(w, gate, row_length, column, H: tl.constexpr, HP: tl.constexpr):
    """W of one gate [HP, HP]: all units, and the H inputs from `column` on."""
    unit, k = tl.arange(0, HP)[:, None], tl.arange(0, HP)[None, :]
    return tl.load(
        w + (gate * H + unit) * row_length + column + k, mask=(unit < H) & (k < H), other=0.0
    )


@triton.jit
def gate_of(
    w, gate, x, n, below, h, ks, LAYER: tl.constexpr, H: tl.constexpr, F: tl.constexpr,
    HP: tl.constexpr,
):  # fmt: skip
    """Pre-activations [HP, B] of one gate; `w` is where the layer's W begins."""
    unit = tl.arange(0, HP)
    real = unit < H
    inputs: tl.constexpr = F if LAYER == 0 else H
    length: tl.constexpr = inputs + H
    total = tl.load(w + 4 * H * length + gate * H + unit, mask=real, other=0.0)[:, None]
    total = total + tl.dot(matrix(w, gate, length, inputs, H, HP), h, input_precision=PRECISION)
    if LAYER == 0:
        for k in tl.static_range(F):
            column = tl.load(w + (gate * H + unit) * length + k, mask=real, other=0.0)
            feature = tl.load(x + k * n + ks, mask=ks < n, other=0.0)
            total += column[:, None] * feature[None, :]
    else:
        total += tl.dot(matrix(w, gate, length, 0, H, HP), below, input_precision=PRECISION)
    return total


@triton.jit
def cell(
    w, x, n, below, h, c, ks, LAYER: tl.constexpr, H: tl.constexpr, F: tl.constexpr,
    HP: tl.constexpr,
):  # fmt: skip
    """The next h and c of one layer: [HP, B] each."""
    i = sigmoid(gate_of(w, 0, x, n, below, h, ks, LAYER, H, F, HP))
    f = sigmoid(gate_of(w, 1, x, n, below, h, ks, LAYER, H, F, HP))
    g = tanh(gate_of(w, 2, x, n, below, h, ks, LAYER, H, F, HP))
    o = sigmoid(gate_of(w, 3, x, n, below, h, ks, LAYER, H, F, HP))
    c = f * c + i * g
    return o * tanh(c), c


def forth(
    gates: Tensor, bias: Tensor, c: Tensor, next_c: Tensor, h: Tensor, above: Tensor | None
) -> None:
    """From the matrix product of one layer to its gates, and its next c and h.

    Args:
        gates: the product [4·hidden, K]; then the gates.
        bias: [4·hidden].
        c: before the step [hidden, K].
        next_c: where c goes [hidden, K].
        h: where h goes [hidden, K].
        above: where h goes once more [hidden, K], if not None.
    """
    hidden, k = c.shape
    grid = (triton.cdiv(k, BLOCK), hidden)
    second = h if above is None else above
    rows = (x.stride(0) for x in (gates, c, next_c, h, second))
    _forth[grid](gates, bias, c, next_c, h, second, k, hidden, *rows, ABOVE=above is not None,
                 B=BLOCK)  # fmt: skip


@triton.jit(do_not_specialize=["hidden"])
def _forth(
    gates, bias, c, next_c, h, above, k, hidden,
    gates_row, c_row, next_c_row, h_row, above_row, ABOVE: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Of one unit, for a block of coordinates."""
    unit = tl.program_id(1).to(tl.int64)
    ks = tl.program_id(0) * B + tl.arange(0, B)
    mask = ks < k
    at = gates + unit * gates_row + ks
    of_gate = hidden.to(tl.int64) * gates_row
    i = sigmoid(tl.load(at, mask=mask) + tl.load(bias + unit))
    f = sigmoid(tl.load(at + of_gate, mask=mask) + tl.load(bias + hidden + unit))
    g = tanh(tl.load(at + 2 * of_gate, mask=mask) + tl.load(bias + 2 * hidden + unit))
    o = sigmoid(tl.load(at + 3 * of_gate, mask=mask) + tl.load(bias + 3 * hidden + unit))
    following = f * tl.load(c + unit * c_row + ks, mask=mask) + i * g
    output = o * tanh(following)
    tl.store(at, i, mask=mask)
    tl.store(at + of_gate, f, mask=mask)
    tl.store(at + 2 * of_gate, g, mask=mask)
    tl.store(at + 3 * of_gate, o, mask=mask)
    tl.store(next_c + unit * next_c_row + ks, following, mask=mask)
    tl.store(h + unit * h_row + ks, output, mask=mask)
    if ABOVE:
        tl.store(above + unit * above_row + ks, output, mask=mask)


def back(
    gates: Tensor,
    c: Tensor,
    next_c: Tensor,
    of_h: Tensor,
    from_above: Tensor,
    factors: Tensor | None,
    of_c: Tensor,
) -> None:
    """From the gradients of one layer's next h and c to those of its matrix product and of c.

    Args:
        gates: [4·hidden, K]; then the gradient of the product.
        c: before the step [hidden, K].
        next_c: after it [hidden, K].
        of_h: the gradient of h as the next step knows it [hidden, K].
        from_above: what the layer above adds to it [hidden, K], or, with `factors`, the cotangent
            of the update [1, K].
        factors: the output layer's weights [hidden].
        of_c: the gradient of the next c [hidden, K]; then of c.
    """
    hidden, k = c.shape
    grid = (triton.cdiv(k, BLOCK), hidden)
    rows = (x.stride(0) for x in (gates, c, next_c, of_h, from_above, of_c))
    top = factors is not None
    _back[grid](gates, c, next_c, of_h, from_above, factors if top else c, of_c, k, hidden, *rows,
                TOP=top, B=BLOCK)  # fmt: skip


@triton.jit(do_not_specialize=["hidden"])
def _back(
    gates, c, next_c, of_h, from_above, factors, of_c, k, hidden,
    gates_row, c_row, next_c_row, of_h_row, above_row, of_c_row,
    TOP: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Of one unit, for a block of coordinates."""
    unit = tl.program_id(1).to(tl.int64)
    ks = tl.program_id(0) * B + tl.arange(0, B)
    mask = ks < k
    at = gates + unit * gates_row + ks
    of_gate = hidden.to(tl.int64) * gates_row
    i, f = tl.load(at, mask=mask), tl.load(at + of_gate, mask=mask)
    g, o = tl.load(at + 2 * of_gate, mask=mask), tl.load(at + 3 * of_gate, mask=mask)
    if TOP:
        dh = tl.load(from_above + ks, mask=mask) * tl.load(factors + unit)
    else:
        dh = tl.load(from_above + unit * above_row + ks, mask=mask)
    dh += tl.load(of_h + unit * of_h_row + ks, mask=mask)
    tanh_c = tanh(tl.load(next_c + unit * next_c_row + ks, mask=mask))
    of_c_at = of_c + unit * of_c_row + ks
    dc = tl.load(of_c_at, mask=mask) + dh * o * (1.0 - tanh_c * tanh_c)
    before = tl.load(c + unit * c_row + ks, mask=mask)
    tl.store(at, dc * g * i * (1.0 - i), mask=mask)
    tl.store(at + of_gate, dc * before * f * (1.0 - f), mask=mask)
    tl.store(at + 2 * of_gate, dc * i * (1.0 - g * g), mask=mask)
    tl.store(at + 3 * of_gate, dh * tanh_c * o * (1.0 - o), mask=mask)
    tl.store(of_c_at, dc * f, mask=mask)
