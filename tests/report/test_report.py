"""The report is made from a results folder alone, and is safe."""

import dataclasses
import json
import re
import shlex

import pandas as pd
import pytest
from tidy_curves import STEPS, condensed, experiment, rows

from l2l.suite.commands.request import Request
from l2l.suite.commands.tell import print_report
from l2l.suite.core.errors import SuiteError
from l2l.suite.files.provenance import gather_provenance, without_home
from l2l.suite.plan.definitions import (
    ClaimInfo,
    ExperimentInfo,
    PanelInfo,
    PaperPanel,
    load_experiments,
)
from l2l.suite.report.results import Results, load_results, store_results
from l2l.suite.report.tables.formats import latex_text, markdown_text
from l2l.suite.report.write import write_report

HOSTILE = "<script>alert(1)</script>"
NOTICE = "A subset of 5,000 digits & no more."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("results")
    info = experiment(
        ["LSTM", "ADAM", HOSTILE],
        "ends_below_all",
        {"panel": "p", "optimizer": "LSTM"},
        paper=PaperPanel("fig4", "mnist"),
        notice=NOTICE,
    )
    (claim,) = info.claims
    own = dataclasses.replace(claim, id="own", runs=1000, steps=STEPS)
    claims = (dataclasses.replace(claim, kind="paper", steps=STEPS), own)
    info = dataclasses.replace(info, claims=claims)
    curves = [rows("LSTM", 0.1), rows("ADAM", 0.2, diverged=[4]), rows(HOSTILE, 0.3)]
    provenance = gather_provenance("reproduce.py", {"e": 4})
    store_results(path, Results((info,), condensed(info, pd.concat(curves)), provenance))
    write_report(path)
    return path


@pytest.fixture(scope="module")
def remade(folder):
    """The report of the same folder, and its page before."""
    before = (folder / "report.html").read_bytes()
    return write_report(folder), before


def test_everything_of_the_contract_is_there(folder):
    names = [
        *("curves.parquet", "losses.parquet", "scores.parquet"),
        *("final.csv", "claims.csv", "provenance.json"),
        *("report.md", "report.html", "figures/e.png", "figures/e.svg", "tables/final.md"),
        *("tables/final.tex", "tables/final.csv", "tables/claims.tex", "tables/learning_rates.md"),
    ]
    for name in names:
        assert (folder / name).stat().st_size > 0, name
    assert not [path for path in folder.rglob(".*") if path.is_file()]


def test_report_is_remade_from_the_folder_alone_and_equal(remade):
    report, before = remade
    assert report.html.read_bytes() == before
    assert list(report.claims["verdict"]) == ["reproduced", "unchecked"]


def test_claims_of_the_paper_and_own_checks_are_counted_and_shown_apart(folder, remade, capsys):
    text = (folder / "report.md").read_text()
    assert "\n\nClaims of the paper: 1 reproduced.\n\nOwn checks: 1 unchecked.\n\n" in text
    paper, own = text.partition("## Own checks")[::2]
    assert "| C-1 |" in paper
    assert "| own | unchecked (40 of at least 1,000 runs) |" in own
    page = (folder / "report.html").read_text()
    for heading in ('<h2 id="claims">Claims of the paper</h2>', '<h2 id="checks">Own checks</h2>'):
        assert page.count(heading) == 1
    assert "1 claim of it · 1 own check in 1 experiment" in page
    print_report(remade[0])
    told = capsys.readouterr().out
    assert told.index("Claims of the paper") < told.index("C-1") < told.index("Own checks")


def test_claim_of_any_id_is_printed(remade, capsys):
    report, _ = remade
    print_report(dataclasses.replace(report, claims=report.claims.assign(id="A[/b]")))
    assert "A[/b]" in capsys.readouterr().out


def test_names_are_escaped_everywhere(folder):
    page = (folder / "report.html").read_text()
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;") > 3
    assert HOSTILE not in (folder / "report.md").read_text()
    assert latex_text("a_b & 50 % [x]") == r"a\_b \& 50 \% {[}x]"
    assert markdown_text("a|b*c") == r"a\|b\*c"


def test_text_of_every_kind_is_escaped(tmp_path):
    hostile = '"><img src=x onerror=alert(1)>' + HOSTILE + "<!-- -->]]>"
    panel = PanelInfo("p", hostile, STEPS, (hostile, "../../up"), 0, None, hostile)
    claims = (
        ClaimInfo(hostile, hostile, "ends_below_all", {"panel": "p", "optimizer": "../../up"}),
    )
    info = ExperimentInfo(
        "e", hostile, (panel,), claims, hostile, profile=hostile, settings=hostile
    )
    curves = pd.concat([rows(hostile, 0.1), rows("../../up", 0.2)])
    root = tmp_path / "a" / "b" / "results"
    provenance = {"commit": hostile, "versions": {hostile: hostile}}
    provenance["earlier"] = [{"commit": hostile, "seeds": {hostile: hostile}}]
    store_results(root, Results((info,), condensed(info, curves), provenance))
    write_report(root)
    page = (root / "report.html").read_text()
    assert page.count("<script>") == 1  # the page's own
    assert "<img" not in page
    assert "<!--" not in page
    assert "<script" not in (root / "report.md").read_text().replace("    " + hostile, "")
    # Nothing was written beside the folder.
    assert {path.relative_to(tmp_path).parts[:3] for path in tmp_path.rglob("*.*")} == {
        ("a", "b", "results")
    }


