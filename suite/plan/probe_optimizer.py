"""What is tried of an optimizer: two updates of two runs, together and each alone."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from l2l.optimizers.kernels.dispatch import unfused
from l2l.optimizers.learned.base import Learned
from l2l.suite.core.abilities import has
from l2l.suite.core.blame import blamed, method_of, refused
from l2l.suite.core.generators import seeded_generators
from l2l.suite.core.plugins import twin
from l2l.suite.core.seeds import Rng
from l2l.suite.core.trees import a, close, copied, difference, kind_of
from l2l.suite.core.types import Optimizer, Params, ParamSpec
from l2l.suite.core.wrapper import wrapped

ROWS, STEPS = 2, 2
# The rates of a sweep, one for each row.
RATES = (0.01, 0.03)
SEED = 0
LARGEST = 3


def reduced(layout: ParamSpec) -> ParamSpec:
    """The same names and groups with no dimension above `LARGEST`: small, and the same to most."""
    shapes = {
        name: torch.Size(min(size, LARGEST) for size in shape)
        for name, shape in layout.shapes.items()
    }
    return ParamSpec(shapes, layout.groups)


def check_optimizer(cls: type[Optimizer], arguments: Mapping[str, Any], layout: ParamSpec) -> None:
    """Find the mistakes that make a run fail late or end in wrong numbers.

    Args:
        cls: its class.
        arguments: of the class; without the field that is swept, if one is.
        layout: of the parameters that it moves.

    Raises:
        SuiteError: in one sentence, with the method and its line, and what to do.
    """
    gradients = Rng(SEED, "probe").normal(STEPS, ROWS, layout.size)
    params = Params(Rng(SEED, "probe/theta").normal(STEPS, ROWS, layout.size), layout)
    with torch.no_grad(), unfused():
        optimizer = _made(cls, arguments, RATES[0])
        _check_kinds(optimizer, params, gradients)
        updates = _updates(optimizer, params, gradients)
        _check_rows(optimizer, params, gradients, updates)
        if _is_swept(cls, arguments):
            _check_rates(cls, arguments, params, gradients)
        _check_import(cls, optimizer, arguments, params, gradients, updates)
        _check_abilities(optimizer, params, gradients, updates)
        if isinstance(optimizer, Learned):
            _check_learned(optimizer, params, gradients)


def _is_swept(cls: type[Optimizer], arguments: Mapping[str, Any]) -> bool:
    return cls.tuned is not None and cls.tuned not in arguments


def _made(
    cls: type[Optimizer], arguments: Mapping[str, Any], rate: float | Tensor, generators: int = 1
) -> Any:
    """The optimizer at this rate, if its rate is swept, or with untrained weights."""
    swept = {str(cls.tuned): rate} if _is_swept(cls, arguments) else {}
    with blamed(f"{cls.__name__} raises"):
        made: Any = wrapped(cls, {**arguments, **swept})
    if isinstance(made, Learned):
        with blamed(f"{method_of(made, 'initial_weights')} raises"), seeded_generators(generators):
            weights: Any = made.initial_weights(Rng(SEED, "phi"))
            size = made.layout.size
        if not isinstance(weights, Tensor) or weights.shape != (size,):
            raise refused(
                made, "initial_weights", f"must give a tensor of shape [{size}], as layout says"
            )
        made = made.with_weights(weights)
    return made


def _updates(
    optimizer: Optimizer,
    params: Params,
    gradients: Tensor,
    in_place: bool = False,
    generators: int = 1,
) -> Tensor:
    """Updates [T, n, P] for gradients and iterates [T, n, P], the global generators seeded."""
    made = []
    method = optimizer.update_in_place if in_place else optimizer.update
    with seeded_generators(generators):
        state = optimizer.init(params.spec, gradients.shape[1])
        for step, each in enumerate(gradients):
            update, state = method(each, state, params.at(step))
            made.append(update)
    return torch.stack(made)


def _alone(optimizer: Optimizer, params: Params, gradients: Tensor, row: int) -> Tensor:
    """Updates [T, 1, P] of one run without the others."""
    return _updates(optimizer, Params(params.theta[:, [row]], params.spec), gradients[:, [row]])


def _check_kinds(optimizer: Optimizer, params: Params, gradients: Tensor) -> None:
    """What `init` and `update` give, that both repeat, and that arguments stay as they are."""
    layout = params.spec
    wrong = functools.partial(refused, optimizer, "update")
    with blamed(f"{method_of(optimizer, 'init')} raises"), seeded_generators(1):
        state = optimizer.init(layout, ROWS)
    _check_state(optimizer, "init", state)
    with seeded_generators(2):
        place = difference(state, optimizer.init(layout, ROWS))
    if place is not None:
        raise refused(optimizer, "init", f"gives another state{place} when it is called again")
    for step, grads in enumerate(gradients):
        at = params.at(step)
        with blamed(f"{method_of(optimizer, 'lookahead')} raises"):
            ahead = optimizer.lookahead(state)
        if ahead is not None:
            _check_shape(optimizer, "lookahead", ahead, grads)
        given = {"grads": grads, "state": state, "params.theta": at.theta}
        before = copied(given)
        with blamed(f"{method_of(optimizer, 'update')} raises"), seeded_generators(1):
            result: Any = optimizer.update(grads, state, at)
        for name, new in given.items():
            old = before[name]
            place = difference(old, new)
            if place is not None:
                raise wrong(f"changes {name}{place} in place: make a new tensor")
        if not isinstance(result, tuple) or len(result) != 2:
            raise wrong(f"gives {a(result)}, but must give the updates and the next state")
        update, following = result
        _check_shape(optimizer, "update", update, grads)
        if not update.isfinite().all():
            raise wrong("gives updates that are not finite for finite gradients")
        with seeded_generators(2):
            again, _ = optimizer.update(grads, state, at)
        if not close(again, update):
            raise wrong(
                "gives other updates when it is called again with equal arguments: whatever "
                "changes from step to step belongs in the state"
            )
        _check_state(optimizer, "update", following)
        if any(_same_memory(each, at.theta) for each in tree_leaves(following)):
            raise wrong(
                "keeps params.theta in the state, whose memory the next iterate takes: keep "
                "params.theta.clone()"
            )
        state = following


def _same_memory(value: Any, theta: Tensor) -> bool:
    return (
        isinstance(value, Tensor)
        and value.untyped_storage().data_ptr() == theta.untyped_storage().data_ptr()
    )


def _check_shape(optimizer: Optimizer, method: str, value: Any, grads: Tensor) -> None:
    found, wanted = kind_of(value), kind_of(grads)
    if found != wanted:
        what = f"gives {found} where gradients [n, P] are {wanted}, but must give the same"
        raise refused(optimizer, method, what)


def _check_state(optimizer: Optimizer, method: str, state: Any) -> None:
    """That it is made of tensors, tuples, and values that nobody can change in place."""
    if isinstance(state, tuple):
        for part in state:
            _check_state(optimizer, method, part)
    elif not isinstance(state, Tensor) and type(state).__hash__ is None:
        what = f"gives {a(state)} in the state, which may change in place: use tuples and tensors"
        raise refused(optimizer, method, what)


def _check_rows(optimizer: Optimizer, params: Params, gradients: Tensor, updates: Tensor) -> None:
    """That a run gets the same updates alone and beside others."""
    for row in range(ROWS):
        with blamed(f"{method_of(optimizer, 'update')} raises, with gradients [1, P],"):
            alone = _alone(optimizer, params, gradients, row)
        if not close(alone, updates[:, [row]]):
            raise refused(
                optimizer,
                "update",
                "gives a run other updates alone than beside others: rows of gradients [n, P] are "
                "separate runs, so reduce over dim=1 only",
            )


def _check_rates(
    cls: type[Optimizer], arguments: Mapping[str, Any], params: Params, gradients: Tensor
) -> None:
    """That a column of rates is a sweep, each row with its own."""
    what = f"with {cls.tuned} as a tensor [n, 1], the rates of a sweep,"
    sweep = _made(cls, arguments, torch.tensor(RATES).unsqueeze(1))
    with blamed(f"{method_of(sweep, 'update')} raises, {what}"):
        together = _updates(sweep, params, gradients)
    for row, rate in enumerate(RATES):
        alone = _alone(_made(cls, arguments, rate), params, gradients, row)
        if alone.shape != together[:, [row]].shape or not close(alone, together[:, [row]]):
            raise refused(
                sweep, "update", f"gives other updates {what} than with each row's own number"
            )


def _check_import(
    cls: type[Optimizer],
    optimizer: Optimizer,
    arguments: Mapping[str, Any],
    params: Params,
    gradients: Tensor,
    updates: Tensor,
) -> None:
    """That nothing depends on what a plugin drew from global generators and kept."""
    other = twin(cls)
    if other is None:
        return
    made = _made(other, arguments, RATES[0], generators=2)
    if not close(_updates(made, params, gradients, generators=2), updates):
        raise refused(
            optimizer,
            "update",
            "gives updates that depend on random numbers drawn while the file was imported, or "
            "kept from a call before: write them down as numbers, or make them from a fixed seed",
        )


def _check_abilities(
    optimizer: Optimizer, params: Params, gradients: Tensor, updates: Tensor
) -> None:
    """That `update_in_place` does what `update` does, and that who ignores θ does not read it."""
    if has(optimizer, "update_in_place"):
        with blamed(f"{method_of(optimizer, 'update_in_place')} raises"):
            in_place = _updates(optimizer, params, gradients, in_place=True)
        if not close(in_place, updates):
            raise refused(optimizer, "update_in_place", "gives other updates than update()")
    if has(optimizer, "ignores_params"):
        unread = Params(torch.full_like(params.theta, torch.nan), params.spec)
        if not close(_updates(optimizer, unread, gradients), updates):
            raise refused(
                optimizer, "update", "uses params, but the class says `ignores_params = True`"
            )


def _check_learned(optimizer: Learned, params: Params, gradients: Tensor) -> None:
    """That the updates can be differentiated with respect to φ."""
    state = optimizer.init(params.spec, ROWS)
    with blamed(f"{method_of(optimizer, 'update')} cannot be differentiated with respect to phi"):
        parts = [
            network.window_gradient(*given)
            for network, *given in optimizer.networks(gradients, state, gradients, params)
        ]
    found = torch.cat(parts)
    if found.shape != optimizer.phi.shape or not found.isfinite().all():
        shape = list(optimizer.phi.shape)
        raise refused(optimizer, "window_gradient", f"must give finite numbers of shape {shape}")
