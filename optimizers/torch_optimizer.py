"""A learned optimizer as a `torch.optim.Optimizer`, for anybody's training loop."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT, StateDict

from l2l import Params
from l2l.optimizers.learned.base import Learned
from l2l.optimizers.learned.pretrained import Pretrained, by_tensor
from l2l.optimizers.torch_checks import (
    COMPUTED_IN,
    check_gradient,
    check_group,
    check_rate,
    check_saved,
    check_state,
    numbered,
)
from l2l.optimizers.torch_states import Entries, Form, entries_of, fresh_state, spec_of
from l2l.suite.core.abilities import has


class LearnedOptimizer(torch.optim.Optimizer):
    """A learned optimizer that was trained before, such as the LSTM of section 2.1, applied here.

    Every parameter has a state of its own; of the LSTM that is a hidden state of 80 numbers for
    each of its coordinates (docs/learned-optimizers.md has others). Parameter groups may name
    checkpoints of their own, and `lr`, which multiplies the updates: 1 is what the optimizer was
    trained with, and PyTorch's schedulers can change it. A group's `digest`, the SHA-256 of its
    checkpoint's file, is set here.

    Args:
        params: parameters or groups of them, of float64, float32, bfloat16 or float16. The last
            two have their hidden states and updates in float32.
        checkpoint: a name in `results/checkpoints`, such as ``mnist-lstm``, or a file's path.
        lr: factor of the updates.

    Raises:
        SuiteError: there is no such checkpoint, it is damaged, or its optimizer does not move each
            parameter by itself, as those with global averaging cells.
        TypeError: `lr` or `checkpoint` is of a wrong type.
        ValueError: `lr` is negative or not finite, a group has a misspelt setting or one without
            effect, or a parameter is of another type.
    """

    def __init__(
        self, params: ParamsT, checkpoint: str | os.PathLike[str], lr: float | Tensor = 1.0
    ) -> None:
        check_rate(lr)
        self._networks: dict[str, Pretrained] = {}
        self._forms: dict[tuple[str, torch.Size], Form] = {}
        self._network({"checkpoint": checkpoint})
        super().__init__(params, {"checkpoint": os.fspath(checkpoint), "lr": lr})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group whose settings are in order; raises as the constructor does."""
        if isinstance(param_group, dict) and "params" not in param_group:
            raise ValueError(f"group {len(self.param_groups)} has no 'params'")
        super().add_param_group(param_group)
        added = self.param_groups.pop()
        check_group(added, len(self.param_groups))
        self._network(added)
        # As text: `torch.load` would refuse a Path in a saved state.
        added["checkpoint"] = os.fspath(added["checkpoint"])
        # In the group, not only in `state_dict`: `torch.distributed` saves the keys it finds here.
        added["digest"] = self._network(added).digest
        self.param_groups.append(added)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of all parameters that have a gradient.

        Where a gradient is NaN, its coordinate becomes NaN, as with PyTorch's own optimizers; the
        hidden state takes it for 0, so it stays finite.

        Args:
            closure: evaluates the model again and returns the loss.

        Raises:
            ValueError: a gradient is sparse, a parameter is of a type that is not supported, or
                its hidden state does not fit it. No parameter has moved then.
        """
        if torch.compiler.is_compiling():
            # Its compiler would trace how a kernel is found and built.
            eager: Callable[..., float | None] = torch.compiler.disable(self.step)  # type: ignore[no-untyped-call]
            return eager(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        ready = []
        for number, parameter in numbered(self.param_groups):
            if parameter.grad is not None:
                check_gradient(parameter, number)
                ready.append((parameter, number, self._entries(parameter, number)))
        for parameter, number, entries in ready:
            state = self._form(parameter, number).state(entries)
            # Its products would be rounded to 16 bits, where a closure alone is to be autocast.
            with torch.autocast(parameter.device.type, enabled=False):
                update, following = _update(self._learned(parameter, number), parameter, state)
            if following is not state:
                for name, each in entries_of(following).items():
                    entries[name].copy_(each)
            lr = self.param_groups[number]["lr"]
            if isinstance(lr, Tensor):
                parameter.add_(update.mul_(lr.to(update.device).reshape(())))
            else:
                parameter.add_(update, alpha=float(lr))
        return loss

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Go on from a saved state: its hidden states and settings, such as `lr`.

        Checkpoints are recognized by their content, and stay at the paths that they have here.

        Raises:
            TypeError: the state is no dictionary, or an `lr` in it no number.
            ValueError: the state is of another optimizer, other groups, parameters of another
                shape, or another checkpoint. Nothing has changed then.
        """
        if not isinstance(state_dict, dict):
            raise TypeError(f"state_dict must be a dictionary, not {type(state_dict).__name__}")
        kept: dict[Tensor, Entries] = {}

        def take(_: torch.optim.Optimizer, given: StateDict) -> StateDict:
            own = self.param_groups
            check_saved(given, own)
            keys = (key for _, key in numbered(given["param_groups"]))
            for (number, parameter), key in zip(numbered(own), keys, strict=True):
                if entry := given["state"].get(key):
                    kept[parameter] = self._placed(entry, parameter, number)
            groups = [
                group | {"checkpoint": mine["checkpoint"]}
                for group, mine in zip(given["param_groups"], own, strict=True)
            ]
            return {**given, "param_groups": groups}

        # The last of the hooks, so that it sees what the others make of the state.
        handle = self.register_load_state_dict_pre_hook(take)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        # What PyTorch took is rounded to the parameter's type, or is memory of the given state.
        for parameter, entries in kept.items():
            self.state[parameter].update(entries)

    def __getstate__(self) -> dict[str, Any]:
        # A copy elsewhere need not find the files.
        return super().__getstate__() | {
            "_networks": self._networks,
            "_forms": self._forms,
        }

    def _network(self, group: dict[str, Any]) -> Pretrained:
        checkpoint = group["checkpoint"]
        if not isinstance(checkpoint, str | os.PathLike):
            raise TypeError(f"checkpoint must be a name or a path, not {checkpoint!r}")
        checkpoint = os.fspath(checkpoint)
        if checkpoint not in self._networks:
            self._networks[checkpoint] = by_tensor(checkpoint)
        return self._networks[checkpoint]

    def _learned(self, parameter: Tensor, number: int) -> Learned:
        """The network of a parameter, where it is and in the type that it is computed in."""
        network = self._network(self.param_groups[number])
        return network.on(parameter.device, COMPUTED_IN[parameter.dtype])

    def _form(self, parameter: Tensor, number: int) -> Form:
        """What the state of a parameter is like."""
        network = self._network(self.param_groups[number])
        key = network.digest, parameter.shape
        if key not in self._forms:
            self._forms[key] = Form.of(network.optimizer, parameter.shape)
        return self._forms[key]

    def _entries(self, parameter: Tensor, number: int) -> Entries:
        """The state of a parameter by name; that before its first step if there is none."""
        entries: Entries = self.state[parameter]
        learned = self._learned(parameter, number)
        if not entries:
            entries.update(entries_of(fresh_state(learned, parameter.shape)))
        form = self._form(parameter, number)
        like = learned.phi
        first = entries.get(next(iter(form.shapes)))
        if isinstance(first, Tensor) and (first.dtype, first.device) != (like.dtype, like.device):
            entries.update(self._placed(entries, parameter, number))
        check_state(entries, parameter, number, form.shapes)
        return entries

    def _placed(self, entries: Entries, parameter: Tensor, number: int) -> Entries:
        """A copy of a state, on the device and in the type that the parameter needs."""
        check_state(entries, parameter, number, self._form(parameter, number).shapes)
        placed = entries_of(fresh_state(self._learned(parameter, number), parameter.shape))
        return {name: each.copy_(entries[name]) for name, each in placed.items()}


def _update(learned: Learned, parameter: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The update of a parameter, in its shape, and the next state, which may be this one."""
    assert parameter.grad is not None
    grads = parameter.grad.reshape(1, -1).to(learned.phi.dtype)
    params = Params.unread(grads)
    if not has(learned, "ignores_params"):
        theta = parameter.detach().reshape(1, -1).to(grads.dtype)
        params = Params(theta, spec_of(parameter.shape))
    step = learned.update_in_place if has(learned, "update_in_place") else learned.update
    update, following = step(grads.nan_to_num(nan=0.0), state, params)
    # Adds NaN where the gradient is NaN, and nothing elsewhere.
    return update.add_(grads.clamp(-1, 1), alpha=0).view_as(parameter), following
