"""Experiments as typed configuration: what one YAML file of `experiments/` may say."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

from l2l.suite.core.bounds import Compared, Count, Name, Natural, NotEmpty, ProblemSpec
from l2l.suite.core.convert import REST
from l2l.suite.core.nearest import nearest
from l2l.suite.inner.trace_settings import Trace
from l2l.suite.meta.schedule import Training
from l2l.suite.plan.definitions import LEAST_RUNS, ClaimKind, PaperPanel, long_label

# Of a grid: more than a figure can show.
MOST_PANELS = 1000
# Of an experiment and a panel: with what else is in a file's name, fewer than the 255 bytes of most
# file systems.
LONGEST_NAMES = 200

# Beside which tables of final losses have a column for each optimizer's label.
COLUMNS_OF_PANELS = ("experiment", "panel", "step")


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
        long: optimizers that also run so many times as long, tuned for it. Speed-ups over ADAM are
            measured against its long runs.
    """

    title: str
    problem: ProblemSpec
    steps: Count
    optimizers: Annotated[dict[str, Compared], NotEmpty()]
    tuning_steps: Count | None = None
    tuning_problem: ProblemSpec | None = None
    test_instances: Count | None = None
    tuning_instances: Count | None = None
    first_shown: Natural = 0
    paper: PaperPanel | None = None
    trace: Trace | None = None
    long: dict[str, Count] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.first_shown >= self.steps:
            raise ValueError(f"first_shown {self.first_shown} must be below steps {self.steps}")
        for label in self.optimizers:
            if label in COLUMNS_OF_PANELS or label.endswith(" (paper)"):
                raise ValueError(
                    f"optimizers: the label {label!r} is that of a column of the results' tables: "
                    "choose another one"
                )
        if self.trace is not None and self.trace.along not in self.optimizers:
            hint = nearest(self.trace.along, self.optimizers)
            raise ValueError(f"trace.along: no optimizer {self.trace.along!r} here: {hint}")
        for label in self.long:
            if label not in self.optimizers:
                hint = nearest(label, self.optimizers)
                raise ValueError(f"long: no optimizer {label!r} here: {hint}")
            if long_label(label) in self.optimizers:
                raise ValueError(
                    f"long: the label {long_label(label)!r} is that of the long runs of {label!r}: "
                    "choose another one"
                )

    def longer(self, times: int) -> Panel:
        """The panel with so many times the updates, in sweeps as well."""
        tuning_steps = self.tuning_steps and times * self.tuning_steps
        return replace(self, steps=times * self.steps, tuning_steps=tuning_steps)


@dataclass(frozen=True)
class Grid:
    """One panel for each combination of some fields of a problem, such as Figure 6's.

    The figure shows the final loss against the last of them, side by side for the others.

    Args:
        over: values by field of the problem, and of the `tuning_problem` if there is one.
        panel: as any panel; ``{field}`` in its title and in `paper` stands for the value.
    """

    over: Annotated[dict[str, Annotated[tuple[int | float | str, ...], NotEmpty()]], NotEmpty()]
    panel: Panel

    def __post_init__(self) -> None:
        count = math.prod(map(len, self.over.values()))
        if count > MOST_PANELS:
            raise ValueError(
                f"over has {count:,} combinations, but must have at most {MOST_PANELS}"
            )
        for text in (self.panel.title, self.panel.paper.panel if self.panel.paper else ""):
            if re.search("[{}]", _filled(text, dict.fromkeys(self.over, ""))):
                known = ", ".join(self.over)
                raise ValueError(f"in {text!r:.60}, braces may only contain {known}")

    def named(self, name: str) -> list[tuple[str, dict[str, int | float | str]]]:
        """The name of each panel, such as ``mnist-1-20``, and the fields' values in it.

        What files cannot be called, such as the point of ``0.1``, becomes ``_``.
        """
        return [
            (
                re.sub(r"[^A-Za-z0-9_-]", "_", "-".join([name, *map(str, values)])),
                dict(zip(self.over, values, strict=True)),
            )
            for values in itertools.product(*self.over.values())
        ]

    def places(self, name: str) -> dict[str, dict[str, int | float | str]]:
        """The fields' values in each panel, by its name."""
        return dict(self.named(name))

    def panels(self, name: str) -> dict[str, Panel]:
        """The panels by name."""
        return {panel: self._at(values) for panel, values in self.named(name)}

    def _at(self, values: dict[str, int | float | str]) -> Panel:
        paper, swept = self.panel.paper, self.panel.tuning_problem
        return replace(
            self.panel,
            title=_filled(self.panel.title, values),
            problem={**self.panel.problem, **values},
            tuning_problem=swept and {**swept, **values},
            paper=paper and replace(paper, panel=_filled(paper.panel, values)),
        )


def _filled(text: str, values: Mapping[str, Any]) -> str:
    """The text with the values of the fields that stand in braces in it."""
    names = "|".join(map(re.escape, values))
    return re.sub(f"{{({names})}}", lambda found: str(values[found[1]]), text)


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
        benchmark: whether `reproduce.py benchmark` scores it, and the results keep what that needs.
        omitted: optimizers that a reader may look for, and why they are not here.
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
    benchmark: bool = False
    omitted: dict[str, str] = field(default_factory=dict)

    # How errors name its file. No field: it is not part of the settings.
    where: ClassVar[str] = "experiment:"

    def __post_init__(self) -> None:
        if not self.panels and not self.grids:
            raise ValueError("there must be at least one panel, under 'panels' or 'grids'")
        gridded = [panel for name, grid in self.grids.items() for panel, _ in grid.named(name)]
        (name, count), *_ = Counter([*self.panels, *gridded]).most_common(1)
        if count > 1:
            raise ValueError(f"{count} panels are called {name!r}: rename a panel, grid or value")
        longest = max([*self.panels, *gridded], key=len)
        if len(self.name) + len(longest) > LONGEST_NAMES:
            raise ValueError(
                f"the names of the experiment ({self.name:.40}) and of its panel {longest:.40} "
                f"have {len(self.name) + len(longest)} characters together, but must have at most "
                f"{LONGEST_NAMES}: files are called by both"
            )

    def every_panel(self) -> dict[str, Panel]:
        """The panels, those of the grids among them, by name."""
        gridded = [grid.panels(name) for name, grid in self.grids.items()]
        return {name: panel for each in (self.panels, *gridded) for name, panel in each.items()}

    def place_of(self, panel: str) -> str:
        """How errors name the place of a panel: its key in the file, and where in a grid it is."""
        for name, grid in self.grids.items():
            if panel in (places := grid.places(name)):
                at = ", ".join(f"{key} {value}" for key, value in places[panel].items())
                return f"{self.where} grids.{name}.panel (at {at})"
        return f"{self.where} panels.{panel}"
