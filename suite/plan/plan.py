"""From experiments to cells: metatrain → select → evaluate, tune → evaluate, equal work once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from l2l.optimizers.learned.checkpoint import load_optimizer
from l2l.suite.core.bounds import Spec
from l2l.suite.core.digests import file_digest
from l2l.suite.core.errors import DataMissing, SuiteError
from l2l.suite.core.nearest import nearest
from l2l.suite.core.registry import optimizers, problems
from l2l.suite.files.places import CHECKPOINTS
from l2l.suite.inner.objective import param_spec
from l2l.suite.inner.trace_settings import Trace
from l2l.suite.meta.schedule import Training
from l2l.suite.plan.cells import Cell, following, in_order, make_cell
from l2l.suite.plan.config import Experiment, Panel
from l2l.suite.plan.definitions import long_label
from l2l.suite.plan.population import population_cells
from l2l.suite.plan.resolved import estimator_config, optimizer_config, problem_config
from l2l.suite.plan.trainable import check_trainable

# Seeds of a training are compared on validation instances that none of them has seen.
SELECTION_SEED = 2**31


@dataclass(frozen=True)
class Curve:
    """Which cell holds the curve of an optimizer in a panel, or the trace of its coordinates."""

    experiment: str
    panel: str
    optimizer: str
    cell: Cell


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Args:
        experiments: as configured.
        curves: what the report is made from.
        cells: all the work, each piece once, inputs before what reads them.
        traces: as `curves`, of the panels that have one.
        notices: what readers must know about the data of a panel, by (experiment, panel).
        following: cells of kinds that follow another, which the report does not read.
        without: panels that are left out because their data is missing, by (experiment, panel),
            with the reason.
    """

    experiments: tuple[Experiment, ...]
    curves: tuple[Curve, ...]
    cells: tuple[Cell, ...]
    traces: tuple[Curve, ...] = ()
    following: tuple[Cell, ...] = ()
    notices: Mapping[tuple[str, str], str] = field(default_factory=dict)
    without: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def results(self) -> tuple[Cell, ...]:
        """The cells that nothing else is made from than a report."""
        return (*(curve.cell for curve in (*self.curves, *self.traces)), *self.following)


def make_plan(experiments: Sequence[Experiment], forgiving: bool = False) -> Plan:
    """The cells of the experiments.

    Args:
        experiments: as configured.
        forgiving: leave out panels whose data is missing, instead of refusing all.

    Raises:
        SuiteError: a name, field or checkpoint that is not there, with its place in the file;
            damaged data; missing data, if not `forgiving`, or if it is missing for all.
    """
    curves: list[Curve] = []
    traces: list[Curve] = []
    notices: dict[tuple[str, str], str] = {}
    without: dict[tuple[str, str], str] = {}
    for experiment in experiments:
        trained = _all_trained(experiment)
        for name, panel in experiment.every_panel().items():
            try:
                planned = _planned(experiment, name, panel, trained)
            except DataMissing as error:
                if not forgiving:
                    raise
                without[experiment.name, name] = str(error)
                notices[experiment.name, name] = "left out, because its data is missing"
                continue
            curves += planned.curves
            traces += planned.traces
            if planned.notice:
                notices[experiment.name, name] = planned.notice
    if without and not curves:
        raise DataMissing(list(without.values())[-1])
    asked = in_order(curve.cell for curve in (*curves, *traces))
    more = following(asked)
    cells = (*asked, *more)
    return Plan(tuple(experiments), tuple(curves), cells, tuple(traces), more, notices, without)


@dataclass(frozen=True)
class _Planned:
    """One panel's part of a plan."""

    curves: tuple[Curve, ...]
    traces: tuple[Curve, ...]
    notice: str


def _all_trained(experiment: Experiment) -> dict[str, _Trained | DataMissing]:
    """The experiment's learned optimizers, or why one is not available, for whoever asks for it."""
    trained: dict[str, _Trained | DataMissing] = {}
    for name, training in experiment.training.items():
        try:
            trained[name] = _trained(training, f"{experiment.name}.yaml: training.{name}")
        except DataMissing as error:
            trained[name] = error
    return trained


def _planned(
    experiment: Experiment,
    name: str,
    panel: Panel,
    trained: Mapping[str, _Trained | DataMissing],
) -> _Planned:
    """Curves and trace of one panel, and the notice on its data."""
    place = f"{experiment.name}.yaml: panels.{name}"
    problem = problem_config(panel.problem, f"{place}.problem")
    swept = problem
    if panel.tuning_problem is not None:
        swept = problem_config(panel.tuning_problem, f"{place}.tuning_problem")
    evaluated = {
        label: _evaluate(
            experiment, panel, problem, swept, spec, trained, f"{place}.optimizers.{label}"
        )
        for label, spec in panel.optimizers.items()
    }
    traces: tuple[Curve, ...] = ()
    if panel.trace is not None:
        cell = _trace(panel, panel.trace, evaluated, f"{place}.trace")
        traces = (Curve(experiment.name, name, panel.trace.along, cell),)
    for label, times in panel.long.items():
        evaluated[long_label(label)] = _evaluate(
            *(experiment, panel.longer(times), problem, swept, panel.optimizers[label], trained),
            f"{place}.optimizers.{label}",
        )
    curves = tuple(Curve(experiment.name, name, *each) for each in evaluated.items())
    return _Planned(curves, traces, problem["notice"])


