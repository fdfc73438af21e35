"""What annotations may demand of values: ``Annotated[int, AtLeast(1)]``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal


@dataclass(frozen=True)
class Check:
    """What a value must be: in words, as a function, and as a keyword of a JSON schema."""

    words: str
    holds: Callable[[Any], bool]
    schema: tuple[str, Any]

    def __str__(self) -> str:
        return self.words


def AtLeast(low: float) -> Check:
    """A bound for `Annotated` numbers."""
    return Check(f"at least {low:g}", lambda value: value >= low, ("minimum", low))


def Above(low: float) -> Check:
    """An open bound for `Annotated` numbers."""
    return Check(f"above {low:g}", lambda value: value > low, ("exclusiveMinimum", low))


def AtMost(high: float) -> Check:
    """An upper bound for `Annotated` numbers."""
    return Check(f"at most {high:g}", lambda value: value <= high, ("maximum", high))


def Below(high: float) -> Check:
    """An open upper bound for `Annotated` numbers."""
    return Check(f"below {high:g}", lambda value: value < high, ("exclusiveMaximum", high))


def FileName() -> Check:
    """For `Annotated` text that becomes part of a file's name: no path may leave its folder."""
    pattern = "[A-Za-z0-9_-]+"
    return Check(
        "made of letters, digits, '-' and '_'",
        lambda value: re.fullmatch(pattern, value) is not None,
        ("pattern", f"^{pattern}$"),
    )


def NotEmpty() -> Check:
    """For `Annotated` lists and tables that need an entry."""
    return Check("with at least one entry", lambda value: len(value) > 0, ("minItems", 1))


@dataclass(frozen=True)
class SpecOf:
    """For `Annotated` specs: of what kind they are. What they say is checked when they are made."""

    kind: str
    trained: bool = False

    def __str__(self) -> str:
        return f"with the name and the options of the {self.kind}"

    def holds(self, value: Any) -> bool:
        """True: a table is all that can be asked of it here."""
        return True


Count = Annotated[int, AtLeast(1)]
Natural = Annotated[int, AtLeast(0)]
# The part of a running mean that each step keeps.
Decay = Annotated[float, AtLeast(0), Below(1)]
NotNegative = Annotated[float, AtLeast(0)]
Name = Annotated[str, FileName()]
# How much is run, and where tensors live.
Profile = Literal["smoke", "quick", "small", "reference", "paper"]
Device = Literal["auto", "cpu", "cuda"]
# Name and fields of something registered.
Spec = dict[str, Any]
ProblemSpec = Annotated[Spec, SpecOf("problem")]
OptimizerSpec = Annotated[Spec, SpecOf("optimizer")]
EstimatorSpec = Annotated[Spec, SpecOf("estimator")]
# Or, in the place of an optimizer, ``{trained: NAME}`` of a training.
Compared = Annotated[Spec, SpecOf("optimizer", trained=True)]