def test_page_needs_no_network(folder):
    page = (folder / "report.html").read_text()
    assert not re.search(r"https?://", page)
    assert not re.search(r"\b(?:src|href)=\"(?!#|data:)", page)


def test_notices_are_in_tables_and_pages(folder):
    assert "5,000 digits &amp; no more" in (folder / "report.html").read_text()
    for name in ("report.md", *(f"tables/{t}.md" for t in ("final", "claims", "learning_rates"))):
        assert "5,000 digits &amp; no more" in (folder / name).read_text()
    assert r"5,000 digits \& no more" in (folder / "tables/final.tex").read_text()
    assert "5,000 digits" in (folder / "figures/e.svg").read_text()


def test_ids_are_unique_although_figures_share_the_page(folder):
    ids = re.findall(r'\bid="([^"]+)"', (folder / "report.html").read_text())
    assert len(ids) == len(set(ids))


def test_missing_and_damaged_inputs_are_sentences(tmp_path):
    with pytest.raises(SuiteError, match=r"experiments\.json is missing: run the experiment"):
        write_report(tmp_path)
    (tmp_path / "experiments.json").write_text('{"format": 99}')
    with pytest.raises(SuiteError, match="has format 99, this version reads 2"):
        write_report(tmp_path)
    (tmp_path / "experiments.json").write_text('{"format": 2, "experiments": []}')
    with pytest.raises(SuiteError, match=r"curves\.parquet is missing"):
        write_report(tmp_path)
    (tmp_path / "curves.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(SuiteError, match=r"curves\.parquet cannot be read"):
        write_report(tmp_path)


def test_definitions_survive_the_round_trip(folder):
    (found,) = load_experiments(folder / "experiments.json")
    assert found.panels[0].paper == PaperPanel("fig4", "mnist")
    assert found.panels[0].optimizers == ("LSTM", "ADAM", HOSTILE)


def test_provenance_names_no_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert without_home("/home/ada/runs") == "~/runs"
    found = gather_provenance("reproduce.py '/home/ada/my runs'", {"e": 1})
    assert "ada" not in json.dumps(found)
    command = Request(("my own.yaml",), settings=("panels.p.problem={name: mlp}",)).command()
    assert shlex.split(gather_provenance(command, {})["command"]) == shlex.split(command)
    assert found["versions"]["torch"] and found["machine"]["cores"]


def named(name, losses, commit):
    """The results of one experiment of that name."""
    info = dataclasses.replace(experiment([*losses]), name=name)
    curves = pd.concat([rows(optimizer, loss) for optimizer, loss in losses.items()])
    return Results((info,), condensed(info, curves), {"commit": commit, "seeds": {name: 1}})


def test_experiments_of_earlier_runs_stay_beside_those_of_the_latest(tmp_path):
    first = named("a", {"LSTM": 0.1}, "one")
    second = named("b", {"LSTM": 0.2}, "two").beside(first)
    third = named("b", {"LSTM": 0.3}, "three").beside(second)
    store_results(tmp_path, third)
    found = load_results(tmp_path)
    assert [each.name for each in found.experiments] == ["a", "b"]
    wanted = {"a": first, "b": named("b", {"LSTM": 0.3}, "")}
    for name, table in found.tables.by_name().items():
        for experiment_, results in wanted.items():
            pd.testing.assert_frame_equal(
                table[table["experiment"] == experiment_].reset_index(drop=True),
                results.tables.by_name()[name],
            )
    assert found.provenance["commit"] == "three"
    assert found.provenance["earlier"] == [{"commit": "one", "seeds": {"a": 1}}]
    page = write_report(tmp_path).markdown.read_text()
    assert "a: commit one" in page
    # Run again, an experiment keeps its place, and leaves nothing of what it was.
    again = named("a", {"LSTM": 0.4}, "four").beside(second)
    assert [each.name for each in again.experiments] == ["a", "b"]
    assert "earlier" not in named("a", {"LSTM": 0.4}, "four").beside(first).provenance
    # What is put beside others may come from several runs itself, and is not told twice.
    more = third.beside(named("c", {"LSTM": 0.5}, "five"))
    runs = [{"commit": "one", "seeds": {"a": 1}}, {"commit": "five", "seeds": {"c": 1}}]
    assert more.provenance["earlier"] == runs
    assert more.beside(more).provenance == more.provenance
