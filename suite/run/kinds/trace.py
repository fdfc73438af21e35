"""Cells that record single coordinates."""

from __future__ import annotations

from l2l.suite.core.convert import fill
from l2l.suite.core.kind import Job, Kind
from l2l.suite.core.registry import problems, register_kind
from l2l.suite.inner.trace_settings import Trace
from l2l.suite.inner.trace_tables import COLUMNS, save_traces
from l2l.suite.run.kinds.evaluate import load_evaluated


@register_kind("trace")
class TraceCoordinates(Kind):
    """Traces coordinates along trajectories."""

    leaves = tuple(f"{name}.parquet" for name in COLUMNS)

    def run(self, job: Job) -> None:
        from l2l.suite.inner.trace import trace

        config = job.config
        made, first = {}, 0
        for entry in config["optimizers"]:
            inputs = job.inputs[first : first + entry["inputs"]]
            made[entry["label"]], _ = load_evaluated(entry, inputs, job.device)
            first += len(inputs)
        found = trace(
            problems.make(config["problem"]["spec"]),
            made,
            fill(Trace, config["trace"], "trace"),
            config["steps"],
            config["instances"],
            config["seed"],
            job.device,
            job.progress,
        )
        save_traces(found, job.folder)
