"""What authors of estimators of the meta-gradient write against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from torch import Tensor

from l2l.suite.core.bounds import Above, Count
from l2l.suite.core.seeds import Rng
from l2l.suite.core.types import ParamSpec

if TYPE_CHECKING:
    from l2l.optimizers.learned.base import Learned
    from l2l.suite.inner.objective import Objective


@dataclass(frozen=True)
class CappedLoss:
    """The sum of min(f(θ_t), cap): a run that is lost does not drown the others.

    For C classes, learned_optimization caps at 1.5 log C. A loss that is not finite counts as much.

    Args:
        cap: the most that a loss counts.
    """

    cap: Annotated[float, Above(0)]


@dataclass(frozen=True)
class RelativeLoss:
    """The sum of f(θ_t) / |f(θ_0)|, which is the same in every unit of the loss.

    A run with f(θ_0) = 0 adds nothing.

    Args:
        start: f(θ_0) of each run [rows].
    """

    start: Tensor


# What a phase sums over steps: f(θ_t) (equation 3), log f(θ_t), f(θ_t)/|f(θ_0)|, min(f(θ_t), cap).
Summand = Literal["loss", "log_loss", "relative_loss"] | CappedLoss

# The same for the runs of a window.
MetaLoss = Literal["loss", "log_loss"] | CappedLoss | RelativeLoss


@dataclass(frozen=True)
class Estimate:
    """What an estimator makes of one window.

    Args:
        gradient: dL/dφ [size], L the mean over runs of the window's summed losses.
        place: where the runs stand after the window, for the next one.
        losses: f(θ_1) … f(θ_T) of the window, each [rows].
    """

    gradient: Tensor
    place: Any
    losses: Sequence[Tensor]


@dataclass(frozen=True)
class Estimator:
    """A way to estimate the meta-gradient. Subclasses are frozen dataclasses; fields are options.

    A run is cut into windows, and φ is updated after each. An estimator keeps nothing itself: what
    a window hands to the next is in its `Estimate.place`, which lasts no longer than the run.
    Training is saved between runs, so no place is ever part of a file.

    Args:
        window: steps of a window; the whole run if not given.
    """

    window: Count | None = None

    @property
    def copies(self) -> int:
        """How many runs on each instance go side by side."""
        return 1

    def windows(self, horizon: int) -> list[int]:
        """The steps of each window of a run of `horizon` steps."""
        window = self.window or horizon
        return [min(window, horizon - first) for first in range(0, horizon, window)]

    def check(self, optimizer: Learned, spec: ParamSpec) -> None:
        """Whether it can be used for an optimizer on parameters of this layout.

        Raises:
            ValueError: it cannot; a clause that says why.
        """

    def begin(self, optimizer: Learned, objective: Objective) -> tuple[Any, Tensor]:
        """Where the runs stand at θ_0, and f there [rows].

        Args:
            optimizer: with the φ that the run begins with.
            objective: of `copies` of the run's instances.
        """
        raise NotImplementedError

    def gradient(
        self,
        optimizer: Learned,
        objective: Objective,
        place: Any,
        steps: int,
        meta_loss: MetaLoss,
        rng: Rng,
    ) -> Estimate:
        """The meta-gradient of the next window.

        Args:
            optimizer: with the φ of this window.
            objective: that the run began on.
            place: from `begin`, or from the window before.
            steps: T, those of this window.
            meta_loss: what is summed over them.
            rng: the window's own draws.
        """
        raise NotImplementedError
