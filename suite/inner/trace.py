"""What optimizers would do with single coordinates along one optimizer's trajectory (Appendix B).

Letters in shapes: T steps, P parameters, C coordinates, M alternatives for the gradient of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import Optimizer, Params, ParamSpec, Problem
from l2l.suite.files.progress import Progress, silent
from l2l.suite.inner.loop import descend
from l2l.suite.inner.memory import rows_at_once
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.trace_settings import Trace
from l2l.suite.inner.trace_tables import COLUMNS, Traces, joined

# Gradients turned round, one in each copy of a history, to see what later updates make of it.
TURNED = 16
# Where coordinates do not meet, one alone gets the same update as in company, but for rounding.
SAME = 1e-3


@torch.no_grad()
def trace(
    problem: Problem,
    optimizers: Mapping[str, Optimizer],
    settings: Trace,
    steps: int,
    instances: int,
    seed: int,
    device: str | torch.device = "cpu",
    progress: Progress = silent,
) -> Traces:
    """Traces of test instances; one whose trajectory diverges is left out.

    Args:
        problem: the distribution of functions.
        optimizers: by label; all see the gradients that `settings.along` meets.
        settings: which coordinates, and what is recorded of them.
        steps: updates of a trajectory.
        instances: how many.
        seed: the experiment's.
        device: where tensors live.
        progress: called after each instance.

    Raises:
        SuiteError: every trajectory diverges, or no coordinate of one ever has a gradient.
    """
    parts = []
    for instance in range(instances):
        objective = Objective(problem, [instance], "test", seed, device=device)
        grads, params, alive = _trajectory(objective, optimizers[settings.along], steps)
        if alive:
            chosen = choose(grads, settings, seed, instance)
            for label, optimizer in optimizers.items():
                part = coordinates_of(optimizer, params, grads, chosen, settings)
                parts.append(_labelled(part, label, instance))
        progress(instance + 1, instances, "")
    if not parts:
        raise SuiteError(f"{settings.along} diverges on every instance, so there is no trace")
    return joined(parts)


def _trajectory(
    objective: Objective, optimizer: Optimizer, steps: int
) -> tuple[Tensor, Params, bool]:
    """The gradients [T, P] and iterates θ [T, P] of one run, and whether it did not diverge."""
    grads, thetas = [], []
    for point in descend(objective, optimizer, steps - 1):
        grads.append(point.grads)
        # The next iterate takes its memory.
        thetas.append(point.theta.clone())
    return torch.cat(grads), Params(torch.cat(thetas), objective.spec), bool(point.alive.all())


def choose(grads: Tensor, settings: Trace, seed: int, instance: int) -> Tensor:
    """The coordinates [C] to trace of gradients [T, P]: those given, then drawn ones.

    Drawn are those that have a gradient at every step, because where it is 0, as at a pixel that
    stays black, there is nothing to see.

    Raises:
        SuiteError: there is no such coordinate, and none is given.
    """
    active = grads.ne(0).all(0).cpu()
    active[list(settings.shown)] = False
    order = Rng(seed, "trace", instance).uniform(len(active)).argsort()
    drawn = order[active[order]][: max(0, settings.coordinates - len(settings.shown))]
    chosen = torch.cat([torch.tensor(settings.shown, dtype=torch.int64), drawn])
    if not len(chosen):
        raise SuiteError(f"instance {instance}: no coordinate has a gradient at every step")
    return chosen.to(grads.device)


def coordinates_of(
    optimizer: Optimizer, params: Params, grads: Tensor, chosen: Tensor, settings: Trace
) -> Traces:
    """What `optimizer` does at the `chosen` coordinates [C] when it meets `grads` at θ [T, P]."""
    met = grads[:, chosen]
    updates = replay(optimizer, params, grads)[:, chosen]
    alone = optimizer.coordinatewise
    if alone:
        by_itself = updates_at(optimizer, params, grads, chosen, met.unsqueeze(2), alone=True)
        tolerance = SAME * updates.abs().max().item()
        alone = torch.allclose(by_itself.squeeze(2), updates, rtol=SAME, atol=tolerance)

    probed = chosen[: settings.probed]
    span = settings.reach * met[: settings.response_steps, : settings.probed].abs().amax(0)
    grid = span.unsqueeze(1) * torch.linspace(-1, 1, settings.points, device=span.device)
    values = grid.expand(min(len(grads), settings.response_steps), -1, -1)
    responses = updates_at(optimizer, params, grads, probed, values, alone, asked_only=True)

    lags = min(settings.lags, len(grads) // 2)
    effects = impulses(optimizer, params, grads, chosen, lags, alone)
    return Traces(
        traces=_table("traces", chosen, [met, updates]),
        responses=_table("responses", probed, [values, responses]),
        impulses=_table("impulses", chosen, [effects], first=0),
    )


def replay(optimizer: Optimizer, params: Params, grads: Tensor) -> Tensor:
    """The updates [T, P] of an optimizer that meets the gradients and θ [T, P] of another's run."""
    state = _start(optimizer, params.spec, 1, grads)
    updates = []
    for gradient, theta in zip(grads, params.theta, strict=False):
        at = Params(theta.unsqueeze(0), params.spec)
        update, state = optimizer.update(gradient.unsqueeze(0), state, at)
        updates.append(update)
    return torch.cat(updates)


