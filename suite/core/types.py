"""What an author of a problem or an optimizer writes against.

Letters used in shapes, here and everywhere: n instances, P parameters of one instance, t steps,
K = n·P coordinates.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from l2l.suite.core.seeds import Rng

Tensors = dict[str, Tensor]


class Problem:
    """A distribution over functions to minimise, described one instance at a time.

    No method sees a batch dimension over instances: the harness vectorises from outside with
    `torch.func`. Implementations are frozen dataclasses whose fields are the problem's
    configuration.

    Optional abilities are those in `OPTIONAL`; whether a problem has one,
    `suite.core.abilities.has` says. A subclass with another `loss` alone is not given the `losses`
    that it inherits.
    """

    # Optional methods, and those that each of them speaks for.
    OPTIONAL: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "batch": (),
        "batches": ("batch",),
        "held_out": ("batch",),
        "losses": ("loss",),
        "losses_and_grads": ("loss", "losses"),
        "picture": (),
    }

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
        """`batch` for n instances or steps at once [n, ...], on a device. Optional, for speed only.

        A problem that does not define it has each `batch` moved there: where the data are on the
        device already, such as images, their numbers are enough.
        """
        raise NotImplementedError

    def held_out(self, rng: Rng) -> Any:
        """What `loss` takes instead of a minibatch to give the held-out loss. Optional.

        It is data that no minibatch has, all of it, such as a test split; the `rng` gives the same
        draws as that of `instance`. Evaluations then record this loss at some steps.
        """
        raise NotImplementedError

    def loss(self, params: Tensors, instance: Tensors, batch: Any) -> Tensor:
        """f(θ), a scalar."""
        raise NotImplementedError

    def losses(self, params: Tensors, instance: Tensors, batch: Any) -> Tensor:
        """The losses f of r copies of n instances at once: [r, n]. Optional, and only for speed.

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

    @functools.cached_property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(self._sizes)

    @functools.cached_property
    def _sizes(self) -> list[int]:
        """Each one's number of parameters."""
        return [shape.numel() for shape in self.shapes.values()]

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
        pieces = flat.split_with_sizes(self._sizes, dim=-1)
        return {
            name: piece.reshape(lead + shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }


@dataclass(frozen=True)
class Params:
    """The iterate that an update moves, also of an optimizer that looks ahead.

    Args:
        theta: θ [n, P], read only: the loop may write the next iterate into its memory, so a
            state that keeps θ keeps `theta.clone()`. Of a window of T steps it is [T, n, P].
        spec: the layout of θ.
    """

    theta: Tensor
    spec: ParamSpec

    def named(self) -> Tensors:
        """θ as named tensors [n, *shape], as views; `spec.flatten` is the way back."""
        return self.spec.unflatten(self.theta)

    def at(self, step: int) -> Params:
        """Those of one step of a window."""
        return Params(self.theta[step], self.spec)

    def coordinates(self, which: slice | Tensor) -> Params:
        """Some coordinates of all runs [..., n·P] side by side, as one run without shapes."""
        theta = self.theta.flatten(-2)[..., which].unsqueeze(-2)
        return Params(theta, ParamSpec({"coordinates": theta.shape[-1:]}))

    @staticmethod
    def unread(grads: Tensor) -> Params:
        """For an update that ignores θ: NaN shaped as `grads`, without memory or names."""
        return Params(grads.new_full((), torch.nan).expand(grads.shape), ParamSpec({}))


class Optimizer:
    """A functional optimizer over flat parameters [n, P].

    State is a tensor, a (named) tuple of such, or None. Hyperparameters are numbers, or tensors
    [n, 1] so that a whole sweep of learning rates is one batch. Optional abilities are those in
    `OPTIONAL`; whether an optimizer has one, `suite.core.abilities.has` says.
    """

    # Optional methods, and those that each of them speaks for.
    OPTIONAL: ClassVar[Mapping[str, tuple[str, ...]]] = {"update_in_place": ("update",)}
    # The hyperparameter that `tune` sweeps; set by `register_optimizer`.
    tuned: ClassVar[str | None] = None
    # Whether each coordinate's updates depend on its own gradients alone. Tracing tries it.
    coordinatewise: ClassVar[bool] = True

    @classmethod
    def own_names(cls, given: Mapping[str, Any]) -> set[str]:
        """What it takes itself of the fields `given` to it, also where a wrapper has that name."""
        return {each.name for each in fields(cls)}  # type: ignore[arg-type]

    def fingerprints(self) -> Mapping[str, str]:
        """What its results depend on beside its fields and code, such as a package's version."""
        return {}

    @property
    def earlier_runs(self) -> int:
        """How many runs, on other instances, come before each run, whose state is kept."""
        return 0

    def init(self, spec: ParamSpec, n: int) -> Any:
        """The state before the first step."""
        return None

    def update(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        """Gradients [n, P] to updates [n, P], which the loop adds to θ, and the next state.

        `params` is the iterate, where an optimizer that looks ahead has not its gradients from.
        """
        raise NotImplementedError

    def update_in_place(self, grads: Tensor, state: Any, params: Params) -> tuple[Tensor, Any]:
        """`update`, the next state in the memory of this one. Optional, and only for speed."""
        raise NotImplementedError

    def lookahead(self, state: Any) -> Tensor | None:
        """Where, relative to the iterate, the next gradient is taken [n, P]; None is at it."""
        return None

    def at_rate(self, rate: Tensor | float) -> Self:
        """This optimizer with another value of the hyperparameter that `tune` sweeps."""
        return replace(self, **{str(self.tuned): rate})  # type: ignore[type-var]
