"""What an author of a problem or an optimizer writes against.

Letters used in shapes, here and everywhere: n instances, P parameters of one instance, t steps,
K = n·P coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from suite.seeds import Rng

Tensors = dict[str, Tensor]


class Problem:
    """A distribution over functions to minimise, described one instance at a time.

    No method sees a batch dimension over instances: the harness vectorises from outside with
    `torch.func`. Implementations are frozen dataclasses whose fields are the problem's
    configuration.
    """

    # Whether runs are computed one after the other, not vectorised: True for losses that `vmap`
    # cannot vectorise; "cpu" where a single run fills a processor, but not a GPU: convolutions.
    one_by_one: ClassVar[bool | Literal["cpu"]] = False

    @property
    def notice(self) -> str:
        """What a reader of the results must know about the data; empty if nothing.

        Raises:
            SuiteError: data that the problem needs is missing, or of no use.
        """
        return ""

    def init(self, rng: Rng) -> Tensors:
        """θ_0 as named tensors, float32."""
        raise NotImplementedError

    def instance(self, rng: Rng) -> Tensors:
        """What stays fixed along one run, such as W and y of a quadratic."""
        return {}

    def batch(self, rng: Rng) -> Any:
        """What changes each step, such as a minibatch; a tensor, a dict of tensors, or None."""
        return None

    def batches(self, rngs: Sequence[Rng], device: torch.device) -> Any:
        """`batch` for n instances at once [n, ...], on a device. Optional, and only for speed.

        A problem that does not define it has each `batch` moved there: where the data are on the
        device already, such as images, their numbers are enough.
        """
        raise NotImplementedError

    def loss(self, params: Tensors, instance: Tensors, batch: Any) -> Tensor:
        """f(θ), a scalar."""
        raise NotImplementedError

    def losses(self, params: Tensors, instance: Tensors, batch: Any) -> Tensor:
        """F for r copies of n instances at once: [r, n]. Optional, and only for speed.

        A problem that does not define it has `loss` vectorised by `torch.func.vmap`. Parameters
        are [r, n, *shape]; instance and batch, which copies share, are [n, ...].
        """
        raise NotImplementedError

    def losses_and_grads(
        self, params: Tensors, instance: Tensors, batch: Any
    ) -> tuple[Tensor, Tensors]:
        """`losses`, and the gradient with respect to each of `params`, shaped as it. Optional.

        A problem that does not define it has `losses` differentiated by autograd. Where runs are
        computed one after the other (`one_by_one`), it speaks for `loss`, and needs no `losses`.
        """
        raise NotImplementedError

    def picture(self, params: Tensors) -> Tensor:
        """θ as an image, uint8 [3, H, W]. Optional, for problems whose parameters are one."""
        raise NotImplementedError

    def sources(self, rng: Rng) -> Tensors:
        """Pictures, as `picture`, that an instance is made from, by name; to be shown beside it."""
        return {}

    def files(self) -> Sequence[str | Path]:
        """Files that the problem reads; results are computed again when their content changes.

        Relative paths start from the folder of the file that defines the problem.
        """
        return ()

    def fingerprints(self) -> Mapping[str, str]:
        """Digests of data that the problem reads in other ways, such as a data set, by name.

        They are computed from what is read on this machine, so that results are computed again
        when it changes, and no machine that has other data takes part in a run.
        """
        return {}

    def group(self, name: str) -> str:
        """The group of parameter `name`, by which learned optimizers may be routed."""
        return "all"


@dataclass(frozen=True)
class ParamSpec:
    """How the flat parameters [n, P] of one instance are laid out, in order."""

    shapes: Mapping[str, torch.Size]
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(shape.numel() for shape in self.shapes.values())

    def flatten(self, params: Tensors) -> Tensor:
        """Named tensors [..., *shape] to [..., P]; the leading dimensions are kept."""
        parts = []
        for name, shape in self.shapes.items():
            value = params[name]
            parts.append(value.reshape(*value.shape[: value.dim() - len(shape)], shape.numel()))
        return torch.cat(parts, dim=-1)

    def unflatten(self, flat: Tensor) -> Tensors:
        """[..., P] to named tensors [..., *shape], as views."""
        lead = flat.shape[:-1]
        pieces = torch.split(flat, [shape.numel() for shape in self.shapes.values()], dim=-1)
        return {
            name: piece.reshape((*lead, *shape))
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }


class Optimizer:
    """A functional optimizer over flat parameters [n, P].

    State is a tensor, a (named) tuple of such, or None. Hyperparameters are numbers, or tensors
    [n, 1] so that a whole sweep of learning rates is one batch.
    """

    # The hyperparameter that `tune` sweeps; set by `register_optimizer`.
    tuned: ClassVar[str | None] = None

    def init(self, spec: ParamSpec, n: int) -> Any:
        """The state before the first step."""
        return None

    def update(self, grads: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Gradients [n, P] to updates [n, P], which the loop adds to θ, and the next state.

        An `update` with a third parameter, `into`, is given memory for the next state there: that
        of the state itself, where nobody reads that again.
        """
        raise NotImplementedError

    def lookahead(self, state: Any) -> Tensor | None:
        """Where, relative to the iterate, the next gradient is taken [n, P]; None is at it."""
        return None
