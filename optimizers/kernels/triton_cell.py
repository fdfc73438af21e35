"""One layer of the LSTM in Triton, for a block of coordinates as in `triton_lstm`."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl


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
    total = total + tl.dot(matrix(w, gate, length, inputs, H, HP), h, input_precision="ieee")
    if LAYER == 0:
        for k in tl.static_range(F):
            column = tl.load(w + (gate * H + unit) * length + k, mask=real, other=0.0)
            feature = tl.load(x + k * n + ks, mask=ks < n, other=0.0)
            total += column[:, None] * feature[None, :]
    else:
        total += tl.dot(matrix(w, gate, length, 0, H, HP), below, input_precision="ieee")
    return total


@triton.jit
def cell(
    w, x, n, below, h, c, ks, LAYER: tl.constexpr, H: tl.constexpr, F: tl.constexpr,
    HP: tl.constexpr,
):  # fmt: skip
    """The four gates of one layer, and its next h and c: [HP, B] each."""
    i = sigmoid(gate_of(w, 0, x, n, below, h, ks, LAYER, H, F, HP))
    f = sigmoid(gate_of(w, 1, x, n, below, h, ks, LAYER, H, F, HP))
    g = tanh(gate_of(w, 2, x, n, below, h, ks, LAYER, H, F, HP))
    o = sigmoid(gate_of(w, 3, x, n, below, h, ks, LAYER, H, F, HP))
    c = f * c + i * g
    return i, f, g, o, o * tanh(c), c
