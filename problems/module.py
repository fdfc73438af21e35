"""Problems made from a `torch.nn.Module`, which PyTorch initialises as it always does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from l2l import Problem, Rng, Tensors
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.generators import seeded_generators


class ModuleProblem(Problem):
    """The loss of a neural network that a `torch.nn.Module` describes.

    Subclasses are frozen dataclasses that define `module` and `batch`, and `module_loss` if the
    loss is not the cross entropy of the module's outputs for ``batch["x"]`` with the labels
    ``batch["y"]``.

    θ_0 are the module's parameters as PyTorch initialises them. Its buffers, and parameters that
    require no gradient, stay fixed along a run; whatever `forward` writes to buffers is dropped
    after each call. So batch and instance normalisation take the minibatch's own statistics and
    keep no running ones, unless `module` gives them in evaluation mode. Dropout is refused, for
    its randomness is not the `rng`'s.
    """

    def module(self) -> nn.Module:
        """The network, made anew at each call, on the CPU."""
        raise NotImplementedError

    def module_loss(self, module: Callable[..., Any], batch: Any) -> Tensor:
        """f(θ), a scalar, from the network, a function of its inputs, and a minibatch."""
        return F.cross_entropy(module(batch["x"]), batch["y"])

    def init(self, rng: Rng) -> Tensors:
        """θ_0: the parameters of a module that is initialised from the rng's seed."""
        # Made here, because `loss` runs within `vmap`, where no module can be initialised.
        _ = self._skeleton
        parameters = self._initialised(_of_module(rng)).named_parameters()
        return {name: each.detach() for name, each in parameters if each.requires_grad}

    def instance(self, rng: Rng) -> Tensors:
        """Buffers, and parameters that require no gradient."""
        module = self._initialised(_of_module(rng))
        named = (*module.named_buffers(), *module.named_parameters())
        return {name: each.detach() for name, each in named if not each.requires_grad}

    def loss(self, params: Tensors, instance: Tensors, batch: Any) -> Tensor:
        """`module_loss` at θ."""
        tensors = {**params, **{name: each.clone() for name, each in instance.items()}}

        def module(*inputs: Any, **named: Any) -> Any:
            return functional_call(self._skeleton, tensors, inputs, named)

        return self.module_loss(module, batch)

    @functools.cached_property
    def _skeleton(self) -> nn.Module:
        """The module whose tensors every call replaces."""
        return self._initialised(Rng(0, "skeleton"))

    def _initialised(self, rng: Rng) -> nn.Module:
        # The largest seed that NumPy's generator takes.
        with seeded_generators(int(rng.integers(2**32))):
            module = self.module()
        for part in module.modules():
            if isinstance(part, _DropoutNd) and part.training and part.p > 0:
                raise SuiteError(
                    f"{type(self).__name__}.module has a {type(part).__name__} layer, whose "
                    "randomness is not the rng's: leave it out, or draw its masks in batch()"
                )
            if isinstance(part, _NormBase) and part.training and part.track_running_stats:
                # Without running statistics it takes those of its input.
                for name in ("running_mean", "running_var", "num_batches_tracked"):
                    part.register_buffer(name, None)
        return module


def _of_module(rng: Rng) -> Rng:
    """One rng for parameters and buffers, which may be copies of parameters."""
    return Rng(rng.seed, f"{rng.split}/module", rng.instance)
