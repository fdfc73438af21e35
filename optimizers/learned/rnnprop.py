"""RNNProp: an LSTM that is told what ADAM and RMSprop would do (Lv, Jiang and Li 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from l2l import Params, ParamSpec, Rng, register_optimizer
from l2l.optimizers.kernels import operators
from l2l.optimizers.kernels.dispatch import kernel_for
from l2l.optimizers.kernels.shape import LINE, LSTMShape, fan_in_bound
from l2l.optimizers.layout import Layout, check_size
from l2l.optimizers.learned.adjoints import Adjoints, leaf, off_zero
from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.initial import truncated_normal
from l2l.suite.core.abilities import has

# Rows of the state behind those of the LSTM: the means of ∇ and ∇², and of 1, by which they are
# corrected.
MEANS = 3
INPUTS = 2


@dataclass(frozen=True)
class RNNPropLayout(Layout):
    """A fully connected layer on the inputs, W [hidden, 2] and b [hidden], then the LSTM's."""

    lstm: LSTMShape

    def parameters(self) -> dict[str, torch.Size]:
        """Names and shapes of the parts of φ, in order."""
        return {
            "inputs.weight": torch.Size([self.lstm.inputs, INPUTS]),
            "inputs.bias": torch.Size([self.lstm.inputs]),
            **self.lstm.parameters(),
        }


