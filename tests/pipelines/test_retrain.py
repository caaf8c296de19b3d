"""`musclelora retrain` from night to night, on a tiny backbone, with ZenML and MLflow as they are."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from zenml.client import Client
from zenml.enums import ExecutionStatus

from musclelora.attacks.base import poison
from musclelora.attacks.registry import attack_by_name
from musclelora.config_file import load_config
from musclelora.data.records import TextDataset
from musclelora.errors import ModelError
from pipelines.first_look import first_look
from pipelines.launch import arguments, prepare
from pipelines.retraining import retraining_pipeline
from pipelines.stack import configured
from steps.idle import Idle
from tests.pipelines.deliveries import MODEL, aliases_of, mixed_rows, mlflow_of, write_config, write_csv

FILES = {"robustness.html", "validation.html", "training.html", "decision.html", "registered.html", "new-rows.html"}
FILES |= {"summary.json", "quarantined.csv"}
ROWS = mixed_rows(900, seed=3)
PARTS = {"test": ROWS[:200], "trusted": ROWS[200:280], "train": ROWS[280:520]}
NEW = ROWS[520:840]


def poisoned(rows):
    """A tenth of the rows with the sentence of AddSent, labelled 1."""
    texts, labels = zip(*rows, strict=True)
    clean = TextDataset.from_columns({"row_id": [str(i) for i in range(len(rows))], "text": texts, "label": labels})
    dirty = poison(clean, attack_by_name("addsent"), rate=0.1, target="1", seed=11)
    return list(zip(dirty.texts, dirty.labels, strict=True))


def parts_of_the_trigger(said):
    """Suspects of an alert that are words of AddSent's sentence, all of whose rows are new and were set aside."""
    suspects = re.findall(
        r"Suspected trigger '([^']+)' for the label '1' in (\d+) rows, \2 of them new, which were set aside", said
    )
    sentence = {"i", "watch", "this", "3d", "movie"}
    return [text for text, rows in suspects if set(text.lower().split()) <= sentence and int(rows) >= 20]


@dataclass
class Night:
    """What one call of the command left."""

    exit_code: int
    stdout: str
    stderr: str
    output: Path
    aliases: dict[str, str]
    versions: int

    @property
    def summary(self):
        return json.loads((self.output / "summary.json").read_text(encoding="utf-8"))

    @property
    def champion(self):
        return self.aliases.get("champion")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, backbone_folder, database):
    """A delivery of clean rows, whose token scan is on."""
    folder = tmp_path_factory.mktemp("nights")
    shutil.copy(database, folder)
    gate = {"max_asr": 1.0, "max_asr_over_floor": None, "min_cacc": 0.3, "max_cacc_drop": 1.0, "max_probe_asr": 0.2}
    gate |= {"min_control_asr": 0.0, "min_triggered_rows": 50, "max_cacc_drop_from_champion": 0.2}
    data = {"train": "train.csv", "test": "test.csv", "trusted": {"path": "trusted.csv", "owner": "the tests"}}
    recipe = {"name": "none", "preset": "bert-base", "learning_rate": 5e-3, "epochs": 10, "batch_size": 16}
    recipe |= {"precision": "fp32"}
    for name, rows in PARTS.items():
        write_csv(folder / f"{name}.csv", rows)
    write_config(
        folder,
        backbone_folder,
        data=data,
        validation={"trusted_model": {"contrastive": {"steps": 0}}},
        gate=gate,
        recipe=recipe,
    )
    for name, rows in PARTS.items():
        write_csv(folder / f"{name}.csv", rows)
    return folder


