"""A problem, vectorised over instances and over copies such as the rates of a sweep."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.utils._pytree import tree_map

from l2l.suite.core.abilities import has
from l2l.suite.core.device import to_device
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.seeds import Rng
from l2l.suite.core.trees import unlike
from l2l.suite.core.types import ParamSpec, Problem, Tensors


def param_spec(problem: Problem) -> ParamSpec:
    """The layout of the problem's parameters."""
    params = problem.init(Rng(0, "spec"))
    return ParamSpec(
        {name: value.shape for name, value in params.items()},
        {name: problem.group(name) for name in params},
    )


def is_one_by_one(problem: Problem, device: torch.device) -> bool:
    """Whether runs on a problem are computed one after the other there."""
    return problem.one_by_one is True or problem.one_by_one == device.type


class Objective:
    """f for n instances times r copies, as functions of flat parameters [r·n, P].

    Copies share instances, θ_0 and minibatches: row c·n + i is copy c of instance i.

    Args:
        problem: the distribution.
        instances: numbers of the instances.
        split: the stream of randomness: ``train``, ``validation`` or ``test``.
        seed: the experiment's seed.
        copies: r.
        device: where tensors live; draws are made on the CPU, so they are the same everywhere.
    """

    def __init__(
        self,
        problem: Problem,
        instances: Sequence[int],
        split: str,
        seed: int,
        copies: int = 1,
        device: str | torch.device = "cpu",
    ) -> None:
        self.problem = problem
        self.instances = list(instances)
        self.copies = copies
        self.device = torch.device(device)
        self.spec = param_spec(problem)
        self._split = split
        self._seed = seed
        self._fixed = self._stack([problem.instance(self.rng("instance", i)) for i in instances])
        self._has_batches = has(problem, "batch")
        self._all_batches = has(problem, "batches")
        self._batch: tuple[int, Any] = (-1, None)

        if is_one_by_one(problem, self.device):
            self._losses = self._losses_one_by_one
            self._grads_and_losses = self._grads_and_losses_one_by_one
            if has(problem, "losses_and_grads"):
                self._grads_and_losses = self._grads_and_losses_by_hand
        elif has(problem, "losses"):
            self._losses = self._losses_at_once
            self._grads_and_losses = self._grads_and_losses_by_autograd
            if has(problem, "losses_and_grads"):
                self._grads_and_losses = self._grads_and_losses_by_hand
        else:
            self._losses = self._losses_by_vmap
            self._grads_and_losses = self._grads_and_losses_by_vmap

    def earlier(self, number: int) -> Objective:
        """The same runs on instances, θ_0 and minibatches of their own: see `earlier_runs`."""
        split = f"{self._split}/earlier-{number}"
        return Objective(self.problem, self.instances, split, self._seed, self.copies, self.device)

    @property
    def rows(self) -> int:
        """r·n."""
        return self.copies * len(self.instances)

    def rng(self, stream: str, instance: int, step: int = 0) -> Rng:
        """The draws of an instance: for the stream ``instance``, ``init`` or ``batch``."""
        return Rng(self._seed, f"{self._split}/{stream}", instance, step)

    def start(self) -> Tensor:
        """θ_0 [r·n, P]."""
        rngs = [self.rng("init", i) for i in self.instances]
        theta = self.spec.flatten(self._stack([self.problem.init(rng) for rng in rngs]))
        return theta.repeat(self.copies, 1)

    def value(self, theta: Tensor, step: int) -> Tensor:
        """f(θ) on the minibatch of `step`: [r·n]."""
        return self._losses(self._split_copies(theta), self._batch_at(step)).flatten()

    def value_and_grad(self, theta: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """f(θ) [r·n] and ∇f(θ) [r·n, P] on the minibatch of `step`.

        Where θ is part of a graph, so are both.
        """
        if torch.is_grad_enabled() and theta.requires_grad:
            losses = self.value(theta, step)
            (grads,) = torch.autograd.grad(losses.sum(), theta, create_graph=True)
            return losses, grads
        grads, losses = self._grads_and_losses(self._split_copies(theta), self._batch_at(step))
        return losses.flatten(), grads.reshape(theta.shape)

    def held_out(self, theta: Tensor) -> Tensor:
        """The held-out loss at θ [r·n, P] of a problem that has one: [r·n].

        Runs come one after the other, for held-out data may be many times a minibatch.
        """
        losses = theta.new_empty(self.copies, len(self.instances))
        for i, number in enumerate(self.instances):
            data = self.problem.held_out(self.rng("instance", number))
            data = tree_map(lambda each: to_device(each, self.device), data)
            fixed = tree_map(operator.itemgetter(i), self._fixed)
            for copy, rows in enumerate(self._split_copies(theta)):
                losses[copy, i] = self._loss(rows[i], fixed, data)
        return losses.flatten()

    def release_batch(self) -> None:
        """Frees the last minibatch, which is kept until another is drawn."""
        self._batch = (-1, None)

    def _split_copies(self, theta: Tensor) -> Tensor:
        return theta.view(self.copies, len(self.instances), -1)

    def _loss(self, theta: Tensor, fixed: Tensors, batch: Any) -> Tensor:
        return self.problem.loss(self.spec.unflatten(theta), fixed, batch)

    def _over_rows(self, function: Any, theta: Tensor, batch: Any) -> Any:
        per_instance = vmap(function, in_dims=(0, 0, None if batch is None else 0))
        return vmap(per_instance, in_dims=(0, None, None))(theta, self._fixed, batch)

    def _losses_by_vmap(self, theta: Tensor, batch: Any) -> Tensor:
        losses: Tensor = self._over_rows(self._loss, theta, batch)
        return losses

    def _grads_and_losses_by_vmap(self, theta: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        grads, losses = self._over_rows(grad_and_value(self._loss), theta, batch)
        return grads, losses

    def _losses_at_once(self, theta: Tensor, batch: Any) -> Tensor:
        return self.problem.losses(self.spec.unflatten(theta), self._fixed, batch)

    def _grads_and_losses_by_hand(self, theta: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        params = self.spec.unflatten(theta)
        losses, grads = self.problem.losses_and_grads(params, self._fixed, batch)
        return self.spec.flatten(grads), losses

    def _grads_and_losses_by_autograd(self, theta: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            theta = theta.detach().requires_grad_()
            losses = self._losses_at_once(theta, batch)
            # Rows do not meet, so the gradient of their sum holds each row's own.
            (grads,) = torch.autograd.grad(losses.sum(), theta)
        return grads, losses.detach()

    def _one_by_one(self, theta: Tensor, batch: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """θ [P] of each row, and the loss there."""
        for copy in theta:
            for i, row in enumerate(copy):
                fixed = tree_map(operator.itemgetter(i), self._fixed)
                own = None if batch is None else tree_map(operator.itemgetter(i), batch)
                yield row, self._loss(row, fixed, own)

    def _losses_one_by_one(self, theta: Tensor, batch: Any) -> Tensor:
        losses = torch.stack([loss for _, loss in self._one_by_one(theta, batch)])
        return losses.view(theta.shape[:2])

    def _grads_and_losses_one_by_one(self, theta: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        grads, losses = torch.empty_like(theta), theta.new_empty(theta.shape[:2])
        with torch.enable_grad():
            theta = theta.detach().requires_grad_()
            for number, (row, loss) in enumerate(self._one_by_one(theta, batch)):
                grads.view(-1, theta.shape[-1])[number] = torch.autograd.grad(loss, row)[0]
                losses.view(-1)[number] = loss.detach()
        return grads, losses

    def _stack(self, samples: list[Any]) -> Any:
        """A list of pytrees of tensors to one with a leading dimension.

        Raises:
            SuiteError: they are not alike.
        """

        def stack(*parts: Tensor) -> Tensor:
            # One alone is not copied.
            stacked = parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(parts)
            return to_device(stacked, self.device)

        try:
            return tree_map(stack, *samples)
        except (RuntimeError, ValueError) as error:
            kinds = next(filter(None, (unlike(samples[0], each) for each in samples)), None)
            if kinds is None:
                raise
            raise SuiteError(
                f"problem {type(self.problem).__name__} gives {kinds} for two instances: look at "
                "its init(), instance() and batch(), which must give alike tensors for all"
            ) from error

    def _batch_at(self, step: int) -> Any:
        # The loss at the iterate and a gradient at a look-ahead point share one minibatch.
        if self._has_batches and self._batch[0] != step:
            self.release_batch()
            rngs = [self.rng("batch", i, step) for i in self.instances]
            if self._all_batches:
                self._batch = (step, self.problem.batches(rngs, self.device))
            else:
                samples = [self.problem.batch(rng) for rng in rngs]
                self._batch = (step, None if samples[0] is None else self._stack(samples))
        return self._batch[1]
