"""A claim that is counted over the panels of a grid."""

import pandas as pd
import pytest
from tidy_curves import STEPS, condensed, known, rows

from l2l.suite.core.errors import SuiteError
from l2l.suite.plan.definitions import ClaimInfo, ExperimentInfo, PanelInfo, PaperPanel
from l2l.suite.report.claims.verdicts import check_claims


def grid_claim(share, finals, places=None, **more):
    """The claim that the LSTM ends below NAG over a grid of one panel for each of `finals`."""
    tables = [
        rows(name, end, panel=panel)
        for panel, ends in finals.items()
        for name, end in zip(
            ("LSTM", "LSTM 2", "LSTM 3", "NAG"), (*3 * ends[:1], ends[1]), strict=True
        )
    ]
    panels = tuple(
        PanelInfo(
            panel,
            panel,
            STEPS,
            ("LSTM", "LSTM 2", "LSTM 3", "NAG"),
            paper=PaperPanel("fig6", places[panel]) if places else None,
            grid="g",
            at={"units": number},
            learned=("LSTM", "LSTM 2", "LSTM 3"),
        )
        for number, panel in enumerate(finals)
    )
    options = {"grid": "g", "optimizer": "LSTM", "share": share, **more}
    if share is None:
        del options["share"]
    claim = ClaimInfo("C-1", "A claim.", "ends_below_in_grid", options, steps=STEPS)
    info = ExperimentInfo("e", "Experiment", panels, (claim,))
    return check_claims([info], *known(condensed(info, pd.concat(tables)))).iloc[0]


def test_panels_of_a_grid_are_counted():
    finals = {"a": (0.1, 0.2), "b": (0.1, 0.3), "c": (0.2, 0.1), "d": (0.1, 0.4)}
    found = grid_claim(0.75, finals)
    assert (found.verdict, found.estimate) == ("reproduced", 0.75)
    assert (found.ci_low, found.ci_high) == (0.75, 0.75)
    assert "in 3 of 4 panels" in found.note
    assert grid_claim(0.8, finals).verdict == "contradicted"
    # As good as equal: neither surely below nor surely not.
    unsure = grid_claim(0.75, {**finals, "d": (0.1, 0.1)})
    assert unsure.verdict == "inconclusive"
    assert (unsure.ci_low, unsure.ci_high) == (0.5, 0.75)


def test_grid_claim_is_held_against_the_papers_own_count():
    """Of these two architectures the figure has the LSTM below NAG in one, 1 × 20."""
    places = {"a": "1x5", "b": "1x20"}
    for ends, expected, differing in (
        ({"a": (0.2, 0.1), "b": (0.1, 0.2)}, "reproduced", "none"),
        ({"a": (0.1, 0.2), "b": (0.2, 0.1)}, "reproduced", "a, b"),
        ({"a": (0.2, 0.1), "b": (0.2, 0.1)}, "contradicted", "b"),
    ):
        found = grid_claim(None, ends, places)
        assert found.verdict == expected
        assert found.note.endswith(
            f"in the paper in 1 of 2, otherwise than here in {differing}; one training"
        )


def test_panel_of_which_nothing_is_known_may_be_below():
    """Of two trainings the intervals' ends are unknown."""
    found = grid_claim(1.0, {"a": (0.1, 0.2)}, trainings=["LSTM 2"])
    assert (found.verdict, found.estimate) == ("inconclusive", 1.0)
    assert (found.ci_low, found.ci_high) == (0.0, 1.0)


def test_grid_claim_on_several_trainings_is_not_on_one():
    found = grid_claim(1.0, {"a": (0.1, 0.2)}, trainings=["LSTM 2", "LSTM 3"])
    assert "on average over 3 trainings" in found.note
    assert "one training" not in found.note


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"grid": "h"}, "no grid 'h' in e"),
        ({"baselines": ["SGD"]}, "no optimizer 'SGD'"),
        ({"trainings": ["LSTM"]}, "trainings: 'LSTM' is named twice"),
        ({"trainings": ["LSMT"]}, "trainings: no optimizer 'LSMT'.*'LSTM'"),
    ],
)
def test_wrong_names_in_a_grid_claim_are_refused(option, told):
    with pytest.raises(SuiteError, match=told):
        grid_claim(0.5, {"a": (0.1, 0.2)}, **option)
