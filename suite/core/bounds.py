"""What annotations may demand of values: ``Annotated[int, AtLeast(1)]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class AtLeast:
    """A bound for `Annotated` numbers."""

    low: float

    def __str__(self) -> str:
        return f"at least {self.low:g}"

    def holds(self, value: Any) -> bool:
        """Whether `value` is within the bound."""
        return bool(value >= self.low)


@dataclass(frozen=True)
class Above:
    """An open bound for `Annotated` numbers."""

    low: float

    def __str__(self) -> str:
        return f"above {self.low:g}"

    def holds(self, value: Any) -> bool:
        """Whether `value` is within the bound."""
        return bool(value > self.low)


@dataclass(frozen=True)
class Below:
    """An open upper bound for `Annotated` numbers."""

    high: float

    def __str__(self) -> str:
        return f"below {self.high:g}"

    def holds(self, value: Any) -> bool:
        """Whether `value` is within the bound."""
        return bool(value < self.high)


@dataclass(frozen=True)
class FileName:
    """For `Annotated` text that becomes part of a file's name: no path may leave its folder."""

    def __str__(self) -> str:
        return "made of letters, digits, '-' and '_'"

    def holds(self, value: Any) -> bool:
        """Whether `value` is safe in a file's name."""
        return bool(value) and all(c.isascii() and (c.isalnum() or c in "-_") for c in value)


@dataclass(frozen=True)
class NotEmpty:
    """For `Annotated` lists that need an entry."""

    def __str__(self) -> str:
        return "with at least one entry"

    def holds(self, value: Any) -> bool:
        """Whether `value` has an entry."""
        return len(value) > 0


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
Name = Annotated[str, FileName()]
# Name and fields of something registered.
Spec = dict[str, Any]
ProblemSpec = Annotated[Spec, SpecOf("problem")]
OptimizerSpec = Annotated[Spec, SpecOf("optimizer")]
EstimatorSpec = Annotated[Spec, SpecOf("estimator")]
# Or, in the place of an optimizer, ``{trained: NAME}`` of a training.
Compared = Annotated[Spec, SpecOf("optimizer", trained=True)]
