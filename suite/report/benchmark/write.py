"""From results to the files of a benchmark's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pandas as pd

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.places import BENCHMARK_HTML, BENCHMARK_MARKDOWN, OVERALL, ROWS, TARGETS
from l2l.suite.report.benchmark.page import BenchmarkContent, html_page, markdown_page
from l2l.suite.report.benchmark.tables import (
    left_out_table,
    overall_table,
    rows_table,
)
from l2l.suite.report.curves import curves_by_optimizer
from l2l.suite.report.final import final_losses
from l2l.suite.report.results import Results
from l2l.suite.report.scores.benchmark import Scores, scores_of
from l2l.suite.report.scores.entries import contests
from l2l.suite.report.scores.findings import Finding, findings
from l2l.suite.report.scores.losses import scores_by_run

# Of the numbers in rows.csv and overall.csv, which nothing is computed from.
DIGITS = "%.7g"
TARGET_COLUMNS = ("problem", "setup", "target", "optimizer")


@dataclass(frozen=True)
class BenchmarkPage:
    """Where the page is, and what it says."""

    html: Path
    markdown: Path
    findings: Sequence[Finding]
    scores: Scores


def write_benchmark(results: Results, folder: Path) -> BenchmarkPage:
    """Write the page as HTML and Markdown, overall.csv, rows.csv and targets.csv.

    Targets that the folder has stay as they are, so that who comes later is measured as those
    before were.

    Raises:
        SuiteError: there is no benchmark among the results, or the targets are damaged.
    """
    final = final_losses(
        results.experiments,
        curves_by_optimizer(results.tables.curves),
        scores_by_run(results.tables.scores),
    )
    frozen = load_targets(folder / TARGETS)
    found = scores_of(contests(results), final, frozen)
    benchmarks = [each for each in results.experiments if each.benchmark]
    content = BenchmarkContent(
        experiments=benchmarks,
        findings=findings(found),
        overall=overall_table(found.overall, len(found.contests)),
        left_out=left_out_table(benchmarks),
        rows=rows_table(found.rows),
        scores=found,
        held_out=curves_by_optimizer(results.tables.held_out),
        provenance=results.provenance,
    )
    for name, table in ((OVERALL, found.overall), (ROWS, found.rows)):
        write_text_atomic(folder / name, table.to_csv(index=False, float_format=DIGITS))
    # In full: who comes later is measured by them.
    targets = pd.concat([found.targets, frozen]).drop_duplicates(["problem", "setup"])
    write_text_atomic(folder / TARGETS, targets.to_csv(index=False))
    page = BenchmarkPage(
        folder / BENCHMARK_HTML, folder / BENCHMARK_MARKDOWN, content.findings, found
    )
    write_text_atomic(page.html, html_page(content))
    write_text_atomic(page.markdown, markdown_page(content))
    return page


def load_targets(path: Path) -> pd.DataFrame:
    """The targets that were set in a folder; none if there is no such file.

    Raises:
        SuiteError: the file is damaged.
    """
    try:
        table = pd.read_csv(StringIO(path.read_text(encoding="utf-8")), keep_default_na=False)
        table["target"] = table["target"].astype(float)
        return table[list(TARGET_COLUMNS)].astype({"problem": str, "setup": str, "optimizer": str})
    except FileNotFoundError:
        return pd.DataFrame(columns=list(TARGET_COLUMNS))
    except (OSError, ValueError, KeyError) as error:
        raise SuiteError(
            f"{path} cannot be read ({error}): restore it, or delete it to set new targets"
        ) from error
