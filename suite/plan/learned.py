"""The learned optimizers of an experiment: the cells of their training, or what is shipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from l2l.optimizers.learned.checkpoint import load_optimizer
from l2l.suite.core.bounds import Spec
from l2l.suite.core.convert import plain
from l2l.suite.core.digests import file_digest
from l2l.suite.core.errors import DataMissing, SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.core.registry import optimizers
from l2l.suite.files.places import CHECKPOINTS
from l2l.suite.meta.schedule import Training, as_tables
from l2l.suite.plan.cells import Cell, make_cell
from l2l.suite.plan.config import Experiment
from l2l.suite.plan.population import population_cells
from l2l.suite.plan.resolved import (
    estimator_config,
    optimizer_config,
    problem_config,
    teacher_config,
)
from l2l.suite.plan.trainable import check_trainable

# Seeds of a training are compared on validation instances that none of them has seen; of neural
# art, whose photos do not depend on the seed, only θ_0 differs.
SELECTION_SEED = 2**31


@dataclass(frozen=True)
class Trained:
    """A learned optimizer to evaluate: what it adds to the configuration, and its cell if any."""

    config: Mapping[str, Any]
    inputs: tuple[Cell, ...]
    name: str


def all_trained(experiment: Experiment) -> dict[str, Trained | DataMissing]:
    """The experiment's learned optimizers, or why one is not available, for whoever asks for it."""
    trained: dict[str, Trained | DataMissing] = {}
    for name, training in experiment.training.items():
        try:
            trained[name] = _trained(training, f"{experiment.where} training.{name}")
        except DataMissing as error:
            trained[name] = error
    return trained


def find_trained(spec: Spec, trained: Mapping[str, Trained | DataMissing], where: str) -> Trained:
    """The one that ``{trained: NAME}`` asks for.

    Raises:
        SuiteError: there is no such training, or more is said; `DataMissing` if its data are.
    """
    name = spec["trained"]
    if len(spec) > 1:
        extra = next(key for key in spec if key != "trained")
        if extra == "name":
            raise SuiteError(f"{where} has 'trained', which stands in place of 'name': omit one")
        raise SuiteError(f"{where} has 'trained', so {extra!r} belongs under training.{name}")
    if not isinstance(name, str) or name not in trained:
        hint = nearest(str(name), trained)
        raise SuiteError(f"{where}.trained: there is no training {name!r}: {hint}")
    found = trained[name]
    if isinstance(found, DataMissing):
        raise found
    return found


def _trained(training: Training, where: str) -> Trained:
    if training.use == "shipped":
        # Nothing is trained, so data of further problems need not be there.
        alone = tuple(replace(phase, also=()) for phase in training.phases)
        training = replace(training, phases=alone)
    problem = problem_config(training.problem, f"{where}.problem")
    optimizer = optimizer_config(training.optimizer, training.problem, f"{where}.optimizer")
    name = str(training.optimizer["name"])
    also = []
    for number, phase in enumerate(training.phases):
        for index, spec in enumerate(phase.also):
            also.append(problem_config(spec, f"{where}.phases[{number}].also[{index}]"))
            # The optimizer must work on it, too.
            optimizer_config(training.optimizer, spec, f"{where}.optimizer")
    check_trainable(training, where)
    if training.use == "shipped":
        shipped = _shipped(str(training.checkpoint), optimizer["spec"], where, "checkpoint")
        return Trained({"optimizer": optimizer, "shipped": shipped}, (), name)
    phases, imitated, plugins = [], [], []
    for number, phase in enumerate(training.phases):
        place = f"{where}.phases[{number}]"
        estimator = estimator_config(phase.estimator, f"{place}.estimator")
        if "code" in estimator:
            plugins.append(estimator)
        imitate = phase.imitate
        if imitate is not None:
            at = f"{place}.imitate.optimizer"
            teacher = teacher_config(imitate.optimizer, training.problem, at, phase.longest)
            for spec in phase.also:
                teacher_config(imitate.optimizer, spec, at, phase.longest)
            imitate = replace(imitate, optimizer=teacher["spec"])
            imitated.append(teacher)
        phases.append(replace(phase, estimator=estimator["spec"], imitate=imitate))
    schedule = replace(training.schedule, phases=tuple(phases))
    config: dict[str, Any] = {"problem": problem, "optimizer": optimizer}
    config["training"] = {**plain(schedule), "phases": as_tables(schedule.phases)}
    if training.start is not None:
        config["start"] = _shipped(training.start, optimizer["spec"], where, "start")
    if also:
        config["also"] = also
    if imitated:
        config["imitated"] = imitated
    if plugins:
        config["estimators"] = plugins
    validation = {
        "problem": problem,
        "steps": schedule.most_validation_steps,
        "instances": training.validation_instances,
        "criterion": training.criterion,
        "seed": SELECTION_SEED,
    }
    label = f"{name}-on-{training.problem['name']}"
    if training.population is None:
        cells = tuple(
            make_cell("metatrain", f"{label}-seed-{seed}", {**config, "seed": seed})
            for seed in training.seeds
        )
    else:
        cells = population_cells(label, config, validation, training)
    if len(cells) > 1:
        cells = (make_cell("select", label, validation, cells),)
    return Trained({"optimizer": optimizer}, cells, name)


def _shipped(name: str, spec: Spec, where: str, key: str) -> dict[str, str]:
    """Name and content of a checkpoint, which must be there and be what the settings say."""
    file = CHECKPOINTS / f"{name}.safetensors"
    training = where.rpartition(" ")[2]
    if key == "start":
        otherwise = f"omit {training}.start to begin with random weights"
    else:
        otherwise = f"set {training}.use to 'train' to train it"
    if not file.is_file():
        raise SuiteError(f"{where}.{key}: there is no results/checkpoints/{file.name}; {otherwise}")
    loaded = load_optimizer(file)
    same_class = type(loaded) is optimizers.cls(spec["name"])
    fields = [key for key in spec if key != "name" and getattr(loaded, key, None) != spec[key]]
    if fields or not same_class:
        differing = fields[0] if same_class else "name"
        raise SuiteError(
            f"{where}.optimizer.{differing} differs from that of results/checkpoints/{file.name}; "
            f"make them agree, or {otherwise}"
        )
    return {"checkpoint": name, "sha256": file_digest(file)}
