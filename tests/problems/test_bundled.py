"""Data that come along: their splits are apart, balanced, scaled, and need no data folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import l2l.problems.bundled
from l2l.problems.bundled import ALPHABET, TABLES, TEXT, table, text, text_fingerprint
from l2l.problems.characters import CharRNN
from l2l.problems.data_root import DATA_ROOT
from l2l.problems.dense import Dense
from l2l.suite.core.errors import DataMissing

ROWS = {"breast-cancer": 569, "diabetes": 442, "digits": 1797, "wine": 178}


@pytest.mark.parametrize("name", TABLES)
def test_a_fifth_of_each_class_is_held_out(name: str) -> None:
    train, apart = table(name), table(name, train=False)
    assert len(train.inputs) + len(apart.inputs) == ROWS[name]
    if train.classes:
        counts = [split.targets.sum(0) for split in (train, apart)]
        whole = counts[0] + counts[1]
        assert ((counts[1] / whole - 0.2).abs() < 0.02).all()
        assert (train.targets.sum(1) == 1).all()
    else:
        assert train.targets.std().item() == pytest.approx(apart.targets.std().item(), rel=0.1)
    known = {tuple(row) for row in train.inputs.tolist()}
    assert not any(tuple(row) in known for row in apart.inputs.tolist())


@pytest.mark.parametrize("name", ["breast-cancer", "diabetes", "wine"])
def test_columns_are_standardised_by_the_training_split(name: str) -> None:
    train, apart = table(name).inputs, table(name, train=False).inputs
    torch.testing.assert_close(train.mean(0), torch.zeros(train.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.std(0, correction=0), torch.ones(train.shape[1]))
    assert apart.mean(0).abs().max() > 0.01, "its own mean would tell of what is held out"


def test_pixels_of_digits_are_from_0_to_1() -> None:
    pixels = table("digits").inputs
    assert (pixels.min(), pixels.max()) == (0, 1)


def test_texts_follow_each_other_in_symbols_of_the_alphabet() -> None:
    assert (len(text()), len(text(train=False))) == (TEXT[True], TEXT[False])
    both = torch.cat([text(), text(train=False)])
    assert both.min() >= 0
    assert both.max() < len(ALPHABET)
    assert (both == 0).float().mean() < 0.03, "few symbols stand for others"
    assert "".join(ALPHABET[i] for i in text()[:13].tolist()) == 'the "assert" '


def test_another_text_has_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = CharRNN().fingerprints()
    other = text().clone()
    other[100] = (other[100] + 1) % len(ALPHABET)
    monkeypatch.setattr(
        l2l.problems.bundled, "text", lambda train=True: other if train else text(train)
    )
    assert CharRNN().fingerprints() != before
    assert text_fingerprint() == CharRNN().fingerprints()["text"]


def test_python_without_its_manual_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    text.cache_clear()
    with pytest.raises(DataMissing, match="this Python lacks its manual"):
        CharRNN().fingerprints()


def test_nothing_is_looked_for_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "not there"))
    table.cache_clear()
    text.cache_clear()
    assert Dense(dataset="wine").fingerprints()
    assert CharRNN().fingerprints()
