"""Pictures of runs whose parameters are an image: kept by evaluations, gathered for the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from l2l.suite.core.blame import refused
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.trees import kind_of
from l2l.suite.core.types import Problem
from l2l.suite.files.atomic import write_bytes_atomic
from l2l.suite.files.tensors import as_bytes
from l2l.suite.inner.objective import Objective
from l2l.suite.inner.step import Point

# Which steps are kept beside a run's last, and of which instances.
STEPS = (0, 8, 16, 32, 64, 128)
INSTANCES = range(3)

# Images uint8 [3, H, W] by strings and numbers that say which: an evaluation's by (instance, step)
# or (instance, name of a source), the report's by (experiment, panel, optimizer, and these two).
Pictures = dict[tuple[str | int, ...], Tensor]

# Three runs at seven steps, even at 1,024×1,024, are a fourth of it.
MAX_BYTES = 2**28


class PictureLog:
    """Watches an evaluation, and keeps `pictures` of its first instances."""

    def __init__(self, steps: int) -> None:
        self.steps = {*STEPS, steps}
        self.pictures: Pictures = {}

    def __call__(self, objective: Objective, point: Point) -> None:
        if point.step not in self.steps:
            return
        for row, instance in enumerate(objective.instances):
            if instance not in INSTANCES:
                continue
            problem = objective.problem
            params = objective.spec.unflatten(point.theta[row])
            self.pictures[instance, point.step] = _given(
                problem, "picture", problem.picture(params)
            )
            if point.step == 0:
                sources = problem.sources(objective.rng("instance", instance))
                for name, each in sources.items():
                    self.pictures[instance, name] = _given(problem, "sources", each)


def save_pictures(path: Path, pictures: Mapping[tuple[str | int, ...], Tensor]) -> None:
    """Write them as a safetensors file; raises as `suite.files.atomic.write_bytes_atomic` does."""
    # Instances may share a source, but tensors in a file share no memory.
    named = {
        json.dumps(key): picture.cpu().contiguous().clone() for key, picture in pictures.items()
    }
    write_bytes_atomic(path, as_bytes(named))


def load_pictures(path: Path) -> Pictures:
    """Read what `save_pictures` wrote.

    Raises:
        SuiteError: as `read_pictures`.
    """
    return read_pictures(path, MAX_BYTES, _image)


def read_pictures(path: Path, most: int, image: Callable[[Tensor], Tensor]) -> Pictures:
    """The pictures in a file of at most so many bytes; `image` makes one of each of its tensors.

    Raises:
        SuiteError: the file is missing, damaged, too large, or holds something else.
    """
    try:
        if path.stat().st_size > most:
            raise ValueError(f"it is larger than {most >> 20} MiB")
        return {_key(name): image(found) for name, found in load_file(path).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise SuiteError(
            f"{path} cannot be read as pictures ({error}): run the experiment again"
        ) from error


def _key(name: str) -> tuple[str | int, ...]:
    """The key that a name in a file stands for; ValueError if it stands for none."""
    parts = json.loads(name)
    if not isinstance(parts, list) or not all(isinstance(part, str | int) for part in parts):
        raise ValueError(f"{name!r} does not say which picture it is")
    return tuple(parts)


def _given(problem: Problem, method: str, picture: Tensor) -> Tensor:
    """What a method gives, if it is an image."""
    try:
        return _image(picture)
    except ValueError as error:
        raise refused(problem, method, f"gives no image: {error}") from error


def _image(picture: Tensor) -> Tensor:
    kind = kind_of(picture)
    if not kind.startswith("uint8 [3, ") or picture.ndim != 3:
        raise ValueError(f"{kind}, but must be uint8 [3, H, W]")
    return picture
