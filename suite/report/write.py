"""From a results folder to its tables, figures and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.places import CLAIMS, FINAL, REPORT_HTML, REPORT_MARKDOWN, TABLES
from l2l.suite.report.claims.verdicts import check_claims
from l2l.suite.report.curves import curves_by_optimizer
from l2l.suite.report.figures.draw import draw_figures
from l2l.suite.report.final import final_losses
from l2l.suite.report.pages import Content, html_page, markdown_page
from l2l.suite.report.results import load_results
from l2l.suite.report.scores.losses import scores_by_run
from l2l.suite.report.tables.contents import (
    claims_table,
    final_table,
    interval_table,
    learning_rate_table,
    notices,
)
from l2l.suite.report.tables.formats import save_table


@dataclass(frozen=True)
class Report:
    """Where a report is, and what it says.

    Args:
        html: the page.
        markdown: the same as Markdown.
        claims: as in claims.csv.
        final: as in final.csv.
        without: figures that could not be drawn, with the reason.
        untrained: where a learned optimizer is as it was before training, and why.
    """

    html: Path
    markdown: Path
    claims: pd.DataFrame
    final: pd.DataFrame
    without: Mapping[str, str]
    untrained: tuple[str, ...]


def write_report(folder: Path) -> Report:
    """Write final.csv, claims.csv, figures/, tables/, report.md and report.html.

    They are made from what `suite.report.results` stores alone.

    Raises:
        SuiteError: these are missing or damaged, or the folder cannot be written.
    """
    results = load_results(folder)
    experiments, tables = results.experiments, results.tables
    curves, scores = curves_by_optimizer(tables.curves), scores_by_run(tables.scores)
    final = final_losses(experiments, curves, scores)
    claims = check_claims(experiments, curves, scores)
    write_text_atomic(folder / FINAL, final.to_csv(index=False))
    write_text_atomic(folder / CLAIMS, claims.to_csv(index=False))

    figures = draw_figures(results, curves, final, folder)
    notes = notices(experiments)
    content = Content(
        experiments=experiments,
        claims=claims_table(claims, "paper", notes),
        checks=claims_table(claims, "check", notes),
        finals=[final_table([e], final, f"final-{e.name}") for e in experiments],
        intervals=interval_table(final, notes),
        rates=learning_rate_table(final, notes),
        provenance=results.provenance,
        figures=figures,
    )
    made = (content.claims, content.checks, content.intervals, content.rates, *content.finals)
    for table in (*made, final_table(experiments, final, "final")):
        save_table(table, folder / TABLES)
    pages = Report(
        html=folder / REPORT_HTML,
        markdown=folder / REPORT_MARKDOWN,
        claims=claims,
        final=final,
        without={each.name: each.failure for own in figures for each in own if each.failure},
        untrained=tuple(
            f"{experiment.name} {panel.name}: {name} is untrained: {reason}"
            for experiment in experiments
            for panel in experiment.panels
            for name, reason in panel.untrained.items()
        ),
    )
    write_text_atomic(pages.html, html_page(content))
    write_text_atomic(pages.markdown, markdown_page(content))
    return pages
