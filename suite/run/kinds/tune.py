"""Cells that sweep a learning rate."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from l2l.optimizers.default_rates import default_rate
from l2l.suite.core.kind import Job, Kind
from l2l.suite.core.registry import problems, register_kind
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.json import save_json
from l2l.suite.files.pieces import Pieces
from l2l.suite.files.places import BEST, TUNING

log = logging.getLogger("suite")


@register_kind("tune")
class Tune(Kind):
    """Sweeps the rate on validation instances."""

    leaves = (TUNING, BEST)
    priority = 2

    def run(self, job: Job) -> None:
        from l2l.suite.inner.tune import tune

        config = job.config
        result = tune(
            problems.make(config["problem"]["spec"]),
            config["optimizer"]["spec"],
            config["steps"],
            config["instances"],
            config["seed"],
            job.device,
            job.progress,
            Pieces(job.folder),
        )
        write_text_atomic(job.folder / TUNING, result.table.to_csv(index=False))
        save_json(job.folder / BEST, {"learning_rate": result.best})
        if result.told:
            log.warning("%s: %s", config["optimizer"]["spec"]["name"], result.told)

    def done(self, config: Mapping[str, Any], folder: Path) -> dict[str, float]:
        from l2l.suite.inner.tune import with_fewer_rates, with_rate

        table = pd.read_csv(folder / TUNING)
        rates, fewer = len(table), with_fewer_rates(table)
        return {
            "runs": rates * config["instances"],
            "updates": config["steps"],
            "rates": rates,
            "with_default_rate": with_rate(table, default_rate(config["optimizer"]["spec"])),
            "with_four_rates": fewer[4],
            "with_eleven_rates": fewer[11],
        }
