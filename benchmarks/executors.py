"""What a cell costs beside its work: a thousand that do next to nothing, on every executor.

python -m benchmarks.executors [CELLS]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from l2l.suite.core.plugins import load_plugin
from l2l.suite.files.progress import Step
from l2l.suite.plan.cells import Cell, make_cell
from l2l.suite.run.executors import EXECUTORS
from l2l.suite.run.folder import open_results
from l2l.suite.run.scheduler import run_all
from l2l.suite.run.store import Outcome
from l2l.suite.run.workers import Settings

PLUGIN = """
from l2l import Job, Kind, register_kind

@register_kind("tiny")
class Tiny(Kind):
    def run(self, job: Job) -> None:
        (job.folder / "out.txt").write_text(str(job.config["number"]))
"""
# Name, executor, jobs, and whether cells travel.
WAYS = (
    ("local, one job", "local", 1, False),
    ("local, two jobs", "local", 2, False),
    ("ray, two cores", "ray", 2, False),
    ("ray, two cores, no shared folder", "ray", 2, True),
)


class Silent:
    """A display that shows nothing."""

    def progress(self, cell: Cell, step: Step) -> None:
        """Nothing."""

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """Nothing."""


def measure(executor: str, jobs: int, travels: bool, count: int) -> dict[str, float]:
    """Seconds until the first cells are done, and milliseconds of each one after."""
    os.environ["L2L_RAY_SHARED"] = "no" if travels else "yes"
    with tempfile.TemporaryDirectory() as name:
        plugin, root = Path(name) / "tiny.py", Path(name) / "results"
        plugin.write_text(PLUGIN, encoding="utf-8")
        load_plugin(plugin)
        open_results(root)
        cells = [make_cell("tiny", str(number), {"number": number}) for number in range(count + 4)]
        started = time.perf_counter()
        with EXECUTORS[executor](Settings(root, "cpu", jobs, (plugin,))) as workers:
            run_all(cells[:4], root, workers, Silent())
            ready = time.perf_counter()
            run_all(cells[4:], root, workers, Silent())
            seconds = time.perf_counter() - ready
    return {"start_s": ready - started, "cell_ms": seconds / count * 1e3}


def main(count: int) -> None:
    """Measure all of them one after the other; prints Markdown."""
    rows = []
    for name, executor, jobs, travels in WAYS:
        rows.append({"executor": name, **measure(executor, jobs, travels, count)})
        print(rows[-1], file=sys.stderr, flush=True)
    table = pd.DataFrame(rows).set_index("executor")
    table["ratio"] = table.cell_ms / table.cell_ms.iloc[0]
    print(f"| {count} cells | start, s | ms a cell | ratio |\n| --- | --- | --- | --- |")
    for name, row in table.iterrows():
        print(f"| {name} | {row.start_s:.1f} | {row.cell_ms:.1f} | {row.ratio:.2f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
