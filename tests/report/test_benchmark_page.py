"""From the runs of a benchmark to its scores, findings and page."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmark_runs import SETUP, results
from browser import ask

from l2l.suite.commands.benchmark import benchmark
from l2l.suite.core.errors import SuiteError
from l2l.suite.report.benchmark.tables import overall_table
from l2l.suite.report.benchmark.write import load_targets, write_benchmark
from l2l.suite.report.condense import anytime_steps
from l2l.suite.report.results import Results, load_results, store_results
from l2l.suite.report.scores.benchmark import Scores, scores_of
from l2l.suite.report.scores.entries import contests
from l2l.suite.report.scores.findings import findings

PANELS = ("one", "two", "three", "four", "five", "six")
FEW = PANELS[:2]  # for what holds of each problem by itself
SPEEDS = {"ADAM": 1.0, "Muon": 2.0, "LSTM": 0.5}


def scored(found: Results, targets: pd.DataFrame | None = None) -> Scores:
    none = pd.DataFrame(columns=["problem", "setup", "target", "optimizer"])
    final = pd.DataFrame(columns=["experiment", "panel", "optimizer"])
    return scores_of(contests(found), final, none if targets is None else targets)


def alike(speeds: dict[str, float], panels: Sequence[str] = PANELS, **options: object) -> Results:
    return results(dict.fromkeys(panels, speeds), **options)  # type: ignore[arg-type]


@functools.cache
def usual() -> Scores:
    """Those of `SPEEDS` alone; tests only read them."""
    return scored(alike(SPEEDS))


def test_scores_of_runs_are_those_of_their_speeds() -> None:
    overall = usual().overall.set_index("optimizer")
    # Within what lies between recorded updates.
    assert overall.speedup.to_dict() == pytest.approx({"ADAM": 1, "Muon": 2, "LSTM": 0.5}, rel=0.01)
    assert overall["rank"].to_dict() == {"Muon": 1, "ADAM": 2, "LSTM": 3}
    # Muon is at 3/4 of its updates when the target is reached, ADAM never within its own.
    assert overall.profile.to_dict() == {"Muon": 1, "ADAM": 0, "LSTM": 0}
    assert not overall.speedup_censored.any()
    assert (overall.speedup_low <= overall.speedup).all()
    assert (overall.speedup_high >= overall.speedup).all()


def test_optimizers_beyond_adams_last_update_have_a_bound() -> None:
    rows = scored(alike({**SPEEDS, "Quick": 8.0}, FEW)).rows
    quick = rows[rows.optimizer == "Quick"]
    assert quick.censored.all()
    assert quick.speedup.to_list() == [5.0] * 2
    assert (quick.speedup_high == np.inf).all()
    without = scored(alike(SPEEDS, FEW, long=False)).rows
    assert without[without.optimizer == "Muon"].speedup.to_list() == [1.0] * 2


def test_seconds_are_those_of_an_update() -> None:
    found = scored(alike(SPEEDS, FEW, seconds={"Muon": 4.0}))
    overall = found.overall.set_index("optimizer")
    assert overall.speedup_seconds["Muon"] == pytest.approx(2 / 4, rel=0.01)
    assert overall.speedup_seconds["ADAM"] == pytest.approx(1, rel=0.01)


def test_costs_stand_in_each_row() -> None:
    rows = usual().rows.set_index("optimizer").loc
    assert rows["Muon"].rates.to_list() == [13] * 6
    assert rows["Muon"].tuning_instances.to_list() == [4] * 6
    assert rows["Muon"].state_bytes.to_list() == [8] * 6
    assert rows["Muon"].kind.to_list() == ["tuned"] * 6
    assert rows["LSTM"].training_runs.to_list() == [1600] * 6
    assert rows["LSTM"].cells.iloc[0] == "evaluate-bench-one-LSTM lstm"
    assert rows["LSTM"].machine.iloc[0] == "a machine"


def test_smaller_budgets_of_tuning_are_medians_over_problems() -> None:
    overall = usual().overall.set_index("optimizer")
    assert overall.with_four_rates["Muon"] == 3.5
    assert overall.with_default_rate["Muon"] == 4.5
    assert overall.with_four_rates.isna()["LSTM"]


def test_targets_stay_when_a_better_baseline_comes() -> None:
    first = scored(alike(SPEEDS, FEW))
    faster = alike({**SPEEDS, "Better": 3.0}, FEW)
    again, anew = scored(faster, first.targets), scored(faster)
    assert again.targets.target.to_list() == first.targets.target.to_list()
    assert (anew.targets.target < first.targets.target).all()
    # Of another setting they are no targets.
    other = alike(SPEEDS, FEW, setup={**SETUP, "seed": 3})
    assert (scored(other, first.targets).targets.setup != first.targets.setup).all()


def test_findings_say_who_is_ahead() -> None:
    behind = findings(scored(alike(SPEEDS, in_distribution=dict.fromkeys(FEW, ("LSTM",)))))
    assert [each.verdict for each in behind] == ["against", "against", "against"]
    assert behind[0].text.startswith(
        "On problems it was not trained on (4 problems), the best learned optimizer, LSTM, is 0.496"
    )
    assert "the best tuned baseline, Muon, 2.00" in behind[0].text
    assert behind[2].text.startswith(
        "The learned optimizer that is fastest where it was trained, LSTM, is elsewhere 0.496"
    )
    ahead = findings(scored(alike({**SPEEDS, "LSTM": 3.0})))
    assert ahead[0].verdict == "for"
    mixed = {
        panel: {**SPEEDS, "LSTM": speed}
        for panel, speed in zip(PANELS, (0.3, 0.5, 1.0, 2.5, 3.0, 4.5), strict=True)
    }
    assert findings(scored(results(mixed)))[0].verdict == "open"
    bounds = findings(scored(alike({**SPEEDS, "LSTM": 9.0, "Muon": 8.0})))
    assert bounds[0].verdict == "open"  # both are at least 5
    assert "LSTM, is at least 5.00 [5.00, ∞]" in bounds[0].text


def test_findings_of_a_few_runs_or_of_one_problem_are_no_verdict() -> None:
    few, baselines = findings(scored(alike(SPEEDS, PANELS[:1]))), {"ADAM": 1.0, "Muon": 2.0}
    assert [each.verdict for each in few] == ["open"] * 3
    assert few[0].text.startswith("On problems it was not trained on (1 problem), the best")
    assert few[0].text.endswith(" times: 12 of at least 20 runs, so no verdict.")
    (alone,) = findings(scored(alike(baselines, PANELS[:1])))
    assert alone.text.endswith("] times as fast as tuned ADAM.")
    (both,) = findings(scored(alike(baselines, FEW)))
    assert both.text.endswith(": over problems like these it is faster.")
    elsewhere = findings(scored(alike(SPEEDS, FEW, in_distribution={"one": ("LSTM",)})))[2]
    assert "is elsewhere 0.49" in elsewhere.text and elsewhere.verdict == "open"


def test_findings_do_not_compare_means_over_other_problems() -> None:
    """Luck ran on one problem only, where it is the best."""
    panels = dict.fromkeys(PANELS, SPEEDS) | {"two": {**SPEEDS, "Luck": 4.0}}
    found = scored(results(panels, in_distribution={"one": ("LSTM",)}))
    assert "the best tuned baseline, Muon, 2.00" in findings(found)[0].text
    table = overall_table(found.overall, len(found.contests))
    cells = {row[0].text: row[table.columns.index("Problems")].text for row in table.rows}
    assert cells == {"ADAM": "6", "Muon": "6", "LSTM": "6", "Luck": "1 of 6"}
    assert table.notes == ("Luck: over fewer problems than the others.",)


def test_findings_compare_learned_optimizers_where_none_was_trained() -> None:
    """B is faster where A was trained, which for B alone is elsewhere."""
    others = {"ADAM": 1.0, "Muon": 1.1}
    panels = {panel: {**others, "LSTM A": 1.5, "LSTM B": 4.0} for panel in PANELS}
    panels["two"] = {**others, "LSTM A": 2.0, "LSTM B": 1.8}
    own = {panel: ("LSTM B",) for panel in PANELS[2:]} | {"one": ("LSTM A",)}
    found = scored(results(panels, in_distribution=own))
    first = findings(found)[0].text
    assert first.startswith("On problems that no learned optimizer was trained on (1 problem), the")
    assert "the best learned optimizer, LSTM A, is 2" in first


def test_seconds_of_another_machine_are_not_compared() -> None:
    here = alike(SPEEDS, FEW)
    there = here.sources["optimizer"] == "Muon"
    machines = here.sources["machine"].where(~there, "another")
    moved = dataclasses.replace(here, sources=here.sources.assign(machine=machines))
    seconds = scored(moved).overall.set_index("optimizer")["speedup_seconds"]
    assert seconds.isna()["Muon"]
    before = scored(here).overall.set_index("optimizer")["speedup_seconds"]
    assert seconds["LSTM"] == pytest.approx(before["LSTM"])


def test_findings_compare_seconds_on_the_same_problems() -> None:
    """Luck and LSTM A ran on ADAM's machine only where they are fast."""
    moved = ("Luck", "LSTM A")
    panels = {panel: {**SPEEDS, "LSTM A": 0.4, "Luck": 0.6} for panel in PANELS}
    found = results(panels | {"one": {**SPEEDS, "LSTM A": 4.0, "Luck": 4.5}})
    there = found.sources["optimizer"].isin(moved) & (found.sources["panel"] != "one")
    machines = found.sources["machine"].where(~there, "another")
    scores = scored(dataclasses.replace(found, sources=found.sources.assign(machine=machines)))
    seconds = scores.overall.set_index("optimizer")["speedup_seconds"]
    assert seconds["Luck"] > 4 > seconds["Muon"]
    (told,) = (each.text for each in findings(scores) if each.text.startswith("In seconds"))
    assert "LSTM is 0.49" in told
    assert "Muon 2.00" in told


