"""The registry: what must be true before a version exists, before it is ready, and before an alias moves."""

import errno
import hashlib
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file, save_file

from musclelora.errors import ConfigError, ModelError, RegistryError
from musclelora.evaluation.report import RobustnessReport
from musclelora.governance.decision import GateDecision, decide
from musclelora.governance.manifest import Verified
from musclelora.governance.policy import Policy
from musclelora.governance.promotion import challenge, promote
from musclelora.governance.registered import RegisteredVersion
from musclelora.governance.registry import check_reachable, register
from musclelora.governance.tracking import connect, start_run
from musclelora.governance.verification import verify_version
from musclelora.training.defended_model import DefendedModel
from tests.governance.conftest import PROBES, aliases
from tests.governance.reports import LABELS, a_report, an_attack

NAME = "reviews"
REFUSED = a_report(drills={"badnets": an_attack(asr=0.9)})
FILES = {"MODEL_CARD.md": "---\ntags: [x]\n---\n\n# Reviews\n"}


@pytest.fixture
def accepted(policy: Policy) -> GateDecision:
    return decide(a_report(), policy)


def registered(
    store: str, model: DefendedModel, decision: GateDecision, report: RobustnessReport | None = None, **fields: Any
) -> tuple[RegisteredVersion, Verified]:
    run_id = start_run(store, "quickstart", "run", {})
    given: dict[str, Any] = {
        "input_example": PROBES[:1],
        "probe_texts": PROBES,
        "tags": {"cacc": "0.88"},
        "files": FILES,
    }
    return register(
        model, decision, report or a_report(), name=NAME, tracking_uri=store, run_id=run_id, **{**given, **fields}
    )


def test_an_accepted_model_is_registered_with_its_evidence_and_becomes_challenger_then_champion(
    store: str, tiny_model: DefendedModel, accepted: GateDecision, tmp_path: Path
) -> None:
    version, verified = registered(store, tiny_model, accepted)

    assert (version.version, version.aliases) == ("1", [])
    assert version.model_uri == "models:/reviews/1"
    assert aliases(store) == {}
    assert challenge(NAME, "1", store, verified) == {"challenger": "1"} == aliases(store)
    assert promote(NAME, "1", store) == {"challenger": "1", "champion": "1"} == aliases(store)
    tags = connect(store).get_model_version(NAME, "1").tags
    assert tags["status"] == "ready"
    assert tags["decision"] == "accepted"
    assert tags["policy_sha256"] == accepted.policy_sha256
    assert tags["model_sha256"] == tiny_model.sha256
    assert (tags["data_sha256"], tags["trusted_sha256"], tags["seed"]) == ("d" * 64, "e" * 64, "7")
    assert tags["cacc"] == "0.88"
    assert tags["sha256.MODEL_CARD.md"] == hashlib.sha256(FILES["MODEL_CARD.md"].encode()).hexdigest()
    stored = mlflow.artifacts.download_artifacts(
        run_id=version.run_id, artifact_path="gate_decision.json", tracking_uri=store, dst_path=str(tmp_path)
    )
    assert Path(stored).read_text() == accepted.model_dump_json(indent=1)
    assert tags["manifest_sha256"] == verified.manifest_sha256
    inside = {path.name for path in (tmp_path / "store" / "mlruns").rglob("evidence/*")}
    assert inside == {"MODEL_CARD.md", "gate_decision.json", "robustness_report.json", "manifest.json"}
    assert list((tmp_path / "cwd").iterdir()) == []


def test_the_champion_answers_and_cuts_long_texts(
    store: str, tiny_model: DefendedModel, accepted: GateDecision, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, verified = registered(store, tiny_model, accepted)
    promote(NAME, "1", store, verified)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)

    answer = mlflow.pyfunc.load_model(f"models:/{NAME}@champion").predict(["a good film", "good " * 100])

    assert list(answer.columns) == ["label", "score"]
    assert set(answer["label"]) <= set(LABELS)


def test_the_stored_weights_are_the_candidates_bytes_and_no_pickle(
    store: str, tiny_model: DefendedModel, accepted: GateDecision, tmp_path: Path
) -> None:
    registered(store, tiny_model, accepted)

    files = {path.name: path for path in (tmp_path / "store" / "mlruns").rglob("*") if path.is_file()}

    assert files["model.safetensors"].read_bytes() == (tiny_model.model_folder / "model.safetensors").read_bytes()
    assert not {path.suffix for path in files.values()} & {".bin", ".pt", ".pkl", ".pickle"}
    assert "torch==" in files["requirements.txt"].read_text()
    assert str(tiny_model.folder) not in files["MLmodel"].read_text()  # the builder's paths are nobody's business


