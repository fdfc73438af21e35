"""From experiments to cells: metatrain → select → evaluate, tune → evaluate, equal work once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l2l.suite.core.bounds import Spec
from l2l.suite.core.errors import DataMissing, SuiteError, WeightsMissing
from l2l.suite.core.registry import problems
from l2l.suite.inner.objective import param_spec
from l2l.suite.inner.trace_settings import Trace
from l2l.suite.plan.cells import Cell, following, in_order, make_cell
from l2l.suite.plan.config import Experiment, Panel
from l2l.suite.plan.definitions import long_label
from l2l.suite.plan.learned import Trained, all_trained, find_trained
from l2l.suite.plan.resolved import lacks_weights, optimizer_config, problem_config


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
        left_out: optimizers that are left out because the weights that others published are
            missing, by (experiment, panel, label), with the reason.
    """

    experiments: tuple[Experiment, ...]
    curves: tuple[Curve, ...]
    cells: tuple[Cell, ...]
    traces: tuple[Curve, ...] = ()
    following: tuple[Cell, ...] = ()
    notices: Mapping[tuple[str, str], str] = field(default_factory=dict)
    without: Mapping[tuple[str, str], str] = field(default_factory=dict)
    left_out: Mapping[tuple[str, str, str], str] = field(default_factory=dict)

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
    left_out: dict[tuple[str, str, str], str] = {}
    for experiment in experiments:
        trained = all_trained(experiment)
        for name, panel in experiment.every_panel().items():
            try:
                own, traced, notice, lacking = _planned(experiment, name, panel, trained)
            except DataMissing as error:
                if not forgiving:
                    raise
                without[experiment.name, name] = str(error)
                notices[experiment.name, name] = "left out, because its data is missing"
                continue
            curves += own
            traces += traced
            for label, reason in lacking.items():
                left_out[experiment.name, name, label] = reason
            if notice:
                notices[experiment.name, name] = notice
    if without and not curves:
        raise DataMissing(list(without.values())[-1])
    asked = in_order(curve.cell for curve in (*curves, *traces))
    more = following(asked)
    cells = (*asked, *more)
    return Plan(
        tuple(experiments), tuple(curves), cells, tuple(traces), more, notices, without, left_out
    )


def _planned(
    experiment: Experiment,
    name: str,
    panel: Panel,
    trained: Mapping[str, Trained | DataMissing],
) -> tuple[list[Curve], list[Curve], str, dict[str, str]]:
    """Curves and traces of one panel, the notice on its data, and what is left out of it."""
    place = experiment.place_of(name)
    problem = problem_config(panel.problem, f"{place}.problem")
    swept = problem
    if panel.tuning_problem is not None:
        swept = problem_config(panel.tuning_problem, f"{place}.tuning_problem")

    def evaluate(label: str, panel: Panel) -> Cell:
        spec, where = panel.optimizers[label], f"{place}.optimizers.{label}"
        return _evaluate(experiment, panel, problem, swept, spec, trained, where)

    evaluated: dict[str, Cell] = {}
    left_out: dict[str, str] = {}
    for label in panel.optimizers:
        try:
            evaluated[label] = evaluate(label, panel)
        except WeightsMissing as error:
            if panel.trace is not None and label == panel.trace.along:
                raise
            # The reason without its place, which is the same in every panel.
            left_out[label] = str(error.__cause__ or error)
    traces = []
    if panel.trace is not None:
        cell = _trace(panel, panel.trace, evaluated, f"{place}.trace")
        traces.append(Curve(experiment.name, name, panel.trace.along, cell))
    for label, times in panel.long.items():
        if label not in left_out:
            evaluated[long_label(label)] = evaluate(label, panel.longer(times))
    curves = [Curve(experiment.name, name, *each) for each in evaluated.items()]
    return curves, traces, problem["notice"], left_out


def _evaluate(
    experiment: Experiment,
    panel: Panel,
    problem: Mapping[str, Any],
    swept: Mapping[str, Any],
    spec: Spec,
    trained: Mapping[str, Trained | DataMissing],
    where: str,
) -> Cell:
    config: dict[str, Any] = {
        "problem": problem,
        "steps": panel.steps,
        "instances": panel.test_instances or experiment.sizes.test_instances,
        "seed": experiment.seed,
    }
    if "trained" in spec:
        learned = find_trained(spec, trained, where)
        name = f"{problem['spec']['name']}-{learned.name}"
        return make_cell("evaluate", name, {**config, **learned.config}, learned.inputs)
    optimizer = optimizer_config(spec, panel.problem, where, panel.steps)
    if lacks_weights(optimizer):
        raise SuiteError(
            f"{where}: {spec['name']!r} is learned and has no weights here: "
            "write {trained: NAME} of a training, or {name: pretrained, checkpoint: …}"
        )
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
        inputs = (make_cell("tune", f"{swept['spec']['name']}-{spec['name']}", sweep),)
    return make_cell("evaluate", name, {**config, "optimizer": optimizer}, inputs)


def _trace(panel: Panel, trace: Trace, evaluated: Mapping[str, Cell], where: str) -> Cell:
    """The cell that traces coordinates: on the evaluations' instances, with their optimizers."""
    along = evaluated[trace.along]
    kept = [label for label in evaluated if panel.optimizers[label].get("earlier_runs")]
    if kept:
        raise SuiteError(
            f"{where}: {kept[0]!r} has earlier_runs, whose state a trace does not have: omit one "
            "of them"
        )
    size = param_spec(problems.make(panel.problem, where)).size
    if len({*trace.shown}) < len(trace.shown):
        raise SuiteError(f"{where}.shown: the same parameter is given twice")
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
