"""Tracking: what is logged can be read back, from any process, and nothing lands in the working directory."""

import json
import socket
from pathlib import Path
from unittest import mock

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.store.tracking.rest_store import RestStore

from musclelora.errors import ConfigError, RegistryError
from musclelora.governance.decision import decide
from musclelora.governance.policy import Policy
from musclelora.governance.tracking import (
    connect,
    ensure_experiment,
    finish_run,
    log_dataset,
    log_report,
    log_training,
    mlflow_errors,
    sqlite_path,
    start_run,
    without_credentials,
)
from tests.governance.conftest import a_record
from tests.governance.reports import a_model_result, a_report, an_attack


def test_an_experiment_is_made_once_with_artifacts_beside_the_database(store: str, tmp_path: Path) -> None:
    first = ensure_experiment(store, "quickstart")

    assert ensure_experiment(store, "quickstart") == first
    assert connect(store).get_experiment(first).artifact_location == str(tmp_path / "store" / "mlruns")
    assert list((tmp_path / "cwd").iterdir()) == []


def test_a_deleted_experiment_is_refused(store: str) -> None:
    connect(store).delete_experiment(ensure_experiment(store, "old"))

    with pytest.raises(RegistryError, match="was deleted"):
        ensure_experiment(store, "old")


def test_the_run_of_a_name_is_found_again_and_another_name_is_another_run(store: str) -> None:
    first = start_run(store, "quickstart", "run 1", {"recipe": "musclelora"})
    finish_run(store, first, "FAILED")

    assert start_run(store, "quickstart", "run 1", {"retry": "yes"}) == first
    assert start_run(store, "quickstart", "run 2", {}) != first
    assert start_run(store, "another", "run 1", {}) != first
    run = connect(store).get_run(first)
    assert (run.info.status, run.info.run_name) == ("RUNNING", "run 1")
    assert (run.data.tags["recipe"], run.data.tags["retry"]) == ("musclelora", "yes")


def test_a_run_name_that_would_break_the_search_is_refused(store: str) -> None:
    with pytest.raises(ConfigError, match="run name"):
        start_run(store, "quickstart", "x' OR '1", {})


def test_training_becomes_a_finished_child_with_params_and_a_curve(store: str) -> None:
    parent = start_run(store, "quickstart", "run", {})

    child = connect(store).get_run(log_training(store, parent, "train", a_record(), "run"))

    assert child.info.status == "FINISHED"
    assert child.data.tags["mlflow.parentRunId"] == parent
    assert child.data.params["recipe.lora.rank"] == "4"
    assert child.data.params["recipe.radial_scaling"] == "null"
    assert json.loads(child.data.params["label_names"]) == ["negative", "positive"]
    assert "curve" not in child.data.params
    history = connect(store).get_metric_history(child.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5)]
    assert {"dev_accuracy", "aligned", "mixed", "raw", "seconds"} <= set(child.data.metrics)
    assert "reference_loss" not in child.data.metrics  # None in this curve


def test_the_whole_sha256_of_a_dataset_can_be_read_back(store: str) -> None:
    sha256 = "0123456789abcdef" * 4
    run_id = start_run(store, "quickstart", "run", {})

    log_dataset(store, run_id, "reviews.csv", sha256, 1234, "train")

    run = connect(store).get_run(run_id)
    (logged,) = run.inputs.dataset_inputs
    assert run.data.tags["musclelora.sha256.train"] == sha256
    assert logged.dataset.digest == sha256[:36]
    assert json.loads(logged.dataset.profile) == {"num_rows": 1234, "sha256": sha256}
    assert json.loads(logged.dataset.source)["sha256"] == sha256
    assert {tag.key: tag.value for tag in logged.tags} == {"mlflow.data.context": "train"}


