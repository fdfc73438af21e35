"""How experiments name the tests of their claims.

A test is a frozen dataclass whose fields are its options in the experiment's YAML, and whose
`check` weighs the evidence. To add one, write the class and register it; fields called `panel`,
`optimizer`, `optimizers`, `trainings`, `baselines` and `than` are checked against the experiment. A
test of one panel that weighs more of its runs than their final losses
(`suite.report.scores.losses.last_tenth`) has a method `scores` that names it (`ScoringTest`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Protocol, TypeVar, runtime_checkable

from l2l.suite.core.bounds import AtLeast, NotEmpty
from l2l.suite.plan.definitions import PanelInfo
from l2l.suite.report.claims.evidence import Evidence, Outcome
from l2l.suite.report.scores.losses import Score

Names = Annotated[tuple[str, ...], NotEmpty()]
# So many of a run's first updates.
Updates = Annotated[float, AtLeast(1)]


class ClaimTest(Protocol):
    """A test with its options filled in."""

    def check(self, evidence: Evidence) -> Outcome:
        """Weigh the evidence; raises MissingRunsError where there is none."""
        ...


@runtime_checkable
class ScoringTest(Protocol):
    """A test that weighs scores of its panel's runs beside their final losses."""

    @property
    def panel(self) -> str:
        """The panel's name."""
        ...

    def scores(self, panel: PanelInfo) -> Iterable[Score]:
        """What must be kept of each run of `panel`."""
        ...


CLAIM_TESTS: dict[str, type[ClaimTest]] = {}


Test = TypeVar("Test", bound=type[ClaimTest])


def register_claim_test(name: str) -> Callable[[Test], Test]:
    """Class decorator: make a test known to experiments as `name`."""

    def register(cls: Test) -> Test:
        CLAIM_TESTS[name] = cls
        return cls

    return register
