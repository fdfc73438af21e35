"""benchmark: from a results folder to the scores of its benchmarks, and a page of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.places import EXPERIMENT_INFOS
from l2l.suite.plan.definitions import ExperimentInfo, load_experiments
from l2l.suite.report.agreeing import places
from l2l.suite.report.benchmark.write import BenchmarkPage, write_benchmark
from l2l.suite.report.results import load_results, store_results
from l2l.suite.run.folder import check_folder, reporting


def benchmark(root: Path, out: Path) -> BenchmarkPage:
    """Score the benchmarks in `root`, and write the page into `out`.

    If `out` is another folder, the tables are stored there too, so that the page can be made again
    from it, and others' results be merged into it.

    Raises:
        SuiteError: `root` is not there, has no benchmark, or what it holds cannot be read; or `out`
            has tables of something that `root` does not have.
        StorageError: `out` cannot be written to.
    """
    check_folder(root)
    check_folder(out, "--out", there=False)
    results = load_results(root)
    if out.resolve() != root.resolve() and (out / EXPERIMENT_INFOS).exists():
        _check_nothing_is_lost(results.experiments, load_experiments(out / EXPERIMENT_INFOS), out)
    with reporting(out):
        page = write_benchmark(results, out)
        if out.resolve() != root.resolve():
            store_results(out, results)
        return page


def _check_nothing_is_lost(
    new: Iterable[ExperimentInfo], old: Iterable[ExperimentInfo], out: Path
) -> None:
    """Refuse tables in the place of others that have more in them."""
    kept = set(places(new))
    for experiment, panel, label in places(old):
        if (experiment, panel, label) not in kept:
            raise SuiteError(
                f"--out: {out} has results of {label} in {experiment}, panel {panel!r}, which "
                "would be lost: merge them into --results first, or choose another folder"
            )
