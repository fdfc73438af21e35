"""Files are there whole or not at all."""

import pytest

from l2l.suite.core.errors import SuiteError
from l2l.suite.files.atomic import atomic_path, write_text_atomic


def test_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path):
    path = tmp_path / "final.csv"
    write_text_atomic(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half of the new")
        1 / 0  # noqa: B018
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_text_is_written_as_it_is(tmp_path):
    path = tmp_path / "tables" / "final.md"
    write_text_atomic(path, "θ ± 1\n")
    assert path.read_bytes() == "θ ± 1\n".encode()


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SuiteError, match=r"cannot write .*a\.csv: .*choose a folder"):
        write_text_atomic(tmp_path / "file" / "a.csv", "")


def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.csv"
    write_text_atomic(path, "old")
    with pytest.raises(SuiteError, match="No space left"), atomic_path(path):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
