"""What a report needs to know of the experiments behind the curves, as plain data.

The planner fills these from the experiments' YAML. They are stored beside the results, so that a
report can be made again from a results folder alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from l2l.suite.core.bounds import FileName, NotEmpty
from l2l.suite.core.convert import convert, plain
from l2l.suite.core.errors import SuiteError
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.json import load_json

# Of this file and of the tables beside it.
FORMAT = 2

ClaimKind = Literal["paper", "check"]
LEAST_RUNS = 20
# Between the settings of runs that were merged.
MERGED = "\n# Merged with:\n"


def long_label(optimizer: str) -> str:
    """How the tables call the longer runs of an optimizer; see `PanelInfo.long`."""
    return f"{optimizer}, long"


@dataclass(frozen=True)
class PaperPanel:
    """Which of the paper's curves (`suite.report.paper`) a panel is compared with.

    Args:
        figure: as in `results/paper`, such as ``fig7``.
        panel: of that figure.
    """

    figure: str
    panel: str


@dataclass(frozen=True)
class PanelInfo:
    """One panel of a figure.

    `steps` is the number of updates, `first_shown` where the drawn x axis begins, `notice` what a
    reader must be told of its data, such as that it is a subset. A panel of a grid has its name,
    and the values of the fields that the grid is over. `learned` are those of the optimizers that
    were meta-trained; the others are the baselines that they are compared with. `untrained` are
    those whose training left them as they were, with the reason. `in_distribution` are those that
    were trained on this very problem; for all other learned ones it is out of distribution. `long`
    are optimizers that were also run for so many updates, tuned for these. `setup` is what rows of
    the panel must have in common to be compared: problem, data, seed, and budgets.
    """

    name: Annotated[str, FileName()]
    title: str
    steps: int
    optimizers: tuple[str, ...]
    first_shown: int = 0
    paper: PaperPanel | None = None
    notice: str = ""
    grid: str = ""
    at: Mapping[str, int | float | str] = field(default_factory=dict)
    learned: tuple[str, ...] = ()
    untrained: Mapping[str, str] = field(default_factory=dict)
    in_distribution: tuple[str, ...] = ()
    long: Mapping[str, int] = field(default_factory=dict)
    setup: Mapping[str, int | str] = field(default_factory=dict)

    def notices(self) -> tuple[str, ...]:
        """All that a reader must be told of the panel."""
        told = (f"{name} is untrained: {reason}." for name, reason in self.untrained.items())
        return (*filter(None, [self.notice]), *told)


@dataclass(frozen=True)
class ClaimInfo:
    """A sentence and what decides on it.

    `test` and its `options` name one of the tests in `suite.report.claims`.
    `kind` tells a claim of the paper from a check of one's own. Fewer than `runs` runs decide
    nothing, and neither do runs of fewer than `steps` updates; without `steps`, of fewer than the
    paper's figure shows.
    """

    id: str
    text: str
    test: str
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: ClaimKind = "check"
    runs: int = LEAST_RUNS
    steps: int | None = None


@dataclass(frozen=True)
class ExperimentInfo:
    """One experiment as it was run.

    `settings` is its resolved YAML; where runs were merged, `every_settings` tells them apart.

    A `benchmark` is scored on the page of `reproduce.py benchmark`. `left_out` are optimizers that
    did not run, by label, with the reason.
    """

    name: Annotated[str, FileName()]
    title: str
    panels: Annotated[tuple[PanelInfo, ...], NotEmpty()]
    claims: tuple[ClaimInfo, ...] = ()
    source: str = ""
    seed: int = 0
    profile: str = ""
    settings: str = ""
    benchmark: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)

    def without(self) -> dict[str, str]:
        """Why optimizers are in no panel, by label; those that another's results have are in."""
        run = {label for panel in self.panels for label in panel.optimizers}
        return {label: reason for label, reason in self.left_out.items() if label not in run}

    def panel(self, name: str) -> PanelInfo | None:
        """The panel called `name`, or None."""
        return next((panel for panel in self.panels if panel.name == name), None)

    def every_settings(self) -> list[str]:
        """The resolved YAML of each run that was merged into this one, the last one taken last."""
        return self.settings.split(MERGED)


def save_experiments(path: Path, experiments: Sequence[ExperimentInfo]) -> None:
    """Write `experiments` as JSON."""
    content = {"format": FORMAT, "experiments": plain(experiments)}
    write_text_atomic(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def load_experiments(path: Path) -> list[ExperimentInfo]:
    """Read what `save_experiments` wrote.

    Raises:
        SuiteError: the file is missing, is not such a file, or has another format.
    """
    try:
        content = load_json(path)
    except FileNotFoundError:
        raise SuiteError(f"{path} is missing: run the experiment into this folder first") from None
    except (OSError, ValueError) as error:
        raise SuiteError(f"{path} cannot be read ({error}): run the experiment again") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise SuiteError(f"{path} has format {found}, this version reads {FORMAT}: run it again")
    experiments: list[ExperimentInfo] = convert(
        content.get("experiments"), list[ExperimentInfo], f"{path}: experiments"
    )
    return experiments