@dataclass(frozen=True)
class _Trained:
    """A learned optimizer to evaluate: what it adds to the configuration, and its cell if any."""

    config: Mapping[str, Any]
    inputs: tuple[Cell, ...]
    name: str


def _trained(training: Training, where: str) -> _Trained:
    problem = problem_config(training.problem, f"{where}.problem")
    optimizer = optimizer_config(training.optimizer, training.problem, f"{where}.optimizer")
    name = str(training.optimizer["name"])
    check_trainable(training, where)
    if training.use == "shipped":
        shipped = _shipped(str(training.checkpoint), optimizer["spec"], where)
        return _Trained({"optimizer": optimizer, "shipped": shipped}, (), name)
    found = [
        estimator_config(phase.estimator, f"{where}.phases[{number}].estimator")
        for number, phase in enumerate(training.phases)
    ]
    phases = tuple(
        replace(phase, estimator=estimator["spec"])
        for phase, estimator in zip(training.phases, found, strict=True)
    )
    schedule = replace(training.schedule, phases=phases)
    config: dict[str, Any] = {"problem": problem, "optimizer": optimizer, "training": schedule}
    if plugins := [each for each in found if "code" in each]:
        config["estimators"] = plugins
    validation = {
        "problem": problem,
        "steps": max(phase.longest for phase in training.phases),
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
    return _Trained({"optimizer": optimizer}, cells, name)


def _shipped(name: str, spec: Spec, where: str) -> dict[str, str]:
    """Name and content of a checkpoint, which must be there and be what the settings say."""
    file = CHECKPOINTS / f"{name}.safetensors"
    training = where.rpartition(" ")[2]
    if not file.is_file():
        raise SuiteError(
            f"{where}.checkpoint: there is no results/checkpoints/{file.name}; "
            f"set {training}.use to 'train' to train it"
        )
    loaded = load_optimizer(file)
    same_class = isinstance(loaded, optimizers.cls(spec["name"]))
    fields = [key for key in spec if key != "name" and getattr(loaded, key, None) != spec[key]]
    if fields or not same_class:
        differing = fields[0] if same_class else "name"
        raise SuiteError(
            f"{where}.optimizer.{differing} differs from that of results/checkpoints/{file.name}; "
            f"make them agree, or set {training}.use to 'train'"
        )
    return {"checkpoint": name, "sha256": file_digest(file)}


def _evaluate(
    experiment: Experiment,
    panel: Panel,
    problem: Mapping[str, Any],
    swept: Mapping[str, Any],
    spec: Spec,
    trained: Mapping[str, _Trained | DataMissing],
    where: str,
) -> Cell:
    config: dict[str, Any] = {
        "problem": problem,
        "steps": panel.steps,
        "instances": panel.test_instances or experiment.sizes.test_instances,
        "seed": experiment.seed,
    }
    if "trained" in spec:
        learned = _find_trained(spec, trained, where)
        name = f"{problem['spec']['name']}-{learned.name}"
        return make_cell("evaluate", name, {**config, **learned.config}, learned.inputs)
    optimizer = optimizer_config(spec, panel.problem, where, panel.steps)
    name = f"{problem['spec']['name']}-{spec['name']}"
    inputs: tuple[Cell, ...] = ()
    if optimizer["tuned"] is not None:
        steps = panel.tuning_steps or panel.steps
        sweep = {
            "problem": swept,
            "optimizer": optimizer_config(spec, panel.problem, where, steps),
            "steps": steps,
            "instances": panel.tuning_instances or experiment.sizes.tuning_instances,
            "seed": experiment.seed,
        }
        inputs = (make_cell("tune", name, sweep),)
    return make_cell("evaluate", name, {**config, "optimizer": optimizer}, inputs)


def _trace(panel: Panel, trace: Trace, evaluated: Mapping[str, Cell], where: str) -> Cell:
    """The cell that traces coordinates: on the evaluations' instances, with their optimizers."""
    along = evaluated[trace.along]
    size = param_spec(problems.make(panel.problem, where)).size
    outside = [place for place in trace.shown if place >= size]
    if outside:
        raise SuiteError(
            f"{where}.shown: {outside[0]} must be below {size}, the number of parameters"
        )
    common = {key: along.config[key] for key in ("problem", "steps", "instances", "seed")}
    optimizers = [
        {"label": label, "inputs": len(cell.inputs)}
        | {key: value for key, value in cell.config.items() if key not in common}
        for label, cell in evaluated.items()
    ]
    config = {**common, "optimizers": optimizers, "trace": trace}
    if trace.instances is not None:
        config["instances"] = min(trace.instances, config["instances"])
    inputs = [each for cell in evaluated.values() for each in cell.inputs]
    return make_cell("trace", along.name, config, inputs)


def _find_trained(
    spec: Spec, trained: Mapping[str, _Trained | DataMissing], where: str
) -> _Trained:
    name = spec["trained"]
    if len(spec) > 1:
        extra = next(key for key in spec if key != "trained")
        raise SuiteError(f"{where} has 'trained', so {extra!r} belongs under training.{name}")
    if not isinstance(name, str) or name not in trained:
        hint = nearest(str(name), trained)
        raise SuiteError(f"{where}.trained: there is no training {name!r}: {hint}")
    found = trained[name]
    if isinstance(found, DataMissing):
        raise found
    return found
