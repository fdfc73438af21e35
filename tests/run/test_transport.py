"""Cells' folders as bytes: everything arrives, and nothing gets out of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from l2l.suite.core.errors import SuiteError
from l2l.suite.run.ray.transport import pack, unpack


def test_what_is_packed_is_unpacked(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "a.csv").write_bytes(b"1\r\n\0")
    (here / "cell.json").write_text("{}")
    unpack(pack(here), there)
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {
        "a.csv": b"1\r\n\0",
        "cell.json": b"{}",
    }


def test_only_the_folders_own_files_travel(tmp_path: Path) -> None:
    folder, secret = tmp_path / "cell", tmp_path / "secret"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text("")
    secret.write_text("secret")
    (folder / "link").symlink_to(secret)
    (folder / ".half.txt").write_text("")
    (folder / "log.txt").write_text("")
    assert pack(folder) == {"log.txt": b""}
    assert pack(tmp_path / "not there") == {}


@pytest.mark.parametrize(
    "name", ["../out", "/etc/out", "a/b", "..", ".", "", ".hidden", "a\\b", "C:out", "a\0b"]
)
def test_no_name_leaves_the_folder_and_nothing_is_written_beside_it(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(SuiteError, match="cannot be the name of a cell's file"):
        unpack({"good": b"", name: b"x"}, tmp_path / "cell")
    assert not list(tmp_path.rglob("*"))


def test_link_in_the_folder_is_replaced_and_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "cell", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("as it was")
    (folder / "out.txt").symlink_to(outside)
    unpack({"out.txt": b"new"}, folder)
    assert outside.read_text() == "as it was"
    assert (folder / "out.txt").read_text() == "new"


def test_more_than_the_limit_is_refused_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cell"
    monkeypatch.setattr("l2l.suite.run.ray.transport.LIMIT", 10)
    unpack({"a": b"12345", "b": b"12345"}, folder)
    with pytest.raises(SuiteError, match="larger than"):
        unpack({"a": b"123456", "c": b"12345"}, folder)
    monkeypatch.setattr("l2l.suite.run.ray.transport.LIMIT", 9)
    with pytest.raises(SuiteError, match="larger than"):
        pack(folder)
    assert (folder / "a").read_bytes() == b"12345"
    assert not (folder / "c").exists()


def test_record_that_says_done_is_written_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(
        "l2l.suite.run.ray.transport.write_bytes_atomic", lambda path, data: order.append(path.name)
    )
    unpack({"cell.json": b"", "z": b"", "a": b""}, tmp_path)
    assert order[-1] == "cell.json"
