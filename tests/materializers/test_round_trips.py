"""Every artifact type through its materializer and back, on a local artifact store."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from zenml.artifact_stores import LocalArtifactStore, LocalArtifactStoreConfig
from zenml.enums import StackComponentType, VisualizationType
from zenml.materializers.materializer_registry import materializer_registry

import materializers
from materializers.base import PAGE, RECORD, PageMaterializer
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.errors import DataError, ModelError
from musclelora.training.defended_model import DefendedModel
from tests.materializers import examples

Open = Callable[[type, str], PageMaterializer]

RECORDS = {
    materializers.ValidationReportMaterializer: examples.validation_report,
    materializers.RobustnessReportMaterializer: examples.robustness_report,
    materializers.GateDecisionMaterializer: examples.gate_decision,
    materializers.RegisteredVersionMaterializer: examples.registered_version,
    materializers.VouchingMaterializer: examples.vouching,
    materializers.ChampionResultMaterializer: examples.champion_result,
}


@pytest.fixture
def open_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a materializer on a named folder of a store in `tmp_path`."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # loaded models stay in a folder that pytest deletes
    root = tmp_path / "store"
    root.mkdir()
    now = datetime.now(tz=timezone.utc)
    local = LocalArtifactStore(
        name="test",
        id=uuid4(),
        config=LocalArtifactStoreConfig(path=str(root)),
        flavor="local",
        type=StackComponentType.ARTIFACT_STORE,
        user=uuid4(),
        created=now,
        updated=now,
    )

    def open_materializer(kind: type, name: str) -> PageMaterializer:
        local.makedirs(str(root / name))
        return kind(str(root / name), local)

    return open_materializer


def round_trip(open_in: Open, kind: type, data: Any) -> Any:
    """Save, note the hash as ZenML does, load with another materializer."""
    writer = open_in(kind, "artifact")
    writer.save(data)
    reader = open_in(kind, "artifact")
    reader.expected_content_hash = writer.compute_content_hash(data)
    return reader.load(type(data))


@pytest.mark.parametrize("kind", RECORDS)
def test_records_come_back_equal(open_in: Open, kind: type) -> None:
    record = RECORDS[kind]()
    assert round_trip(open_in, kind, record) == record


def test_a_measurement_that_is_no_number_does_not_become_null(open_in: Open) -> None:
    report = examples.robustness_report()
    cacc = report.candidate.cacc.model_copy(update={"value": float("nan")})
    broken = report.model_copy(update={"candidate": report.candidate.model_copy(update={"cacc": cacc})})
    again = round_trip(open_in, materializers.RobustnessReportMaterializer, broken)
    assert again.candidate.cacc.value != again.candidate.cacc.value


def test_rows_come_back_with_their_hash_nulls_and_columns(open_in: Open) -> None:
    dataset = examples.text_dataset()
    again = round_trip(open_in, materializers.TextDatasetMaterializer, dataset)
    assert again.sha256 == dataset.sha256
    assert again.rows.features == dataset.rows.features
    assert again.texts[7] is None


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows_come_back(open_in: Open, rows: int) -> None:
    dataset = examples.text_dataset(rows)
    assert round_trip(open_in, materializers.TextDatasetMaterializer, dataset).sha256 == dataset.sha256


def test_a_selection_and_the_poison_flag_come_back(open_in: Open) -> None:
    columns = {"row_id": ["a", "b", "c"], "text": ["x", "y", "z"], "label": ["0", "1", "0"]}
    dataset = TextDataset.from_columns({**columns, "is_poisoned": [True, False, True]}).where([True, False, True])
    again = round_trip(open_in, materializers.TextDatasetMaterializer, dataset)
    assert again.row_ids == ["a", "c"]
    assert again.column("is_poisoned") == [True, True]


@pytest.mark.parametrize("day", [None, date(2027, 1, 2)])
def test_a_trusted_set_comes_back_with_its_owner_and_its_days(open_in: Open, day: date | None) -> None:
    trusted = replace(examples.trusted_set(expires=day), checked=day)
    again = round_trip(open_in, materializers.TrustedSetMaterializer, trusted)
    assert (again.sha256, again.owner) == (trusted.sha256, trusted.owner)
    assert (again.expires, again.checked) == (day, day)


def test_a_model_folder_comes_back_byte_for_byte(open_in: Open, tmp_path: Path) -> None:
    model = examples.defended_model(tmp_path / "trained")
    again = round_trip(open_in, materializers.DefendedModelMaterializer, model)
    names = sorted(path.relative_to(model.folder) for path in model.folder.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again.folder) for path in again.folder.rglob("*") if path.is_file())
    assert all((model.folder / name).read_bytes() == (again.folder / name).read_bytes() for name in names)
    assert again.record == model.record


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "x.PTH", "deep/er/y.pkl", "z.ckpt"])
def test_pickles_are_neither_saved_nor_loaded(open_in: Open, tmp_path: Path, name: str) -> None:
    model = examples.defended_model(tmp_path / "trained")
    materializer = open_in(materializers.DefendedModelMaterializer, "artifact")
    materializer.save(model)
    for folder in (model.folder, Path(materializer.uri) / "folder"):
        (folder / "adapters" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "adapters" / name).write_bytes(b"\x80\x04N.")
    with pytest.raises(ModelError, match="safetensors"):
        open_in(materializers.DefendedModelMaterializer, "other").save(model)
    with pytest.raises(ModelError, match="safetensors"):
        materializer.load(DefendedModel)


def test_a_folder_that_is_no_model_is_not_saved(open_in: Open, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a defended model"):
        open_in(materializers.DefendedModelMaterializer, "artifact").save(DefendedModel(tmp_path))


def test_an_altered_record_is_not_loaded(open_in: Open) -> None:
    writer = open_in(materializers.GateDecisionMaterializer, "artifact")
    writer.save(examples.gate_decision("refused"))
    writer.expected_content_hash = writer.compute_content_hash(examples.gate_decision("refused"))
    stored = json.loads(writer.read(RECORD))
    writer.write(RECORD, json.dumps({**stored, "decision": "accepted"}).encode())
    with pytest.raises(DataError, match="not what was saved"):
        writer.load(type(examples.gate_decision()))
    writer.write(RECORD, json.dumps({**stored, "decision": "surely"}).encode())
    with pytest.raises(DataError, match="is not a GateDecision"):
        writer.load(type(examples.gate_decision()))


def test_altered_rows_are_not_loaded(open_in: Open) -> None:
    writer = open_in(materializers.TextDatasetMaterializer, "artifact")
    writer.save(examples.text_dataset(10))
    writer.expected_content_hash = writer.compute_content_hash(examples.text_dataset(11))
    with pytest.raises(DataError, match="not what was saved"):
        writer.load(TextDataset)
    writer.write("rows.parquet", b"nothing")
    with pytest.raises(DataError, match="not readable as Parquet"):
        writer.load(TextDataset)


def test_equal_values_have_equal_hashes_and_changed_ones_do_not(open_in: Open, tmp_path: Path) -> None:
    def digest(kind: type, data: Any) -> str:
        return str(open_in(kind, "artifact").compute_content_hash(data))

    rows, trusted = materializers.TextDatasetMaterializer, materializers.TrustedSetMaterializer
    assert digest(rows, examples.text_dataset(9)) == digest(rows, examples.text_dataset(9))
    assert digest(rows, examples.text_dataset(9)) != digest(rows, examples.text_dataset(10))
    assert digest(trusted, examples.trusted_set()) == digest(trusted, examples.trusted_set())
    assert digest(trusted, examples.trusted_set()) != digest(trusted, examples.trusted_set(owner="somebody else"))
    assert digest(trusted, examples.trusted_set()) != digest(trusted, examples.trusted_set(expires=None))

    report = materializers.RobustnessReportMaterializer
    assert digest(report, examples.robustness_report(1.0)) == digest(report, examples.robustness_report(2.0))
    assert digest(report, examples.robustness_report()) != digest(report, examples.robustness_report(candidate_hits=97))
    gate = materializers.GateDecisionMaterializer
    assert digest(gate, examples.gate_decision("accepted")) != digest(gate, examples.gate_decision("refused"))

    model = materializers.DefendedModelMaterializer
    first = digest(model, examples.defended_model(tmp_path / "1", seconds=1.0))
    assert first == digest(model, examples.defended_model(tmp_path / "2", seconds=2.0))
    assert first != digest(model, examples.defended_model(tmp_path / "3", weight=0.75))


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        *RECORDS.items(),
        (materializers.TextDatasetMaterializer, examples.text_dataset),
        (materializers.TrustedSetMaterializer, examples.trusted_set),
    ],
)
def test_each_type_is_registered_and_draws_its_page(open_in: Open, kind: type, make: Callable[[], Any]) -> None:
    data = make()
    assert materializer_registry[type(data)] is kind
    materializer = open_in(kind, "artifact")
    assert materializer.save_visualizations(data) == {materializer.path(PAGE): VisualizationType.HTML}
    assert materializer.read(PAGE).startswith(b"<!DOCTYPE html>")
    assert materializer.extract_metadata(data)


def test_a_model_is_registered_and_draws_its_page(open_in: Open, tmp_path: Path) -> None:
    model = examples.defended_model(tmp_path / "trained")
    materializer = open_in(materializers.DefendedModelMaterializer, "artifact")
    assert materializer_registry[DefendedModel] is materializers.DefendedModelMaterializer
    assert materializer_registry[TrustedSet] is materializers.TrustedSetMaterializer
    materializer.save_visualizations(model)
    assert b"Training: musclelora" in materializer.read(PAGE)
    assert materializer.extract_metadata(model)["sha256"] == model.sha256