def test_findings_without_a_learned_optimizer_or_problems_it_knows() -> None:
    (alone,) = findings(scored(alike({"ADAM": 1.0, "Muon": 2.0})))
    assert alone.text.startswith("The fastest tuned baseline but ADAM, Muon, is 2.00")
    firsts = [each.text.partition(",")[0] for each in findings(usual())]
    assert firsts == [
        "On problems it was not trained on (6 problems)",
        "In seconds instead of updates",
        "The fastest tuned baseline but ADAM",
    ]


def test_rows_of_another_experiment_stand_beside_those_of_the_same_setup() -> None:
    own, other = results({"one": SPEEDS}), results({"one": {"ADAM": 1.0, "Mine": 1.5}}, name="mine")
    found = scored(other.beside(own))
    assert [each.name for each in found.contests] == ["one"]
    assert list(found.contests[0].entries) == ["ADAM", "Muon", "LSTM", "ADAM (mine)", "Mine"]
    apart = results({"one": {"Mine": 1.5}}, name="mine", setup={**SETUP, "seed": 9})
    assert len(scored(apart.beside(own)).contests) == 2


def test_folder_without_a_benchmark_is_told() -> None:
    found = results({"one": SPEEDS})
    plain = dataclasses.replace(found.experiments[0], benchmark=False)
    with pytest.raises(SuiteError, match=r"none of the experiments here \(bench\) is a benchmark"):
        contests(dataclasses.replace(found, experiments=(plain,)))


