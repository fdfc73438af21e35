"""Functions of tensors whose launches on a GPU are recorded, then made by one call (CUDA graphs).

Where tensors are small, the host takes longer to launch a step's hundred kernels than the GPU to
run them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

log = logging.getLogger("suite")

Function = Callable[[list[Tensor]], Sequence[Tensor]]

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
        # With its function, so that what names it by an `id` is still there.
        self._made: dict[Hashable, tuple[Function, Recorded | None]] = {}

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
        key = (name, *[(x.shape, x.stride(), x.dtype, x.device) for x in given])
        if key not in self._made:
            self._calls[key] = self._calls.get(key, 0) + calls
            if self._calls[key] < self._enough:
                return None
            del self._calls[key]
            if len(self._made) == self._most:
                del self._made[next(iter(self._made))]
            self._made[key] = (function, _recorded(function, given))
        # Now the most recent one.
        self._made[key] = self._made.pop(key)
        found = self._made[key][1]
        return None if found is None or found.forbidden else found


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
    try:
        with torch.cuda.stream(beside):
            # Libraries make what they need when they are first called, which cannot be recorded.
            call()
            # What waits for the GPU fails here, where it does no harm.
            with warnings.catch_warnings(action="ignore"):
                torch.cuda.set_sync_debug_mode("error")
            call()
    finally:
        torch.cuda.set_sync_debug_mode(mode)
        here.wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    try:
        # Where recording fails, only the outer context goes back to this stream.
        with torch.cuda.stream(here), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            results = list(call())
    except Exception:
        _failed.append(graph)
        raise
    return results, graph.replay
