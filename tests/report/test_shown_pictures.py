"""Pictures of a results folder."""

from __future__ import annotations

from pathlib import Path

import torch

from l2l.suite.report.shown_pictures import load_stored_pictures, store_pictures


def test_pictures_lose_nothing_when_they_are_stored_again(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (3, 24, 32), generator=generator, dtype=torch.uint8)
    store_pictures(tmp_path / "a", {("ADAM", 0, 8): noise})
    store_pictures(tmp_path / "b", load_stored_pictures(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    (picture,) = load_stored_pictures(tmp_path / "b").values()
    assert picture.shape == noise.shape
    assert (picture.float() - noise.float()).abs().mean() < 20
