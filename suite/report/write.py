"""From a results folder to its tables, figures and report."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from suite.claims import check_claims
from suite.curves import curves_by_optimizer
from suite.figure_files import save_figure
from suite.figure_pictures import picture_sheets
from suite.figure_style import curve_styles
from suite.figures import draw_experiment
from suite.files import write_text_atomic
from suite.final import final_losses
from suite.links import FIGURES, TABLES
from suite.report.pages import Content, html_page, markdown_page
from suite.results import load_results
from suite.scores import scores_by_run
from suite.table_formats import save_table
from suite.tables import claims_table, final_table, interval_table, learning_rate_table, notices
from suite.trace_figures import draw_traces


@dataclass(frozen=True)
class Report:
    """Where a report is, and what it says: `claims` and `final` as in the CSV files."""

    html: Path
    markdown: Path
    claims: pd.DataFrame
    final: pd.DataFrame


def write_report(folder: Path) -> Report:
    """Write final.csv, claims.csv, figures/, tables/, report.md and report.html.

    They are made from what `suite.results` stores alone.

    Raises:
        SuiteError: these are missing or damaged, or the folder cannot be written.
    """
    results = load_results(folder)
    experiments, tables = results.experiments, results.tables
    curves, scores = curves_by_optimizer(tables.curves), scores_by_run(tables.scores)
    final = final_losses(experiments, curves, scores)
    claims = check_claims(experiments, curves, scores)
    write_text_atomic(folder / "final.csv", final.to_csv(index=False))
    write_text_atomic(folder / "claims.csv", claims.to_csv(index=False))

    styles = curve_styles(o for e in experiments for p in e.panels for o in p.optimizers)
    further = [
        [*picture_sheets(experiment, results.pictures), *draw_traces(experiment, tables, styles)]
        for experiment in experiments
    ]
    for experiment in experiments:
        figure = draw_experiment(experiment, curves, final, styles)
        save_figure(figure, folder / FIGURES, experiment.name)
    for each in itertools.chain(*further):
        save_figure(each.figure, folder / FIGURES, each.name)

    content = Content(
        experiments=experiments,
        claims=claims_table(claims, "paper", notices(experiments)),
        checks=claims_table(claims, "check", notices(experiments)),
        finals=[final_table([e], final, f"final-{e.name}") for e in experiments],
        intervals=interval_table(final, notices(experiments)),
        rates=learning_rate_table(final, notices(experiments)),
        provenance=results.provenance,
        figures=[_svg(folder, e.name) for e in experiments],
        further=[[(f.name, f.caption, _svg(folder, f.name)) for f in own] for own in further],
    )
    made = (content.claims, content.checks, content.intervals, content.rates, *content.finals)
    for table in (*made, final_table(experiments, final, "final")):
        save_table(table, folder / TABLES)
    pages = Report(folder / "report.html", folder / "report.md", claims, final)
    write_text_atomic(pages.html, html_page(content))
    write_text_atomic(pages.markdown, markdown_page(content))
    return pages


def _svg(folder: Path, name: str) -> str:
    return (folder / FIGURES / f"{name}.svg").read_text(encoding="utf-8")
