"""A problem, vectorised over instances and over copies such as the rates of a sweep."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from copy import copy as shallow_copy
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.utils._pytree import tree_leaves, tree_map

from l2l.suite.core.abilities import has
from l2l.suite.core.device import is_one_by_one, to_device
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.seeds import Rng
from l2l.suite.core.trees import unlike
from l2l.suite.core.types import ParamSpec, Problem, Tensors
from l2l.suite.inner.graphs import Graphs, graphs_of

# Bytes of minibatches that are drawn ahead at once, if it is more than one step's.
BYTES_AHEAD = 2**25


def param_spec(problem: Problem) -> ParamSpec:
    """The layout of the problem's parameters."""
    params = problem.init(Rng(0, "spec"))
    return ParamSpec(
        {name: value.shape for name, value in params.items()},
        {name: problem.group(name) for name in params},
    )


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
        shift: what is added to the number that problems take instances of a finite set by.
    """

    def __init__(
        self,
        problem: Problem,
        instances: Sequence[int],
        split: str,
        seed: int,
        copies: int = 1,
        device: str | torch.device = "cpu",
        shift: int = 0,
    ) -> None:
        self.problem = problem
        self.instances = list(instances)
        self.copies = copies
        self.device = torch.device(device)
        self.spec = param_spec(problem)
        self._split = split
        self._seed = seed
        self._shift = shift
        self._fixed = self._stack([problem.instance(self.rng("instance", i)) for i in instances])
        self._has_batches = has(problem, "batch")
        self._all_batches = has(problem, "batches")
        self._batch: tuple[int, Any] = (-1, None)
        self._graphs = graphs_of(problem)
        self._choose()

    def _choose(self) -> None:
        """The way in which runs are computed."""
        problem = self.problem
        # A row alone needs no `vmap`, which takes longer than many a loss.
        alone = self.rows == 1 and not has(problem, "losses")
        by_hand = has(problem, "losses_and_grads")
        by_hand = by_hand and (has(problem, "losses") or bool(problem.one_by_one))
        # Whether its minibatch is kept as it is drawn, without a dimension for instances.
        self._bare = alone and not by_hand
        if alone or is_one_by_one(problem, self.device):
            self._fixed_of_each = self._of_each(self._fixed)
            self._losses = self._losses_one_by_one
            self._grads_and_losses = self._grads_and_losses_one_by_one
        elif has(problem, "losses"):
            self._losses = self._losses_at_once
            self._grads_and_losses = self._grads_and_losses_by_autograd
        else:
            self._losses = self._losses_by_vmap
            self._grads_and_losses = self._grads_and_losses_by_vmap
            by_hand = False
        if by_hand:
            self._grads_and_losses = self._grads_and_losses_by_hand

    def pinned(self, fixed: Tensors, batch: Any) -> Objective:
        """The same runs where instances and the minibatch of step 1 are these tensors.

        It makes no use of what other objectives on the problem keep.
        """
        own = shallow_copy(self)
        own._fixed, own._batch, own._graphs = fixed, (1, batch), Graphs()
        own._choose()
        return own

    def earlier(self, number: int) -> Objective:
        """The same runs on instances, θ_0 and minibatches of their own: see `earlier_runs`."""
        given = (f"{self._split}/earlier-{number}", self._seed, self.copies, self.device)
        return Objective(self.problem, self.instances, *given, shift=number + 1)

    @property
    def fixed(self) -> Tensors:
        """What is fixed of the instances, stacked over them."""
        fixed: Tensors = self._fixed
        return fixed

    @property
    def rows(self) -> int:
        """r·n."""
        return self.copies * len(self.instances)

    def rng(self, stream: str, instance: int, step: int = 0) -> Rng:
        """The draws of an instance: for the stream ``instance``, ``init`` or ``batch``."""
        rng = Rng(self._seed, f"{self._split}/{stream}", instance, step)
        rng.instance += self._shift
        return rng

    def start(self) -> Tensor:
        """θ_0 [r·n, P]."""
        rngs = [self.rng("init", i) for i in self.instances]
        theta = self.spec.flatten(self._stack([self.problem.init(rng) for rng in rngs]))
        return theta.repeat(self.copies, 1)

    def value(self, theta: Tensor, step: int) -> Tensor:
        """f(θ) on the minibatch of `step`: [r·n]."""
        return self._losses(self._split_copies(theta), self.batch_at(step)).flatten()

    def value_and_grad(self, theta: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """f(θ) [r·n] and ∇f(θ) [r·n, P] on the minibatch of `step`.

        Where θ is part of a graph, so are both.
        """
        if torch.is_grad_enabled() and theta.requires_grad:
            losses = self.value(theta, step)
            (grads,) = torch.autograd.grad(losses.sum(), theta, create_graph=True)
            return losses, grads
        grads, losses = self._grads_and_losses(self._split_copies(theta), self.batch_at(step))
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

    def _over_rows(self, function: Any, theta: Tensor, fixed: Tensors, batch: Any = None) -> Any:
        rows = vmap(function, in_dims=(0, 0, None if batch is None else 0))
        if len(theta) == 1:
            # One copy needs no second `vmap`.
            found = rows(theta[0], fixed, batch)
            return tree_map(operator.methodcaller("unsqueeze", 0), found)
        return vmap(rows, in_dims=(0, None, None))(theta, fixed, batch)

    def _losses_by_vmap(self, theta: Tensor, batch: Any) -> Tensor:
        function = functools.partial(self._over_rows, self._loss)
        given = (theta, self._fixed) if batch is None else (theta, self._fixed, batch)
        tracked = torch.is_grad_enabled() and theta.requires_grad
        losses: Tensor = function(*given) if tracked else self._graphs.call("f", function, *given)
        return losses

    def _grads_and_losses_by_vmap(self, theta: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        function = functools.partial(self._over_rows, grad_and_value(self._loss))
        given = (theta, self._fixed) if batch is None else (theta, self._fixed, batch)
        grads, losses = self._graphs.call("∇f, f", function, *given)
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

    def _losses_one_by_one(self, theta: Tensor, batch: Any) -> Tensor:
        losses = [self._loss(*given) for given in self._one_by_one(theta, batch)]
        return torch.stack(losses).view(theta.shape[:2])

    def _grads_and_losses_one_by_one(self, theta: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        grads, losses = [], []
        with torch.enable_grad():
            for row, *given in self._one_by_one(theta.detach(), batch):
                row.requires_grad_()
                loss = self._loss(row, *given)
                grads.append(torch.autograd.grad(loss, row)[0])
                losses.append(loss.detach())
        return torch.stack(grads), torch.stack(losses).view(theta.shape[:2])

    def _one_by_one(self, theta: Tensor, batch: Any) -> Iterator[tuple[Tensor, Tensors, Any]]:
        """What `_loss` is given of each row."""
        batches = [batch] if self._bare else self._of_each(batch)
        for copy in theta.unbind():
            yield from zip(copy.unbind(), self._fixed_of_each, batches, strict=True)

    def _of_each(self, tree: Any) -> list[Any]:
        """What is stacked over instances, for each of them."""
        if tree is None:
            return [None] * len(self.instances)
        return [tree_map(operator.itemgetter(i), tree) for i in range(len(self.instances))]

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
                "its init(), instance() and batch(), which must give alike names, shapes and types"
            ) from error

    def batch_at(self, step: int) -> Any:
        """The minibatch of a step, stacked over instances; None if the problem has none."""
        # The loss at the iterate and a gradient at a look-ahead point share one minibatch.
        if self._has_batches and self._batch[0] != step:
            self.release_batch()
            rngs = [self.rng("batch", i, step) for i in self.instances]
            self._batch = (step, self._draw(rngs))
        return self._batch[1]

    def batches_of(self, steps: range) -> Iterator[Any]:
        """`batch_at` of each of these steps, many drawn in the time of one if the problem can."""
        if not self._has_batches or not self._all_batches:
            yield from map(self.batch_at, steps)
            return
        n, drawn = len(self.instances), None
        size = sum(x.nbytes for x in tree_leaves(self.batch_at(steps.start)))
        together = max(1, BYTES_AHEAD // max(1, size))
        for first in range(0, len(steps), together):
            del drawn  # before the next take as much memory again
            ahead = steps[first : first + together]
            rngs = [self.rng("batch", i, step) for step in ahead for i in self.instances]
            drawn = self.problem.batches(rngs, self.device)
            for t in range(len(ahead)):
                own = t if self._bare else slice(t * n, (t + 1) * n)
                yield tree_map(operator.itemgetter(own), drawn)

    def _draw(self, rngs: list[Rng]) -> Any:
        if self._all_batches:
            batch = self.problem.batches(rngs, self.device)
            return self._of_each(batch)[0] if self._bare else batch
        samples = [self.problem.batch(rng) for rng in rngs]
        if samples[0] is None:
            return None
        if self._bare and self.device.type == "cpu":
            return samples[0]
        batch = self._stack(samples)
        return self._of_each(batch)[0] if self._bare else batch
