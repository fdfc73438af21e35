"""YAML is read as version 1.2 says, keys as the text they are, and authors' slips are explained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import command
from hypothesis import given
from hypothesis import strategies as st

from l2l.suite.commands.request import find_experiments
from l2l.suite.core.convert import convert
from l2l.suite.core.errors import SuiteError
from l2l.suite.files.yaml import dump_yaml, parse_yaml, read_yaml
from l2l.suite.plan.config import Experiment
from l2l.suite.plan.profiles import build, read_experiment


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-1E5", -1e5),
        (".5", 0.5),
        ("1.", 1.0),
        ("5", 5),
        ("010", 10),
        ("0o17", 15),
        ("0x1f", 31),
        ("-.inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("on", "on"),
        ("No", "No"),
        ("y", "y"),
        ("1:30", "1:30"),
        ("2016-06-14", "2016-06-14"),
        ("1_000", "1_000"),
        ("0,1", "0,1"),
        ("=", "="),
        ('"1e-3"', "1e-3"),
        (r'"\ud83d\ude00"', "😀"),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse_yaml(text)
    assert found == value
    assert type(found) is type(value)


def test_key_is_the_text_that_it_is_written_as() -> None:
    keys = ["on", "yes", "no", "null", "true", "1e-3", "0.10", "010", "2016-06-14"]
    assert list(parse_yaml("\n".join(f"{key}: 1" for key in keys))) == keys
    assert parse_yaml("base: &b {on: 1, x: 2}\nc: {<<: *b, x: 3}")["c"] == {"on": 1, "x": 3}


# PyYAML itself loses some control characters.
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]))
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    TEXT,
    st.sampled_from(["on", "1e-3", "0o17", "1:30", "5e3", "<<", "", "~", "010", "é", "1_0"]),
)


@given(data=st.dictionaries(TEXT, st.one_of(PLAIN, st.lists(PLAIN))))
def test_what_is_written_is_read_back_by_this_and_by_other_readers(data: dict[str, Any]) -> None:
    text = dump_yaml(data)
    assert parse_yaml(text) == data
    assert yaml.safe_load(text) == data


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: .* the key 'a' is duplicated"),
        ("a: 1\nb: {on: 1, on: 2}", "line 2: .* the key 'on' is duplicated"),
        ("sizes:\n\ttest_instances: 4", "line 2: .* a tab stands where YAML takes spaces only"),
        (r'a: "\ud800"', "line 1: .* half a character"),
    ],
)
def test_slip_is_told_with_its_line(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        ("0,1", float, "x is '0,1', but must be a number; write 0.1, without quotes"),
        ("0,1", int, "x is '0,1', but must be a whole number$"),
        ("1_000", int, "x is '1_000', but must be a whole number; write 1000, without quotes"),
        ("1e-3", float, "write 1e-3"),
        ("fast", float, "x is 'fast', but must be a number$"),
    ],
)
def test_number_that_yaml_takes_for_text_is_shown_as_it_must_be_written(
    value: str, kind: type, told: str
) -> None:
    with pytest.raises(SuiteError, match=told):
        convert(value, kind, "x")


def with_optimizers(text: str) -> str:
    """An experiment with these optimizers, without claims and training."""
    return (
        "title: Tiny\nsizes: {test_instances: 4, tuning_instances: 2}\npanels:\n  quadratics: "
        f"{{title: Q, problem: {{name: quadratic, dim: 3}}, steps: 10, optimizers: {text}}}\n"
    )


def experiment(folder: Path, text: str, name: str = "tiny.yaml") -> Experiment:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    (found,) = build([read_experiment(path)], "quick", [])
    return found


def test_labels_stay_text_and_numbers_numbers(tmp_path: Path) -> None:
    text = with_optimizers("{on: {name: sgd, lr: 1e-3}, 1e-2: {name: sgd, lr: 1e-2}}")
    optimizers = experiment(tmp_path, text).panels["quadratics"].optimizers
    assert list(optimizers) == ["on", "1e-2"]
    assert optimizers["on"]["lr"] == 0.001
    text = text.replace("panels:", "grids:").replace(
        "{title", "{over: {scale: [1e-3]}, panel: {title"
    )
    assert experiment(tmp_path, text.strip() + "}").grids["quadratics"].over["scale"] == (0.001,)


def test_decimal_comma_is_told_with_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(with_optimizers("{SGD: {name: sgd, lr: 0,1}}"), encoding="utf-8")
    done = command("run", path, "--results", tmp_path / "out")
    assert done.exit_code == 2
    assert "a number is written with a point, such as 0.1" in done.stderr
    path.write_text(with_optimizers("{SGD: {name: sgd, lr: '0,1'}}"), encoding="utf-8")
    done = command("run", path, "--results", tmp_path / "out")
    assert "write 0.1, without quotes" in done.stderr


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("my exp 1.yaml", "my-exp-1"),
        ("x.YAML", "x"),
        ("v1.2.yml", "v1-2"),
        ("实验.yaml", "experiment"),
    ],
)
def test_experiments_file_may_be_called_as_it_likes(tmp_path: Path, file: str, name: str) -> None:
    assert experiment(tmp_path, with_optimizers("{SGD: {name: sgd}}"), file).name == name
    assert find_experiments([str(tmp_path / file)]) == [tmp_path / file]


def test_file_of_another_kind_is_told_from_a_misspelt_name(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("", encoding="utf-8")
    with pytest.raises(SuiteError, match=r"must end in \.yaml or \.yml"):
        find_experiments([str(tmp_path / "mine.txt")])


def test_text_of_other_encodings_is_a_sentence_and_a_mark_of_utf_8_none(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("title: é", encoding="utf-8-sig")
    assert read_yaml(path) == {"title": "é"}
    path.write_text("title: é", encoding="cp1252")
    with pytest.raises(SuiteError, match="must be text in UTF-8"):
        read_yaml(path)


def test_what_was_read_may_be_changed_without_changing_what_is_read_next() -> None:
    text = "a: {b: [1]}"
    parse_yaml(text)["a"]["b"].append(2)
    assert parse_yaml(text) == {"a": {"b": [1]}}
