"""The report works in a browser, and at every width nothing is cut or sticks out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from browser import ask
from tidy_curves import condensed, experiment, rows

from l2l.suite.report.results import Results, store_results
from l2l.suite.report.write import write_report

NAMES = ["LSTM", "ADAM", "<script>alert(1)</script>"]
MANY = [f"optimizer number {number}" for number in range(20)] + ["a very long name of one " * 3]

# What the page is asked in the browser; the answer is its text.
USE = """
const ids = () => [...document.querySelectorAll("#table-intervals tbody tr")]
  .filter((row) => !row.hidden).map((row) => row.cells[2].textContent);
const header = document.querySelectorAll("#table-intervals th")[5];
const say = {before: ids()};
header.querySelector("button").click();
header.querySelector("button").click();
say.sorted = ids();
say.aria = header.getAttribute("aria-sort");
const box = document.querySelector("input[data-filter=intervals]");
box.value = "adam"; box.dispatchEvent(new Event("input"));
say.filtered = ids();
document.getElementById("theme").click();
say.theme = document.documentElement.dataset.theme;
say.figures = document.querySelectorAll("figure svg path").length;
"""
MEASURE = """
const ownBox = (element) => getComputedStyle(element).overflowX !== "visible";
const inBox = (element) => {
  for (let each = element.parentElement; each; each = each.parentElement)
    if (ownBox(each)) return true;
  return false;
};
const told = (element) => `${element.tagName}.${element.className} ${element.textContent}`;
const all = [...document.querySelectorAll("body *:not(svg *)")];
const say = {
  width: innerWidth,
  page: document.documentElement.scrollWidth,
  out: all.filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !inBox(e)).map(told),
  cut: all.filter((e) => getComputedStyle(e).overflowX === "hidden")
    .filter((e) => e.scrollWidth > e.clientWidth + 1).map(told),
  boxes: document.querySelectorAll(".scroll").length,
};
const claims = document.getElementById("table-checks").parentElement;
say.claims = claims.scrollWidth - claims.clientWidth;
"""


def page_of(folder: Path, names: list[str]) -> str:
    """A report on optimizers of these names."""
    info = experiment(names, "ends_below_all", {"panel": "p", "optimizer": names[0]})
    runs = pd.concat([rows(name, 0.1 * (i + 1)) for i, name in enumerate(names)])
    store_results(folder, Results((info,), condensed(info, runs), {"commit": "abc" * 40}))
    return write_report(folder).html.read_text(encoding="utf-8")


def test_tables_sort_and_filter_and_the_theme_changes(tmp_path: Path) -> None:
    say = ask(page_of(tmp_path, NAMES), USE, tmp_path)
    assert say["before"] == NAMES
    assert say["sorted"] == NAMES[::-1]
    assert say["aria"] == "descending"
    assert say["filtered"] == ["ADAM"]
    assert say["theme"] in ("light", "dark")
    assert say["figures"] > 10


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of more optimizers than a table has room for."""
    return page_of(tmp_path_factory.mktemp("wide"), MANY)


@pytest.mark.parametrize("width", [1300, 800])
def test_nothing_sticks_out_or_is_cut(wide: str, width: int, tmp_path: Path) -> None:
    say = ask(wide, MEASURE, tmp_path, width)
    assert say["width"] == width
    assert say["boxes"] >= 4
    assert (say["out"], say["cut"]) == ([], [])
    assert say["page"] <= width
    # What everybody reads first needs no scrolling.
    assert say["claims"] <= 0
