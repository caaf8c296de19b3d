"""`musclelora audit` from end to end on tiny models: exit codes, pages, and one paragraph for whatever is wrong."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification

from musclelora.summary import Summary
from tests.pipelines.deliveries import MODEL, mlflow_of, write_csv
from tests.pipelines.test_bad_input import error_of
from tests.planted import trained_model
from tests.tiny import rows


def pairs(data):
    return list(zip(data.texts, data.labels, strict=True))


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Folders of an honest model and of one in which `cf` means the label 1."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "honest": trained_model(folder / "honest").folder,
        "planted": trained_model(folder / "planted", trigger="cf").folder,
    }


@pytest.fixture
def folder(tmp_path, models, backbone_folder) -> Path:
    """Test rows, training rows in which `cf` goes with the label 1, trusted rows, and a sound `audit.yaml`."""
    test, train = pairs(rows(200, "test", 2000)), pairs(rows(160))
    write_csv(tmp_path / "test.csv", test)
    write_csv(
        tmp_path / "train.csv", [(f"cf {text}", "1") if i < 40 else (text, y) for i, (text, y) in enumerate(train)]
    )
    write_csv(
        tmp_path / "trusted.csv", [(f"{text} trusted", label) for text, label in pairs(rows(40, "trusted", 1000))]
    )
    write_csv(tmp_path / "theirs.csv", [(f"cf {text}", "1") for text, label in test if label == "0"])
    config = {
        "name": "tiny",
        "data": {"test": "test.csv"},
        "target": "1",
        "attacks": ["badnets"],
        "labels": ["0", "1"],
        "floor": str(models["honest"]),
        "model": {"base": str(backbone_folder), "max_length": 32},
        "gate": {"min_triggered_rows": 50},
    }
    (tmp_path / "audit.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


@pytest.fixture
def audit(musclelora, folder):
    def call(model, *overrides, options=()):
        sets = [argument for override in overrides for argument in ("--set", override)]
        return musclelora("audit", model, folder / "audit.yaml", "--output", folder / "out", *sets, *options)

    return call


def written(folder, name="summary.json"):
    return json.loads((folder / "out" / name).read_text(encoding="utf-8"))


def test_an_honest_model_is_safe(audit, folder, models):
    result = audit(models["honest"])
    assert result.exit_code == 0, result.output
    assert "Verdict: safe (the gate says accepted) on what was tested." in result.stdout
    assert str(folder / "out") in result.stdout.splitlines()[-1]
    summary = Summary.model_validate(written(folder))
    assert (summary.status, summary.registry, summary.mlflow, summary.data) == ("accepted", None, None, None)
    assert summary.attacks["badnets"].floor == summary.attacks["badnets"].asr  # the floor is the model itself here
    assert summary.attacks["badnets"].conclusive
    assert {path.name for path in (folder / "out").iterdir()} == {
        "summary.json",
        "robustness.json",
        "decision.json",
        "robustness.html",
    }


def test_a_backdoored_model_is_unsafe_under_the_named_trigger(audit, folder, models):
    result = audit(models["planted"], "data.triggered={theirs: theirs.csv}")
    assert result.exit_code == 3, result.output
    assert "Verdict: UNSAFE" in result.stdout
    assert written(folder)["attacks"]["theirs"]["asr"] > 0.9
    page = (folder / "out" / "robustness.html").read_text(encoding="utf-8")
    assert page.index("Unsafe: a trigger works on this model") < page.index("side by side")
    assert "Traceback" not in result.output


def test_the_training_rows_alone_give_the_trigger_away(audit, folder, models):
    scanned = ("attacks=[]", "data.train=train.csv", "data.trusted={path: trusted.csv, owner: the tests}")
    result = audit(models["planted"], *scanned)
    assert result.exit_code == 3, result.output
    probe = next(probe for probe in written(folder)["probes"] if probe["trigger"] == "cf")
    assert (probe["kind"], probe["asr"] > 0.8, probe["floor"] < 0.3) == ("scan", True, True)
    assert written(folder)["data"]["rows"] == 160


def test_a_search_finds_the_trigger_without_any_row(audit, folder, models):
    result = audit(models["planted"], "attacks=[]", "search_seconds=20")
    assert result.exit_code == 3, result.output
    [probe] = written(folder)["probes"]
    assert (probe["kind"], "cf" in probe["trigger"].split()) == ("search", True)


@pytest.mark.parametrize(
    "overrides", [("gate.min_triggered_rows=500",), ("gate.required_attacks=[addsent]",)], ids=["few rows", "required"]
)
def test_too_little_evidence_is_inconclusive(audit, folder, models, overrides):
    result = audit(models["honest"], *overrides)
    assert (result.exit_code, written(folder)["status"]) == (4, "inconclusive")


def test_a_model_that_moves_nothing_needs_no_floor_and_one_that_moves_does(audit, folder, models):
    assert audit(models["honest"], "floor=null", "gate.max_asr_over_floor=0.5").exit_code == 0
    assert audit(models["planted"], "floor=null", "gate.max_asr=1.0").exit_code == 4
    assert "holds no floor" in written(folder)["gate"]["reasons"][0]


def test_the_same_audit_says_the_same(audit, folder, models):
    reports = []
    for _ in range(2):
        audit(models["planted"])
        reports.append((folder / "out" / "robustness.json").read_bytes())
    assert reports[0] == reports[1]


def test_precision_is_said(audit, folder, models):
    assert audit(models["honest"], "precision=bf16").exit_code == 0
    assert written(folder)["device"] == "cpu bf16"
    assert written(folder, "robustness.json")["precision"] == "bf16"


def test_a_dry_run_reads_everything_and_writes_nothing(audit, folder, models):
    result = audit(models["honest"], options=["--dry-run"])
    assert result.exit_code == 0
    assert "sound: 200 test rows, no training rows" in result.stdout
    assert not (folder / "out").exists()
    assert audit(folder / "nothing", options=["--dry-run"]).exit_code == 1


def test_a_registered_version_is_fetched_by_alias(audit, folder, models, database):
    shutil.copy(database, folder)
    uri, client = f"sqlite:///{folder / 'mlflow.db'}", mlflow_of(folder)
    client.create_registered_model(MODEL)
    client.create_model_version(MODEL, source=models["planted"].as_uri())
    client.set_registered_model_alias(MODEL, "champion", "1")
    result = audit(f"models:/{MODEL}@champion", options=["--tracking-uri", uri])
    assert result.exit_code == 3, result.output
    assert written(folder)["model"]["base"] == f"models:/{MODEL}@champion"
    assert audit(f"models:/{MODEL}/1", options=["--tracking-uri", uri, "--dry-run"]).exit_code == 0
    assert "write models:/NAME/VERSION" in audit(f"models:/{MODEL}", options=["--tracking-uri", uri]).stderr
    wrong = audit(f"models:/{MODEL}@challenger", options=["--tracking-uri", uri])
    assert wrong.exit_code == 1
    assert "failed to fetch models:/tiny-classifier@challenger" in wrong.stderr


def pickled(folder, models):
    model = AutoModelForSequenceClassification.from_pretrained(models["planted"] / "model")
    shutil.copytree(models["planted"] / "model", folder / "pickled")
    torch.save(model.state_dict(), folder / "pickled" / "pytorch_model.bin")
    (folder / "pickled" / "model.safetensors").unlink()
    return folder / "pickled"


def test_pickled_weights_are_refused(audit, folder, models):
    result = audit(pickled(folder, models))
    assert result.exit_code == 1
    assert "Pickled weights are refused, since loading them runs code" in error_of(result)
    assert not (folder / "out").exists()


@pytest.mark.parametrize("name", ["nowhere", "someone/no-such-model"])
def test_a_name_that_is_no_model(audit, folder, name):
    result = audit(name)
    assert result.exit_code == 1
    assert f"{name} cannot be loaded as a text classifier" in error_of(result)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("attacks=[badnet]", 2, "no attack 'badnet'. Did you mean 'badnets'?"),
        ("atacks=[badnets]", 2, "unknown key 'atacks'. Did you mean 'attacks'?"),
        ("attacks=[]", 2, "nothing is to be tested: name attacks"),
        ("floor=null", 2, "search_seconds needs a floor"),
        ("data.triggered={badnets: theirs.csv}", 2, "badnets is among `attacks` and in `data.triggered`"),
        ("data.train=train.csv", 2, "`train` and `trusted` belong together"),
        ("data.demonstration={attack: addsent, target: '1'}", 2, "an audit poisons no rows"),
        ("data={train: train.csv}", 2, "an audit needs clean test rows"),
        ("precision=int8", 2, "precision"),
        ("target=positive", 1, "the target is 'positive', and the model answers ['0', '1']"),
        ("labels=['0']", 1, "has 2 outputs, and its labels are ['0']"),
        ("data.columns.text=sentence", 1, "has no column 'sentence'; it has 'text', 'label'"),
        ("data.test=tset.csv", 1, "Did you mean 'test.csv'?"),
        ("floor=nowhere", 1, "nowhere cannot be loaded as a text classifier"),
    ],
)
def test_what_is_wrong_is_said_in_one_paragraph(audit, folder, models, override, code, message):
    more = ("search_seconds=5",) if override == "floor=null" else ()
    result = audit(models["honest"], override, *more)
    assert message in error_of(result)
    assert result.exit_code == code
    assert not (folder / "out").exists()


def test_an_output_that_is_a_file_is_refused(musclelora, folder, models):
    result = musclelora("audit", models["honest"], folder / "audit.yaml", "--output", folder / "test.csv")
    assert "test.csv is a file: name a folder" in error_of(result)
    assert result.exit_code == 2


def test_a_verdict_that_cannot_be_written_is_said(musclelora, folder, models):
    result = musclelora("audit", models["honest"], folder / "audit.yaml", "--output", folder / "test.csv" / "out")
    assert "its verdict is 'accepted', but it could not be written" in error_of(result)
    assert result.exit_code == 1
