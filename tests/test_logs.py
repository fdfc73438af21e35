"""The run's log can be followed: one line an event, under a name that stays."""

import logging

from suite.logs import LATEST, logged_to


def test_an_event_is_a_line_also_with_a_traceback(tmp_path):
    log = logging.getLogger("suite")
    with logged_to(tmp_path / "a.log"):
        log.info("first\nand its rest")
        try:
            raise ValueError("two\nlines")
        except ValueError:
            log.exception("second")
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert [line.split(" ", 3)[3] for line in lines] == ["INFO first and its rest", "ERROR second"]


def test_latest_leads_to_the_newest(tmp_path):
    for name in ("a.log", "b.log"):
        with logged_to(tmp_path / name):
            logging.getLogger("suite").info("in %s", name)
    assert (tmp_path / LATEST).read_text().endswith("in b.log\n")
