"""Cells that run one optimizer on test instances."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from l2l.suite.core.abilities import has
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.kind import Job, Kind
from l2l.suite.core.registry import optimizers, problems, register_kind
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.json import read_json
from l2l.suite.files.parquet import save_parquet
from l2l.suite.files.pieces import Pieces, remove_pieces
from l2l.suite.files.places import (
    BEST,
    CURVES,
    HELD_OUT,
    NOTICE,
    OPTIMIZER,
    PICTURES,
)
from l2l.suite.plan.resolved import optimizer_at
from l2l.suite.run.shipped import shipped_file


@register_kind("evaluate")
class Evaluate(Kind):
    """Runs one optimizer on test instances.

    It also leaves `held-out.parquet` if the problem has held-out data, pictures if θ is one, and
    `untrained.txt` if φ is as it was initially.
    """

    leaves = (CURVES,)
    priority = 1

    def run(self, job: Job) -> None:
        from l2l.suite.inner.evaluate import evaluate
        from l2l.suite.inner.held_out import HeldOutLog
        from l2l.suite.inner.pictures import PictureLog, load_pictures, save_pictures

        config, steps = job.config, job.config["steps"]
        problem = problems.make(config["problem"]["spec"])
        optimizer, rate = load_evaluated(config, job.inputs, job.device)
        pictures = job.folder / PICTURES
        log = PictureLog(steps) if has(problem, "picture") else None
        held_out = HeldOutLog(steps) if has(problem, "held_out") else None
        if log is not None:
            try:
                log.pictures = load_pictures(pictures)
            except SuiteError:
                # There are none yet, or no more: runs whose pictures are lost are computed again.
                remove_pieces(job.folder)
        pieces = Pieces(job.folder)

        def keep(name: str, make: Callable[[], Tensor]) -> Tensor:
            def with_what_was_watched() -> Tensor:
                losses = make()
                if log is not None:
                    # Before the piece, after which nobody would draw them again.
                    save_pictures(pictures, log.pictures)
                if held_out is not None:
                    losses = torch.cat([losses, held_out.losses()], dim=1)
                return losses

            return pieces(name, with_what_was_watched)

        found = evaluate(
            problem,
            optimizer,
            steps,
            config["instances"],
            config["seed"],
            job.device,
            watch=[each for each in (log, held_out) if each is not None],
            progress=job.progress,
            keep=keep,
        )
        _tell_untrained(job)
        losses = _tidy(found[:, : steps + 1], range(steps + 1))
        losses.insert(0, "learning_rate", rate)
        save_parquet(job.folder / CURVES, losses)
        if held_out is not None:
            save_parquet(job.folder / HELD_OUT, _tidy(found[:, steps + 1 :], held_out.steps))

    def done(self, config: Mapping[str, Any], folder: Path) -> dict[str, int]:
        return {"runs": config["instances"], "updates": config["steps"]}


def load_evaluated(
    config: Mapping[str, Any], inputs: tuple[Path, ...], device: str
) -> tuple[Any, float]:
    """The optimizer of an evaluation and its learning rate, NaN if it has none.

    Args:
        config: the evaluation's.
        inputs: folders of the cells that it reads.
        device: where weights go.
    """
    from l2l.optimizers.learned.checkpoint import load_optimizer

    trained = _trained(config, inputs)
    if trained is not None:
        return load_optimizer(trained, device), float("nan")
    optimizer = config["optimizer"]
    spec, tuned = optimizer["spec"], optimizers.cls(optimizer["spec"]["name"]).tuned
    rate = read_rate(inputs[0] / BEST) if optimizer["tuned"] else float(spec.get(tuned, "nan"))
    return optimizer_at(optimizer, rate), rate


def read_rate(path: Path) -> float:
    """The learning rate that a sweep found best.

    Raises:
        SuiteError: the file is not as it was written.
    """
    rate = (read_json(path) or {}).get("learning_rate")
    if not isinstance(rate, int | float) or not 0 < rate <= sys.float_info.max:
        raise SuiteError(f"{path}: holds no learning rate, remove its folder to tune again")
    return float(rate)


def _trained(config: Mapping[str, Any], inputs: tuple[Path, ...]) -> Path | None:
    """The file of the learned optimizer to evaluate; None if it is another one."""
    shipped = config.get("shipped")
    if shipped:
        return shipped_file(shipped)
    return inputs[0] / OPTIMIZER if inputs and not config["optimizer"]["tuned"] else None


def _tell_untrained(job: Job) -> None:
    """Leave what the report must say of a learned optimizer that training did not change."""
    from l2l.optimizers.learned.checkpoint import about_optimizer
    from l2l.suite.meta.metatrain import UNTRAINED

    trained = _trained(job.config, job.inputs)
    reason = about_optimizer(trained).get(UNTRAINED) if trained is not None else None
    if isinstance(reason, str):
        write_text_atomic(job.folder / NOTICE, reason)


def _tidy(losses: Tensor, steps: Sequence[int]) -> pd.DataFrame:
    """Losses [n, len(steps)] as one row an instance and step."""
    index = pd.MultiIndex.from_product([range(len(losses)), steps], names=["instance", "step"])
    return pd.DataFrame({"loss": losses.cpu().flatten().numpy()}, index=index).reset_index()