@pytest.mark.parametrize(("verdict", "report"), [("refused", REFUSED), ("inconclusive", a_report(drills={}))])
def test_a_model_that_is_not_accepted_is_recorded_without_an_alias(
    store: str, tiny_model: DefendedModel, verdict: str, report: RobustnessReport, policy: Policy
) -> None:
    version, verified = registered(store, tiny_model, decide(report, policy), report)

    assert (version.decision, version.aliases) == (verdict, [])
    tags = connect(store).get_model_version(NAME, "1").tags
    assert (tags["decision"], tags["status"]) == (verdict, "ready")
    for move in (challenge, promote):
        with pytest.raises(RegistryError, match=f"'{verdict}'"):
            move(NAME, "1", store, verified)
    assert aliases(store) == {}


def test_numbers_that_are_none_are_registered_as_such(store: str, tiny_model: DefendedModel, policy: Policy) -> None:
    report = a_report(drills={"badnets": an_attack().model_copy(update={"control_asr": math.nan})})

    version, verified = registered(store, tiny_model, decide(report, policy), report)

    assert version.decision == "inconclusive"
    assert verify_version(NAME, "1", store) == verified


def test_a_decision_on_another_report_is_not_registered(
    store: str, tiny_model: DefendedModel, accepted: GateDecision
) -> None:
    with pytest.raises(ModelError, match="says 'accepted'"):
        registered(store, tiny_model, accepted, REFUSED)
    assert nothing_is_registered(store)


def broken_save(monkeypatch: pytest.MonkeyPatch, damage: Any) -> None:
    """Damage the folder as it is saved, before its manifest is written."""
    save = mlflow.transformers.save_model

    def damaged(*given: Any, path: str, **named: Any) -> None:
        save(*given, path=path, **named)
        damage(Path(path) / "model" / "model.safetensors")

    monkeypatch.setattr(mlflow.transformers, "save_model", damaged)


def nothing_is_registered(store: str) -> bool:
    return connect(store).search_registered_models() == []


