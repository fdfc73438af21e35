"""Everything that a meta-training needs to go on exactly where it was."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.places import TRAINING_STATE
from l2l.suite.files.tensors import load_tensors, save_tensors
from l2l.suite.meta.meta_optimizers import MetaState

# A state holds a few vectors of some thousand weights; anything of this size is something else.
MAX_BYTES = 2**30


@dataclass
class TrainingState:
    """φ, the state of what moves it, the best φ so far, and the log.

    Args:
        weights: φ [size].
        average: a moving average of φ [size], or φ where the phase takes none.
        moments: the meta-optimizer's state; empty before the first update of a phase.
        imitation: the same, of the runs that imitate another optimizer.
        best_weights: the φ with the lowest validation loss.
        phase: number of the phase that it is in; -1 before the first.
        runs: optimizee runs done.
        best: the lowest validation loss.
        best_runs: runs done when it was reached.
        skipped: windows whose meta-gradient was 0 or not finite.
        train_sum: summed training losses since the last validation; `train_runs` such runs.
        validated: runs done at the last validation.
        stale: validations since the best one, or since φ last went back to it.
        averaged: updates of φ that are in the average.
        norms: the last norms of the meta-gradient.
        log: one row a validation.
        early: runs done at the end of each phase that ended before all of its runs.
        over: whether training ended with a validation.
    """

    weights: Tensor
    average: Tensor
    best_weights: Tensor
    moments: MetaState = field(default_factory=dict)
    imitation: MetaState = field(default_factory=dict)
    phase: int = -1
    runs: int = 0
    best: float = math.inf
    best_runs: int = 0
    skipped: int = 0
    train_sum: float = 0.0
    train_runs: int = 0
    validated: int = 0
    stale: int = 0
    averaged: int = 0
    norms: list[float] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    early: list[int] = field(default_factory=list)
    over: bool = False

    def move(self, weights: Tensor, decay: float) -> None:
        """Go to another φ, and take it into the average.

        Until the average holds 1 / (1 − decay) updates, all count alike.
        """
        self.weights = weights
        self.averaged += 1
        share = max(1 - decay, 1 / self.averaged)
        self.average = weights if share == 1 else self.average.lerp(weights, share)

    def _return(self, within: Callable[[Tensor], Tensor]) -> None:
        """Go back to the best φ, as far as the phase allows it, and begin the average anew."""
        self.weights = self.average = within(self.best_weights)
        self.averaged = 0

    def median_norm(self, norm: float, last: int) -> float:
        """The median of the last norms, this one included."""
        self.norms = [*self.norms, norm][-last:]
        return statistics.median(self.norms)

    def enter(self, phase: int, within: Callable[[Tensor], Tensor]) -> None:
        """Begin a phase, from the best φ so far and with fresh moments.

        The second moments of a wild stretch would hold ADAM's steps down for a thousand windows.
        """
        if phase != self.phase:
            self.phase, self.stale = phase, 0
            self.moments, self.imitation = {}, {}
            self._return(within)

    def retreat(self, patience: int, within: Callable[[Tensor], Tensor]) -> None:
        """Go back to the best φ after `patience` validations in a row that were no better.

        The moments stay: they describe the meta-gradient around there as well.
        """
        if self.stale >= patience:
            self.stale = 0
            self._return(within)

    def end_if_worse(self, runs: range, least: int) -> None:
        """End a phase with a validation that is no new best, from its `least`-th validation on.

        Training ends with it if none of the phase's validations was a new best.

        Args:
            runs: of the phase, in all phases' runs.
            least: as `Phase.until_worse`.
        """
        validations = sum(row["runs"] > runs.start for row in self.log)
        if validations < least or self.best_runs == self.runs:
            return
        self.over = self.best_runs <= runs.start
        if self.runs < runs.stop:
            self.early = [*self.early, self.runs]

    def record(
        self,
        validation: float,
        final: float,
        total: float,
        rate: float,
        steps: int | None = None,
        again: bool = False,
    ) -> None:
        """Log a validation, and keep φ if it is the best; a loss that is not finite never is.

        Args:
            validation: the loss that φ are compared by.
            final: the mean loss of the last tenth of the steps.
            total: the losses' sum over the steps.
            rate: on φ.
            steps: of the validation runs, for the log; not in it if not given.
            again: whether it was the best φ so far, over other steps than before.
        """
        if again:
            self.best, self.stale = validation, 0
        elif validation < self.best or not self.log:
            self.best, self.best_runs, self.stale = validation, self.runs, 0
            self.best_weights = self.average
        else:
            self.stale += 1
        self.log.append(
            {
                "runs": self.runs,
                "validation": validation,
                "final": final,
                "sum": total,
                "train": self.train_sum / self.train_runs if self.train_runs else math.nan,
                "rate": rate,
                "skipped": self.skipped,
                **({} if steps is None else {"steps": steps}),
            }
        )
        self.validated, self.train_sum, self.train_runs = self.runs, 0.0, 0

    def log_csv(self) -> str:
        """The log as CSV."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.log[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.log)
        return text.getvalue()


# The fields that are no tensors, with their types.
NUMBERS = {
    each.name: type(each.default) if each.default is not MISSING else list
    for each in fields(TrainingState)
    if each.name not in ("weights", "average", "best_weights", "moments", "imitation")
}
# Those that the file has only where a phase ended early.
IF_EARLY = ("early", "over")


def save_state(folder: Path, state: TrainingState) -> None:
    """Write the state, whole or not at all, with a digest of it."""
    tensors = {
        "weights": state.weights,
        "best_weights": state.best_weights,
        **({} if state.average is state.weights else {"average": state.average}),
        **{f"moments.{name}": value for name, value in state.moments.items()},
        **{f"imitation.{name}": value for name, value in state.imitation.items()},
    }
    tensors = {name: value.detach().cpu().clone() for name, value in tensors.items()}
    values = {name: getattr(state, name) for name in NUMBERS}
    header = {
        name: json.dumps(value) for name, value in values.items() if name not in IF_EARLY or value
    }
    save_tensors(folder / TRAINING_STATE, tensors, header)


def load_state(folder: Path, device: str | torch.device = "cpu") -> TrainingState | None:
    """The state in a folder, or None if there is none.

    Raises:
        SuiteError: the file is not whole, or not such a file.
    """
    path = folder / TRAINING_STATE
    if not path.exists():
        return None
    try:
        tensors, header = load_tensors(path, MAX_BYTES)
        return _state(header, {name: value.to(device) for name, value in tensors.items()})
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise SuiteError(
            f"{path}: is not a whole training state ({error}), remove it to train from the start"
        ) from error


def _state(header: dict[str, str], tensors: dict[str, Tensor]) -> TrainingState:
    names = [name for name in NUMBERS if name not in IF_EARLY or name in header]
    numbers = {name: json.loads(header[name]) for name in names}
    for name in names:
        kind = NUMBERS[name]
        if not isinstance(numbers[name], int | float if kind is float else kind):
            raise ValueError(f"{name} is not of type {kind.__name__}")
    weights, best = tensors["weights"], tensors["best_weights"]
    average = tensors.get("average", weights)
    if weights.ndim != 1 or not weights.shape == average.shape == best.shape:
        raise ValueError("its vectors of weights are not of the same size")
    moments, imitation = (
        {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        for prefix in ("moments.", "imitation.")
    )
    return TrainingState(weights, average, best, moments, imitation, **numbers)
