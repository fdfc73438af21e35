"""The schedule of a meta-training, as experiments give it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from suite.core.bounds import Above, AtLeast, Below, Count, Name, Natural, NotEmpty, Spec
from suite.meta.meta_optimizers import Method


@dataclass(frozen=True)
class Phase:
    """One stretch of a meta-training's schedule.

    Args:
        runs: optimizee runs in all, each on an instance drawn afresh.
        horizon: steps of a run.
        window: steps that one meta-gradient goes back over (truncated BPTT).
        rate: learning rate on φ.
        method: what moves φ: ``adam``, or ``soap``, ADAM in the eigenbasis of the meta-gradient.
        beta2: its decay of squared meta-gradients. Their size changes with φ, so a memory shorter
            than the usual 0.999 keeps steps from being too long after quiet times and too short
            after wild ones.
        batch: runs side by side, averaged in one update of φ.
        rate_end: where a half cosine takes the rate over the phase; `rate` itself if not given.
        objective: ``loss`` is Σ f(θ_t) (equation 3); ``log_loss`` is Σ log f(θ_t), whose gradient
            weighs late steps, where losses are small, as much as early ones.
        discount: γ, by which an update's effect on the loss is taken to fade with each step. Taking
            ∂∇/∂φ as 0 leaves out that later updates make good for a change in earlier ones.
        clip: cut the meta-gradient's norm to the median of its last 200 norms.
        odd: keep φ among those with m(−∇) = −m(∇), as every hand-designed optimizer has it.
        patience: validations in a row without a new best after which φ goes back to the best so
            far; never if not given.
        sample: how many coordinates of a run, drawn in proportion to their λ, stand for all in
            the meta-gradient (unbiased); all of them if not given.
        second_order: keep ∂∇/∂φ, which the paper takes as 0: autograd through a window's
            optimizee and optimizer, at a multiple of the time and memory.
    """

    runs: Count
    horizon: Count
    window: Count
    rate: Annotated[float, Above(0)]
    batch: Count = 1
    method: Method = "adam"
    beta2: Annotated[float, AtLeast(0), Below(1)] = 0.999
    rate_end: Annotated[float, AtLeast(0)] | None = None
    objective: Literal["loss", "log_loss"] = "loss"
    discount: Annotated[float, Above(0)] = 1.0
    clip: bool = False
    odd: bool = False
    patience: Count | None = None
    sample: Count | None = None
    second_order: bool = False

    def __post_init__(self) -> None:
        if self.window > self.horizon:
            raise ValueError(f"window {self.window} must not be above horizon {self.horizon}")
        if self.second_order and self.sample is not None:
            raise ValueError("'second_order' needs all coordinates: omit 'sample'")
        if self.second_order and self.discount != 1.0:
            raise ValueError("'discount' makes up for ∂∇/∂φ = 0: omit it with 'second_order'")


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
            raise ValueError(f"rates {list(self.rates)} must be two, the lower first, above 0")


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
        population: a search for its rate, by which phases' rates are replaced.
        checkpoint: its name in `results/checkpoints/`.
        use: ``train`` it, or take the ``shipped`` checkpoint.
    """

    problem: Spec
    optimizer: Spec
    phases: tuple[Phase, ...] = ()
    seeds: Annotated[tuple[Natural, ...], NotEmpty()] = (1,)
    validate_every: Count = 50
    validation_instances: Count = 20
    criterion: Literal["final", "mean"] = "final"
    population: Population | None = None
    checkpoint: Name | None = None
    use: Literal["train", "shipped"] = "train"

    def __post_init__(self) -> None:
        if self.use == "train" and not self.phases:
            raise ValueError("there must be at least one of 'phases', or 'use: shipped'")
        if self.use == "shipped" and self.checkpoint is None:
            raise ValueError("'use: shipped' needs 'checkpoint', a name in results/checkpoints")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} must differ")


# What decides nothing where the shipped checkpoint is used.
OF_TRAINING = (
    *("phases", "seeds", "population"),
    *("validate_every", "validation_instances", "criterion"),
)
