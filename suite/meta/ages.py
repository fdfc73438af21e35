"""Runs at different steps of their horizons, which take turns in updating φ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

END = object()


def in_turns(runs: Sequence[Iterator[None]], ages: int, windows: int) -> Iterator[int]:
    """Go through runs, `ages` of them side by side, until all have ended.

    In each round, every run that goes on has one window, in the order of the places that they are
    in. After a run has ended, the next one begins in its place. The places are first taken at even
    distances over the windows of a run, so that ages differ from the start. In
    learned_optimization's truncated schedules and Celo, runs also differ in age, but there is no
    point at which all of them have ended.

    Args:
        runs: each does a window when it is asked to go on, and ends with its last one.
        ages: how many take turns; 1 is one run after the other.
        windows: of a run; of the shortest one, where they differ.

    Yields:
        The number of each run that has ended.
    """
    waiting = iter(range(len(runs)))
    begins = [place * windows // ages for place in range(ages)]
    # The run that is in each place, if any.
    current: list[int | None] = [None] * ages
    tick = ended = 0
    while ended < len(runs):
        for place, begin in enumerate(begins):
            if current[place] is None and tick >= begin:
                current[place] = next(waiting, None)
            run = current[place]
            if run is not None and next(runs[run], END) is END:
                current[place] = None
                ended += 1
                yield run
        tick += 1
