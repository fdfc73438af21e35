"""What cells.csv says of an optimizer that comes along trained."""

import json

from l2l.suite.files.places import TRAINING_SECONDS
from l2l.suite.report.sources import shipped_row


def test_row_has_the_runs_of_the_file_and_the_seconds_that_are_known_of_it() -> None:
    known = json.loads(TRAINING_SECONDS.read_text())
    row = shipped_row("cifar10")
    assert row == {"cell": "cifar10", "kind": "shipped", "runs": 160, "seconds": known["cifar10"]}


def test_row_is_silent_on_a_training_whose_time_nobody_noted() -> None:
    assert "seconds" not in shipped_row("neural-art")
