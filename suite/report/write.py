"""From a results folder to its tables, figures and report."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from suite.claims import check_claims
from suite.curves import load_curves, runs_by_optimizer
from suite.definitions import ExperimentInfo, load_experiments, save_experiments
from suite.figure_pictures import picture_sheets
from suite.figure_style import curve_styles
from suite.figures import draw_experiment, save_figure
from suite.files import atomic_path, write_text_atomic
from suite.final import final_losses
from suite.pictures import Pictures, load_pictures, save_pictures
from suite.provenance import PROVENANCE, load_provenance, save_provenance
from suite.report.pages import Content, html_page, markdown_page
from suite.table_formats import save_table
from suite.tables import claims_table, final_table, interval_table, learning_rate_table, notices
from suite.trace_figures import draw_traces
from suite.trace_tables import Traces, load_traces, no_traces, store_traces

PICTURES = "pictures.safetensors"


@dataclass(frozen=True)
class Report:
    """Where a report is, and what it says: `claims` and `final` as in the CSV files."""

    html: Path
    markdown: Path
    claims: pd.DataFrame
    final: pd.DataFrame


def write_results(
    folder: Path,
    experiments: Sequence[ExperimentInfo],
    curves: pd.DataFrame,
    provenance: Mapping[str, Any],
    pictures: Pictures | None = None,
    traces: Traces | None = None,
) -> Report:
    """Store what was found in `folder` (see docs/results.md), and write its report.

    Args:
        folder: made if it is not there.
        experiments: what was to be run, in the report's order.
        curves: tidy, with the columns of `suite.curves.COLUMNS`; may lack what is not done yet.
        provenance: from `suite.provenance.gather_provenance`.
        pictures: by (experiment, panel, optimizer, instance, step or source), where there are any.
        traces: of the panels that have them.

    Raises:
        SuiteError: the folder cannot be written, or a claim is not defined properly.
    """
    with atomic_path(folder / "curves.parquet") as path:
        curves.to_parquet(path, index=False)
    store_traces(traces or no_traces(), folder)
    save_experiments(folder / "experiments.json", experiments)
    save_provenance(folder / PROVENANCE, provenance)
    (folder / PICTURES).unlink(missing_ok=True)
    if pictures:
        save_pictures(folder / PICTURES, pictures)
    return write_report(folder)


def write_report(folder: Path) -> Report:
    """Write final.csv, claims.csv, figures/, tables/, report.md and report.html.

    They are made from curves.parquet, experiments.json, provenance.json and, where there are any,
    pictures.safetensors and the tables of traces alone.

    Raises:
        SuiteError: these are missing or damaged, or the folder cannot be written.
    """
    experiments = load_experiments(folder / "experiments.json")
    runs = runs_by_optimizer(load_curves(folder / "curves.parquet"))
    final = final_losses(experiments, runs)
    traces = load_traces(folder)
    claims = check_claims(experiments, runs, traces)
    write_text_atomic(folder / "final.csv", final.to_csv(index=False))
    write_text_atomic(folder / "claims.csv", claims.to_csv(index=False))

    styles = curve_styles(o for e in experiments for p in e.panels for o in p.optimizers)
    pictures = load_pictures(folder / PICTURES) if (folder / PICTURES).exists() else {}
    further = [
        [*picture_sheets(experiment, pictures), *draw_traces(experiment, traces, styles)]
        for experiment in experiments
    ]
    for experiment in experiments:
        figure = draw_experiment(experiment, runs, styles)
        save_figure(figure, folder / "figures", experiment.name)
    for each in itertools.chain(*further):
        save_figure(each.figure, folder / "figures", each.name)

    content = Content(
        experiments=experiments,
        claims=claims_table(claims, notices(experiments)),
        finals=[final_table([e], final, f"final-{e.name}") for e in experiments],
        intervals=interval_table(final, notices(experiments)),
        rates=learning_rate_table(final, notices(experiments)),
        provenance=load_provenance(folder / PROVENANCE),
        figures=[_svg(folder, e.name) for e in experiments],
        further=[[(f.name, f.caption, _svg(folder, f.name)) for f in own] for own in further],
    )
    tables = (content.claims, content.intervals, content.rates, *content.finals)
    for table in (*tables, final_table(experiments, final, "final")):
        save_table(table, folder / "tables")
    pages = Report(folder / "report.html", folder / "report.md", claims, final)
    write_text_atomic(pages.html, html_page(content))
    write_text_atomic(pages.markdown, markdown_page(content))
    return pages


def _svg(folder: Path, name: str) -> str:
    return (folder / "figures" / f"{name}.svg").read_text(encoding="utf-8")
