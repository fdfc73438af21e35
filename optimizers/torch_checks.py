"""What `LearnedOptimizer` refuses, and the sentences it says."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

# The type in which a parameter's update is computed and its hidden state kept.
COMPUTED_IN = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
}
OWN_KEYS = ("params", "checkpoint", "lr")
SAVED_KEYS = (*OWN_KEYS, "digest")
# Settings of PyTorch's optimizers that would silently do nothing here.
WITHOUT_EFFECT = frozenset(
    {"betas", "dampening", "eps", "maximize", "momentum", "nesterov", "weight_decay"}
)

Group = Mapping[str, Any]


def check_rate(lr: object, where: str = "") -> None:
    """Refuse an `lr` that is no number (TypeError), negative or not finite (ValueError)."""
    if isinstance(lr, Real):
        value = float(lr)
    elif isinstance(lr, Tensor) and lr.numel() == 1:
        value = lr.item()
    else:
        what = f"a tensor of shape {list(lr.shape)}" if isinstance(lr, Tensor) else repr(lr)
        raise TypeError(f"{where}lr must be a number or a tensor of one element, not {what}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{where}lr must be at least 0 and finite, not {value}")


def check_group(group: Group, number: int) -> None:
    """Refuse settings that are misspelt or without effect, and parameters of other types.

    Keys of other names are left to whoever reads them, such as a scheduler.

    Raises:
        TypeError: `lr` is no number.
        ValueError: anything else is wrong.
    """
    check_rate(group["lr"], f"group {number}: ")
    for key in group.keys() - set(OWN_KEYS):
        close = difflib.get_close_matches(str(key).lower(), OWN_KEYS, n=1, cutoff=0.75)
        if close:
            raise ValueError(f"group {number}: unknown setting {key!r}, did you mean {close[0]!r}?")
        if key in WITHOUT_EFFECT and group[key]:
            raise ValueError(
                f"group {number}: LearnedOptimizer has no {key!r}, remove it from the group"
            )
    for parameter in group["params"]:
        # Frozen ones, such as the integers of a quantized model, are never moved.
        if parameter.requires_grad:
            _check_type(parameter, number)


def check_gradient(parameter: Tensor, number: int) -> None:
    """Refuse a parameter that cannot be moved by its gradient; ValueError."""
    _check_type(parameter, number)
    assert parameter.grad is not None
    if parameter.grad.layout != torch.strided:
        raise ValueError(
            f"{_name(parameter, number)} has a sparse gradient: LearnedOptimizer needs dense ones, "
            "such as nn.Embedding gives with sparse=False"
        )


def check_state(
    entries: Mapping[str, object], parameter: Tensor, number: int, wanted: Mapping[str, torch.Size]
) -> None:
    """Refuse what is not the state of the parameter, for a network; ValueError.

    Args:
        entries: the state's tensors by name.
        parameter: whose state it is.
        number: of the parameter's group.
        wanted: the shapes that they must have.
    """
    for name, shape in wanted.items():
        entry = entries.get(name)
        if not isinstance(entry, Tensor) or not entry.is_floating_point():
            raise ValueError(
                f"{_name(parameter, number)} needs a {name!r} state, a tensor of floats"
            )
        if entry.shape != shape:
            raise ValueError(
                f"{_name(parameter, number)} needs a {name} state of shape {list(shape)}, not "
                f"{list(entry.shape)}, which belongs to another parameter or network"
            )


def check_saved(saved: Mapping[str, Any], groups: Sequence[Group]) -> None:
    """Refuse the state of another optimizer, of other groups or of another checkpoint.

    Args:
        saved: what is given to `load_state_dict`.
        groups: the optimizer's own.

    Raises:
        TypeError: an `lr` is no number.
        ValueError: anything else is wrong.
    """
    theirs = saved.get("param_groups")
    if not isinstance(theirs, list) or not isinstance(saved.get("state"), dict):
        raise ValueError("an optimizer's state must have 'state' and 'param_groups'")
    for number, group in enumerate(theirs):
        if missing := [key for key in SAVED_KEYS if key not in group]:
            raise ValueError(
                f"the state was not saved by LearnedOptimizer: its group {number} has no "
                f"{' and no '.join(map(repr, missing))}"
            )
        check_rate(group["lr"], f"group {number} of the state: ")
    sizes, wanted = ([len(each["params"]) for each in some] for some in (theirs, groups))
    if sizes != wanted:
        raise ValueError(
            f"the state is of groups of {sizes} parameters, but this optimizer's are of {wanted}"
        )
    for number, (group, own) in enumerate(zip(theirs, groups, strict=True)):
        if group["digest"] != own["digest"]:
            raise ValueError(
                f"the state of group {number} is of checkpoint {group['checkpoint']} (SHA-256 "
                f"{group['digest'][:12]}…), but here the group has {own['checkpoint']} "
                f"({own['digest'][:12]}…): make the optimizer with the checkpoint of the state"
            )


def numbered(groups: Sequence[Group]) -> Iterator[tuple[int, Any]]:
    """All parameters of groups (or their numbers in a saved state), with their group's number."""
    for number, group in enumerate(groups):
        # A parameter that a group has twice is one parameter.
        for parameter in dict.fromkeys(group["params"]):
            yield number, parameter


def _check_type(parameter: Tensor, number: int) -> None:
    if parameter.dtype not in COMPUTED_IN:
        known = ", ".join(str(each).removeprefix("torch.") for each in COMPUTED_IN)
        raise ValueError(
            f"{_name(parameter, number)} is {str(parameter.dtype).removeprefix('torch.')}, "
            f"but must be one of {known}"
        )


def _name(parameter: Tensor, number: int) -> str:
    return f"the parameter of shape {list(parameter.shape)} in group {number}"