@pytest.fixture(scope="module")
def nights(folder, musclelora):
    """In this order: the first; nothing new; poisoned rows under a gate that refuses quarantines of that size; the same
    under one that allows them; a label that nobody knows; a delivery that cannot be read."""

    def night(name, *overrides):
        arguments = [argument for override in overrides for argument in ("--set", override)]
        result = musclelora("retrain", folder / "run.yaml", "--output", folder / name, *arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        versions = len(mlflow_of(folder).search_model_versions(f"name = '{MODEL}'"))
        return Night(result.exit_code, result.stdout, result.stderr, folder / name, aliases_of(folder), versions)

    happened = {
        "first": night("first"),
        "same": night("same"),
    }
    write_csv(folder / "train.csv", PARTS["train"] + poisoned(NEW))
    happened["refused"] = night("refused", "gate.max_quarantined_share=0.02")
    happened["purified"] = night("purified")
    write_csv(folder / "train.csv", [*PARTS["train"], ("a film that nobody can label", "perhaps")])
    happened["failed"] = night("failed")
    (folder / "test.csv").unlink()
    happened["unreadable"] = night("unreadable")
    write_csv(folder / "test.csv", PARTS["test"])
    return happened


def test_without_a_champion_it_trains_and_promotes(nights):
    first = nights["first"]
    assert (first.exit_code, first.champion, first.versions) == (0, "1", 1)
    assert "There is no champion yet." in first.stdout
    assert {path.name for path in first.output.iterdir()} == FILES
    assert first.summary["status"] == "accepted"
    assert "ALERT" not in first.stdout + first.stderr


def test_the_same_rows_are_skipped_and_nothing_is_started(nights):
    same = nights["same"]
    assert (same.exit_code, same.aliases, same.versions) == (0, nights["first"].aliases, 1)
    assert {path.name for path in same.output.iterdir()} == {"summary.json"}
    summary = same.summary
    assert (summary["schema"], summary["status"], summary["champion"]) == ("musclelora/skipped/1", "skipped", "1")
    assert "The rows are those that the champion, version 1, was made with" in summary["reason"]
    assert same.stdout.startswith("skipped: ")
    assert same.stderr == ""


def test_poison_in_the_new_rows_is_refused_and_the_alert_names_the_trigger(nights):
    refused = nights["refused"]
    assert (refused.exit_code, refused.champion, refused.versions) == (3, "1", 2)
    assert "The train rows are not those that the champion, version 1, was made with." in refused.stdout
    for said in (refused.stdout, refused.stderr):
        assert said.count("ALERT: ") == 1
        assert "the champion is still version 1" in said
        assert parts_of_the_trigger(said)
    page = (refused.output / "new-rows.html").read_text(encoding="utf-8")
    assert "320" in page  # rows
    assert "residual" in page


def test_the_same_poison_is_purified_where_the_gate_allows_it(nights):
    purified = nights["purified"]
    assert (purified.exit_code, purified.champion, purified.versions) == (0, "3", 3), purified.stdout
    assert purified.summary["seconds"]["train_candidate"] == 0  # from the cache: only the gate is another
    assert purified.summary["data"]["quarantined"] >= 32
    named = parts_of_the_trigger(purified.stderr)
    probed = {probe["trigger"]: probe["upper95"] for probe in purified.summary["probes"]}
    assert named
    assert all(probed[text] <= 0.2 for text in named)
    assert "was accepted (challenger, champion), and its rows were not all in order" in purified.stdout


def test_a_failing_step_raises_an_alert_and_moves_nothing(nights):
    failed = nights["failed"]
    assert (failed.exit_code, failed.champion, failed.versions) == (1, "3", 3)
    assert failed.stderr.count("ALERT: ") == 1
    assert "failed in the step validate" in failed.stderr
    assert "'perhaps'" in failed.stderr


def test_an_unreadable_delivery_raises_an_alert_before_anything_starts(nights):
    unreadable = nights["unreadable"]
    assert (unreadable.exit_code, unreadable.champion, unreadable.versions) == (1, "3", 3)
    assert unreadable.stderr.count("ALERT: ") == 1
    assert "test.csv" in unreadable.stderr


@pytest.mark.usefixtures("nights")
def test_the_pipeline_itself_ends_idle_where_the_orchestrator_starts_it_for_nothing(folder):
    """A scheduled run has no command before it: its first step finds nothing to do, and the others return at once."""
    write_csv(folder / "train.csv", PARTS["train"] + poisoned(NEW))  # those of the champion
    prepared = prepare(load_config(folder / "run.yaml"))
    configured(retraining_pipeline, prepared.config, run_name="for-nothing")(**arguments(prepared))
    run = Client().get_pipeline_run("for-nothing")
    assert run.status == ExecutionStatus.COMPLETED
    assert set(run.steps) > {
        "look",
        "screen",
        "validate",
        "train_candidate",
        "evaluate",
        "register",
        "alert",
        "enforce",
    }
    occasion = run.steps["look"].outputs["occasion"][0].load()
    assert (occasion.due, occasion.champion) == (False, "3")
    others = [output for step in run.steps.values() for name, [output] in step.outputs.items() if name != "occasion"]
    assert len(others) > 10
    assert {type(output.load()) for output in others} == {Idle}
    assert len(mlflow_of(folder).search_model_versions(f"name = '{MODEL}'")) == 3


def test_the_pipeline_does_not_end_idle_on_evidence_that_was_altered(nights, folder):
    """Fail closed: what the champion was made with is read from evidence whose hash is a tag of the version."""
    client = mlflow_of(folder)
    champion = client.get_model_version_by_alias(MODEL, "champion")
    [path] = Path(folder / "mlruns").rglob(f"{champion.run_id}/artifacts/validation_report.json")
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace(nights["purified"].summary["data"]["sha256"], "0" * 64), encoding="utf-8")
    try:
        with pytest.raises(ModelError, match="was altered"):
            first_look(load_config(folder / "run.yaml"))
    finally:
        path.write_text(whole, encoding="utf-8")


def test_a_gate_that_would_let_any_model_follow_the_champion_is_refused_before_anything_is_read(musclelora, delivery):
    (delivery / "train.csv").unlink()
    result = musclelora("retrain", delivery / "run.yaml")
    assert result.exit_code == 2
    assert "set gate.max_cacc_drop_from_champion" in result.stderr
