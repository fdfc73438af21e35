"""benchmark: from a results folder to the scores of its benchmarks, and a page of them."""

from __future__ import annotations

from pathlib import Path

from l2l.suite.report.benchmark.write import BenchmarkPage, write_benchmark
from l2l.suite.report.results import load_results, store_results
from l2l.suite.run.folder import check_folder, reporting


def benchmark(root: Path, out: Path) -> BenchmarkPage:
    """Score the benchmarks in `root`, and write the page into `out`.

    If `out` is another folder, the tables are stored there too, so that the page can be made again
    from it, and others' results be merged into it.

    Raises:
        SuiteError: `root` is not there, has no benchmark, or what it holds cannot be read.
        StorageError: `out` cannot be written to.
    """
    check_folder(root)
    check_folder(out, "--out", there=False)
    results = load_results(root)
    with reporting(out):
        page = write_benchmark(results, out)
        if out.resolve() != root.resolve():
            store_results(out, results)
        return page