def test_altered_weights_are_not_registered(
    store: str, tiny_model: DefendedModel, accepted: GateDecision, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alter(file: Path) -> None:
        weights = load_file(file)
        weights["classifier.weight"] = torch.randn_like(weights["classifier.weight"])
        save_file(weights, file, metadata={"format": "pt"})

    broken_save(monkeypatch, alter)

    with pytest.raises(ModelError, match="does not compute what the candidate does"):
        registered(store, tiny_model, accepted)
    assert nothing_is_registered(store)
    experiment = connect(store).get_experiment_by_name("quickstart")
    (stored,) = connect(store).search_logged_models([experiment.experiment_id])
    assert stored.status == "FAILED"


def lose_the_head(file: Path) -> None:
    weights = {name: tensor for name, tensor in load_file(file).items() if not name.startswith("classifier")}
    save_file(weights, file, metadata={"format": "pt"})


def not_a_number(file: Path) -> None:
    weights = load_file(file)
    weights["classifier.bias"].fill_(float("nan"))
    save_file(weights, file, metadata={"format": "pt"})


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def add_a_pickle(file: Path) -> None:
    (file.parent / "pytorch_model.bin").write_bytes(b"")


@pytest.mark.parametrize("damage", [lose_the_head, not_a_number, cut, add_a_pickle])
def test_damaged_weights_are_not_registered(
    store: str, tiny_model: DefendedModel, accepted: GateDecision, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    broken_save(monkeypatch, damage)

    with pytest.raises(ModelError):
        registered(store, tiny_model, accepted)
    assert nothing_is_registered(store)


@pytest.mark.parametrize("damage", [cut, Path.unlink, lambda file: (file.parent / "more.txt").write_text("")])
def test_files_damaged_on_their_way_into_the_store_are_not_registered(
    store: str, tiny_model: DefendedModel, accepted: GateDecision, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    upload = MlflowClient.log_model_artifacts

    def damaged(self: MlflowClient, model_id: str, local_dir: str) -> None:
        damage(Path(local_dir) / "model" / "model.safetensors")
        upload(self, model_id, local_dir)

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", damaged)

    with pytest.raises(ModelError, match=r"was altered|is missing|is not in the manifest"):
        registered(store, tiny_model, accepted)
    assert nothing_is_registered(store)


@pytest.mark.parametrize("texts", ["probe_texts", "input_example"])
def test_without_texts_to_try_nothing_is_registered(
    store: str, tiny_model: DefendedModel, accepted: GateDecision, texts: str
) -> None:
    with pytest.raises(ConfigError, match="probe texts and an input example"):
        registered(store, tiny_model, accepted, **{texts: []})
    assert nothing_is_registered(store)


@pytest.mark.parametrize("tag", ["decision", "status", "data_sha256", "manifest_sha256"])
def test_a_caller_cannot_set_the_registrations_own_tags(
    store: str, tiny_model: DefendedModel, accepted: GateDecision, tag: str
) -> None:
    with pytest.raises(ConfigError, match=tag):
        registered(store, tiny_model, accepted, tags={tag: "accepted"})


def test_an_evidence_file_stays_in_its_run(store: str, tiny_model: DefendedModel, accepted: GateDecision) -> None:
    with pytest.raises(ConfigError, match="plain file name"):
        registered(store, tiny_model, accepted, files={"../../etc/x": ""})


def failing(*_: Any, **__: Any) -> None:
    raise MlflowException("the server went away")


def test_a_failure_before_the_end_leaves_an_incomplete_version_without_alias(
    store: str, tiny_model: DefendedModel, accepted: GateDecision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MlflowClient, "set_model_version_tag", failing)

    with pytest.raises(RegistryError, match="went away"):
        registered(store, tiny_model, accepted)

    assert connect(store).get_model_version(NAME, "1").tags["status"] == "incomplete"
    assert aliases(store) == {}
    monkeypatch.undo()
    with pytest.raises(RegistryError, match="'incomplete'"):
        promote(NAME, "1", store)


def test_evidence_that_cannot_be_stored_leaves_no_version(
    store: str, tiny_model: DefendedModel, accepted: GateDecision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MlflowClient, "log_text", failing)

    with pytest.raises(RegistryError):
        registered(store, tiny_model, accepted)
    assert nothing_is_registered(store)


def test_registration_contacts_nobody_and_leaves_global_state_alone(
    store: str, tiny_model: DefendedModel, accepted: GateDecision, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: called.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: called.append(address))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    before = mlflow.get_tracking_uri()

    registered(store, tiny_model, accepted)

    assert called == []
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None


def test_a_usable_database_is_reachable_and_a_new_one_is_not_yet_made(store: str, tmp_path: Path) -> None:
    check_reachable(store)
    check_reachable(f"sqlite:///{tmp_path}/new/folder/mlflow.db")

    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_a_folder_that_cannot_be_made_a_foreign_file_and_a_full_disk_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no database, but long enough to be read as one " * 50)
    for address in (f"sqlite:///{tmp_path}/file", f"sqlite:///{tmp_path}/file/mlflow.db"):
        with pytest.raises(RegistryError, match="cannot be written"):
            check_reachable(address)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RegistryError, match="No space left"):
        check_reachable(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_closed_port_is_told_within_seconds_and_without_the_password(scheme: str) -> None:
    if scheme == "postgresql":
        pytest.importorskip("psycopg2")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    start = time.monotonic()

    with pytest.raises(RegistryError) as caught:
        check_reachable(f"{scheme}://ann:s3cret@127.0.0.1:{port}")

    assert time.monotonic() - start < 5
    assert f"{scheme}://127.0.0.1:{port}" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None  # a traceback would show the address


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A loopback server that answers all requests with one status."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>")

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "MLFLOW_TRACKING_PASSWORD"), (403, "MLFLOW_TRACKING_PASSWORD"), (404, "Start it"), (200, "Start it")],
)
def test_a_server_that_refuses_or_is_no_mlflow_is_told(status: int, message: str) -> None:
    with answering(status) as address, pytest.raises(RegistryError, match=message):
        check_reachable(address)


def test_a_server_that_does_not_answer_is_told_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musclelora.governance.registry.CHECK_SECONDS", 1)
    start = time.monotonic()
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(RegistryError, match="cannot be used"):
            check_reachable(f"http://127.0.0.1:{mute.getsockname()[1]}")
    assert time.monotonic() - start < 5
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ
