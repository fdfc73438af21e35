"""Cells that meta-train."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from l2l.suite.core.convert import fill
from l2l.suite.core.kind import Job, Kind
from l2l.suite.core.registry import problems, register_kind
from l2l.suite.files.places import OPTIMIZER, TRAINING_LOG, TRAINING_STATE
from l2l.suite.meta.schedule import Schedule
from l2l.suite.plan.population import at_rate, begin
from l2l.suite.run.shipped import shipped_file


@register_kind("metatrain")
class Metatrain(Kind):
    """Meta-trains one seed, or a population's candidate up to a rung.

    A candidate's folder also has `candidate.json`.
    """

    leaves = (OPTIMIZER, TRAINING_LOG, TRAINING_STATE)
    priority = 4

    def run(self, job: Job) -> None:
        from l2l.optimizers.learned.checkpoint import load_optimizer
        from l2l.suite.meta.metatrain import metatrain

        config, problem = job.config, job.config["problem"]["spec"]
        schedule = fill(Schedule, config["training"], "training")
        if "until" in config:
            candidate = begin(config, job.inputs, job.folder)
            schedule, seed = at_rate(schedule, candidate.rate), candidate.seed
        else:
            seed = config["seed"]
        about, initial = {"problem": problem}, None
        if "start" in config:
            about["start"] = config["start"]["checkpoint"]
            initial = load_optimizer(shipped_file(config["start"])).phi
        metatrain(
            problems.make(problem),
            config["optimizer"]["spec"],
            schedule,
            seed,
            job.folder,
            job.device,
            job.progress,
            config.get("until"),
            about,
            initial,
        )

    def work(self, config: Mapping[str, Any]) -> float:
        """Of the whole schedule, or of a rung's part of it."""
        since, until = config.get("since", 0), config.get("until", math.inf)
        work = first = 0.0
        for phase in config["training"]["phases"]:
            last = first + phase["runs"]
            work += _mean_steps(phase["horizon"]) * max(0, min(last, until) - max(first, since))
            first = last
        return work

    def done(self, config: Mapping[str, Any], folder: Path) -> dict[str, int]:
        runs = pd.read_csv(folder / TRAINING_LOG)["runs"]
        # Those of the rung before are not of this one; it ended with a validation.
        own = runs[runs >= config["since"]] if config.get("since") else runs
        # None, where the phases had ended before.
        return {"runs": int(own.max() - own.min()) if len(own) else 0}


def _mean_steps(horizon: int | Mapping[str, int]) -> float:
    """Steps of a run, or their mean where they are drawn log-uniformly."""
    if isinstance(horizon, int):
        return horizon
    low, high = horizon["low"], horizon["high"]
    return (high - low) / math.log(high / low)