def test_recorded_updates_are_dense_and_end_with_the_last() -> None:
    for last in (1, 2, 100, 1000):
        steps = anytime_steps(last)
        assert (steps[0], steps[-1]) == (0, last)
        assert (np.diff(steps) > 0).all()
        assert (steps[2:] <= np.ceil(steps[1:-1] * 1.07) + 1).all()


HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a benchmark's page."""
    folder = tmp_path_factory.mktemp("page")
    speeds = {**SPEEDS, HOSTILE: 1.5}
    found = alike(speeds, in_distribution={"one": ("LSTM",)}, held_out=("two",))
    store_results(folder, found)
    write_benchmark(load_results(folder), folder)
    return folder


def test_page_needs_no_other_file_and_escapes_what_is_from_outside(page: Path) -> None:
    text = (page / "benchmark.html").read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text)
    assert "On problems it was not trained on" in text
    assert "alert(1)" in (page / "benchmark.md").read_text(encoding="utf-8")
    assert "<script>" not in (page / "benchmark.md").read_text(encoding="utf-8")
    assert len(pd.read_csv(page / "rows.csv")) == 24
    assert len(pd.read_csv(page / "overall.csv")) == 4
    carried = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert carried
    assert len(json.loads(carried[1])["rows"]) == 24


def test_page_says_who_is_left_out_and_why(tmp_path: Path) -> None:
    found = alike(SPEEDS, PANELS[:1])
    reasons = {"VeLO": "no file <there>", "Muon": "no file"}
    (experiment,) = found.experiments
    found = dataclasses.replace(
        found, experiments=(dataclasses.replace(experiment, left_out=reasons),)
    )
    write_benchmark(found, tmp_path)
    text = (tmp_path / "benchmark.md").read_text(encoding="utf-8")
    assert "3 optimizers, 1 of them learned · 1 problem · 36 test runs" in text
    assert "| VeLO | no file &lt;there&gt; |" in text
    assert "| Muon | no file |" not in text, "another's results have it"
    assert "no file &lt;there&gt;" in (tmp_path / "benchmark.html").read_text(encoding="utf-8")


