"""Objects of `torch.optim` at work on several runs."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils._pytree import tree_leaves

from l2l import ParamSpec
from l2l.suite.core.blame import blamed
from l2l.suite.core.errors import SuiteError


@dataclass(frozen=True)
class Making:
    """How objects are made, as the fields of `Torch` say."""

    cls: type[torch.optim.Optimizer]
    path: str
    hyperparameters: Mapping[str, Any]
    rate: str
    independent: Literal["coordinates", "tensors", "runs"]

    # Both are asked at every step, and to find the answer takes as long as a small step.
    @functools.cached_property
    def has_modes(self) -> bool:
        """Whether objects have a mode for training and one for evaluation."""
        return all(callable(getattr(self.cls, mode, None)) for mode in ("train", "eval"))

    @functools.cached_property
    def needs_closure(self) -> bool:
        """Whether `step` must be given a closure."""
        closure = inspect.signature(inspect.unwrap(self.cls.step)).parameters.get("closure")
        return closure is not None and closure.default is inspect.Parameter.empty


@dataclass(eq=False)
class Runs:
    """The state of `Torch`: objects of `torch.optim`, and the memory that their parameters view.

    They are made at the first step, when θ and the rates are known. Where coordinates or tensors
    are independent, there is one object with a parameter group for each rate; otherwise each run
    has an object of its own. A group's parameters are the coordinates of all its runs as one
    tensor, or each run's tensors.

    Args:
        making: how objects are made.
        spec: the layout of θ.
        theta: where parameters live [n, P]; in training mode if there are such modes.
        ahead: where the next gradient is taken, relative to the iterate [n, P]. Objects with the
            methods `train` and `eval`, as those of schedule-free methods, take gradients in the
            one mode, and show their iterate in the other.
    """

    making: Making
    spec: ParamSpec
    theta: Tensor
    ahead: Tensor | None = None

    def __post_init__(self) -> None:
        self._grads = torch.zeros_like(self.theta)
        self._objects: list[Any] = []
        # Parameters with the memory of each and of its gradient.
        self._parameters: list[tuple[Parameter, Tensor, Tensor]] = []
        # Rows with one rate, and the rates that were given last, as they were and of each group.
        self._rows: list[slice] = []
        self._given: Tensor | float | None = None
        self._rates: list[float] = []

    def step(self, grads: Tensor, theta: Tensor, rate: Tensor | float) -> Tensor:
        """Move from θ [n, P] by gradients [n, P]; the way of the iterate [n, P].

        Raises:
            SuiteError: the class raises something, or asks for another gradient.
        """
        # What was left of the last step is overwritten: θ may be that of another run.
        self.theta.copy_(theta if self.ahead is None else theta + self.ahead)
        self._grads.copy_(grads)
        if self._objects:
            self._set_rates(rate)
        else:
            self._make(rate)
        for parameter, _, grad in self._parameters:
            parameter.grad = grad
        with blamed(f"{self.making.path}.step raises"):
            for each in self._objects:
                each.step(*self._closure())
        self._collect()
        if not self.making.has_modes:
            return self.theta - theta
        trained = self.theta.clone()
        self._switch("eval")
        shown = self.theta.clone()
        self._switch("train")
        self.ahead = trained - shown
        return shown - theta

    @property
    def nbytes(self) -> int:
        """The bytes of what the objects keep between steps."""
        states = [each.state_dict()["state"] for each in self._objects]
        return sum(x.nbytes for x in tree_leaves(states) if isinstance(x, Tensor))

    def copied(self) -> Self:
        """The same with memory and objects of its own."""
        twin = type(self)(self.making, self.spec, self.theta.clone(), self.ahead)
        twin._rows, twin._given, twin._rates = self._rows, self._given, self._rates
        if self._objects:
            twin._view()
        pairs = zip(self._parameters, twin._parameters, strict=True)
        known: dict[int, Any] = {id(old): new for (old, *_), (new, *_) in pairs}
        for each in self._objects:
            # Not by its own methods of copying, which leave out what a class adds.
            new = object.__new__(type(each))
            known[id(each)] = new
            vars(new).update(copy.deepcopy(vars(each), known))
            twin._objects.append(new)
        return twin

    def _make(self, rate: Tensor | float) -> None:
        making = self.making
        column = rate.flatten().tolist() if isinstance(rate, Tensor) else [float(rate)]
        column = column * (len(self.theta) if len(column) == 1 else 1)
        apart = making.independent == "runs"
        starts = [
            row for row, own in enumerate(column) if not row or apart or own != column[row - 1]
        ]
        self._rows = [slice(*each) for each in pairwise([*starts, len(column)])]
        self._given, self._rates = rate, [column[row] for row in starts]
        groups = zip(self._view(), self._rates, strict=True)
        tables: list[dict[str, Any]] = [{"params": each, making.rate: own} for each, own in groups]
        if not apart:
            # The constructor wants a rate, though each group has its own.
            tables = [{"params": tables, making.rate: self._rates[0]}]
        with blamed(f"{making.path} raises"):
            for table in tables:
                given = copy.deepcopy(dict(making.hyperparameters))
                self._objects.append(making.cls(table.pop("params"), **table, **given))
            if making.has_modes:
                self._switch("train")

    def _view(self) -> list[list[Parameter]]:
        """Make the parameters, views of θ, and give those of each group."""
        groups = []
        for rows in self._rows:
            pairs = list(
                zip(*map(self._pieces, (self.theta[rows], self._grads[rows])), strict=True)
            )
            made = [(Parameter(theta), theta, grad) for theta, grad in pairs]
            self._parameters += made
            groups.append([parameter for parameter, *_ in made])
        return groups

    def _pieces(self, rows: Tensor) -> list[Tensor]:
        """What rows [m, P] of θ, or of gradients, are to objects."""
        if self.making.independent == "coordinates":
            return [rows]
        return [piece for row in rows for piece in self.spec.unflatten(row).values()]

    def _set_rates(self, rate: Tensor | float) -> None:
        """Tell the groups rates that are not those of the last step.

        Only then, for a method may change its rate itself.
        """
        if rate is self._given:
            return
        self._given = rate
        if isinstance(rate, Tensor) and rate.numel() > 1:
            column = rate.flatten()
            rates = column[[rows.start for rows in self._rows]].tolist()
        else:
            rates = [float(rate)] * len(self._rows)
        groups = [group for each in self._objects for group in each.param_groups]
        for group, old, new in zip(groups, self._rates, rates, strict=True):
            if new != old:
                group[self.making.rate] = new
        self._rates = rates

    def _closure(self) -> tuple[Callable[[], Tensor], ...]:
        """What `step` is given: nothing, or one that has computed the gradient already."""
        if not self.making.needs_closure:
            return ()
        calls: list[None] = []

        def closure() -> Tensor:
            calls.append(None)
            if len(calls) > 1:
                raise SuiteError(
                    f"{self.making.path} asks for a second gradient in one step, where each "
                    "optimizer gets one: choose hyperparameters with which it needs no other, "
                    "such as max_iter: 1 of LBFGS"
                )
            # No optimizer of the suite is told the loss.
            return self.theta.new_full((), torch.nan)

        return (closure,)

    def _collect(self) -> None:
        """Bring parameters that a step gave other memory back into that of θ."""
        for parameter, theta, _ in self._parameters:
            if parameter.data_ptr() != theta.data_ptr():
                theta.copy_(parameter.detach())
                parameter.data = theta

    def _switch(self, mode: str) -> None:
        for each in self._objects:
            getattr(each, mode)()
        self._collect()
