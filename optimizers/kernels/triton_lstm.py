"""The fused LSTM for GPUs, in Triton: the algorithm of `cpp/`, one program for some blocks.

A block is BLOCK coordinates. Arrays of a block are [HP, BLOCK], the HIDDEN units padded to HP, a
power of two; weights of units beyond HIDDEN are read as 0, so those units stay 0. What must
outlive one layer and step goes through memory, where `tl.debug_barrier` lets all threads of a
program see what one of them wrote. Sums over blocks are in a fixed order, without atomics:
results do not change from run to run.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from l2l.optimizers.kernels.shape import LSTMShape
from l2l.optimizers.kernels.triton_cell import cell, matrix, tanh

BLOCK = 32
# Programs of backward: enough to fill a GPU, and few enough that their activations, which each
# keeps for one block, stay below SCRATCH bytes.
PROGRAMS = 256
SCRATCH = 2**28


def forward(
    shape: LSTMShape, weights: Tensor, features: Tensor, state: Tensor, last: Tensor
) -> Tensor:
    """As `cpu.forward`."""
    steps, _, n = features.shape
    updates = features.new_empty(steps, n)
    for x, update in zip(features, updates, strict=True):
        rows = (shape.row_length(state), shape.row_length(last))
        grid = (triton.cdiv(n, BLOCK),)
        _forward[grid](weights, x, state, update, last, n, *rows, **_sizes(shape))
        state = last
    return updates


def backward(
    shape: LSTMShape,
    weights: Tensor,
    features: Tensor,
    state: Tensor,
    d_updates: Tensor,
    d_last: Tensor | None,
    d_features: Tensor | None,
    d_state: Tensor | None,
) -> Tensor:
    """As `cpu.backward`."""
    steps, n = d_updates.shape
    sizes = _sizes(shape)
    # For each step: h and c of every layer; the gates of every layer.
    block = sizes["HP"] * BLOCK
    kept = block * shape.layers * (2 * (steps + 1) + 4 * steps)
    fitting = max(1, SCRATCH // (kept * features.element_size()))
    programs = min(PROGRAMS, fitting, triton.cdiv(n, BLOCK))
    scratch = features.new_empty(programs, kept)
    # The gradient of h and c is kept in here while it goes back through the steps.
    if d_state is None:
        d_state = shape.empty_state(n, like=state)
    if d_last is None:
        d_state.zero_()
    else:
        d_state.copy_(d_last)
    d_weights = features.new_zeros(programs, shape.size)
    _backward[(programs,)](
        weights,
        features,
        state,
        d_updates,
        d_weights,
        d_features if d_features is not None else features,
        d_state,
        scratch,
        n,
        shape.row_length(state),
        shape.row_length(d_state),
        steps,
        kept,
        shape.size,
        FEATURES=d_features is not None,
        **sizes,
    )
    return d_weights.sum(0)


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
        _, _, _, _, h, c = cell(w, features, n, below, h, c, ks, layer, H, F, HP)
        tl.debug_barrier()
        tl.store(last + h_row * last_row + last_at, h, mask=mask)
        tl.store(last + c_row * last_row + last_at, c, mask=mask)
        below = h
        w += 4 * H * ((F if layer == 0 else H) + H + 1)
    output = tl.load(w + unit, mask=unit < H, other=0.0)
    total = tl.sum(output[:, None] * below, 0) + tl.load(w + H)
    tl.store(update + ks, total, mask=ks < n)


@triton.jit
def _add(at, value, mask):
    tl.store(at, tl.load(at, mask=mask, other=0.0) + value, mask=mask)


@triton.jit(do_not_specialize=["n", "state_row", "d_row", "steps", "kept", "size"])
def _backward(
    weights, features, state, d_updates, d_weights, d_features, d_state, scratch,
    n, state_row, d_row, steps, kept, size, FEATURES: tl.constexpr,
    L: tl.constexpr, H: tl.constexpr, F: tl.constexpr, HP: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Whole windows of every `num_programs`-th block, added to this program's own `d_weights`."""
    program = tl.program_id(0).to(tl.int64)
    n, state_row, d_row = n.to(tl.int64), state_row.to(tl.int64), d_row.to(tl.int64)
    unit = tl.arange(0, HP)
    real = unit < H
    tile: tl.constexpr = HP * B
    inside = unit[:, None] * B + tl.arange(0, B)[None, :]
    # Scratch: [steps + 1][L][h, c] tiles, then [steps][L][gates] tiles.
    hc = scratch + program * kept
    gates = hc + (steps + 1) * (2 * L * tile)
    grad = d_weights + program * size
    output_at: tl.constexpr = 4 * H * (F + H + 1) + (L - 1) * 4 * H * (2 * H + 1)
    output = tl.load(weights + output_at + unit, mask=real, other=0.0)
    zeros = tl.zeros([HP, B], tl.float32)

    for block in range(tl.program_id(0), tl.cdiv(n, B), tl.num_programs(0)):
        ks = (block * B + tl.arange(0, B)).to(tl.int64)
        mask = real[:, None] & (ks < n)[None, :]
        d_at = unit[:, None] * d_row + ks[None, :]

        # Forward, from the state before the window; activations are kept.
        for row in tl.static_range(2 * L):
            before_at = (row * H + unit)[:, None] * state_row + ks[None, :]
            before = tl.load(state + before_at, mask=mask, other=0.0)
            tl.store(hc + row * tile + inside, before)
        tl.debug_barrier()
        for t in range(steps):
            w = weights
            below = zeros
            for layer in tl.static_range(L):
                own = hc + (t * L + layer) * (2 * tile) + inside
                h, c = tl.load(own), tl.load(own + tile)
                x = features + t * F * n
                i, f, g, o, h, c = cell(w, x, n, below, h, c, ks, layer, H, F, HP)
                tl.store(own + 2 * L * tile, h)
                tl.store(own + 2 * L * tile + tile, c)
                kept_gates = gates + (t * L + layer) * (4 * tile) + inside
                tl.store(kept_gates, i)
                tl.store(kept_gates + tile, f)
                tl.store(kept_gates + 2 * tile, g)
                tl.store(kept_gates + 3 * tile, o)
                below = h
                w += 4 * H * ((F if layer == 0 else H) + H + 1)
            tl.debug_barrier()

        # Back through the steps: gates are replaced by the gradients of their pre-activations.
        for s in range(steps):
            t = steps - 1 - s
            cotangent = tl.load(d_updates + t * n + ks, mask=ks < n, other=0.0)
            above = output[:, None] * cotangent[None, :]
            w = weights + output_at
            for layer in tl.static_range(L - 1, -1, -1):
                inputs = F if layer == 0 else H
                length = inputs + H
                w -= 4 * H * (length + 1)
                own = hc + (t * L + layer) * (2 * tile) + inside
                kept_gates = gates + (t * L + layer) * (4 * tile) + inside
                i, f = tl.load(kept_gates), tl.load(kept_gates + tile)
                g, o = tl.load(kept_gates + 2 * tile), tl.load(kept_gates + 3 * tile)
                tanh_c = tanh(tl.load(own + 2 * L * tile + tile))
                dh_at = d_state + 2 * layer * H * d_row + d_at
                dc_at = dh_at + H * d_row
                dh = tl.load(dh_at, mask=mask, other=0.0) + above
                dc = tl.load(dc_at, mask=mask, other=0.0) + dh * o * (1.0 - tanh_c * tanh_c)
                di = dc * g * i * (1.0 - i)
                df = dc * tl.load(own + tile) * f * (1.0 - f)
                dg = dc * i * (1.0 - g * g)
                do = dh * tanh_c * o * (1.0 - o)
                tl.debug_barrier()
                tl.store(kept_gates, di)
                tl.store(kept_gates + tile, df)
                tl.store(kept_gates + 2 * tile, dg)
                tl.store(kept_gates + 3 * tile, do)
                dh = _transposed(w, length, inputs, di, df, dg, do, H, HP)
                tl.store(dh_at, dh, mask=mask)
                tl.store(dc_at, dc * f, mask=mask)
                if layer > 0:
                    above = _transposed(w, length, 0, di, df, dg, do, H, HP)
                elif FEATURES:
                    for k in tl.static_range(F):
                        dx = tl.zeros([B], tl.float32)
                        column = w + unit * length + k
                        dx += tl.sum(tl.load(column, mask=real, other=0.0)[:, None] * di, 0)
                        column += H * length
                        dx += tl.sum(tl.load(column, mask=real, other=0.0)[:, None] * df, 0)
                        column += H * length
                        dx += tl.sum(tl.load(column, mask=real, other=0.0)[:, None] * dg, 0)
                        column += H * length
                        dx += tl.sum(tl.load(column, mask=real, other=0.0)[:, None] * do, 0)
                        tl.store(d_features + (t * F + k) * n + ks, dx, mask=ks < n)
            tl.debug_barrier()

        # Sums over steps of the weights' gradients.
        w_at = grad
        for layer in tl.static_range(L):
            inputs = F if layer == 0 else H
            length = inputs + H
            for gate in range(4):
                rows = w_at + (gate * H + unit) * length
                bias = tl.zeros([HP], tl.float32)
                recurrent = tl.zeros([HP, HP], tl.float32)
                lower = tl.zeros([HP, HP], tl.float32)
                for t in range(steps):
                    d = tl.load(gates + (t * L + layer) * (4 * tile) + gate * tile + inside)
                    bias += tl.sum(d, 1)
                    own = hc + (t * L + layer) * (2 * tile) + inside
                    recurrent += tl.dot(d, tl.trans(tl.load(own)), input_precision="ieee")
                    if layer > 0:
                        x = tl.load(own + 2 * (L - 1) * tile)
                        lower += tl.dot(d, tl.trans(x), input_precision="ieee")
                square = real[:, None] & real[None, :]
                _add(rows[:, None] + inputs + unit[None, :], recurrent, square)
                if layer > 0:
                    _add(rows[:, None] + unit[None, :], lower, square)
                else:
                    for k in tl.static_range(F):
                        column = tl.zeros([HP], tl.float32)
                        for t in range(steps):
                            d = tl.load(gates + t * L * (4 * tile) + gate * tile + inside)
                            x = tl.load(features + (t * F + k) * n + ks, mask=ks < n, other=0.0)
                            column += tl.sum(d * x[None, :], 1)
                        _add(rows + k, column, real)
                _add(w_at + 4 * H * length + gate * H + unit, bias, real)
            w_at += 4 * H * (length + 1)
        top = tl.zeros([HP], tl.float32)
        total = tl.zeros([B], tl.float32)
        for t in range(steps):
            cotangent = tl.load(d_updates + t * n + ks, mask=ks < n, other=0.0)
            h = tl.load(hc + ((t + 1) * L + L - 1) * (2 * tile) + inside)
            top += tl.sum(h * cotangent[None, :], 1)
            total += cotangent
        _add(grad + output_at + unit, top, real)
        first = unit == 0
        _add(grad + output_at + H + unit, tl.where(first, tl.sum(total, 0), 0.0), first)
        tl.debug_barrier()


@triton.jit
def _transposed(
    w, length, column, di, df, dg, do, H: tl.constexpr, HP: tl.constexpr
):  # fmt: skip
    """Wᵀ times the gates' gradients, for the H inputs from `column` on: [HP, B]."""
    total = tl.dot(tl.trans(matrix(w, 0, length, column, H, HP)), di, input_precision="ieee")
    total += tl.dot(tl.trans(matrix(w, 1, length, column, H, HP)), df, input_precision="ieee")
    total += tl.dot(tl.trans(matrix(w, 2, length, column, H, HP)), dg, input_precision="ieee")
    total += tl.dot(tl.trans(matrix(w, 3, length, column, H, HP)), do, input_precision="ieee")
    return total
