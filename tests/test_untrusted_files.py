"""Files of any content: a reader takes them or says in one sentence why not, and never crashes."""

from __future__ import annotations

import io
import json
import resource
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fake_kinds import fake_kind
from flax_files import array, flax_file, packed, pylo, small_fc_lopt
from fuzzing import TEXTS, VALUES, altered, damaged, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tidy_curves import condensed, experiment, known, rows

import l2l.suite.inner.pictures
import l2l.suite.report.paper
import l2l.suite.report.result_tables
from l2l.optimizers.learned.checkpoint import load_optimizer, save_optimizer
from l2l.optimizers.learned.published import load_any
from l2l.suite.commands.request import Request, save_request, saved_request
from l2l.suite.commands.status import status_of
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.json import MAX_BYTES, read_json
from l2l.suite.files.parquet import REAL, TEXT, WHOLE, load_parquet
from l2l.suite.files.places import CANDIDATE, CELLS, PAPER, SOURCES, TRAINING_STATE
from l2l.suite.files.provenance import load_provenance
from l2l.suite.files.tensors import DIGEST, digest_of
from l2l.suite.inner.pictures import load_pictures, save_pictures
from l2l.suite.inner.trace_tables import COLUMNS, Traces, load_traces, save_traces
from l2l.suite.meta.state import NUMBERS, TrainingState, load_state, save_state
from l2l.suite.plan.cells import Cell, make_cell
from l2l.suite.plan.definitions import ExperimentInfo, load_experiments, save_experiments
from l2l.suite.plan.plan import Curve, Plan
from l2l.suite.plan.population import read_candidate
from l2l.suite.report.claims.verdicts import check_claims
from l2l.suite.report.collect import collect_tables
from l2l.suite.report.final import final_losses
from l2l.suite.report.result_tables import load_tables, save_tables
from l2l.suite.report.results import SOURCE_COLUMNS, load_sources
from l2l.suite.report.runs import runs_of
from l2l.suite.report.shown_pictures import load_stored_pictures, store_pictures
from l2l.suite.run.folder import open_results
from l2l.suite.run.kinds.evaluate import read_rate
from l2l.suite.run.ray.transport import pack, unpack
from l2l.suite.run.records import record_of
from l2l.suite.run.store import run_cell

