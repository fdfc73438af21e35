"""The number of a kernel's threads follows what other processes leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from l2l.suite.core.team import Team


class Machine:
    """A clock, and kernels whose calls move it on."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.now = 0.0
        self.seconds = seconds

    def call(self, threads: int) -> int:
        self.now += self.seconds(threads)
        return threads


def idle(threads: int) -> float:
    return 0.004 / threads


def one_is_busy(threads: int) -> float:
    """With two threads, one waits for its turn."""
    return 0.004 if threads == 1 else 0.012


def calls(
    team: Team, machine: Machine, count: int, work: int = 1000, most: int = 2
) -> Counter[int]:
    return Counter(team.run("step", work, most, machine.call) for _ in range(count))


@pytest.mark.parametrize(("seconds", "best"), [(idle, 2), (one_is_busy, 1)])
def test_the_faster_number_is_taken_and_trials_cost_little(
    seconds: Callable[[int], float], best: int
) -> None:
    machine = Machine(seconds)
    assert calls(Team(lambda: machine.now), machine, 1000)[best] > 970
    assert machine.now < 1.05 * 1000 * seconds(best)


def test_it_changes_with_the_machine_both_ways() -> None:
    machine = Machine(idle)
    team = Team(lambda: machine.now)
    for seconds, best in ((idle, 2), (one_is_busy, 1), (idle, 2)):
        machine.seconds = seconds
        calls(team, machine, 400)
        assert calls(team, machine, 400)[best] > 380


def test_many_threads_are_halved_until_it_is_fastest() -> None:
    machine = Machine(lambda threads: 0.004 / threads if threads <= 4 else 0.02)
    team = Team(lambda: machine.now)
    calls(team, machine, 1000, most=16)
    assert calls(team, machine, 1000, most=16)[4] > 950


def test_kinds_and_sizes_of_work_are_measured_apart() -> None:
    machine = Machine(idle)
    team = Team(lambda: machine.now)
    calls(team, machine, 100)
    # So small that threads cost more than they bring.
    machine.seconds = lambda threads: 1e-6 * threads
    assert calls(team, machine, 1000, work=1)[1] > 900
    machine.seconds = idle
    assert calls(team, machine, 100)[2] > 95


def test_one_thread_is_not_timed() -> None:
    def never() -> float:
        raise AssertionError("the clock was read")

    assert Team(never).run("step", 1, 1, lambda threads: threads) == 1
