"""The schedule of a meta-training, as experiments give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from l2l.suite.core.bounds import (
    Above,
    AtLeast,
    Below,
    Count,
    Decay,
    EstimatorSpec,
    Name,
    Natural,
    NotEmpty,
    NotNegative,
    OptimizerSpec,
    ProblemSpec,
)
from l2l.suite.core.convert import plain
from l2l.suite.core.estimator import Summand
from l2l.suite.core.seeds import Rng
from l2l.suite.meta.meta_optimizers import Method

Criterion = Literal["final", "mean"]


@dataclass(frozen=True)
class Horizon:
    """Steps of a run, drawn log-uniformly for each: ``{low: 100, high: 2000}``.

    Args:
        low: the fewest.
        high: the most.
    """

    low: Count
    high: Count

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")


@dataclass(frozen=True)
class Imitation:
    """Runs on another optimizer's trajectory, whose updates φ is taught (Chen et al. 2020).

    Args:
        optimizer: with its rate, ``{name: adam, lr: 0.01}``.
        share: the part of the runs that are such runs, each drawn by itself; at most 1.
    """

    optimizer: OptimizerSpec
    share: Annotated[float, Above(0)]

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ValueError(f"share {self.share:g} must be at most 1, which is all runs")


@dataclass(frozen=True)
class Phase:
    """One stretch of a meta-training's schedule.

    Args:
        runs: optimizee runs in all, each on an instance drawn afresh.
        horizon: steps of a run, or from how many to how many they are drawn.
        estimator: of the meta-gradient: name and options, ``{name: truncated, window: 20}``.
        rate: learning rate on φ.
        method: what moves φ: ``adam``, or ``soap``, ADAM in the eigenbasis of the meta-gradient, or
            ``soap-joined``, where a layer's biases share the basis of its weights.
        beta2: its decay of squared meta-gradients. Their size changes with φ, so a memory shorter
            than the usual 0.999 keeps steps from being too long after quiet times and too short
            after wild ones.
        batch: runs side by side, averaged in one update of φ.
        rate_end: where a half cosine takes the rate over the phase; `rate` itself if not given.
        objective: ``loss`` is Σ f(θ_t) (equation 3); ``log_loss`` is Σ log f(θ_t), whose gradient
            weighs late steps, where losses are small, as much as early ones; ``relative_loss`` is
            Σ f(θ_t)/|f(θ_0)|, for problems whose losses differ in their units; ``{cap: 3.45}`` is
            Σ min(f(θ_t), 3.45), 1.5 times the loss of a guess among ten classes.
        clip: cut the meta-gradient's norm to the median of its last 200 norms.
        odd: ``true`` keeps φ among those with m(−∇) = −m(∇), as every hand-designed optimizer has
            it. A number between 0 and 1 is the part that is taken from what leads away from them,
            in meta-gradients and updates of φ, and in the φ with which training begins.
        average: decay of a moving average of φ over its updates, which is validated and kept in
            φ's place; 0 takes φ itself.
        patience: validations in a row without a new best after which φ goes back to the best so
            far; never if not given.
        also: problems to train on beside the training's own. Each run, or batch of runs, is on one
            of them all, drawn with equal chances. Validations stay on the training's own.
        validation_steps: steps of the phase's validation runs; the longest horizon of all phases if
            not given. Where they change from phase to phase, the best φ is validated once more.
        until_worse: the phase ends with its first validation that is no new best, from this one of
            its validations on; training ends there if the phase had no new best at all. The phase
            ends after `runs` at the latest.
        imitate: a part of the runs, or batches of runs, has the loss ½ Σ ‖Δ_other − Δ_learned‖² on
            the trajectory of another optimizer, in the place of `objective`. Its gradients have
            moments of their own, and are not clipped.
        ages: so many runs, or batches of runs, at different steps of their horizons take turns:
            each update of φ is from a window of the next of them. They all end before a validation.
    """

    runs: Count
    horizon: Count | Horizon
    estimator: EstimatorSpec
    rate: Annotated[float, Above(0)]
    batch: Count = 1
    method: Method = "adam"
    beta2: Decay = 0.999
    rate_end: NotNegative | None = None
    objective: Summand = "loss"
    clip: bool = False
    odd: bool | Annotated[float, Above(0), Below(1)] = False
    average: Decay = 0.0
    patience: Count | None = None
    also: tuple[ProblemSpec, ...] = ()
    validation_steps: Count | None = None
    until_worse: Count | None = None
    imitate: Imitation | None = None
    ages: Annotated[int, AtLeast(2)] | None = None

    @property
    def longest(self) -> int:
        """The most steps that a run can have."""
        return self.horizon.high if isinstance(self.horizon, Horizon) else self.horizon

    @property
    def shortest(self) -> int:
        """The fewest steps that a run can have."""
        return self.horizon.low if isinstance(self.horizon, Horizon) else self.horizon

    def steps(self, seed: int, run: int) -> int:
        """Those of the runs side by side of which this one is the first."""
        if self.shortest == self.longest:
            return self.longest
        part = Rng(seed, "train/horizon", run).uniform().item()
        return round(self.shortest * (self.longest / self.shortest) ** part)

    def drawn(self, seed: int, run: int) -> int:
        """Which problem the runs side by side from this one on are on; 0 is the training's own."""
        if not self.also:
            return 0
        return int(Rng(seed, "train/problem", run).integers(1 + len(self.also)).item())

    def imitates(self, seed: int, run: int) -> bool:
        """Whether the runs side by side from this one on are on another optimizer's trajectory."""
        if self.imitate is None:
            return False
        return Rng(seed, "train/imitation", run).uniform().item() < self.imitate.share

    @staticmethod
    def instead(key: str, given: Mapping[str, Any]) -> str:
        """A clause that says what to write where options of an estimator stand among a phase's."""
        if key not in ("window", "discount", "sample", "second_order"):
            return ""
        there = given.get("estimator")
        options = dict(there) if isinstance(there, Mapping) else {"name": "truncated"}
        kept: tuple[str, ...] = ("window", "discount", "sample")
        if given.get("second_order") is True:
            options, kept = {"name": "second_order"}, ("window",)
        options |= {name: given[name] for name in kept if name in given}
        line = ", ".join(f"{name}: {value}" for name, value in options.items())
        return f"write estimator: {{{line}}}" if line.isprintable() else "it is an estimator's"