SPEC = {"name": "lstm", "preprocessing": "none", "hidden": 2, "layers": 1}
TUNE = make_cell("tune", "t", {"steps": 3, "instances": 2, "problem": {"spec": {"name": "q"}}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("untrusted")


def refused(read: Any, *arguments: Any) -> bool:
    """Whether the reader refuses; any error but the one for users is a failure of the test."""
    try:
        read(*arguments)
    except SuiteError as error:
        assert str(error).isprintable()
        return True
    return False


def written(path: Path, make: Any) -> bytes:
    make(path)
    return path.read_bytes()


def untrained() -> Any:
    made = optimizers.make(SPEC)
    return made.with_weights(made.initial_weights(Rng(0, "phi")))


@fuzzed
@given(data=st.data())
def test_any_checkpoint_is_loaded_or_refused(folder: Path, data: st.DataObject) -> None:
    path = folder / "optimizer.safetensors"
    if data.draw(st.booleans()):
        whole = written(path, lambda p: save_optimizer(p, SPEC, untrained()))
        path.write_bytes(data.draw(damaged(whole)))
    else:
        header = {"format": "learned-optimizer", "version": "1"}
        header["optimizer"] = json.dumps(data.draw(altered(SPEC)))
        parts = optimizers.make(SPEC).layout.split(untrained().phi)
        kind = data.draw(st.sampled_from([torch.float32, torch.int64, torch.bool, torch.bfloat16]))
        save_file({name: part.to(kind) for name, part in parts.items()}, path, header)
    refused(load_optimizer, path)


@fuzzed
@given(data=st.data())
def test_any_file_of_others_is_loaded_or_refused(folder: Path, data: st.DataObject) -> None:
    path = folder / "theta.state"
    match data.draw(st.sampled_from(["msgpack", "array", "safetensors"])):
        case "msgpack":
            whole = flax_file(path, small_fc_lopt()).read_bytes()
            path.write_bytes(data.draw(damaged(whole)))
        case "array":
            inner = data.draw(damaged(packed(array(1)).data))
            flax_file(path, {**small_fc_lopt(), "rms_decays": msgpack.ExtType(1, inner)})
        case "safetensors":
            whole = written(path, lambda p: save_file(pylo(2), p))
            path.write_bytes(data.draw(damaged(whole)))
    refused(load_any, path)


def test_header_nested_deeply_is_refused(folder: Path) -> None:
    path = folder / "deep.safetensors"
    header = {"format": "learned-optimizer", "version": "1", "optimizer": 99_999 * "["}
    save_file({"x": torch.zeros(1)}, path, header)
    assert refused(load_optimizer, path)


def state() -> TrainingState:
    weights = torch.arange(4.0)
    made = TrainingState(
        weights, weights + 2, weights + 1, {"m": weights, "t": torch.tensor(3.0)}, runs=4
    )
    made.record(0.5, 0.5, 3.0, 0.1)
    return made


@fuzzed
@given(data=st.data())
def test_damaged_training_state_is_never_taken_for_another(
    folder: Path, data: st.DataObject
) -> None:
    whole = written(folder / TRAINING_STATE, lambda p: save_state(p.parent, state()))
    (folder / TRAINING_STATE).write_bytes(data.draw(damaged(whole)))
    if not refused(load_state, folder):
        found = load_state(folder)
        assert found is not None
        assert found.log_csv() == state().log_csv()
        assert torch.equal(found.weights, state().weights)
        assert torch.equal(found.moments["t"], state().moments["t"])


@pytest.mark.parametrize("change", [{"runs": '"four"'}, {"log": "{}"}, {"norms": 9999 * "["}])
def test_state_of_wrong_types_is_refused(folder: Path, change: dict[str, str]) -> None:
    header = {name: json.dumps(getattr(state(), name)) for name in NUMBERS} | change
    tensors = {"weights": torch.zeros(3), "best_weights": torch.ones(3)}
    header[DIGEST] = digest_of(tensors, header)
    save_file(tensors, folder / TRAINING_STATE, header)
    with pytest.raises(SuiteError) as told:
        load_state(folder)
    assert "digest" not in str(told.value)


def test_state_without_a_digest_is_refused(folder: Path) -> None:
    save_state(folder, state())
    with safe_open(folder / TRAINING_STATE, "pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, folder / TRAINING_STATE, header)
    assert load_state(folder) is not None
    del header[DIGEST]
    save_file(tensors, folder / TRAINING_STATE, header)
    assert refused(load_state, folder)


@fuzzed
@given(data=st.data())
def test_any_pictures_are_read_or_refused(folder: Path, data: st.DataObject) -> None:
    path = folder / "pictures.safetensors"
    image = torch.zeros(3, 4, 5, dtype=torch.uint8)
    if data.draw(st.booleans()):
        whole = written(path, lambda p: save_pictures(p, {("e", 0, 8): image}))
        path.write_bytes(data.draw(damaged(whole)))
    else:
        name = data.draw(st.one_of(st.text(max_size=9), st.builds(json.dumps, VALUES)))
        others = [image, image[0], image.float(), image[:2], image[:, :0]]
        other = data.draw(st.sampled_from(others))
        save_file({name: other.contiguous()}, path)
    refused(load_pictures, path)


@fuzzed
@given(data=st.data())
def test_any_stored_pictures_are_read_or_refused(folder: Path, data: st.DataObject) -> None:
    path = folder / "stored.safetensors"
    image = torch.zeros(3, 4, 5, dtype=torch.uint8)
    whole = written(path, lambda p: store_pictures(p, {("e", "p", "o", 0, 8): image}))
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(damaged(whole)))
    else:
        name = data.draw(st.one_of(st.text(max_size=9), st.builds(json.dumps, VALUES)))
        (jpeg,) = load_file(path).values()
        content = data.draw(damaged(jpeg.numpy().tobytes())) or b"x"
        other = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        others = [other, image, jpeg.float(), jpeg[:0]]
        save_file({name: data.draw(st.sampled_from(others)).contiguous()}, path)
    refused(load_stored_pictures, path)


def test_picture_of_too_many_pixels_is_refused_unread(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (4096, 4096)).save(buffer, "JPEG")
    content = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
    save_file({json.dumps(["e", "p", "o", 0, 8]): content}, tmp_path / "p.safetensors")
    with pytest.raises(SuiteError, match="4096×4096 pixels"):
        load_stored_pictures(tmp_path / "p.safetensors")


def plan(*cells: Cell) -> Plan:
    return Plan((), tuple(Curve("e", "p", "o", each) for each in cells), cells)


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fake_kind(monkeypatch, lambda job: write_text_atomic(job.folder / "out.txt", "x"), "tune")
    open_results(tmp_path)
    run_cell(TUNE, tmp_path, "cpu")
    return tmp_path


@fuzzed
@given(data=st.data())
def test_any_record_of_a_cell_is_believed_or_not(done: Path, data: st.DataObject) -> None:
    path = TUNE.folder(done) / "cell.json"
    keep = path.with_name("keep")
    if not keep.exists():
        keep.write_bytes(path.read_bytes())
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(damaged(keep.read_bytes())))
    else:
        path.write_text(json.dumps(data.draw(altered(json.loads(keep.read_text())))))
    record_of(TUNE, done)
    for name in ("progress.json", "failed.json"):
        (TUNE.folder(done) / name).write_text(json.dumps(data.draw(altered({"done": 1, "pid": 2}))))
    json.dumps(asdict(status_of(plan(TUNE), done)))


@pytest.mark.parametrize("name", ["../../version.json", "/etc/hostname", "a\0b", "", ".."])
def test_record_never_leads_out_of_its_folder(done: Path, name: str) -> None:
    path = TUNE.folder(done) / "cell.json"
    record = json.loads(path.read_text())
    record["files"] = {name: "0"}
    path.write_text(json.dumps(record))
    assert record_of(TUNE, done) is None


@fuzzed
@given(data=st.data())
def test_any_request_is_taken_or_refused(folder: Path, data: st.DataObject) -> None:
    path = folder / CELLS / "request.json"
    whole = written(path, lambda _: save_request(Request(("fig4",), "smoke", ("a=1",), 3), folder))
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(damaged(whole)))
    else:
        path.write_text(json.dumps(data.draw(altered(json.loads(whole)))))
    refused(saved_request, folder)


