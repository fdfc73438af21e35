"""A kind of cell of one's own, which looks at the losses of every evaluation."""

from __future__ import annotations

import pandas as pd

from l2l import Job, Kind, register_kind


@register_kind("halving")
class Halving(Kind):
    """The first step at which each run's loss is at most half of its first; none if it never is."""

    leaves = ("halving.csv",)
    follows = "evaluate"

    def run(self, job: Job) -> None:
        curves = pd.read_parquet(job.inputs[0] / "curves.parquet")
        losses = curves.pivot(index="instance", columns="step", values="loss")
        halved = losses.le(losses[0] / 2, axis=0)
        steps = halved.idxmax(axis=1).where(halved.any(axis=1))
        steps.rename("step").to_csv(job.folder / "halving.csv")
