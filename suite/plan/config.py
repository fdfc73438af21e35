"""Experiments as typed configuration: what one YAML file of `experiments/` may say."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from suite.core.bounds import Above, AtLeast, Below, FileName, NotEmpty
from suite.core.convert import REST, field_types, fill, nearest
from suite.core.errors import SuiteError
from suite.files.yaml import read_yaml
from suite.meta.meta_optimizers import Method
from suite.plan.definitions import LEAST_RUNS, ClaimKind, PaperPanel
from suite.plan.overlay import nested, overlay, parse_setting

Count = Annotated[int, AtLeast(1)]
Natural = Annotated[int, AtLeast(0)]
Name = Annotated[str, FileName()]
Spec = dict[str, Any]

PROFILES = ("smoke", "quick", "reference", "paper")


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


@dataclass(frozen=True)
class Trace:
    """What is recorded of single coordinates along a panel's trajectories (Appendix B).

    Args:
        along: the optimizer, by its label, whose trajectories they are.
        instances: of how many test instances; all if not given.
        coordinates: how many of each instance.
        shown: which of them are given, by their place in the flat parameters; the rest is drawn.
            The first three are those that the figures show.
        probed: of how many the update is recorded as a function of the gradient.
        response_steps: at which steps it is, counted from the first.
        points: gradients that it is recorded for.
        reach: how far these go either way, in units of the largest gradient of the coordinate
            over `response_steps`.
        lags: over how many steps the effect of one gradient is followed, at most half of all.
    """

    along: str
    instances: Count | None = None
    coordinates: Count = 32
    shown: tuple[Natural, ...] = ()
    probed: Count = 8
    response_steps: Count = 32
    points: Annotated[int, AtLeast(21)] = 81
    reach: Annotated[float, Above(0)] = 1.0
    lags: Count = 32


@dataclass(frozen=True)
class Panel:
    """One problem and the optimizers that are compared on it.

    Args:
        title: its heading.
        problem: what is minimised.
        steps: updates of a run.
        optimizers: by label, ``{trained: NAME}`` of a training, or a registered one.
        tuning_steps: updates of a run in learning-rate sweeps; `steps` if not given.
        tuning_problem: what they are run on, such as the training split of `problem`'s data;
            `problem` itself, on other instances, if not given.
        test_instances: replaces the experiment's size here; likewise `tuning_instances`.
        first_shown: where the figure's horizontal axis begins.
        paper: the paper's curves of this panel.
        trace: what is recorded of single coordinates, if anything.
    """

    title: str
    problem: Spec
    steps: Count
    optimizers: Annotated[dict[str, Spec], NotEmpty()]
    tuning_steps: Count | None = None
    tuning_problem: Spec | None = None
    test_instances: Count | None = None
    tuning_instances: Count | None = None
    first_shown: Natural = 0
    paper: PaperPanel | None = None
    trace: Trace | None = None

    def __post_init__(self) -> None:
        if self.first_shown >= self.steps:
            raise ValueError(f"first_shown {self.first_shown} must be below steps {self.steps}")
        if self.trace is not None and self.trace.along not in self.optimizers:
            hint = nearest(self.trace.along, self.optimizers)
            raise ValueError(f"trace.along: no optimizer {self.trace.along!r} here: {hint}")


@dataclass(frozen=True)
class Grid:
    """One panel for each combination of some fields of a problem, such as Figure 6's.

    The figure shows the final loss against the last of them, side by side for the others.

    Args:
        over: values by field of the problem.
        panel: as any panel; ``{field}`` in its title and in `paper` stands for the value.
    """

    over: Annotated[dict[str, Annotated[tuple[int | float | str, ...], NotEmpty()]], NotEmpty()]
    panel: Panel

    def places(self, name: str) -> dict[str, dict[str, int | float | str]]:
        """The fields' values in each panel, by its name, such as ``mnist-1-20``.

        What files cannot be called, such as the point of ``0.1``, becomes ``_``.
        """
        combinations = itertools.product(*self.over.values())
        return {
            re.sub(r"[^A-Za-z0-9_-]", "_", "-".join([name, *map(str, values)])): dict(
                zip(self.over, values, strict=True)
            )
            for values in combinations
        }

    def panels(self, name: str) -> dict[str, Panel]:
        """The panels by name.

        Raises:
            SuiteError: the panel's texts name a field that the grid is not over.
        """
        return {panel: self._at(values) for panel, values in self.places(name).items()}

    def _at(self, values: dict[str, int | float | str]) -> Panel:
        paper = self.panel.paper
        return replace(
            self.panel,
            title=_filled(self.panel.title, values),
            problem={**self.panel.problem, **values},
            paper=paper and replace(paper, panel=_filled(paper.panel, values)),
        )


def _filled(text: str, values: Mapping[str, Any]) -> str:
    try:
        return text.format(**values)
    except (KeyError, IndexError, ValueError) as error:
        raise SuiteError(
            f"grid: {text!r} may name {', '.join(values)} in braces, nothing else ({error})"
        ) from error


@dataclass(frozen=True)
class Claim:
    """A sentence and the test that decides on it.

    Args:
        text: the sentence.
        test: one of `suite.report.claims.tests`; `options` are its own.
        kind: a claim of the ``paper``, or a ``check`` of one's own.
        runs: with fewer runs it stays unchecked.
        steps: likewise with fewer updates; as many as the paper's figure shows if not given.
    """

    text: str
    test: str
    kind: ClaimKind = "check"
    runs: Count = LEAST_RUNS
    steps: Count | None = None
    options: dict[str, Any] = field(default_factory=dict, metadata=REST)


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    Args:
        test_instances: runs of each evaluation.
        tuning_instances: validation runs for each rate of a sweep.
    """

    test_instances: Count
    tuning_instances: Count