@fuzzed
@given(content=altered({"learning_rate": 0.1}))
def test_anyread_rate_is_taken_or_refused(folder: Path, content: Any) -> None:
    path = folder / "best.json"
    path.write_text(json.dumps(content))
    if not refused(read_rate, path):
        assert 0 < read_rate(path) < float("inf")


@fuzzed
@given(content=st.one_of(VALUES, altered({"commit": "abc", "seeds": {"e": 1}})))
def test_any_provenance_is_taken_or_refused(folder: Path, content: Any) -> None:
    path = folder / "provenance.json"
    path.write_text(json.dumps(content))
    refused(load_provenance, path)


def info() -> ExperimentInfo:
    return experiment(["LSTM", "ADAM"], "ends_below_all", {"panel": "p", "optimizer": "LSTM"})


RUNS = pd.concat([rows("LSTM", 0.1, instances=3), rows("ADAM", 0.2, instances=3)])
TABLES = condensed(info(), RUNS)
KNOWN = known(TABLES)


@fuzzed
@given(data=st.data())
def test_any_definition_is_reported_or_refused(folder: Path, data: st.DataObject) -> None:
    path = folder / "experiments.json"
    whole = written(path, lambda p: save_experiments(p, [info()]))
    path.write_text(json.dumps(data.draw(altered(json.loads(whole)))))

    def report() -> None:
        found = load_experiments(path)
        final_losses(found, *KNOWN)
        check_claims(found, *KNOWN)

    refused(report)


