"""Experiment files to typed experiments: a profile and ``--set`` values laid over them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from l2l.suite.core.bounds import Profile
from l2l.suite.core.convert import field_types, fill
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.files.yaml import read_yaml
from l2l.suite.meta.schedule import OF_TRAINING
from l2l.suite.plan.config import Experiment
from l2l.suite.plan.overlay import nested, overlay, parse_setting

PROFILES = get_args(Profile)


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
    # Before any setting, and after each.
    history = [dict(datas)]
    for text in settings:
        _set(datas, text)
        history.append(dict(datas))
    experiments: dict[str, Experiment] = {}
    for raw in raws:
        experiment = _filled(raw, [each[raw.name] for each in history], settings)
        object.__setattr__(experiment, "where", raw.where)
        for text in settings:
            _refuse_idle(raw.name, experiment, text)
        if experiment.name in experiments:
            raise SuiteError(f"{raw.where} another experiment is also called {experiment.name!r}")
        experiments[experiment.name] = experiment
    return list(experiments.values())


def _filled(
    raw: RawExperiment, history: Sequence[Mapping[str, Any]], settings: Sequence[str]
) -> Experiment:
    """The experiment of the last data, where `history` has them before and after each setting.

    Raises:
        SuiteError: they are wrong; it names the last setting before which they were not, if any.
    """
    try:
        return fill(Experiment, history[-1], raw.where)
    except SuiteError:
        for place in reversed(range(len(settings))):
            with suppress(SuiteError):
                fill(Experiment, history[place], raw.where)
                break
        else:
            raise
    return fill(Experiment, history[place + 1], f"--set {settings[place]}: {raw.name}")


def _refuse_idle(known: str, experiment: Experiment, text: str) -> None:
    """Check that a setting of a training does not go to one that is not trained.

    The experiment, which settings call `known`, has it in place.
    """
    keys, value = parse_setting(text)
    change = nested(keys[1:] if keys[0] == known else keys, value)
    for name, training in experiment.training.items():
        fields = _table(_table(_table(change).get("training")).get(name))
        idle = [field for field in fields if field in OF_TRAINING]
        if idle and training.use == "shipped":
            raise SuiteError(
                f"--set {text}: training.{name} of {known} uses the shipped checkpoint in this "
                f"profile, so {idle[0]!r} has no effect: also set {known}.training.{name}.use=train"
            )


def _table(value: Any) -> dict[str, Any]:
    """The value if it is a table, else one without keys."""
    return value if isinstance(value, dict) else {}


def _with_profile(raw: RawExperiment, profile: str) -> dict[str, Any]:
    data = dict(raw.data)
    profiles = data.pop("profiles", {})
    where = f"{raw.where} profiles"
    if not isinstance(profiles, dict):
        raise SuiteError(f"{where} must be a table of {', '.join(PROFILES)}")
    for key in profiles:
        if key not in PROFILES:
            raise SuiteError(f"{where} has no {key!r}: known are {', '.join(PROFILES)}")
    change = profiles.get(profile)
    if change is None:
        change = {}
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
    if not keys and not isinstance(value, dict):
        raise SuiteError(f"--set {text}: {chosen[0]} is an experiment: the value must be a table")
    refused = []
    for name in chosen:
        where = f"--set {text}: {name}"
        try:
            datas[name] = overlay(datas[name], nested(keys, value), Experiment, where)
        except SuiteError as error:
            refused.append(error)
    if len(refused) == len(chosen):
        raise refused[0]