@dataclass(frozen=True)
class Experiment:
    """One figure of the paper, or a user's own comparison.

    Args:
        name: of its rows and files; if not given, the file's own name, with ``-`` for what names
            cannot have.
        title: its heading.
        sizes: how much is run.
        panels: by name.
        grids: of panels, by name.
        training: meta-trainings by name.
        claims: by id.
        seed: of everything but meta-training, which has its own seeds.
        source: where it stands in the paper.
    """

    name: Name
    title: str
    sizes: Sizes
    panels: dict[Name, Panel] = field(default_factory=dict)
    grids: dict[Name, Grid] = field(default_factory=dict)
    training: dict[Name, Training] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    seed: Natural = 0
    source: str = ""

    def __post_init__(self) -> None:
        if not self.panels and not self.grids:
            raise ValueError("there must be at least one panel, under 'panels' or 'grids'")

    def every_panel(self) -> dict[str, Panel]:
        """The panels, those of the grids among them, by name."""
        gridded = [grid.panels(name) for name, grid in self.grids.items()]
        return {name: panel for each in (self.panels, *gridded) for name, panel in each.items()}


@dataclass(frozen=True)
class RawExperiment:
    """An experiment file as plain data, before profiles and settings."""

    path: Path
    data: dict[str, Any]

    @property
    def where(self) -> str:
        """How errors name the file."""
        return f"{self.path.name}:"

    @property
    def name(self) -> str:
        """What the experiment calls itself."""
        return str(self.data["name"])


def read_experiment(path: Path) -> RawExperiment:
    """The file as plain data.

    Raises:
        SuiteError: it cannot be read, is not YAML, or is not a table.
    """
    data = read_yaml(path)
    # Its rows and files are called so, which the file's own name is not fit for in every letter.
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-") or "experiment"
    return RawExperiment(path, {"name": name, **data})


def build(raws: list[RawExperiment], profile: str, settings: list[str]) -> list[Experiment]:
    """Experiments from files, with the profile and then the ``--set`` values laid over them.

    A setting's first key may be the name of an experiment; without one it goes to every experiment
    that has the key.

    Raises:
        SuiteError: what is wrong, in which file or setting, under which key.
    """
    datas = {}
    for raw in raws:
        if raw.name in datas:
            raise SuiteError(f"{raw.where} another experiment is also called {raw.name!r}")
        datas[raw.name] = _with_profile(raw, profile)
    for text in settings:
        _set(datas, text)
    experiments = [fill(Experiment, datas[raw.name], raw.where) for raw in raws]
    for text in settings:
        _refuse_idle(experiments, text)
    return experiments


def _refuse_idle(experiments: list[Experiment], text: str) -> None:
    """Check that a setting of a training does not go to one that is not trained."""
    keys, _ = parse_setting(text)
    for experiment in experiments:
        match keys if keys[0] != experiment.name else keys[1:]:
            case ["training", name, field, *_] if field in OF_TRAINING:
                training = experiment.training.get(name)
                if training is not None and training.use == "shipped":
                    raise SuiteError(
                        f"--set {text}: training.{name} of {experiment.name} takes the shipped "
                        f"checkpoint in this profile, so {field!r} decides nothing: also set "
                        f"{experiment.name}.training.{name}.use=train"
                    )


def _with_profile(raw: RawExperiment, profile: str) -> dict[str, Any]:
    data = dict(raw.data)
    profiles = data.pop("profiles", {})
    where = f"{raw.where} profiles"
    if not isinstance(profiles, dict):
        raise SuiteError(f"{where} must be a table of {', '.join(PROFILES)}")
    for key in profiles:
        if key not in PROFILES:
            raise SuiteError(f"{where} has no {key!r}: known are {', '.join(PROFILES)}")
    change = profiles.get(profile) or {}
    if not isinstance(change, dict):
        raise SuiteError(f"{where}.{profile} is {change!r:.60}, but must be a table")
    result: dict[str, Any] = overlay(data, change, Experiment, f"{where}.{profile}")
    return result


def _set(datas: dict[str, dict[str, Any]], text: str) -> None:
    keys, value = parse_setting(text)
    known = {*datas, *field_types(Experiment)}
    if keys[0] not in known:
        raise SuiteError(f"--set {text}: there is no {keys[0]!r}: {nearest(keys[0], known)}")
    chosen = [keys[0]] if keys[0] in datas else list(datas)
    keys = keys[1:] if keys[0] in datas else keys
    refused = []
    for name in chosen:
        where = f"--set {text}: {name}"
        try:
            datas[name] = overlay(datas[name], nested(keys, value), Experiment, where)
        except SuiteError as error:
            refused.append(error)
    if len(refused) == len(chosen):
        raise refused[0]