@pytest.mark.parametrize("name", ["../../escaped", "a/b", "", "."])
def test_definition_whose_figure_would_leave_the_folder_is_refused(folder: Path, name: str) -> None:
    path = folder / "experiments.json"
    save_experiments(path, [info()])
    path.write_text(path.read_text().replace('"name": "e"', f'"name": "{name}"'))
    with pytest.raises(SuiteError, match="letters, digits"):
        load_experiments(path)


@fuzzed
@given(data=st.data())
def test_any_table_is_read_or_refused(folder: Path, data: st.DataObject) -> None:
    save_tables(folder, TABLES)
    name = data.draw(st.sampled_from(["curves", "losses", "scores"]))
    path = folder / f"{name}.parquet"
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(damaged(path.read_bytes())))
    else:
        table = TABLES.by_name()[name][:20]
        column = data.draw(st.sampled_from(list(table)))
        values = data.draw(st.sampled_from([None, "x", 1, 2.5, True, float("nan"), b"x"]))
        some = [values if data.draw(st.booleans()) else table[column].iloc[0]] * len(table)
        changed = pa.table({**{c: table[c].tolist() for c in table}, column: pa.array(some)})
        pq.write_table(changed, path)

    refused(lambda: known(load_tables(folder)))


def test_missing_column_of_text_is_a_sentence(tmp_path: Path) -> None:
    pd.DataFrame({"panel": ["a"], "loss": [1.0]}).to_parquet(tmp_path / "curves.parquet")
    with pytest.raises(SuiteError, match=r"one of the columns experiment, .* is missing"):
        load_tables(tmp_path)


def test_text_that_stands_in_too_many_rows_is_refused_before_it_takes_memory(
    tmp_path: Path,
) -> None:
    rows, text = 100_000, "x" * 100_000
    once = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [text])
    kinds = l2l.suite.report.result_tables.COLUMNS["curves"]
    columns = {name: once if kind == TEXT else np.zeros(rows, int) for name, kind in kinds.items()}
    pq.write_table(pa.table(columns), tmp_path / "curves.parquet")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SuiteError, match="10,000,000,000 bytes of text"):
        load_tables(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_parquet_that_stands_for_too_many_rows_is_refused_unread(folder: Path) -> None:
    path = folder / "rows.parquet"
    pq.write_table(pa.table({"loss": pa.array([0.0]).take(pa.array([0] * 10**5))}), path)
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match="100,000 rows, but must be at most 99,999"):
        load_parquet(path, {"loss": REAL}, max_rows=99_999)


def test_runs_that_would_take_a_huge_table_are_refused() -> None:
    sparse = RUNS[:20].assign(instance=range(20), step=range(20))
    with pytest.raises(SuiteError, match="lacks a loss of some instance and step"):
        runs_of(sparse, "these")


def test_curve_with_more_rows_than_its_cell_has_runs_is_refused(tmp_path: Path) -> None:
    cell = make_cell("evaluate", "e", {**TUNE.config, "instances": 1})

    def work(job: Any) -> None:
        RUNS.to_parquet(job.folder / "curves.parquet", index=False)

    with pytest.MonkeyPatch.context() as patch:
        fake_kind(patch, work, "evaluate")
        open_results(tmp_path)
        run_cell(cell, tmp_path, "cpu")
    with pytest.raises(SuiteError, match="must be at most 4"):
        collect_tables(plan(cell), tmp_path, [experiment(["o"])])


@pytest.mark.parametrize("name", ["x/../../../escaped", "a/b", "..", ""])
def test_panel_whose_pictures_would_leave_the_folder_is_refused(folder: Path, name: str) -> None:
    path = folder / "experiments.json"
    save_experiments(path, [info()])
    path.write_text(path.read_text().replace('"name": "p"', f'"name": "{name}"'))
    with pytest.raises(SuiteError, match="letters, digits"):
        load_experiments(path)