def test_report_metrics_keep_candidate_drill_and_comparison_apart(store: str, policy: Policy) -> None:
    report = a_report(drills={"badnets": an_attack(asr=0.3)}, attacks={"badnets": an_attack(asr=0.1, floor=None)})
    undefended = a_model_result(0.9, {"badnets": an_attack(asr=0.97)})
    report = report.model_copy(update={"comparisons": {"undefended": undefended}})
    run_id = start_run(store, "quickstart", "run", {})

    log_report(store, run_id, report, decide(report, policy))

    run = connect(store).get_run(run_id)
    metrics = run.data.metrics
    assert metrics["cacc"] == 0.88
    assert metrics["cacc_lower95"] == pytest.approx(0.86)
    assert metrics["asr.badnets"] == 0.1
    assert metrics["drill.asr.badnets"] == 0.3
    assert metrics["drill.asr_upper95.badnets"] == pytest.approx(0.32)
    assert metrics["drill.asr_floor.badnets"] == 0.06
    assert "asr_floor.badnets" not in metrics
    assert metrics["undefended.cacc"] == 0.9
    assert metrics["undefended.asr.badnets"] == 0.97
    assert metrics["asr_worst"] == 0.3  # the undefended control is not the candidate's
    assert run.data.tags["decision"] == "refused"


def test_a_report_without_attacks_has_no_worst_rate(store: str, policy: Policy) -> None:
    run_id = start_run(store, "quickstart", "run", {})

    log_report(store, run_id, a_report(drills={}), decide(a_report(drills={}), policy))

    assert "asr_worst" not in connect(store).get_run(run_id).data.metrics


def test_a_run_that_does_not_exist_is_a_registry_error(store: str) -> None:
    with pytest.raises(RegistryError, match="no_such_run"):
        finish_run(store, "no_such_run", "FINISHED")


def test_global_mlflow_state_is_left_alone(store: str) -> None:
    before = mlflow.get_tracking_uri()

    run_id = start_run(store, "quickstart", "run", {})
    log_training(store, run_id, "train", a_record(), "run")

    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None


def test_ending_a_run_does_not_print_the_servers_password(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    address = "http://ann:s3cret@127.0.0.1:9"
    for method in ("get_run", "update_run_info"):
        monkeypatch.setattr(RestStore, method, mock.MagicMock())
    MlflowClient(tracking_uri=address).set_terminated("a-run")
    assert "s3cret" in capfd.readouterr().out  # what MLflow does by itself

    finish_run(address, "a-run", "FINISHED")

    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://ann:s3cret@mlflow.example/x", "https://mlflow.example/x"),
        ("postgresql://ann:p@ss@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        ("failed at http://a:b@h1 and http://c:d@h2", "failed at http://h1 and http://h2"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("write to me@example.org", "write to me@example.org"),
    ],
)
def test_credentials_are_never_shown(address: str, shown: str) -> None:
    assert without_credentials(address) == shown


def test_an_object_store_without_keys_or_behind_a_closed_port_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto3 = pytest.importorskip("boto3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    keys = {"aws_access_key_id": "ann", "aws_secret_access_key": "s3cret"}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # else it asks an address of the cloud
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    for given, message in [({}, "credentials"), (keys, f"connect to the endpoint URL: .{address}")]:
        store = boto3.Session(**given).client("s3", endpoint_url=address)
        with pytest.raises(RegistryError, match=message), mlflow_errors("http://ann:pw@h", "look"):
            store.list_objects_v2(Bucket="models")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RegistryError, match="failed to store"), mlflow_errors("http://h", "store"):
        store.upload_file(str(tmp_path / "file"), "models", "file")


def test_what_is_not_of_mlflow_is_no_registry_error() -> None:
    with pytest.raises(KeyError), mlflow_errors("http://h", "look"):
        raise KeyError("ours")


def test_sqlite_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert sqlite_path("sqlite:////data/mlflow.db") == Path("/data/mlflow.db")
    assert sqlite_path("sqlite:///mlflow.db") == tmp_path / "mlflow.db"
    assert sqlite_path("http://127.0.0.1:5000") is None


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="in memory"):
        sqlite_path(address)


def test_a_client_sees_what_another_wrote(store: str) -> None:
    run_id = start_run(store, "quickstart", "run", {})

    assert MlflowClient(tracking_uri=store).get_run(run_id).data.tags["musclelora.run_name"] == "run"
