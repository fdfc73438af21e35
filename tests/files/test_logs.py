"""The run's log can be followed: one line an event, under a name that stays."""

import logging
from pathlib import Path

import pytest

from l2l.suite.files.logs import logged_to
from l2l.suite.files.places import LATEST


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_full_disk_is_not_told_by_each_line_and_other_logs_are_left_alone(tmp_path, capsys):
    class Broken(logging.Handler):
        def emit(self, record):
            try:
                raise OSError("no room")
            except OSError:
                self.handleError(record)

    (tmp_path / "a.log").symlink_to("/dev/full")
    log, other = logging.getLogger("suite"), logging.getLogger("somebody's own")
    before = log.level, log.propagate, list(log.handlers)
    broken = Broken()
    other.addHandler(broken)
    try:
        with logged_to(tmp_path / "a.log"):
            log.info("a line")
            assert not capsys.readouterr().err
            other.error("a line")
            assert "no room" in capsys.readouterr().err
    finally:
        other.removeHandler(broken)
    assert (log.level, log.propagate, log.handlers) == before