def test_page_says_what_training_took_as_far_as_it_is_known(tmp_path: Path) -> None:
    found = alike({**SPEEDS, "LSTM of theirs": 1.0}, FEW)
    shipped = found.sources.kind == "shipped"
    found.sources.loc[shipped & (found.sources.optimizer == "LSTM"), "seconds"] = 492.0
    write_benchmark(found, tmp_path)
    text = (tmp_path / "benchmark.md").read_text(encoding="utf-8")
    assert "| 1,600 runs, 8.2 min |" in text
    assert "| 1,600 runs, time unknown |" in text


def test_page_is_the_same_when_it_is_made_again(page: Path) -> None:
    before = (page / "benchmark.html").read_bytes()
    write_benchmark(load_results(page), page)
    assert (page / "benchmark.html").read_bytes() == before


def test_page_does_not_take_the_place_of_results_that_it_lacks(tmp_path: Path) -> None:
    own, out = tmp_path / "own", tmp_path / "out"
    store_results(own, alike({"ADAM": 1.0, "Muon": 2.0}, FEW))
    store_results(out, alike({**SPEEDS, "Mine": 3.0}, FEW))
    before = (out / "curves.parquet").read_bytes()
    with pytest.raises(SuiteError, match="has results of LSTM in bench, panel 'one', which would"):
        benchmark(own, out)
    assert (out / "curves.parquet").read_bytes() == before
    store_results(out, alike({"ADAM": 1.0}, FEW))
    assert benchmark(own, out).html.is_file()


def test_targets_of_other_setups_stay_in_the_folder(tmp_path: Path) -> None:
    first, other = alike(SPEEDS, FEW), alike(SPEEDS, FEW, setup={**SETUP, "seed": 3})
    write_benchmark(first, tmp_path)
    before = load_targets(tmp_path / "targets.csv")
    write_benchmark(other, tmp_path)
    write_benchmark(alike({**SPEEDS, "Better": 3.0}, FEW), tmp_path)
    after = load_targets(tmp_path / "targets.csv")
    assert len(after) == 2 * len(before)
    assert after.merge(before).equals(before)


def test_damaged_targets_are_told(tmp_path: Path) -> None:
    (tmp_path / "targets.csv").write_text("problem,target\none,nothing\n")
    with pytest.raises(SuiteError, match="delete it to set new targets"):
        load_targets(tmp_path / "targets.csv")


