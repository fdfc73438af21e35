"""What a user asked for, kept in the results folder so that `status` and `report` know it too."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from l2l.problems.downloads import offline
from l2l.suite.core.bounds import Profile
from l2l.suite.core.convert import fill
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.core.plugins import load_plugin
from l2l.suite.files.json import load_table, save_json
from l2l.suite.files.places import CELLS, EXPERIMENT_INFOS, EXPERIMENTS, PLANNED, REQUEST
from l2l.suite.plan.config import Experiment
from l2l.suite.plan.plan import Plan, make_plan
from l2l.suite.plan.probe import untried
from l2l.suite.plan.profiles import build, read_experiment
from l2l.suite.report.claims.verdicts import claim_test
from l2l.suite.report.collect import experiment_infos
from l2l.suite.run.locks import is_at_work

# The key under which a request that is kept has the results folder.
FOLDER = "folder"


@dataclass(frozen=True)
class Request:
    """What decides the plan.

    Args:
        names: experiments by figure, name or file; all of the paper's if empty.
        profile: the sizes.
        settings: ``key=value`` texts of ``--set``.
        seed: replaces the experiments' own.
        plugins: users' files with problems and optimizers.
    """

    names: tuple[str, ...] = ()
    profile: Profile = "quick"
    settings: tuple[str, ...] = ()
    seed: int | None = None
    plugins: tuple[str, ...] = ()

    def command(self) -> str:
        """The command line that asks for the same, without the results folder."""
        words = ["python", "reproduce.py", "run", *self.names, "--profile", self.profile]
        for setting in self.settings:
            words += ["--set", setting]
        if self.seed is not None:
            words += ["--seed", str(self.seed)]
        for plugin in self.plugins:
            words += ["--plugin", plugin]
        return shlex.join(words)


def plan_request(request: Request, probing: bool = True) -> Plan:
    """The plan of what was asked for; imports its plugins.

    Args:
        request: what was asked for.
        probing: try its problems and optimizers, because the plan will be carried out.

    Raises:
        SuiteError: whatever is wrong with it, before any work starts.
    """
    # Without names, whoever lacks some data still gets all that is available.
    # Whoever only looks at a folder waits for no download.
    with nullcontext() if probing else untried(), offline(not probing):
        plan = make_plan(load_experiments(request), forgiving=not request.names)
    for info in experiment_infos(plan, request.profile):
        for claim in info.claims:
            claim_test(info, claim)
    return plan


def load_experiments(request: Request) -> list[Experiment]:
    """The experiments of a request, typed; imports its plugins."""
    for plugin in request.plugins:
        load_plugin(Path(plugin))
    raws = [read_experiment(path) for path in find_experiments(request.names)]
    settings = list(request.settings)
    if request.seed is not None:
        settings.append(f"seed={request.seed}")
    return build(raws, request.profile, settings)


def find_experiments(names: Sequence[str]) -> list[Path]:
    """The files of the experiments called so; if none is, of the paper's, in the figures' order.

    An experiment is the paper's if it has a `source` there.

    ``fig4``, ``4``, ``figure4`` and a path to a file all do.

    Raises:
        SuiteError: there is none of that name; says which are near.
    """
    known = {path.stem: path for path in every_experiment()}
    if not names:
        return [path for path in known.values() if read_experiment(path).data.get("source")]
    found = {}
    for name in names:
        if _is_file(name):
            found[name] = Path(name)
            continue
        if os.path.isfile(name):  # of any length
            raise SuiteError(f"{name}: the name of an experiment's file must end in .yaml or .yml")
        stem = name if name in known else _figure(name)
        if stem not in known:
            raise SuiteError(f"there is no experiment {name!r}: {nearest(name, known)}")
        found[stem] = known[stem]
    return list(found.values())


def save_request(request: Request, root: Path) -> None:
    """Keep it in the results folder.

    Its paths start there, because files and results may move together. Where the folder is now is
    kept as well, because it may be copied without the files.
    """
    names = [os.path.relpath(name, root) if _is_file(name) else name for name in request.names]
    plugins = [os.path.relpath(plugin, root) for plugin in request.plugins]
    kept = {**vars(request), "names": names, "plugins": plugins, FOLDER: str(root.absolute())}
    save_json(root / CELLS / REQUEST, kept)


def save_planned(plan: Plan, root: Path) -> None:
    """Keep the names of its cells' folders in the results folder.

    While another run is at work there, its cells stay among them: it may still need them.
    """
    cells = {cell.label for cell in plan.cells}
    if is_at_work(root):
        with suppress(SuiteError):
            cells |= planned_cells(root)
    save_json(root / CELLS / PLANNED, {"cells": sorted(cells)})


def planned_cells(root: Path) -> frozenset[str]:
    """Names of the folders of the cells that the last run into the results folder needs.

    As they were planned then: where data or code are others, a plan has other cells.

    Raises:
        SuiteError: nothing was run, or what says so is damaged.
    """
    path = root / CELLS / PLANNED
    try:
        return frozenset(map(str, load_table(path)["cells"]))
    except FileNotFoundError:
        raise SuiteError(
            f"{path} is missing: nothing was run into this folder, or by an earlier version; give "
            "the same 'run' again"
        ) from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SuiteError(f"{path} is damaged ({error}): give the same 'run' again") from error


def saved_request(root: Path, plugins: Sequence[str] = ()) -> Request:
    """What was last run into the results folder, with the plugins that the user names now.

    A results folder may be somebody else's, so what it says decides nothing about which code runs.

    Args:
        root: the results folder.
        plugins: users' files; one of the same name for each that it was run with.

    Raises:
        SuiteError: nothing was, the file that says what is damaged, or a plugin is not named.
    """
    path = root / CELLS / REQUEST
    try:
        content = load_table(path)
    except FileNotFoundError:
        if (root / EXPERIMENT_INFOS).exists():
            raise SuiteError(
                f"{root} has results but no cells (they were deleted, or made elsewhere), so there "
                "is no status; 'report' makes its pages again"
            ) from None
        raise SuiteError(
            f"{root}: nothing was run into this folder, use 'run' or another --results"
        ) from None
    except (OSError, ValueError) as error:
        raise SuiteError(f"{path} is damaged ({error}): give the same 'run' again") from error
    folders = [root, Path(str(content.pop(FOLDER, root)))]
    request = fill(Request, content, f"{path}:")
    request = replace(
        request,
        names=tuple(_found(name, folders) if _is_file(name) else name for name in request.names),
        plugins=tuple(_found(plugin, folders) for plugin in request.plugins),
    )
    named = {Path(plugin).name for plugin in plugins}
    for plugin in request.plugins:
        if Path(plugin).name not in named:
            raise SuiteError(
                f"{path} says that this folder was made with the plugin {plugin}, which is not "
                f"loaded by itself: if you trust its code, add --plugin {shlex.quote(plugin)}"
            )
    return replace(request, plugins=tuple(plugins))


def every_experiment() -> list[Path]:
    """The files of all experiments of the repository, in the order of the figures."""
    return sorted(EXPERIMENTS.glob("*.yaml"), key=_by_number)


def _found(name: str, folders: Sequence[Path]) -> str:
    """The path in the first of the folders where it leads somewhere; else as it is."""
    paths = () if os.path.isabs(name) else (os.path.normpath(each / name) for each in folders)
    return next(filter(os.path.exists, paths), name)


def _is_file(name: str) -> bool:
    return name.lower().endswith((".yaml", ".yml"))


def _figure(name: str) -> str:
    number = re.fullmatch(r"(?:figure|fig)?[ ._-]*(\d+)", name.strip().lower())
    return f"fig{number[1]}" if number else name.strip().lower()


def _by_number(path: Path) -> tuple[int, str]:
    number = re.search(r"\d+", path.stem)
    return (int(number[0]) if number else 10**6, path.stem)
