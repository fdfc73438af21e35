"""A learned optimizer as a `torch.optim.Optimizer`, for anybody's training loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers.learned.checkpoint import load_optimizer
from optimizers.learned.lstm import LSTM
from suite.errors import SuiteError
from suite.registry import nearest

SHIPPED = Path(__file__).parents[1] / "results" / "checkpoints"


class LearnedOptimizer(torch.optim.Optimizer):
    """The coordinatewise LSTM optimizer of section 2.1, trained before and applied here.

    Every coordinate of every parameter has its own hidden state, 80 numbers for a network of 2×20.
    Parameter groups may name checkpoints of their own, and `lr`, which multiplies the updates: 1
    is what the optimizer was trained with, and PyTorch's schedulers can change it.

    Args:
        params: parameters or groups of them, float32 or float64.
        checkpoint: a name in `results/checkpoints`, such as ``mnist-lstm``, or a file's path.
        lr: factor of the updates.

    Raises:
        SuiteError: there is no such checkpoint, or it is damaged.
        ValueError: `lr` is negative.
    """

    def __init__(self, params: ParamsT, checkpoint: str | Path, lr: float = 1.0) -> None:
        if not lr >= 0:
            raise ValueError(f"lr must be at least 0, not {lr}")
        self._learned: dict[tuple[str, torch.device, torch.dtype], LSTM] = {}
        super().__init__(params, {"checkpoint": str(checkpoint), "lr": lr})
        # Now, so that a wrong name is found before the first step.
        for group in self.param_groups:
            self._optimizer(group["checkpoint"], group["params"][0])

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("_learned", {})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of all parameters that have a gradient.

        Args:
            closure: evaluates the model again and returns the loss.

        Raises:
            ValueError: a gradient is sparse, or a parameter of another type than float32 or 64.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for number, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _check(parameter, number)
                    update = self._update(parameter, group["checkpoint"])
                    parameter.add_(update.view_as(parameter), alpha=group["lr"])
        return loss

    def _update(self, parameter: Tensor, checkpoint: str) -> Tensor:
        """The update of one parameter [1, K], its hidden state moved on in place."""
        learned = self._optimizer(checkpoint, parameter)
        state = self.state[parameter]
        if "hidden" not in state:
            state["hidden"] = learned.layout.initial_state(parameter.numel(), like=parameter)
        assert parameter.grad is not None
        grads = parameter.grad.reshape(1, -1)
        update, _ = learned.update(grads, state["hidden"], into=state["hidden"])
        return update

    def _optimizer(self, checkpoint: str, like: Tensor) -> LSTM:
        key = (checkpoint, like.device, like.dtype)
        if key not in self._learned:
            loaded = load_optimizer(_find(checkpoint), like.device)
            if not isinstance(loaded, LSTM):
                raise SuiteError(
                    f"checkpoint {checkpoint}: holds a {type(loaded).__name__}, but this takes "
                    "LSTM optimizers only"
                )
            self._learned[key] = loaded.with_weights(loaded.phi.to(like.dtype))
        return self._learned[key]


def _check(parameter: Tensor, group: int) -> None:
    assert parameter.grad is not None
    what = f"the parameter of shape {list(parameter.shape)} in group {group}"
    if parameter.grad.layout != torch.strided:
        raise ValueError(f"{what} has a sparse gradient: LearnedOptimizer needs dense ones")
    if parameter.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{what} is {parameter.dtype}, but must be float32 or float64")


def _find(checkpoint: str) -> Path:
    """The file of a checkpoint named by its path, or by its name in `results/checkpoints`."""
    if checkpoint.endswith(".safetensors"):
        return Path(checkpoint)
    path = SHIPPED / f"{checkpoint}.safetensors"
    if not path.is_file():
        known = sorted(each.stem for each in SHIPPED.glob("*.safetensors"))
        raise SuiteError(
            f"there is no checkpoint {checkpoint!r} in {SHIPPED}: {nearest(checkpoint, known)}"
        )
    return path
