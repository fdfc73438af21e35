"""The options of the verbs."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from l2l.suite.commands.ending import FAILED, finished
from l2l.suite.commands.output import output
from l2l.suite.core.bounds import Device, Profile
from l2l.suite.files.places import WORKPLACE

# What needs PyTorch is imported by the commands: it takes seconds, and --help needs none of it.


class Verbs(TyperGroup):
    """The verbs, whose wrong options are told without the words of the library that finds them."""

    def invoke(self, ctx: Any) -> Any:
        """Carry out a verb."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Reproduces 'Learning to learn by gradient descent by gradient descent' "
    "(Andrychowicz et al., 2016): trains its optimizers, tunes the others, compares them on fresh "
    "problems, and says of each claim whether it holds. Every run can be stopped and resumed.",
    epilog="Exit codes: 0 done, 1 some cells or figures failed, 2 wrong input, 70 a bug in the "
    "suite, 130 interrupted.",
)


Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="The results folder.")]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="FILE", help="A plugin that the folder's 'run' was given."),
]
RESULTS = WORKPLACE / "results" / "report"


@app.command()
@finished
def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Experiments: fig4, 4, figure4, or a YAML file. The paper's if none."),
    ] = None,
    profile: Annotated[Profile, typer.Option(help="How much is run.")] = "quick",
    results: Results = RESULTS,
    device: Annotated[Device, typer.Option(help="'auto' uses a GPU if there is one.")] = "auto",
    executor: Annotated[Literal["local", "ray"], typer.Option(help="Where cells run.")] = "local",
    jobs: Annotated[
        int | None, typer.Option(help="Cells at a time. Default: 1; with ray, as many as fit.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="E.g. fig4.sizes.test_instances=8."),
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A Python file with problems or optimizers of yours."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The seed, instead of the experiments' own.")
    ] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Use deterministic algorithms only (for GPUs).")
    ] = False,
) -> int:
    """Run experiments, or resume them, and write the report."""
    from l2l.suite.commands.request import Request
    from l2l.suite.commands.run import run as run_request
    from l2l.suite.commands.tell import print_ended

    request = Request(tuple(names or ()), profile, tuple(settings or ()), seed, tuple(plugin or ()))
    ended = run_request(request, results, device, executor, jobs, deterministic)
    print_ended(ended)
    return FAILED if ended.failed or ended.report.without else 0


@app.command("list")
@finished
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="The JSON schema of experiments, for editors.")
    ] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A Python file that registers more names."),
    ] = None,
) -> int:
    """List problems, optimizers, estimators, claim tests, experiments and claims."""
    from l2l.suite.commands.catalogue import catalogue
    from l2l.suite.commands.schema import experiment_schema
    from l2l.suite.commands.tell import print_catalogue, print_json
    from l2l.suite.core.plugins import load_plugin

    for file in plugin or ():
        load_plugin(Path(file))
    if schema:
        print_json(experiment_schema())
    else:
        (print_json if as_json else print_catalogue)(catalogue())
    return 0


@app.command()
@finished
def status(
    results: Results = RESULTS,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> int:
    """Show which cells are done, running, failed or missing, and estimate the time left."""
    from l2l.suite.commands.request import plan_request, saved_request
    from l2l.suite.commands.status import status_of
    from l2l.suite.commands.tell import print_json, print_status
    from l2l.suite.run.folder import check_folder, check_version

    check_folder(results)
    check_version(results)
    request = saved_request(results, tuple(plugin or ()))
    found = status_of(plan_request(request, probing=False), results)
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        print_status(found)
    return 0


@app.command()
@finished
def report(results: Results = RESULTS, plugin: Plugins = None) -> int:
    """Write tables, figures and report again from the finished cells."""
    from l2l.suite.commands.publish import publish_again
    from l2l.suite.commands.tell import print_report

    written = publish_again(results, tuple(plugin or ()))
    print_report(written)
    return FAILED if written.without else 0


@app.command()
@finished
def merge(
    other: Annotated[Path, typer.Argument(help="A results folder of another run or machine.")],
    results: Results = RESULTS,
) -> int:
    """Add the results of another folder; panels that both have must agree."""
    from l2l.suite.commands.merge import merge as merge_folder
    from l2l.suite.commands.tell import print_report

    written = merge_folder(other, results)
    print_report(written)
    return FAILED if written.without else 0


@app.command()
@finished
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Experiments of the folder. Default: all.")
    ] = None,
    results: Results = RESULTS,
    runs: Annotated[int, typer.Option(min=1, help="How many runs of each curve.")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="How many of their updates.")] = 10,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> int:
    """Compute the first updates of some runs again, and compare them with the stored ones."""
    from l2l.suite.commands.request import saved_request
    from l2l.suite.commands.tell import print_json, print_verified
    from l2l.suite.commands.verify import verify as verify_folder
    from l2l.suite.core.plugins import load_plugin
    from l2l.suite.files.places import CELLS, REQUEST

    if (results / CELLS / REQUEST).exists():
        saved_request(results, tuple(plugin or ()))  # which says what plugins it needs
    for file in plugin or ():
        load_plugin(Path(file))
    found = verify_folder(results, names or (), runs, steps)
    if as_json:
        print_json([each.as_json() for each in found])
    else:
        print_verified(found)
    states = {each.state for each in found}
    return FAILED if "differs" in states or "same" not in states else 0


@app.command()
@finished
def benchmark(
    results: Results = RESULTS,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the page goes, with the tables it is made from."),
    ] = None,
) -> int:
    """Score the benchmarks of a results folder, and write a page of them."""
    from l2l.suite.commands.benchmark import benchmark as write
    from l2l.suite.commands.tell import print_benchmark

    print_benchmark(write(results, out or results))
    return 0


@app.command()
@finished
def clean(
    results: Results = RESULTS,
    kind: Annotated[
        str | None,
        typer.Option(help="Only cells of this kind, such as tune."),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Only cells not written to for this long: 7d, 12h."),
    ] = None,
    unused: Annotated[
        bool, typer.Option("--unused", help="Only what the last run does not need.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> int:
    """Delete cells; tables, figures and report stay."""
    from l2l.suite.commands.clean import delete_cells, find_cells
    from l2l.suite.commands.request import planned_cells
    from l2l.suite.core.errors import SuiteError
    from l2l.suite.run.folder import check_folder
    from l2l.suite.run.locks import is_at_work

    check_folder(results)
    keep = planned_cells(results) if unused or is_at_work(results) else ()
    found = find_cells(results, kind, older_than, keep)
    size = sum(each.size for each in found) / 1e6
    print(f"{len(found)} cells, {size:.1f} MB in {results}")
    try:
        sure = bool(found) and (yes or typer.confirm("Delete them?"))
    except typer.Abort:
        raise SuiteError(
            "not confirmed, so nothing is deleted: --yes deletes without asking"
        ) from None
    if sure:
        # A run may have begun while it was asked.
        keep = planned_cells(results) if is_at_work(results) else ()
        delete_cells([each for each in found if each.folder.name not in keep], results)
        print("deleted")
    return 0


def main() -> None:
    """The command line in the user's surroundings, which may have been made for something else."""
    sys.stdout, sys.stderr = map(output, (sys.stdout, sys.stderr))
    # Figures go to files. A notebook's backend may not even be installed here, and matplotlib
    # refuses to be imported then.
    os.environ["MPLBACKEND"] = "agg"
    app()
