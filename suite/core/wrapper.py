"""Clipping, weight decay, schedules and a kept state, for every optimizer with a tuned rate."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, NamedTuple, Self

from torch import Tensor

from l2l.suite.core.abilities import has
from l2l.suite.core.bounds import Above, AtLeast, Below, Count, Natural, NotNegative
from l2l.suite.core.types import Optimizer, Params, ParamSpec


@dataclass(frozen=True)
class Options:
    """What stands beside an optimizer's own fields, as in ``{name: adam, weight_decay: 0.01}``.

    Args:
        clip_norm: c: gradients become ∇ min(1, c / ‖∇‖), each instance's with its own L2 norm.
        weight_decay: λ: the update gets −ηλθ, beside what the optimizer makes of gradients
            (decoupled, as in AdamW, Loshchilov and Hutter 2019).
        schedule: the rate η_t is the tuned η at all steps (``constant``), or falls to 0 along a
            line (``linear``) or half a cosine (``cosine``).
        warmup: steps in which η_t rises to η first: η/w, 2η/w, …
        hold: the part of the other steps in which η_t stays at η before it falls. With a line and
            .8 or so, this is the schedule known as warmup-stable-decay.
        schedule_steps: when it has fallen to 0; a panel fills in its number of steps.
        earlier_runs: how many runs on other instances come before each run, whose state is kept in
            place of a new one. The curves of the paper's ADAM and RMSprop are those of a state that
            was never reset (docs/calibration.md). Whether one of them diverges is not counted, only
            what its state does to the run itself.
    """

    clip_norm: Annotated[float, Above(0)] | None = None
    weight_decay: NotNegative | None = None
    schedule: Literal["constant", "linear", "cosine"] | None = None
    warmup: Natural = 0
    hold: Annotated[float, AtLeast(0), Below(1)] = 0.0
    schedule_steps: Count | None = None
    earlier_runs: Natural = 0

    def __post_init__(self) -> None:
        if self.schedule is None and (self.warmup or self.schedule_steps):
            raise ValueError("'warmup' and 'schedule_steps' belong to a 'schedule': add one")
        if self.hold and self.schedule not in ("linear", "cosine"):
            raise ValueError("'hold' belongs to a 'schedule' that falls: linear or cosine")
        if self.schedule is not None and self.earlier_runs:
            raise ValueError("'earlier_runs' would use up the 'schedule': omit one of them")
        if self.schedule is not None and self.schedule_steps is None:
            raise ValueError("'schedule' needs 'schedule_steps', the steps of a run")
        if self.schedule_steps is not None and self.warmup > self.schedule_steps:
            raise ValueError(
                f"warmup {self.warmup} must not be above the {self.schedule_steps} steps of the "
                "schedule"
            )

    def factor(self, updates: int) -> float:
        """η_t / η after so many updates."""
        if self.schedule_steps is None:
            return 1.0
        if updates < self.warmup:
            return (updates + 1) / self.warmup
        falling = max(1, self.schedule_steps - self.warmup)
        passed = min(1.0, (updates - self.warmup) / falling)
        done = max(0.0, (passed - self.hold) / (1 - self.hold))
        match self.schedule:
            case "linear":
                return 1 - done
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * done))
        return 1.0


class WrappedState(NamedTuple):
    """The number of updates done, and the state of the wrapped optimizer."""

    updates: int
    inner: Any


@dataclass(frozen=True)
class Wrapped(Optimizer):
    """An optimizer that is given clipped gradients and η_t, and whose update gets −η_tλθ.

    The weight decay is no part of what the inner optimizer takes its last move for, which matters
    to BFGS and L-BFGS alone.
    """

    inner: Optimizer
    options: Options

    @property
    def coordinatewise(self) -> bool:  # type: ignore[override]
        # A threshold that no gradient reached so far would not show.
        return self.inner.coordinatewise and self.options.clip_norm is None

    @property
    def earlier_runs(self) -> int:
        return self.options.earlier_runs

    def fingerprints(self) -> Mapping[str, str]:
        return self.inner.fingerprints()

    def init(self, spec: ParamSpec, n: int) -> WrappedState:
        return WrappedState(0, self.inner.init(spec, n))

    def at_rate(self, rate: Tensor | float) -> Self:
        return replace(self, inner=self.inner.at_rate(rate))

    def lookahead(self, state: WrappedState) -> Tensor | None:
        return self._scheduled(state).lookahead(state.inner)

    def update(
        self, grads: Tensor, state: WrappedState, params: Params
    ) -> tuple[Tensor, WrappedState]:
        return self._updated(self.inner.__class__.update, grads, state, params)

    @property
    def update_in_place(self) -> Any:
        """As the inner optimizer's; None where it has no such ability."""
        if not has(self.inner, "update_in_place"):
            return None
        return functools.partial(self._updated, self.inner.__class__.update_in_place)

    def _updated(
        self, method: Callable[..., Any], grads: Tensor, state: WrappedState, params: Params
    ) -> tuple[Tensor, WrappedState]:
        options, inner = self.options, self._scheduled(state)
        if options.clip_norm is not None:
            grads = clip_by_norm(grads, options.clip_norm)
        update, following = method(inner, grads, state.inner, params)
        if options.weight_decay is not None:
            update = update - _rate(inner) * options.weight_decay * params.theta
        return update, WrappedState(state.updates + 1, following)

    def _scheduled(self, state: WrappedState) -> Optimizer:
        # Its rate, not its update: a velocity such as NAG's has rates of earlier steps in it.
        factor = self.options.factor(state.updates)
        return self.inner if factor == 1 else self.inner.at_rate(factor * _rate(self.inner))


def clip_by_norm(grads: Tensor, threshold: float) -> Tensor:
    """Gradients [n, P] with the norm of each row cut to `threshold`."""
    # Squares of larger gradients would overflow.
    size = (grads.abs().amax(1, keepdim=True) / 1e15).clamp_min(1.0)
    norm = size * (grads / size).norm(dim=1, keepdim=True)
    factor: Tensor = (threshold / norm).clamp_max(1.0)
    return grads * factor


def options_in(cls: type[Optimizer], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a class's arguments that are `Options`; a field of its own comes first."""
    own = cls.own_names(arguments)
    common = {field.name for field in fields(Options)} - own
    return {name: value for name, value in arguments.items() if name in common}


def wrapped(cls: type[Optimizer], arguments: Mapping[str, Any]) -> Optimizer:
    """An optimizer of a class, wrapped if there are `Options` among its arguments.

    Raises:
        ValueError: there are, and it has no rate.
    """
    given = options_in(cls, arguments)
    inner = cls(**{name: value for name, value in arguments.items() if name not in given})
    if not given:
        return inner
    if inner.tuned is None:
        raise ValueError(f"it has no learning rate that is tuned, so omit {', '.join(given)}")
    return Wrapped(inner, Options(**given))


def _rate(optimizer: Optimizer) -> Any:
    return getattr(optimizer, str(optimizer.tuned))