USE = """
const names = () => [...document.querySelectorAll("#table-rows tbody tr:not(.detail)")]
  .filter((row) => !row.hidden)
  .map((row) => row.cells[0].textContent + " " + row.cells[1].textContent);
const choose = (column, value) => {
  const select = document.querySelector(`select[data-column=${column}]`);
  select.value = value; select.dispatchEvent(new Event("change"));
};
const kinds = document.querySelector("select[data-column=Kind]").options;
const say = {all: names().length, kinds: [...kinds].map((option) => option.value)};
choose("Distribution", "in");
say.in = names();
choose("Distribution", "");
choose("Problem", "Two");
say.two = names();
const button = document.querySelectorAll("#table-rows td button")[5];
button.click();
const detail = document.querySelector("tr.detail");
say.detail = detail.textContent;
say.charts = [...detail.querySelectorAll("svg[role=img]")].map((svg) => [
  svg.getAttribute("aria-label"), svg.querySelectorAll("path:is(.own, .adam, .other)").length,
]);
say.points = detail.querySelectorAll("path.own:has(title)")[1].getAttribute("d").split("L").length;
say.own = detail.querySelector("path.own").getAttribute("d").length;
say.bad = [...document.querySelectorAll("svg path")]
  .filter((path) => /NaN|Infinity/.test(path.getAttribute("d"))).length;
document.querySelectorAll("#table-rows td button")[0].click();
say.without = document.querySelectorAll("tr.detail")[0].querySelectorAll("svg[role=img]").length;
document.querySelectorAll("#table-rows th button")[6].click();
say.closed = document.querySelectorAll("tr.detail").length;
document.querySelectorAll("#table-overall td button")[1].click();
say.followed = document.querySelector("#profiles path.own title").textContent;
say.wide = document.documentElement.scrollWidth - innerWidth;
"""


@pytest.mark.parametrize("width", [1300, 500])
def test_page_filters_sorts_and_shows_curves(page: Path, tmp_path: Path, width: int) -> None:
    say = ask((page / "benchmark.html").read_text(encoding="utf-8"), USE, tmp_path, width)
    assert say["all"] == 24
    assert say["kinds"] == ["", "tuned baseline", "learned"]
    assert say["in"] == ["One LSTM"]
    assert say["two"] == ["Two ADAM", "Two Muon", "Two LSTM", f"Two {HOSTILE}"]
    assert "evaluate-bench-two-Muon tune-Muon" in say["detail"]
    assert say["charts"] == [
        ["Two: mean loss; Muon is highlighted", 4],
        ["Two: mean held-out loss; Muon is highlighted", 4],
    ]
    assert say["points"] == 11, "one after each tenth of the updates, and one before"
    assert say["without"] == 1, "the other problems have no held-out data"
    assert say["own"] > 100
    assert (say["bad"], say["closed"]) == (0, 0)
    assert say["followed"] in {*SPEEDS, HOSTILE}
    assert say["wide"] <= 0


TICKS = """
document.querySelector("#table-rows td button").click();
const chart = document.querySelector("tr.detail svg[role=img]");
const say = {
  lines: chart.querySelectorAll("path.axis[d*=H]").length,
  ticks: [...chart.querySelectorAll("text[text-anchor=end]")].map((text) => text.textContent),
};
"""


@pytest.mark.parametrize(("speed", "scale"), [(0.0005, 1.0), (0.01, 1.7e-4), (1.0, 1.7e-4)])
def test_losses_of_less_than_a_decade_have_ticks(
    tmp_path: Path, speed: float, scale: float
) -> None:
    found = results({"one": {"ADAM": speed, "Muon": speed / 2}}, long=False)
    anytime = found.tables.anytime.assign(loss=found.tables.anytime["loss"] * scale)
    tables = dataclasses.replace(found.tables, anytime=anytime)
    write_benchmark(dataclasses.replace(found, tables=tables), tmp_path)
    text = (tmp_path / "benchmark.html").read_text(encoding="utf-8")
    say = ask(text, TICKS, tmp_path)
    assert say["lines"] == len(say["ticks"]) >= 2
    assert len(set(say["ticks"])) == len(say["ticks"])
    numbers = [float(tick) for tick in say["ticks"]]
    assert numbers == sorted(numbers)
