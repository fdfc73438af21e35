"""What each kind of cell does: a function of its configuration and inputs that fills its folder."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from l2l.suite.core.convert import fill
from l2l.suite.core.digests import file_digest
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers, problems
from l2l.suite.files.atomic import write_bytes_atomic, write_text_atomic
from l2l.suite.files.json import read_json
from l2l.suite.files.parquet import save_parquet
from l2l.suite.files.pieces import Pieces, remove_pieces
from l2l.suite.files.places import (
    BEST,
    CANDIDATE,
    CHECKPOINTS,
    CURVES,
    HELD_OUT,
    NOTICE,
    OPTIMIZER,
    PICTURES,
    SELECTION,
    TUNING,
)
from l2l.suite.files.progress import Progress
from l2l.suite.inner.trace_settings import Trace
from l2l.suite.meta.schedule import Training
from l2l.suite.plan.population import at_rate, begin, hand_on, read_candidate


@dataclass(frozen=True)
class Job:
    """What a runner works from.

    Args:
        config: the cell's.
        inputs: folders of the cells that it reads.
        folder: where its results go; what an interrupted run left is there.
        device: where tensors live.
        progress: to be called now and then.
    """

    config: Mapping[str, Any]
    inputs: tuple[Path, ...]
    folder: Path
    device: str
    progress: Progress

    @property
    def problem(self) -> Any:
        """The problem of the configuration."""
        return problems.make(self.config["problem"]["spec"])


def run_metatrain(job: Job) -> None:
    """Meta-trains one seed, or a population's candidate up to a rung.

    Leaves `optimizer.safetensors` and `log.csv`, of a candidate also `candidate.json`.
    """
    from l2l.suite.meta.metatrain import metatrain

    config, spec = job.config, job.config["optimizer"]["spec"]
    schedule = {**config["training"], "problem": config["problem"]["spec"], "optimizer": spec}
    training = fill(Training, schedule, "training")
    if "until" in config:
        candidate = begin(config, job.inputs, job.folder)
        training, seed = at_rate(training, candidate.rate), candidate.seed
    else:
        seed = config["seed"]
    metatrain(
        job.problem,
        spec,
        training,
        seed,
        job.folder,
        job.device,
        job.progress,
        config.get("until"),
    )


def run_promote(job: Job) -> None:
    """Keeps the best `count` candidates of a rung, by rank; leaves them and `selection.csv`."""
    table = _validations(job)
    best = table["validation"].sort_values(kind="stable").index[: job.config["count"]]
    for rank, index in enumerate(best):
        hand_on(job.inputs[index], rank, job.folder)
    table["chosen"] = table.index.isin(best)
    write_text_atomic(job.folder / SELECTION, table.to_csv(index=False))


def run_select(job: Job) -> None:
    """Keeps the seed that is best on common validation instances; leaves it, `selection.csv`."""
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
            job.problem,
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
        raise SuiteError("every seed of this training diverges on a validation instance")
    return table


def run_tune(job: Job) -> None:
    """Sweeps the rate on validation instances; leaves `tuning.csv` and `best.json`."""
    from l2l.suite.inner.tune import tune

    config = job.config
    result = tune(
        job.problem,
        config["optimizer"]["spec"],
        config["steps"],
        config["instances"],
        config["seed"],
        job.device,
        job.progress,
        Pieces(job.folder),
    )
    write_text_atomic(job.folder / TUNING, result.table.to_csv(index=False))
    write_text_atomic(job.folder / BEST, json.dumps({"learning_rate": result.best}))


def run_evaluate(job: Job) -> None:
    """Runs one optimizer on test instances.

    Leaves `curves.parquet`, `held-out.parquet` if the problem has held-out data, pictures if θ is
    one, and `untrained.txt` if φ is as it was initially.
    """
    from l2l.suite.inner.evaluate import evaluate
    from l2l.suite.inner.held_out import HeldOutLog, has_held_out
    from l2l.suite.inner.pictures import PictureLog, load_pictures, save_pictures, shows_pictures

    config = job.config
    optimizer, rate = _optimizer(job)
    problem, steps = job.problem, config["steps"]
    pictures = job.folder / PICTURES
    log = PictureLog(steps) if shows_pictures(problem) else None
    held_out = HeldOutLog(steps) if has_held_out(problem) else None
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


def run_trace(job: Job) -> None:
    """Traces coordinates along trajectories; leaves traces, responses, impulses (`.parquet`)."""
    from l2l.suite.inner.trace import trace
    from l2l.suite.inner.trace_tables import save_traces

    config = job.config
    made, first = {}, 0
    for entry in config["optimizers"]:
        inputs = job.inputs[first : first + entry["inputs"]]
        made[entry["label"]], _ = _optimizer(replace(job, config=entry, inputs=inputs))
        first += len(inputs)
    settings = fill(Trace, config["trace"], "trace")
    found = trace(
        job.problem,
        made,
        settings,
        config["steps"],
        config["instances"],
        config["seed"],
        job.device,
        job.progress,
    )
    save_traces(found, job.folder)


def _optimizer(job: Job) -> tuple[Any, float]:
    """The optimizer to evaluate and its learning rate, NaN if it has none."""
    from l2l.optimizers.learned.checkpoint import load_optimizer

    trained = _trained(job)
    if trained is not None:
        return load_optimizer(trained, job.device), float("nan")
    optimizer = job.config["optimizer"]
    spec = dict(optimizer["spec"])
    if optimizer["tuned"]:
        spec[optimizer["tuned"]] = _tuned_rate(job.inputs[0] / BEST)
    tuned = optimizers.cls(spec["name"]).tuned
    return optimizers.make(spec), float(spec.get(tuned, "nan"))


def _trained(job: Job) -> Path | None:
    """The file of the learned optimizer to evaluate; None if it is another one."""
    shipped = job.config.get("shipped")
    if shipped:
        path = CHECKPOINTS / f"{shipped['checkpoint']}.safetensors"
        if file_digest(path) != shipped["sha256"]:
            raise SuiteError(f"results/checkpoints/{path.name} changed since this run was planned")
        return path
    return (
        job.inputs[0] / OPTIMIZER if job.inputs and not job.config["optimizer"]["tuned"] else None
    )


def _tell_untrained(job: Job) -> None:
    """Leave what the report must say of a learned optimizer that training did not change."""
    from l2l.optimizers.learned.checkpoint import about_optimizer
    from l2l.suite.meta.metatrain import UNTRAINED

    trained = _trained(job)
    reason = about_optimizer(trained).get(UNTRAINED) if trained is not None else None
    if isinstance(reason, str):
        write_text_atomic(job.folder / NOTICE, reason)


def _tuned_rate(path: Path) -> float:
    rate = (read_json(path) or {}).get("learning_rate")
    if not isinstance(rate, int | float) or not 0 < rate <= sys.float_info.max:
        raise SuiteError(f"{path}: holds no learning rate, remove its folder to tune again")
    return float(rate)


def _tidy(losses: Tensor, steps: Sequence[int]) -> pd.DataFrame:
    """Losses [n, len(steps)] as one row an instance and step."""
    index = pd.MultiIndex.from_product([range(len(losses)), steps], names=["instance", "step"])
    return pd.DataFrame({"loss": losses.cpu().flatten().numpy()}, index=index).reset_index()


RUNNERS: dict[str, Callable[[Job], None]] = {
    "metatrain": run_metatrain,
    "promote": run_promote,
    "select": run_select,
    "tune": run_tune,
    "evaluate": run_evaluate,
    "trace": run_trace,
}
