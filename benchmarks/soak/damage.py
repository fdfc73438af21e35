"""Files that a run reads back, damaged: emptied, cut, a bit flipped, replaced, or gone."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.soak.folder import finished
from benchmarks.soak.process import DONE, FAILED, REFUSED, Task, complete, killed_at
from benchmarks.soak.trial import Bench, Tally

# Runs stopped here, by phase and change, leave every kind of file that a run reads back.
STOPS: Mapping[str, tuple[str, int] | None] = {
    "while it trains": ("metatrain", 90),
    "before it evaluates": ("evaluate", 1),
    "before it reports": ("report", 1),
    "finished": None,
}
READ_BACK = (
    *("cells/request.json", "cells/version.json"),
    *("cells/*/cell.json", "cells/*/progress.json"),
    *("cells/*/state.safetensors", "cells/*/optimizer.safetensors", "cells/*/log.csv"),
    "cells/*/piece-*.safetensors",
    *("cells/*/selection.csv", "cells/*/tuning.csv", "cells/*/best.json"),
    *("cells/*/candidate*.json", "cells/*/state-*.safetensors", "cells/.locks/*.json"),
    *("cells/*/traces.parquet", "cells/*/responses.parquet", "cells/*/impulses.parquet"),
    *("cells/*/curves.parquet", "curves.parquet", "losses.parquet", "scores.parquet"),
    *("experiments.json", "provenance.json"),
    *("cells.csv", "final.csv", "claims.csv", "figures/*.svg", "tables/*.csv"),
)
WAYS = ("emptied", "cut", "flipped", "replaced", "gone")


def damages(bench: Bench, number: int) -> Tally:
    """Damage a drawn file in a drawn way, then go on; equal tables, or a sentence that helps."""
    tally = Tally("a file emptied, cut, flipped, replaced, gone")
    stops = {name: _stopped(bench, stop) for name, stop in STOPS.items()}
    while tally.injected < number:
        name = bench.chance.choice(list(stops))
        task = bench.task()
        shutil.copytree(stops[name], task.root)
        kinds = [sorted(task.root.glob(pattern)) for pattern in READ_BACK]
        path = bench.chance.choice(bench.chance.choice([files for files in kinds if files]))
        way = bench.chance.choice(WAYS)
        _damage(path, way, bench.chance)
        tally.injected += 1
        _go_on(bench, task, path, f"{path.relative_to(task.root)} {way}, {name}", tally)
    return tally


def _go_on(bench: Bench, task: Task, path: Path, what: str, tally: Tally) -> None:
    damaged = path.parent.name if path.parent.parent.name == "cells" else ""
    before = finished(task.root)
    wrong = len(tally.wrong)
    told = complete(replace(task, status=True))
    if told.code not in (DONE, REFUSED):
        tally.blame(f"status ends with code {told.code}: {told.text[-2000:]}")
    ended = complete(task)
    if ended.code in (FAILED, REFUSED):
        if (damaged or path.name) not in ended.text:
            tally.blame(f"the error does not name it: {ended.text[-2000:]}")
        path.unlink(missing_ok=True)
    elif ended.code != DONE:
        tally.blame(f"code {ended.code}: {ended.text[-2000:]}")
    bench.check_whole(task, before, tally, damaged)
    bench.check_tables(task, tally, damaged)
    if len(tally.wrong) > wrong:
        tally.blame(f"that was {what}")


def _stopped(bench: Bench, stop: tuple[str, int] | None) -> Path:
    task = bench.task()
    if stop is None:
        complete(task)
    else:
        killed_at(task, *stop)
    return task.root


def _damage(path: Path, way: str, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if way == "gone":
        path.unlink()
        return
    if way == "emptied":
        content = bytearray()
    elif way == "cut":
        del content[chance.randrange(max(1, len(content))) :]
    elif way == "replaced":
        content = bytearray(chance.randbytes(max(1, len(content))))
    elif content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
