"""Links lead somewhere, pieces of experiments can be read, and every field of them is described."""

from __future__ import annotations

import re
import textwrap
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import ROOT

from l2l.suite.core.convert import REST
from l2l.suite.meta.schedule import Training
from l2l.suite.plan.config import Claim, Experiment, Grid, Panel
from l2l.suite.report.claims.verdicts import CLAIM_TESTS

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("results/*/README.md")])
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
# Fenced or indented by four; what begins with a key is YAML.
FENCED = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?:    .*\n|\n(?=    ))+")
KEY = re.compile(r"[\w-]+:(?: |\n)")


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.strip().lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    wrong = []
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:")):
            continue
        file = (page.parent / target).resolve() if target else page
        known = file.suffix != ".md" or not anchor or (file.exists() and anchor in anchors(file))
        if not file.exists() or not known:
            wrong.append(f"{target}#{anchor}" if anchor else target)
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pieces_of_experiments_are_yaml(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    pieces = FENCED.findall(text)
    indented = [textwrap.dedent(piece) for piece in INDENTED.findall(text)]
    for piece in (*pieces, *(each for each in indented if KEY.match(each) and "def " not in each)):
        yaml.safe_load(piece)  # alternatives may be lines of one key


@pytest.mark.parametrize("kind", [Experiment, Panel, Grid, Training, Claim])
def test_fields_of_experiments_are_described_and_required_ones_called_so(kind: Any) -> None:
    page = (ROOT / "docs" / "experiment.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {kind.__name__}\n")[2].partition("\n## ")[0]
    described = {
        name: default == "required"
        for names, default in re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    # What profiles replace is put in place, and a file's name is given, before there are fields.
    described.pop("profiles", None)
    expected = {
        each.name: each.default is MISSING and each.default_factory is MISSING
        for each in fields(kind)
        if each.metadata != REST
    }
    assert described == expected | ({"name": False} if kind is Experiment else {})


def test_results_say_which_scores_each_claim_test_needs() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    section = page.partition("\n## scores.parquet\n")[2].partition("\n## ")[0]
    rows = "".join(line for line in section.splitlines() if line.startswith("|"))
    own = {name: each for name, each in CLAIM_TESTS.items() if each.__module__.startswith("l2l.")}
    for name, each in own.items():
        assert f"`{name}`" in (rows if hasattr(each, "scores") else section), name
