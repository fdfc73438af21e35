"""How many threads a kernel takes: as many as it may, or fewer where other processes are busy.

Threads that share a kernel's work wait for the last of them. If another process keeps one of the
processors, the last is the one that waits for its turn, and one thread alone would be several times
as fast. So some calls try another number of threads, and the fastest is kept. Only kernels whose
results do not depend on the number of threads may take one of these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import TypeVar

T = TypeVar("T")

# A trial of another number may take this share of the time.
SHARE = 0.02
# The latest call's weight in what is known of a number of threads.
LATEST = 0.25


class Choice:
    """The number of threads for calls of one kind: `most`, its half, a quarter, …, or one."""

    def __init__(self, most: int) -> None:
        # Seconds for a unit of work; none for numbers that were not tried.
        self.known: dict[int, float] = {}
        self.best = most
        self._most = most
        self._trial = 0.0

    def number(self, now: float, work: int) -> int:
        """The number for the next call, at a time `now` in seconds."""
        near = {max(1, self.best // 2), min(self._most, self.best * 2)} - {self.best}
        for other in sorted(near):
            cost = work * self.known.get(other, 0.0)
            if self.best in self.known and now - self._trial >= cost / SHARE:
                self._trial = now + cost
                return other
        return self.best

    def took(self, number: int, seconds: float) -> None:
        """Learn from a call: `seconds` for a unit of work."""
        before = self.known.get(number) if number == self.best else None
        self.known[number] = seconds if before is None else before + LATEST * (seconds - before)
        self.best = min(self.known, key=lambda each: self.known[each])


class Team:
    """Calls kernels with a number of threads that their recent calls were fast with."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._choices: dict[tuple[Hashable, int, int], Choice] = {}

    def run(self, kind: Hashable, work: int, most: int, call: Callable[[int], T]) -> T:
        """What ``call(threads)`` returns, threads being at most `most`.

        Args:
            kind: calls of one kind take times in proportion to their `work`.
            work: such as the number of coordinates times steps.
            most: threads that it may have.
            call: the kernel, for a number of threads.
        """
        if most == 1:
            return call(1)
        key = (kind, work.bit_length(), most)
        choice = self._choices.get(key)
        if choice is None:
            choice = self._choices[key] = Choice(most)
        begin = self._clock()
        number = choice.number(begin, work)
        result = call(number)
        choice.took(number, (self._clock() - begin) / max(1, work))
        return result