def impulses(
    optimizer: Optimizer, params: Params, grads: Tensor, chosen: Tensor, lags: int, alone: bool
) -> Tensor:
    """What the sign of a coordinate's gradient adds to its updates 0 … `lags` steps later.

    At each of some steps s the gradient is turned round, ∇ ↦ −∇, and all others left. The effect
    at lag j is half the difference that this makes to the update at s + j, along −sgn ∇_s, so that
    descent is positive; it is averaged over s. For gradient descent it is η|∇| at lag 0 and 0
    after it; for momentum it falls as βʲ.

    Returns:
        Effects [lags + 1, C].
    """
    met = grads[:, chosen]
    latest = len(grads) - 1 - lags
    turned = torch.linspace(0, latest, min(TURNED, latest + 1)).round().long().tolist()
    values = met.unsqueeze(2).repeat(1, 1, 1 + len(turned))
    for copy, step in enumerate(turned, start=1):
        values[step, :, copy] *= -1
    updates = updates_at(optimizer, params, grads, chosen, values, alone)
    effects = []
    for copy, step in enumerate(turned, start=1):
        after = updates[step : step + lags + 1]
        effects.append(-met[step].sign() * (after[..., 0] - after[..., copy]) / 2)
    return torch.stack(effects).mean(0)


def updates_at(
    optimizer: Optimizer,
    params: Params,
    grads: Tensor,
    chosen: Tensor,
    values: Tensor,
    alone: bool,
    asked_only: bool = False,
) -> Tensor:
    """The updates of single coordinates, had their gradients been others.

    Args:
        optimizer: whose updates.
        params: the iterates [T, P].
        grads: what was met [T, P].
        chosen: the coordinates [C]; each is changed while all the rest stays as it was.
        values: instead of their gradients, M histories of each: [T' ≤ T, C, M].
        alone: coordinates do not meet, so that the chosen ones can be run without the rest.
        asked_only: the history stays as it was met, and `values` are only asked about at each step.

    Returns:
        The updates [T', C, M].
    """
    if not alone:
        return _in_company(optimizer, params, grads, chosen, values, asked_only)
    own, padding = _spec_of(params.spec, chosen, values.shape[2])
    state = _start(optimizer, own, 1, grads)
    found = []
    thetas = params.theta[:, chosen]
    for value, met, theta in zip(values, grads[:, chosen], thetas, strict=False):
        at = Params(_row(theta.unsqueeze(1).expand_as(value), padding), own)
        update, following = optimizer.update(_row(value, padding), state, at)
        if asked_only:
            met = met.unsqueeze(1).expand_as(value)
            _, following = optimizer.update(_row(met, padding), state, at)
        state = following
        found.append(update[0, : value.numel()].view_as(value))
    return torch.stack(found)


def _in_company(
    optimizer: Optimizer,
    params: Params,
    grads: Tensor,
    chosen: Tensor,
    values: Tensor,
    asked_only: bool,
) -> Tensor:
    """As `updates_at`, each alternative with all other coordinates in a row of its own."""
    found = torch.empty_like(values, memory_format=torch.contiguous_format)
    rows = rows_at_once(params.spec, optimizer, grads.device)
    for place, coordinate in enumerate(chosen):
        for first in range(0, values.shape[2], rows):
            some = values[:, place, first : first + rows]
            state = _start(optimizer, params.spec, some.shape[1], grads)
            for step, value in enumerate(some):
                met = grads[step].expand(len(value), -1)
                changed = met.clone()
                changed[:, coordinate] = value
                at = Params(params.theta[step].expand(len(value), -1), params.spec)
                update, following = optimizer.update(changed, state, at)
                if asked_only:
                    _, following = optimizer.update(met, state, at)
                state = following
                found[step, place, first : first + rows] = update[:, coordinate]
    return found


def _spec_of(spec: ParamSpec, chosen: Tensor, copies: int) -> tuple[ParamSpec, int]:
    """The layout of `copies` of each chosen coordinate, each in the group of its parameter.

    One more coordinate of every group follows, because an optimizer may ask that none is missing;
    their number is the second value.
    """
    ends = np.cumsum([shape.numel() for shape in spec.shapes.values()])
    names = [
        list(spec.shapes)[i] for i in np.searchsorted(ends, chosen.cpu().numpy(), side="right")
    ]
    shapes = {str(k): torch.Size([copies]) for k in range(len(names))}
    groups = {str(k): spec.groups.get(name, "all") for k, name in enumerate(names)}
    rest = dict.fromkeys(spec.groups.values())
    shapes |= {f"rest {group}": torch.Size([1]) for group in rest}
    groups |= {f"rest {group}": group for group in rest}
    return ParamSpec(shapes, groups), len(rest)


def _row(values: Tensor, padding: int) -> Tensor:
    flat = values.reshape(1, -1)
    return torch.cat([flat, flat.new_zeros(1, padding)], dim=1)


def _start(optimizer: Optimizer, spec: ParamSpec, n: int, like: Tensor) -> Any:
    with like.device:
        return optimizer.init(spec, n)


def _table(name: str, chosen: Tensor, values: list[Tensor], first: int = 1) -> pd.DataFrame:
    """Values [T, C, …] as rows in the order of coordinates, then steps, counted from `first`."""
    columns = [column for column in COLUMNS[name] if column not in ("optimizer", "instance")]
    shape = values[0].shape
    steps, places = np.indices(shape, dtype=np.int32).swapaxes(1, 2).reshape(len(shape), -1)[:2]
    data = [chosen.cpu().numpy()[places], steps + first]
    data += [value.cpu().transpose(0, 1).flatten().numpy() for value in values]
    return pd.DataFrame(dict(zip(columns, data, strict=True)))


def _labelled(part: Traces, label: str, instance: int) -> Traces:
    return Traces(
        **{
            name: table.assign(optimizer=label, instance=instance)[list(COLUMNS[name])]
            for name, table in part.tables().items()
        }
    )