def some_traces() -> Traces:
    kinds: dict[str, Any] = {TEXT: "LSTM", WHOLE: 1, REAL: 0.5}
    return Traces(
        **{
            name: pd.DataFrame({column: [kinds[kind]] * 8 for column, kind in columns.items()})
            for name, columns in COLUMNS.items()
        }
    )


@fuzzed
@given(data=st.data())
def test_any_traces_are_read_or_refused(folder: Path, data: st.DataObject) -> None:
    save_traces(some_traces(), folder)
    path = folder / f"{data.draw(st.sampled_from(list(COLUMNS)))}.parquet"
    match data.draw(st.sampled_from(["damaged", "changed", "gone"])):
        case "damaged":
            path.write_bytes(data.draw(damaged(path.read_bytes())))
        case "changed":
            table = pd.read_parquet(path)
            column = data.draw(st.sampled_from(list(table)))
            value = data.draw(st.sampled_from([None, "x", 1, 2.5, True, b"x"]))
            table.assign(**{column: [value] * 8}).to_parquet(path, index=False)
        case "gone":
            path.unlink()
    refused(load_traces, folder)


@fuzzed
@given(content=st.one_of(VALUES, altered({"rate": 0.1, "seed": 3})))
def test_any_candidate_is_taken_or_refused(folder: Path, content: Any) -> None:
    path = folder / CANDIDATE
    path.write_text(json.dumps(content))
    if not refused(read_candidate, path):
        assert isinstance(read_candidate(path).seed, int)


@fuzzed
@given(data=st.data())
def test_any_table_of_sources_is_read_or_refused(folder: Path, data: st.DataObject) -> None:
    row = ["e", "p", "LSTM", "tune-a-0", "tune", "2026", "abc", "a machine", 1.5, 12, 100, 4, 8.0]
    row += [8.3, 1.1, 1.0]
    table = pd.DataFrame([row] * 3, columns=list(SOURCE_COLUMNS))
    whole = table.to_csv(index=False).encode()
    (folder / SOURCES).write_bytes(data.draw(damaged(whole)))
    if not refused(load_sources, folder / SOURCES):
        assert tuple(load_sources(folder / SOURCES)) == SOURCE_COLUMNS


@fuzzed
@given(
    files=st.dictionaries(
        st.one_of(TEXTS, st.sampled_from(["cell.json", ".hidden", "a\\b", "c:d", "x" * 300])),
        st.binary(max_size=9),
        max_size=5,
    )
)
def test_nothing_that_comes_back_is_written_outside_its_folder(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    if not refused(unpack, files, outside / "cell"):
        assert pack(outside / "cell") == dict(files)
    assert [path.name for path in outside.iterdir()] in ([], ["cell"])


@fuzzed
@given(data=st.data())
def test_any_curves_of_the_paper_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(list(l2l.suite.report.paper.COLUMNS)))
    whole = (PAPER / name).read_bytes()[:600]
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.getbasetemp()
        patch.setattr(l2l.suite.report.paper, "PAPER", folder)
        (folder / name).write_bytes(data.draw(damaged(whole)))
        refused(l2l.suite.report.paper._read, name)


def test_large_files_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "large").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert read_json(folder / "large") is None
    monkeypatch.setattr(l2l.suite.report.paper, "PAPER", folder)
    with (folder / "figure_curves.csv").open("wb") as file:
        file.truncate(l2l.suite.report.paper.MAX_BYTES + 1)
    with pytest.raises(SuiteError, match="more than"):
        l2l.suite.report.paper._read("figure_curves.csv")
    with (folder / "large.safetensors").open("wb") as file:
        file.truncate(l2l.suite.inner.pictures.MAX_BYTES + 1)
    with pytest.raises(SuiteError, match="larger than"):
        load_pictures(folder / "large.safetensors")
