"""What authors of kinds of cell write against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from l2l.suite.files.progress import Progress


@dataclass(frozen=True)
class Job:
    """What a cell's work begins with.

    Args:
        config: the cell's.
        inputs: folders of the cells that it reads, in the order in which the cell names them.
        folder: where its results go; what an interrupted run left is there.
        device: where tensors live.
        progress: to be called now and then.
    """

    config: Mapping[str, Any]
    inputs: tuple[Path, ...]
    folder: Path
    device: str
    progress: Progress


@dataclass(frozen=True)
class Kind:
    """A kind of cell: what it computes, and what the rest of the suite must know of it.

    `leaves` are the files that every cell of the kind has when it is done. Of the cells that can
    be started, those of the highest `priority` come first. Where a kind `follows` another, such
    as ``evaluate``, a plan has a cell of it after each of the other's, which is its only input.
    """

    leaves: ClassVar[tuple[str, ...]] = ()
    priority: ClassVar[int] = 0
    follows: ClassVar[str] = ""

    def run(self, job: Job) -> None:
        """Fill the folder of a cell. A process that dies is followed by one that starts again."""
        raise NotImplementedError

    def work(self, config: Mapping[str, Any]) -> float:
        """How much a cell has to do, in any unit, to estimate the time of other cells by.

        Optimizee steps times runs, unless a kind says otherwise.
        """
        return float(config.get("steps", 1) * config.get("instances", 1))

    def done(self, config: Mapping[str, Any], folder: Path) -> Mapping[str, float]:
        """What a finished cell did, for its row of `cells.csv`; none of it unless a kind says so.

        Returns:
            `runs` of the optimizee, `updates` of each, and the `rates` that were tried, with what
            fewer would have found: `with_default_rate`, `with_four_rates`, `with_eleven_rates`.
        """
        return {}
