"""A tiny model, and one migrated MLflow database that each test copies."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from musclelora.errors import RegistryError
from musclelora.evaluation.report import RobustnessReport
from musclelora.governance.decision import GateDecision, decide
from musclelora.governance.ledger import LedgerEntry
from musclelora.governance.ledger_store import LedgerStore
from musclelora.governance.manifest import DECISION, MANIFEST, REPORT, Verified, write_evidence
from musclelora.governance.policy import Policy
from musclelora.governance.promotion import promote
from musclelora.governance.tracking import connect, ensure_experiment
from musclelora.governance.waiver import waiver_tags
from musclelora.training.defended_model import RECORD, DefendedModel, EpochMetrics, TrainingRecord
from musclelora.training.recipes import LoRA, Recipe
from tests.governance.reports import LABELS

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "the", "film", "was", "is", "good", "bad", "dull", "fine"]
PROBES = ["a good film", "the film was bad", "good good good " * 20]


def a_record() -> TrainingRecord:
    curve = [
        EpochMetrics(
            epoch=epoch,
            loss=1 / epoch,
            reference_loss=None,
            aligned=0.8,
            mixed=0.1,
            raw=0.1,
            dev_accuracy=0.5 + epoch / 10,
        )
        for epoch in (1, 2)
    ]
    return TrainingRecord(
        recipe=Recipe(
            name="musclelora",
            preset="bert",
            lora=LoRA(rank=4, alpha=8, dropout=0),
            learning_rate=1e-3,
            batch_size=8,
            epochs=2,
        ),
        base="/models/tiny-bert",
        base_sha256="b" * 64,
        label_names=LABELS,
        max_length=16,
        seed=7,
        rows=900,
        data_sha256="d" * 64,
        trusted_sha256="e" * 64,
        trainable_parameters=10,
        total_parameters=1000,
        device="cpu",
        precision="fp32",
        curve=curve,
        best_epoch=2,
        seconds=12.5,
        logit_difference=1e-6,
    )


def promote_together(store: str, name: str, versions: list[str], verified: Verified) -> dict[str, str]:
    """Promote all at once, in threads that have all read the ledger before one writes. What came of each."""
    together, read, waited = threading.Barrier(len(versions)), LedgerStore.read, threading.local()

    def read_together(self: LedgerStore) -> list[LedgerEntry]:
        entries = read(self)
        if not getattr(waited, "done", False):
            waited.done = True
            together.wait(timeout=120)
        return entries

    def attempt(version: str) -> str:
        try:
            promote(name, version, store, verified)
        except RegistryError as error:
            return str(error)
        return "promoted"

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(versions)) as threads:
        patch.setattr(LedgerStore, "read", read_together)
        return dict(zip(versions, threads.map(attempt, versions), strict=True))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> DefendedModel:
    """A random BERT of one layer in the layout of a `DefendedModel`; not to be changed."""
    folder = tmp_path_factory.mktemp("defended")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    BertForSequenceClassification(config).save_pretrained(folder / "model")
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    BertTokenizerFast(vocab=vocabulary, model_max_length=16).save_pretrained(folder / "model")
    (folder / RECORD).write_text(a_record().model_dump_json(), encoding="utf-8")
    return DefendedModel(folder)


def a_version(
    store: str, name: str, report: RobustnessReport, folder: Path, decision: GateDecision | None = None
) -> str:
    """A complete version whose model is one small file, in a moment. Returns its number."""
    decision = decision or decide(report, Policy())
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    files = {DECISION: decision.model_dump_json(), REPORT: report.model_dump_json()}
    manifest_sha256 = write_evidence(folder, files)
    LedgerStore(store, name).create()
    client = connect(store)
    run = client.create_run(ensure_experiment(store, "models"))
    client.log_artifacts(run.info.run_id, str(folder), "candidate")
    hashes = json.loads((folder / MANIFEST).read_text())["files"]
    tags = (
        {
            "decision": decision.decision,
            "policy_sha256": decision.policy_sha256,
            "report_sha256": decision.report_sha256,
            "manifest_sha256": manifest_sha256,
            "status": "ready",
        }
        | waiver_tags(decision.waivers)
        | {f"sha256.{file}": hashes[f"evidence/{file}"] for file in files}
    )
    source = f"{run.info.artifact_uri}/candidate"
    return str(client.create_model_version(name, source, run_id=run.info.run_id, tags=tags).version)


def aliases(store: str, name: str = "reviews") -> dict[str, str]:
    """The aliases as MLflow has them."""
    return {alias: str(version) for alias, version in connect(store).get_registered_model(name).aliases.items()}


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's migrations take seconds: run them once."""
    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{database}").search_experiments(max_results=1)
    return database


@pytest.fixture
def store(migrated_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty MLflow database in `tmp_path / "store"`; the working directory is another, empty one."""
    (tmp_path / "store").mkdir()
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    shutil.copy(migrated_database, tmp_path / "store" / "mlflow.db")
    return f"sqlite:///{tmp_path}/store/mlflow.db"


@pytest.fixture
def policy() -> Policy:
    return Policy()
