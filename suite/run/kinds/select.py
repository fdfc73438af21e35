"""Cells that compare meta-trainings on validation instances, and keep the best."""

from __future__ import annotations

import math
from dataclasses import asdict

import pandas as pd

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.kind import Job, Kind
from l2l.suite.core.registry import problems, register_kind
from l2l.suite.files.atomic import write_bytes_atomic, write_text_atomic
from l2l.suite.files.places import CANDIDATE, OPTIMIZER, SELECTION
from l2l.suite.plan.population import hand_on, read_candidate


@register_kind("promote")
class Promote(Kind):
    """Keeps the best `count` candidates of a rung, by rank, with their training states."""

    leaves = (SELECTION,)
    # Many wait for it.
    priority = 5

    def run(self, job: Job) -> None:
        table = _validations(job)
        best = table["validation"].sort_values(kind="stable").index[: job.config["count"]]
        for rank, index in enumerate(best):
            hand_on(job.inputs[index], rank, job.folder)
        table["chosen"] = table.index.isin(best)
        write_text_atomic(job.folder / SELECTION, table.to_csv(index=False))


@register_kind("select")
class Select(Kind):
    """Keeps the seed that is best on common validation instances."""

    leaves = (OPTIMIZER, SELECTION)
    priority = 3

    def run(self, job: Job) -> None:
        table = _validations(job)
        best = int(table["validation"].argmin())
        table["chosen"] = table.index == best
        write_bytes_atomic(job.folder / OPTIMIZER, (job.inputs[best] / OPTIMIZER).read_bytes())
        write_text_atomic(job.folder / SELECTION, table.to_csv(index=False))


def _validations(job: Job) -> pd.DataFrame:
    """The inputs' losses on common validation instances, which none of them has seen."""
    from l2l.optimizers.learned.checkpoint import load_optimizer
    from l2l.suite.inner.evaluate import evaluate, final_steps

    config = job.config
    rows = []
    for folder in job.inputs:
        losses = evaluate(
            problems.make(config["problem"]["spec"]),
            load_optimizer(folder / OPTIMIZER, job.device),
            config["steps"],
            config["instances"],
            config["seed"],
            job.device,
            "validation",
        )
        first = 0 if config["criterion"] == "mean" else final_steps(config["steps"]).start
        row = {"cell": folder.name, "validation": losses[:, first:].mean().item()}
        if (folder / CANDIDATE).exists():
            row |= asdict(read_candidate(folder / CANDIDATE))
        rows.append(row)
    table = pd.DataFrame(rows)
    if not math.isfinite(table["validation"].min()):
        raise SuiteError("every training that is compared diverges on a validation instance")
    return table
