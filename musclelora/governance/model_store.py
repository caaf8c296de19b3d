"""A model in MLflow's store: saved as plain weights, fetched back, and compared with what was to be saved."""

import re
import tempfile
from importlib.metadata import version as installed_version
from pathlib import Path

import mlflow
import mlflow.transformers
import torch
from huggingface_hub import ModelCard
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextClassificationPipeline

from musclelora.errors import ModelError, RegistryError
from musclelora.governance.manifest import Verified, verify_folder, write_evidence
from musclelora.governance.signature import sign_folder, signing_key
from musclelora.governance.tracking import connect, environment, first_line
from musclelora.training.defended_model import DefendedModel, TrainingRecord

MAX_LOGIT_DIFFERENCE = 1e-4
_BATCH = 32
_SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("string")]), outputs=Schema([ColSpec("string", "label"), ColSpec("double", "score")])
)
_REQUIREMENTS = ("mlflow", "torch", "transformers", "safetensors")


def save_and_check(
    model: DefendedModel,
    *,
    tracking_uri: str,
    run_id: str,
    input_example: list[str],
    probe_texts: list[str],
    card: str,
    files: dict[str, str],
) -> tuple[LoggedModel, Verified]:
    """Store the plain model as a model of the run, fetch it back, and compare it with the candidate.

    Done in the steps of `mlflow.transformers.log_model`, which needs a global tracking address and asks model hubs.
    `card` is a Markdown model card; `files` (name -> text) are the evidence stored inside the model. Returns the stored
    model and what was verified of it. Raises `ModelError` if a file of the fetched model is not what was stored, or
    it cannot be loaded, or any logit on `probe_texts` differs by 1e-4 or more; the stored model is then marked as
    failed.
    """
    client = connect(tracking_uri)
    logged, manifest_sha256 = _store(client, model, run_id, input_example, card, files)
    try:
        verified = _check_reload(model, logged, tracking_uri, input_example, probe_texts, manifest_sha256)
    except ModelError:
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.FAILED)
        raise
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged, verified


def fetch(artifact_uri: str, tracking_uri: str, folder: str) -> Path:
    """Download a stored model into `folder`; returns where it lies."""
    with environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"):
        return Path(
            mlflow.artifacts.download_artifacts(artifact_uri=artifact_uri, dst_path=folder, tracking_uri=tracking_uri)
        )


def fetch_registered(uri: str, tracking_uri: str, folder: str) -> Path:
    """The same for `models:/NAME/VERSION` or `models:/NAME@ALIAS`, looked up on this server and no other.

    Raises `RegistryError` for a name of another form.
    """
    named = re.fullmatch(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))", uri)
    if named is None:
        raise RegistryError(f"{uri!r} names no registered version: write models:/NAME/VERSION or models:/NAME@ALIAS.")
    client = connect(tracking_uri)
    if named["alias"]:
        found = client.get_model_version_by_alias(named["name"], named["alias"])
    else:
        found = client.get_model_version(named["name"], named["version"])
    return fetch(str(found.source), tracking_uri, folder)


def _store(
    client: MlflowClient,
    model: DefendedModel,
    run_id: str,
    input_example: list[str],
    card: str,
    files: dict[str, str],
) -> tuple[LoggedModel, str]:
    """Save in MLflow's format and upload; nothing is registered, and no model hub is asked."""
    plain, tokenizer = model.load()
    # MLflow asks the hub for the licence of `name_or_path`; a text that cannot be a repository is never looked up.
    plain.name_or_path = f"sha256:{model.sha256}"
    experiment_id = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment_id, name="candidate", source_run_id=run_id)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        mlflow.transformers.save_model(
            TextClassificationPipeline(
                model=plain, tokenizer=tokenizer, task="text-classification", device=torch.device("cpu")
            ),
            path=str(folder),
            mlflow_model=Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id),
            signature=_SIGNATURE,
            input_example=input_example,
            model_card=ModelCard(card, ignore_metadata_errors=True),
            # Named here, since MLflow would otherwise find them by running the model in a second process.
            pip_requirements=[f"{name}=={installed_version(name).split('+')[0]}" for name in _REQUIREMENTS],
            model_config={"truncation": True, "max_length": model.record.max_length},
        )
        (folder / "LICENSE.txt").write_text(
            f"Fine-tuned from {model.record.base}: the licence of that model applies.\n", encoding="utf-8"
        )
        manifest_sha256 = write_evidence(folder, files)
        key = signing_key()
        if key is not None:
            sign_folder(folder, key)
        client.log_model_artifacts(logged.model_id, str(folder))
    return logged, manifest_sha256


def _check_reload(
    model: DefendedModel,
    logged: LoggedModel,
    tracking_uri: str,
    input_example: list[str],
    probe_texts: list[str],
    manifest_sha256: str,
) -> Verified:
    """Raise `ModelError` unless what lies in the store can be served and computes what the candidate does."""
    record = model.record
    with tempfile.TemporaryDirectory() as scratch:
        folder = fetch(logged.artifact_location, tracking_uri, scratch)
        verified = verify_folder(folder, manifest_sha256)
        try:
            served = mlflow.pyfunc.load_model(str(folder))  # what `mlflow models serve` loads
            answers = served.predict(input_example)["label"]
        except (MlflowException, OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                f"The saved model cannot be loaded again ({first_line(error)}), so it is not registered. Run the "
                "registration again; if it fails again, the artifact store damages files."
            ) from error
        stored = served.get_raw_model()
        labels = [stored.model.config.id2label.get(index) for index in range(len(record.label_names))]
        if labels != record.label_names or not set(answers) <= set(labels):
            raise ModelError(f"The saved model calls its labels {labels}, not {record.label_names}: not registered.")
        reloaded = (stored.model.to("cpu").eval(), stored.tokenizer)
        difference = _largest_difference(model.load(), reloaded, probe_texts, record)
    if not difference < MAX_LOGIT_DIFFERENCE:  # also true for NaN
        raise ModelError(
            f"The saved model does not compute what the candidate does: on {len(probe_texts)} texts a logit differs by "
            f"{difference:.3g}, and {MAX_LOGIT_DIFFERENCE:g} is allowed. It is not registered: weights were lost or "
            "altered on the way."
        )
    return verified


def _largest_difference(
    first: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    second: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    texts: list[str],
    record: TrainingRecord,
) -> float:
    """The largest absolute difference of any logit; infinite where the shapes differ, NaN where a logit is."""
    largest = torch.zeros(())
    for start in range(0, len(texts), _BATCH):
        logits = []
        for model, tokenizer in (first, second):
            batch = tokenizer(
                texts[start : start + _BATCH],
                truncation=True,
                max_length=record.max_length,
                padding=True,
                return_tensors="pt",
            )
            with torch.inference_mode():
                logits.append(model(**batch).logits.float())
        if logits[0].shape != logits[1].shape:
            return float("inf")
        largest = torch.maximum(largest, (logits[0] - logits[1]).abs().max())
    return float(largest)
