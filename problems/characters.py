"""Networks that predict the next character of Python's manual: recurrent, and a transformer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, unflatten

from l2l import Problem, Rng, Tensors, register_problem
from l2l.problems.bundled import ALPHABET, text, text_fingerprint
from l2l.problems.layers import ACTIVATIONS, affine, cross_entropy, dense, layer_normalised, norm
from l2l.suite.core.device import to_device

SYMBOLS = len(ALPHABET)


class NextCharacter(Problem):
    """Mean cross entropy of the next character, over passages of Python's manual.

    Subclasses are frozen dataclasses with the fields `passages`, how many a minibatch has, and
    `length`, the characters of each. They define `init` and `predictions`. Python's versions have
    manuals that differ, so results do, too: see `fingerprints`.
    """

    passages: int
    length: int

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:  # type: ignore[attr-defined]
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.length >= len(text(False)):
            raise ValueError(f"length must be below {len(text(False))}, not {self.length}")

    def predictions(self, params: Tensors, x: Tensor) -> Tensor:
        """One-hot characters [*lead, B, T, symbols] to logits of the next, shaped alike."""
        raise NotImplementedError

    @property
    def notice(self) -> str:
        return (
            f"made from the manual of Python {sys.version_info.major}.{sys.version_info.minor}, "
            "whose other versions have another text"
        )

    def fingerprints(self) -> dict[str, str]:
        return {"text": text_fingerprint()}

    def batch(self, rng: Rng) -> Tensor:
        many = self.batches([rng], torch.device("cpu"))
        return many[0]

    def batches(self, rngs: Sequence[Rng], device: torch.device) -> Tensor:
        """Passages with the character after them [n, passages, length + 1]."""
        found = text(True)
        firsts = torch.stack(
            [rng.integers(len(found) - self.length, self.passages) for rng in rngs]
        )
        return to_device(found[firsts.unsqueeze(-1) + torch.arange(self.length + 1)], device)

    def held_out(self, rng: Rng) -> Tensor:
        # Of each passage the last character is the next one's first: each is predicted once.
        passages: Tensor = text(False).unfold(0, self.length + 1, self.length)
        return passages

    def loss(self, params: Tensors, instance: Tensors, batch: Tensor) -> Tensor:
        return self.losses(params, instance, batch)

    def losses(self, params: Tensors, instance: Tensors, batch: Tensor) -> Tensor:
        # As factors of a product, where looking up rows is slow for many runs side by side.
        symbols = torch.eye(SYMBOLS, dtype=params["out_bias"].dtype, device=batch.device)[batch]
        logits = self.predictions(params, symbols[..., :-1, :])
        return cross_entropy(logits.flatten(-3, -2), symbols[..., 1:, :].flatten(-3, -2))


@register_problem("char-rnn")
@dataclass(frozen=True)
class CharRNN(NextCharacter):
    """Next character by a gated recurrent unit (GRU, Cho et al. 2014) that starts at 0.

    Parameters start uniform within ±1/√units, as in PyTorch's layer, the classifier's as those of
    `dense`. Gradients go through a whole passage.
    """

    units: int = 32
    passages: int = 8
    length: int = 24

    def init(self, rng: Rng) -> Tensors:
        def uniform(*shape: int) -> Tensor:
            drawn: Tensor = (2 * rng.uniform(*shape) - 1) * self.units**-0.5
            return drawn

        return {
            "input_weight": uniform(SYMBOLS, 3 * self.units),
            "input_bias": uniform(3 * self.units),
            "state_weight": uniform(self.units, 3 * self.units),
            "state_bias": uniform(3 * self.units),
            **dense(rng, "out", self.units, SYMBOLS),
        }

    def predictions(self, params: Tensors, x: Tensor) -> Tensor:
        shape = x.shape[-3:-1]
        sizes = [2 * self.units, self.units]
        inputs = unflatten(affine(params, "input", x.flatten(-3, -2)), -2, shape)
        gates, candidates = torch.split(inputs, sizes, -1)
        state = torch.zeros_like(candidates[..., 0, :])
        states = []
        for gate, candidate in zip(gates.unbind(-2), candidates.unbind(-2), strict=True):
            of_gates, of_candidate = torch.split(affine(params, "state", state), sizes, -1)
            reset, keep = torch.sigmoid(gate + of_gates).chunk(2, -1)
            state = torch.tanh(candidate + reset * of_candidate).lerp(state, keep)
            states.append(state)
        hidden = torch.stack(states, -2)
        logits: Tensor = unflatten(affine(params, "out", hidden.flatten(-3, -2)), -2, shape)
        return logits


@register_problem("char-transformer")
@dataclass(frozen=True)
class CharTransformer(NextCharacter):
    """Next character by a small transformer with layer normalisation first (GPT-2).

    Blocks of causal self-attention with `heads` heads and of a layer of 4 `units` with GELU, on
    learned embeddings of characters and places. As in GPT-2 (Radford et al. 2019, section 2.3),
    weights start Gaussian with deviation 0.02, those into the residual stream with
    0.02 / √(2 blocks), biases at 0.
    """

    blocks: int = 1
    heads: int = 2
    units: int = 16
    passages: int = 8
    length: int = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.units % self.heads:
            raise ValueError(f"units {self.units} must be a multiple of heads {self.heads}")

    def init(self, rng: Rng) -> Tensors:
        into = 0.02 * (2 * self.blocks) ** -0.5
        params = {
            "embedding": 0.02 * rng.normal(SYMBOLS, self.units),
            "place": 0.02 * rng.normal(self.length, self.units),
        }

        def add(name: str, fan_in: int, fan_out: int, deviation: float = 0.02) -> None:
            params[f"{name}_weight"] = deviation * rng.normal(fan_in, fan_out)
            params[f"{name}_bias"] = torch.zeros(fan_out)

        for block in range(self.blocks):
            params.update(norm(f"before_attention{block}", self.units))
            add(f"attention{block}", self.units, 3 * self.units)
            add(f"attended{block}", self.units, self.units, into)
            params.update(norm(f"before_hidden{block}", self.units))
            add(f"hidden{block}", self.units, 4 * self.units)
            add(f"back{block}", 4 * self.units, self.units, into)
        params.update(norm("last", self.units))
        add("out", self.units, SYMBOLS)
        return params

    def predictions(self, params: Tensors, x: Tensor) -> Tensor:
        passages = x.shape[-3]
        places = params["place"].unsqueeze(-3)
        stream = unflatten(x.flatten(-3, -2) @ params["embedding"], -2, x.shape[-3:-1])
        stream = (stream + places).flatten(-3, -2)
        for block in range(self.blocks):
            inner = layer_normalised(params, f"before_attention{block}", stream)
            inner = self._attended(affine(params, f"attention{block}", inner), passages)
            stream = stream + affine(params, f"attended{block}", inner)
            inner = layer_normalised(params, f"before_hidden{block}", stream)
            inner = ACTIVATIONS["gelu"](affine(params, f"hidden{block}", inner))
            stream = stream + affine(params, f"back{block}", inner)
        stream = affine(params, "out", layer_normalised(params, "last", stream))
        logits: Tensor = unflatten(stream, -2, x.shape[-3:-1])
        return logits

    def _attended(self, x: Tensor, passages: int) -> Tensor:
        """Queries, keys and values [*lead, B·T, 3 units] to what heads attend to [..., units]."""
        x = unflatten(unflatten(x, -1, (3, self.heads, -1)), -4, (passages, self.length))
        query, key, value = x.movedim(-4, -2).unbind(-4)
        scores = query @ key.mT * query.shape[-1] ** -0.5
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        found = scores.masked_fill(later, -torch.inf).softmax(-1) @ value
        heads: Tensor = found.movedim(-3, -2).flatten(-4, -3).flatten(-2)
        return heads
