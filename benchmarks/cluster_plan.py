"""What a profile asks of a cluster, from its plan and from cells that were measured.

    python -m benchmarks.cluster_plan --profile paper --measured DIR

Time is that of one core of the machine that computed the measured cells, storage what they left;
both go with a cell's work, optimizee steps times runs, within a kind and problem. Where no cell of
a kind was measured on a problem, it is taken to be as much dearer than other problems as it is in
the kinds that were.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from l2l.suite.commands.request import Request, plan_request
from l2l.suite.commands.status import Speeds, seconds_for, speeds_of, work_of
from l2l.suite.files.json import read_json
from l2l.suite.files.places import CELLS, RECORD
from l2l.suite.plan.cells import Cell

HOUR = 3600.0


def with_inferred(cells: tuple[Cell, ...], measured: Speeds) -> Speeds:
    """The speeds, with those that no measured cell tells of taken from other kinds."""
    found = dict(measured)
    for kind, problem in {_place(cell) for cell in cells} - set(measured):
        guesses = [
            measured[kind, other] * measured[each, problem] / measured[each, other]
            for each, other in measured
            if other and (kind, other) in measured and (each, problem) in measured
        ]
        if guesses:
            found[kind, problem] = statistics.median(guesses)
            print(f"`{kind}` on {problem} is not measured but inferred.")
    return found


def _place(cell: Cell) -> tuple[str, str]:
    return cell.kind, cell.config["problem"]["spec"]["name"]


def longest_path(cells: tuple[Cell, ...], seconds: Mapping[str, float]) -> tuple[Cell, ...]:
    """The cells in a row that take longest, inputs first."""
    ends: dict[str, float] = {}
    for cell in cells:  # inputs come before what reads them
        before = max((ends[each.key] for each in cell.inputs), default=0.0)
        ends[cell.key] = before + seconds[cell.key]
    last = max(cells, key=lambda cell: ends[cell.key])
    path = [last]
    while path[-1].inputs:
        path.append(max(path[-1].inputs, key=lambda cell: ends[cell.key]))
    return tuple(reversed(path))


def makespan(cells: tuple[Cell, ...], seconds: Mapping[str, float], cores: int) -> float:
    """Seconds on so many cores, cells in the plan's order as cores become free."""
    free = [0.0] * cores
    ends: dict[str, float] = {}
    waiting = list(cells)
    now = 0.0
    while waiting:
        free.sort()
        now = max(now, free[0])
        ready = [c for c in waiting if all(ends.get(i.key, now + 1) <= now for i in c.inputs)]
        if not ready:
            # Until the next cell ends.
            now = min(end for end in ends.values() if end > now)
            free = [max(each, now) for each in free]
            continue
        cell = ready[0]
        waiting.remove(cell)
        free[0] = ends[cell.key] = now + seconds[cell.key]
    return max(ends.values())


def bytes_for_work(root: Path) -> Mapping[str, float]:
    """Bytes that the measured cells of a kind left, for each unit of work."""
    size: dict[str, float] = defaultdict(float)
    work: dict[str, float] = defaultdict(float)
    for path in (root / CELLS).glob(f"*/{RECORD}"):
        record = read_json(path)
        if record is not None:
            kind = record["kind"]
            size[kind] += sum(file.stat().st_size for file in path.parent.iterdir())
            # A training leaves as much however long it was.
            work[kind] += 1 if kind == "metatrain" else work_of(kind, record["config"])
    return {kind: size[kind] / work[kind] for kind in size}


def main() -> None:
    """Print the plan as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="paper")
    parser.add_argument("--measured", type=Path, required=True, help="a results folder with cells")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    plan = plan_request(Request(tuple(given.names), given.profile))
    cells = plan.cells
    for name, reason in plan.without.items():
        print(f"Without {name}: {reason}")
    measured = speeds_of(given.measured)
    if not measured:
        parser.error(f"there are no measured cells in {given.measured / CELLS}: run some into it")
    speeds = with_inferred(cells, measured)
    sizes = bytes_for_work(given.measured)
    seconds = {cell.key: seconds_for(cell, speeds) or 0.0 for cell in cells}
    print("| kind | cells | core hours | longest, min | MB |\n| --- | --- | --- | --- | --- |")
    total = 0.0
    for kind in dict.fromkeys(cell.kind for cell in cells):
        those = [cell for cell in cells if cell.kind == kind]
        spent = [seconds[cell.key] for cell in those]
        work = len(those) if kind == "metatrain" else sum(work_of(kind, c.config) for c in those)
        size = sizes.get(kind, 0.0) * work / 1e6
        total += size
        print(
            f"| `{kind}` | {len(those)} | {sum(spent) / HOUR:.2f} | {max(spent) / 60:.1f} "
            f"| {size:.1f} |"
        )
    everything = sum(seconds.values())
    print(f"| all | {len(cells)} | {everything / HOUR:.2f} | | {total:.1f} |\n")
    # No cluster is faster than the cells that wait for each other.
    path = longest_path(cells, seconds)
    longest = sum(seconds[cell.key] for cell in path)
    print(f"Critical path {longest / HOUR:.2f} h: " + " → ".join(cell.label for cell in path))
    for cores in (1, 2, 4, 8, 16, 32, 64, 128):
        print(f"{cores} cores: {makespan(cells, seconds, cores) / HOUR:.2f} h")


if __name__ == "__main__":
    main()