@register_optimizer("rnnprop")
@dataclass(frozen=True)
class RNNProp(Learned):
    """θ ← θ − step · tanh(a), with a the output of an LSTM on m̂/√v̂ and ∇/√v̂ (section 4).

    The same network on every coordinate, as the 2016 LSTM. Both inputs are of order 1 whatever the
    gradient's scale and however late in a run, and no update is longer than `step`. Means of ∇ and
    ∇² decay by `decay`, and both are corrected for their start at 0.

    The state is one tensor [2·layers·hidden + 3, n·P]: h and c of every layer, the two means, and
    the same mean of 1, which is 1 − β^t.
    """

    coordinatewise: ClassVar[bool] = True
    ignores_params: ClassVar[bool] = True
    fused: ClassVar[bool] = True

    layers: int = 2
    hidden: int = 20
    decay: float = 0.95
    epsilon: float = 1e-8
    step: float = 0.1
    output_init: float = 1.0

    def __post_init__(self) -> None:
        check_size("hidden", self.hidden)
        _ = self.layout  # refuses networks without layers
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, not {self.decay:g}")
        for name in ("epsilon", "step"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name):g}")

    @property
    def layout(self) -> RNNPropLayout:
        """The architecture of the network."""
        return RNNPropLayout(LSTMShape(self.layers, self.hidden, inputs=self.hidden))

    def initial_weights(self, rng: Rng) -> Tensor:
        """φ before meta-training.

        The first layer's weights are normal with deviation .1, cut at two deviations, as published;
        the LSTM's are uniform in ±1/√fan_in with forget biases 1, as of ``lstm``.
        """
        layout = self.layout
        parts = {}
        for name, size in layout.parameters().items():
            if name == "inputs.weight":
                parts[name] = 0.1 * truncated_normal(rng, *size)
            elif name.endswith("weight"):
                bound = fan_in_bound(layout.lstm.fan_in(name))
                parts[name] = (2 * rng.uniform(*size) - 1) * bound
            else:
                parts[name] = torch.zeros(size)
            if name.endswith("bias") and name.startswith("layers"):
                parts[name][self.hidden : 2 * self.hidden] = 1.0
        parts["output.weight"] *= self.output_init
        return layout.join(parts)

    def odd_part(self, vector: Tensor) -> Tensor:
        """φ, or a change of it, projected on the subspace in which m(−∇) = −m(∇).

        The units of all layers then come in mirrored pairs, so half of them decide.

        Raises:
            ValueError: the number of hidden units is odd.
        """
        layout = self.layout
        indices, signs = layout.lstm.mirror(None)
        first = layout.size - layout.lstm.size
        swapped = torch.arange(self.hidden).roll(self.hidden // 2)
        of_inputs = torch.arange(INPUTS * self.hidden).view(self.hidden, INPUTS)[swapped].flatten()
        indices = torch.cat([of_inputs, INPUTS * self.hidden + swapped, first + indices])
        signs = torch.cat([-torch.ones(len(of_inputs)), torch.ones(self.hidden), signs])
        return (vector + signs.to(vector) * vector[indices.to(vector.device)]) / 2

    def init(self, spec: ParamSpec, n: int) -> Tensor:
        return self._empty_state(n * spec.size, self.phi).zero_()

    def update(self, grads: Tensor, state: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        return self._update(grads, state, None)

    def update_in_place(
        self, grads: Tensor, state: Tensor, params: Params
    ) -> tuple[Tensor, Tensor]:
        return self._update(grads, state, state)

    def _update(self, grads: Tensor, state: Tensor, into: Tensor | None) -> tuple[Tensor, Tensor]:
        """The updates, and the next state, in the memory of `into` if there is any."""
        inputs, means = self.inputs(grads.flatten().unsqueeze(0), state[-MEANS:])
        below, network = self._below(inputs), self._network_part(state)
        tracked = torch.is_grad_enabled() and (below.requires_grad or state.requires_grad)
        if kernel_for(self._lstm, below) is operators and not tracked:
            following = self._empty_state(grads.numel(), state) if into is None else into
            given = (self._lstm, self._lstm_weights, below[0], network)
            outputs = operators.step_into(*given, self._network_part(following))
            following[-MEANS:] = means
        else:
            rows, network = self._unrolled(below, network)
            outputs, following = rows[0], torch.cat([network.flatten(0, 2), means])
            following = following if into is None else into.copy_(following)
        return (-self.step * outputs.tanh()).view_as(grads), following

    def inputs(self, grads: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is told in a window, and the means after it.

        Args:
            grads: [T, K].
            means: of ∇, ∇² and 1 before the window [3, K].

        Returns:
            m̂/(√v̂ + ε) and ∇/(√v̂ + ε) [T, 2, K], and the next means [3, K].
        """
        # A gradient that is infinite, or whose square would be, counts as a very large one.
        limit = torch.finfo(grads.dtype).max ** 0.5
        grads = grads.clamp(-limit, limit)
        # √v̂ has no derivative at 0.
        least = torch.finfo(grads.dtype).tiny
        mean, square, one = means
        rows = []
        for gradient in grads:
            mean = mean.lerp(gradient, 1 - self.decay)
            square = square.lerp(gradient.square(), 1 - self.decay)
            one = one.lerp(torch.ones_like(one), 1 - self.decay)
            size = (square / one + least).sqrt() + self.epsilon
            rows.append(torch.stack([mean / one, gradient]) / size)
        return torch.stack(rows), torch.stack([mean, square, one])

    def window_gradient(
        self, grads: Tensor, state: Tensor, cotangents: Tensor, params: Params | None = None
    ) -> Tensor:
        """As `Learned.window_gradient`; the LSTM's part by the fused kernel where there is one."""
        if not has(self, "fused"):
            return super().window_gradient(grads, state, cotangents, params)
        lambdas, grads = cotangents.flatten(1), grads.flatten(1)
        # A coordinate whose λ are all zero adds nothing: on MNIST, pixels that stay black.
        active = lambdas.ne(0).any(0).nonzero().squeeze(1)
        if len(active) < 0.97 * lambdas.shape[1]:
            lambdas, grads, state = (x.index_select(-1, active) for x in (lambdas, grads, state))
        inputs, _ = self.inputs(grads, state[-MEANS:])
        with torch.enable_grad():
            phi = self.phi.detach().requires_grad_()
            moving = self.with_weights(phi)
            outputs, _ = moving._unrolled(moving._below(inputs), self._network_part(state))
            total = (-self.step * outputs.tanh() * lambdas).sum()
            (result,) = torch.autograd.grad(total, phi)
        return result

    def adjoints(
        self,
        grads: Tensor,
        state: Tensor,
        of_update: Tensor,
        of_state: list[Tensor],
        params: Params | None = None,
    ) -> Adjoints:
        """As `Learned.adjoints`; the LSTM's part by the fused kernel, where there is one."""
        if not has(self, "fused"):
            return super().adjoints(grads, state, of_update, of_state, params)
        shape, network = self._lstm, self._network_part(state)
        after = of_state[0] if of_state else None
        with torch.enable_grad():
            phi, own, means = leaf(self.phi), leaf(off_zero(grads)), leaf(state[-MEANS:])
            inputs, next_means = self.inputs(own.flatten().unsqueeze(0), means)
            below = self.with_weights(phi)._below(inputs)[0]
        kernel, features, weights = kernel_for(shape, below), below.detach(), self._lstm_weights
        outputs, _ = kernel.step(shape, weights, features, network)
        # The derivative of −step · tanh(a).
        of_output = self.step * (outputs.tanh().square() - 1) * of_update.flatten()
        of_after = None if after is None else self._network_part(after)
        of_lstm, of_features, of_network = kernel.adjoints(
            shape, weights.detach(), features, network, of_output, of_after
        )
        leads = [(below, of_features)] + ([] if after is None else [(next_means, after[-MEANS:])])
        out, given = zip(*leads, strict=True)
        of_phi, of_grads, of_means = torch.autograd.grad(out, [phi, own, means], given)
        of_phi[-shape.size :] += of_lstm
        of_before = torch.cat([of_network.flatten(0, 2), of_means])
        return Adjoints(of_phi, of_grads, [of_before], torch.zeros_like(grads))

    def _below(self, inputs: Tensor) -> Tensor:
        """The first layer: [T, 2, K] to [T, hidden, K]."""
        parts = self.layout.split(self.phi)
        return F.elu(parts["inputs.weight"] @ inputs + parts["inputs.bias"].unsqueeze(1))

    def _unrolled(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The LSTM along a window: [T, hidden, K] to outputs [T, K] and its last state."""
        shape, weights = self._lstm, self._lstm_weights
        kernel = kernel_for(shape, features)
        if kernel is operators:
            given = (weights, features, state, self.layers, self.hidden)
            outputs, last = torch.ops.l2l.lstm(*given)
            return outputs, last
        rows = []
        for each in features:
            row, state = kernel.step(shape, weights, each, state)
            rows.append(row)
        return torch.stack(rows), state

    @property
    def _lstm(self) -> LSTMShape:
        return self.layout.lstm

    @property
    def _lstm_weights(self) -> Tensor:
        """The LSTM's part of φ."""
        return self.phi[-self._lstm.size :]

    def _network_part(self, state: Tensor) -> Tensor:
        """The LSTM's part of a state [layers, 2, hidden, K]."""
        return state[:-MEANS].view(self.layers, 2, self.hidden, state.shape[1])

    def _empty_state(self, coordinates: int, like: Tensor) -> Tensor:
        """Memory for a state, whose rows begin on cache lines, as of `LSTMShape.empty_state`."""
        row = -(-coordinates // LINE) * LINE
        return like.new_empty(2 * self.layers * self.hidden + MEANS, row)[:, :coordinates]
