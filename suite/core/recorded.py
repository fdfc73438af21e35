"""Functions of tensors whose launches on a GPU are recorded, then made by one call (CUDA graphs).

Where tensors are small, the host takes longer to launch a step's hundred kernels than the GPU to
run them.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger("suite")

Function = Callable[[list[Tensor]], Sequence[Tensor]]

# How many names that were called too seldom, or cannot be recorded, are remembered.
FORGOTTEN = 256

# PyTorch's allocator may still ask a recording that failed, so it must stay.
_failed: list[torch.cuda.CUDAGraph] = []


class Recorded:
    """A function as it was recorded with these tensors, on memory of its own.

    Args:
        function: of a list of tensors, to some tensors. It may write to those that it is given, and
            must not ask for a number of any. What it does beside launching is done once.
        given: what it is recorded with; others must have the same layout.
    """

    def __init__(self, function: Function, given: Sequence[Tensor]) -> None:
        self.given = [copy_of(x) for x in given]
        self.results, self._launch = _record(lambda: function(self.given), given[0].device)
        # How often it was replayed.
        self.replays = 0
        # Whether it was found to be wrong.
        self.forbidden = False

    def load(self, given: Sequence[Tensor]) -> None:
        """Puts tensors where the recorded function reads them."""
        for own, x in zip(self.given, given, strict=True):
            own.copy_(x, non_blocking=True)

    def replay(self) -> None:
        """Runs the function on what was loaded, or on what it left there itself."""
        self._launch()
        self.replays += 1

    def __call__(self, given: Sequence[Tensor]) -> list[Tensor]:
        """As the function."""
        self.load(given)
        self.replay()
        return [x.clone() for x in self.results]


class Recordings:
    """Recordings of functions, made once they were called often with tensors of one layout.

    Args:
        calls: how often.
        most: how many are kept; the least recently used makes room.
    """

    def __init__(self, calls: int, most: int) -> None:
        self._enough = calls
        self._most = most
        self._calls: dict[Hashable, int] = {}
        # With their functions, so that what names them by an `id` is still there.
        self._made: dict[Hashable, tuple[Function, Recorded]] = {}
        self._unusable: dict[Hashable, Function] = {}

    def clear(self) -> None:
        """Forgets all of them, and frees their memory."""
        for each in (self._calls, self._made, self._unusable):
            each.clear()

    def find(
        self, name: Hashable, function: Function, given: Sequence[Tensor], calls: int = 1
    ) -> Recorded | None:
        """The recording of a function, or None if there is none yet, or there can be none.

        Args:
            name: what it computes.
            function: as of `Recorded`; it is kept, so it must not hold tensors of a run.
            given: what it will be called with.
            calls: how many calls are to come.
        """
        if not all(is_recordable(x) for x in given):
            return None
        layouts = [(x.shape, x.stride(), x.dtype, x.device) for x in given]
        key = (name, *_modes(), *layouts)
        if key in self._made:
            # Now the most recent one.
            self._made[key] = self._made.pop(key)
            if not self._made[key][1].forbidden:
                return self._made[key][1]
            self._give_up(key, self._made.pop(key)[0])
        if key in self._unusable:
            return None
        self._calls[key] = self._calls.get(key, 0) + calls
        if self._calls[key] < self._enough:
            _make_room(self._calls, FORGOTTEN)
            return None
        del self._calls[key]
        made = _recorded(function, given)
        if made is None:
            self._give_up(key, function)
            return None
        _make_room(self._made, self._most - 1)
        self._made[key] = (function, made)
        return made

    def _give_up(self, key: Hashable, function: Function) -> None:
        self._unusable[key] = function
        _make_room(self._unusable, FORGOTTEN)


def _modes() -> tuple[Hashable, ...]:
    """PyTorch's settings that decide which kernels are launched.

    Its older names for the first two, such as `allow_tf32`, raise where the newer ones were set.
    """
    return (
        torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision,
        torch.are_deterministic_algorithms_enabled(),
    )


def _make_room(kept: dict[Hashable, Any], most: int) -> None:
    """Leaves at most so many, without the oldest."""
    while len(kept) > most:
        del kept[next(iter(kept))]


def is_recordable(tensor: Tensor) -> bool:
    """Whether it is where launches can be recorded."""
    return tensor.device.type == "cuda"


def copy_of(tensor: Tensor) -> Tensor:
    """A copy in the same layout, also where there is space between rows."""
    apart = all(stride > 0 for stride in tensor.stride())
    layout = tensor.stride() if apart else torch.empty(tensor.shape, device="meta").stride()
    own = torch.empty_strided(tensor.shape, layout, dtype=tensor.dtype, device=tensor.device)
    return own.copy_(tensor)


def _recorded(function: Function, given: Sequence[Tensor]) -> Recorded | None:
    try:
        return Recorded(function, given)
    except Exception as error:  # of any kind, for it may be an author's code that is recorded
        log.debug("a function cannot be recorded: %s", error)
        return None


def _record(
    call: Callable[[], Sequence[Tensor]], device: torch.device
) -> tuple[list[Tensor], Callable[[], None]]:
    """What a call gives, and what makes its launches once more, into the same memory."""
    here = torch.cuda.current_stream(device)
    beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    beside.wait_stream(here)
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(action="ignore"):
        try:
            with torch.cuda.stream(beside):
                # Libraries make what they need when first called, which cannot be recorded.
                call()
                # What waits for the GPU fails here, where it does no harm.
                torch.cuda.set_sync_debug_mode("error")
                call()
        finally:
            here.wait_stream(beside)
            torch.cuda.set_sync_debug_mode(mode)
    graph = torch.cuda.CUDAGraph()
    _clear_workspaces()
    try:
        # Where recording fails, only the outer context goes back to this stream.
        with torch.cuda.stream(here), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            results = list(call())
    except BaseException:
        _failed.append(graph)
        # The end of a recording that succeeds lets PyTorch's generator draw again.
        with (
            contextlib.suppress(Exception),
            torch.cuda.stream(here),
            torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode="thread_local"),
        ):
            torch.zeros(1, device=device)
        raise
    finally:
        _clear_workspaces()
    return results, graph.replay


def _clear_workspaces() -> None:
    """Lets each recording have workspaces of its own for matrix products, in its own memory.

    Else the first one's serve all, and go with it.
    """
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None:
        clear()
