"""What the commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from l2l.suite.commands.run import Ended
from l2l.suite.commands.status import Status
from l2l.suite.commands.verify import Verified
from l2l.suite.report.benchmark.write import BenchmarkPage
from l2l.suite.report.formatting import judged
from l2l.suite.report.write import Report

VERDICT_STYLES = {"reproduced": "green", "contradicted": "red", "inconclusive": "yellow"}
STATE_STYLES = {"done": "green", "failed": "red", "running": "cyan"}


def print_json(content: Any) -> None:
    """Indented JSON on standard output."""
    print(json.dumps(content, indent=1, ensure_ascii=False))


def print_catalogue(catalogue: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """What there is to choose from."""
    console = _console()
    for kind in ("problems", "optimizers", "estimators", "claim_tests"):
        rows = [
            (
                each["name"],
                ", ".join(f"{k}={v}" for k, v in each["fields"].items()),
                each["summary"],
            )
            for each in catalogue[kind]
        ]
        console.print(_table(kind.capitalize().replace("_", " "), ("name", "fields", "what"), rows))
    rows = [(e["name"], e["title"], e["source"]) for e in catalogue["experiments"]]
    console.print(_table("Experiments", ("name", "title", "in the paper"), rows))
    for kind, title in (("paper", "Claims of the paper"), ("check", "Own checks")):
        rows = [
            (c["id"], c["experiment"], c["text"]) for c in catalogue["claims"] if c["kind"] == kind
        ]
        console.print(_table(title, ("id", "experiment", "claim"), rows))


def print_status(status: Status) -> None:
    """Where each cell stands, and the time left."""
    console = _console()
    table = _table("Cells", ("cell", "state", "spent", "left", "note"), [])
    for each in status.cells:
        left = "?" if each.seconds_left is None else duration(each.seconds_left)
        left = "" if each.state == "done" else left
        state = f"[{STATE_STYLES.get(each.state, 'default')}]{each.state}[/]"
        table.add_row(escape(each.cell), state, duration(each.seconds), left, escape(each.note))
    console.print(table)
    counts = ", ".join(f"{count} {state}" for state, count in status.counts.items() if count)
    left = f"about {duration(status.seconds_left)} of work left"
    if status.unknown:
        left += f", and {status.unknown} cells without an estimate"
        if status.unknown + status.counts["done"] == len(status.cells):
            left = "time left unknown"
    console.print(f"{counts or 'nothing planned'}; {left}")
    console.print(f"{status.bytes / 1e6:.1f} MB on disk, {status.bytes_free / 1e9:.1f} GB free")


def print_report(report: Report) -> None:
    """The verdict on each claim, and where the report is."""
    console = _console()
    for kind, title in (("paper", "Claims of the paper"), ("check", "Own checks")):
        table = _table(title, ("id", "claim", "verdict", "note"), [])
        for each in report.claims[report.claims["kind"] == kind].to_dict("records"):
            style = VERDICT_STYLES.get(each["verdict"], "dim")
            styled = f"[{style}]{escape(judged(each['verdict'], each['reason']))}[/]"
            table.add_row(
                *(escape(each["id"]), escape(each["claim"]), styled, escape(each["note"]))
            )
        if table.row_count:
            console.print(table)
    for sentence in report.untrained:
        print(f"notice: {sentence}", file=sys.stderr)
    for name, reason in report.without.items():
        print(f"figure {name} could not be drawn: {reason}", file=sys.stderr)
    # Not through rich, which would break a long path.
    print(f"Report: {report.html}")


def print_benchmark(written: BenchmarkPage) -> None:
    """What the scores say, and where the page is."""
    for each in written.findings:
        print(f"- {each.text}")
    print(f"Benchmark: {written.html}")


def print_ended(ended: Ended) -> None:
    """How a run ended: failures first on standard error, then the report."""
    print_report(ended.report)
    print(f"Log: {ended.log}")
    for reason in ended.without.values():
        print(f"left out: {reason}", file=sys.stderr)
    for label, error in ended.failed.items():
        print(f"failed: {label}: {error}", file=sys.stderr)
    if ended.left_out:
        print(
            f"not run, because they need failed cells: {', '.join(ended.left_out)}", file=sys.stderr
        )


def print_verified(found: Sequence[Verified]) -> None:
    """The curves that are not as stored or unknown, and how many are as stored."""
    console = _console()
    rows = [
        (each.experiment, each.panel, each.optimizer, each.state, each.note)
        for each in found
        if each.state != "same"
    ]
    if rows:
        heads = ("experiment", "panel", "optimizer", "state", "note")
        console.print(_table("Not verified, or not as stored", heads, rows))
    counts = Counter(each.state for each in found)
    largest = max((each.difference for each in found if each.state == "same"), default=0.0)
    console.print(
        f"{counts['same']} of {len(found)} curves begin as stored, within {largest:.2g}; "
        f"{counts['differs']} differ, {counts['unknown']} cannot be computed here"
    )


def duration(seconds: float) -> str:
    """``0.3 s``, ``12 s``, ``4 min 05 s``, ``2 h 03 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _console() -> Console:
    return Console(emoji=False)  # a claim may say :x:


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table