# Fields of a phase that keys and files have only where they are given.
IF_GIVEN = ("also", "validation_steps", "until_worse", "imitate", "ages")


def as_tables(phases: Sequence[Phase]) -> list[dict[str, Any]]:
    """Phases as plain data."""
    tables = [plain(phase) for phase in phases]
    return [{k: v for k, v in each.items() if k not in IF_GIVEN or v} for each in tables]


@dataclass(frozen=True)
class Population:
    """A search for the learning rate on φ (section 3) and among seeds; see `suite.plan.population`.

    Args:
        rates: lowest and highest of the first phase's rate, drawn log-uniformly between them. The
            rates of later phases keep their ratio to it.
        candidates: how many are drawn; they take the training's seeds in turn.
        first_runs: optimizee runs, rounded up to a validation, after which they are first
            compared; without it all train to the end, which is the paper's random search.
        keep: the part of them that goes on after a comparison, to `1 / keep` times as many runs.
        seed: of the draws.
    """

    rates: tuple[float, float]
    candidates: Annotated[int, AtLeast(2)] = 16
    first_runs: Count | None = None
    keep: Annotated[float, Above(0), Below(1)] = 0.25
    seed: Natural = 0

    def __post_init__(self) -> None:
        if not 0 < self.rates[0] < self.rates[1]:
            raise ValueError(
                f"rates {list(self.rates)} must be two numbers above 0, the lower first"
            )


@dataclass(frozen=True)
class Schedule:
    """What a meta-training does with one seed; the fields are those of `Training`."""

    phases: tuple[Phase, ...]
    validate_every: Count = 50
    validation_instances: Count = 20
    criterion: Criterion = "final"

    def validation_steps(self, number: int) -> int:
        """Steps of the validation runs of a phase."""
        longest = max(phase.longest for phase in self.phases)
        return self.phases[number].validation_steps or longest

    def measures_anew(self, number: int) -> bool:
        """Whether the losses of a phase's validations are not those of the phase before it."""
        return number > 0 and self.validation_steps(number) != self.validation_steps(number - 1)

    @property
    def says_steps(self) -> bool:
        """Whether the log says the steps of validation runs."""
        return any(phase.validation_steps for phase in self.phases)

    def stretches(self, early: Sequence[int] = ()) -> list[range]:
        """The runs of each phase, counted over all phases.

        Args:
            early: runs done at the end of each phase that ended before all of its runs, ascending.
        """
        found, first = [], 0
        for phase in self.phases:
            last = first + phase.runs
            last = next((end for end in early if first < end < last), last)
            found.append(range(first, last))
            first = last
        return found

    @property
    def most_validation_steps(self) -> int:
        """The most steps that a validation run has."""
        return max(map(self.validation_steps, range(len(self.phases))))


@dataclass(frozen=True)
class Training:
    """How a learned optimizer comes about.

    Args:
        problem: whose instances it is trained on.
        optimizer: its architecture.
        phases: the schedule; a shipped checkpoint needs none.
        seeds: one meta-training each; the best by validation is used.
        validate_every: runs between validations.
        validation_instances: runs of a validation.
        criterion: what a validation compares: the ``final`` loss (mean of the last tenth of the
            steps) as in the paper, or the ``mean`` over the run, which is less noisy.
        start: a name in `results/checkpoints/`, whose φ every seed begins with; random weights if
            not given.
        population: a search for its rate, by which phases' rates are replaced.
        checkpoint: its name in `results/checkpoints/`.
        use: ``train`` it, or take the ``shipped`` checkpoint.
    """

    problem: ProblemSpec
    optimizer: OptimizerSpec
    phases: tuple[Phase, ...] = ()
    seeds: Annotated[tuple[Natural, ...], NotEmpty()] = (1,)
    validate_every: Count = 50
    validation_instances: Count = 20
    criterion: Criterion = "final"
    start: Name | None = None
    population: Population | None = None
    checkpoint: Name | None = None
    use: Literal["train", "shipped"] = "train"

    def __post_init__(self) -> None:
        if self.use == "train" and not self.phases:
            raise ValueError("there must be at least one phase under 'phases', or 'use: shipped'")
        if self.use == "shipped" and self.checkpoint is None:
            raise ValueError("'use: shipped' needs 'checkpoint', a name in results/checkpoints")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} must be different from each other")

    @property
    def schedule(self) -> Schedule:
        """What is done with each seed."""
        return Schedule(self.phases, self.validate_every, self.validation_instances, self.criterion)


# What decides nothing where the shipped checkpoint is used.
OF_TRAINING = ("seeds", "start", "population", *(field.name for field in fields(Schedule)))
