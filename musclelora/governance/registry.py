"""The MLflow registry: a version is recorded only after its saved weights were reloaded and gave the same logits.

A version that was refused, or whose evidence is inconclusive, carries its reasons as tags and files. Aliases are given
in `promotion`.
"""

import hashlib
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from musclelora.errors import ConfigError, RegistryError
from musclelora.evaluation.report import RobustnessReport
from musclelora.governance.decision import GateDecision
from musclelora.governance.ledger_store import LedgerStore
from musclelora.governance.manifest import DECISION, REPORT, Verified
from musclelora.governance.model_store import save_and_check
from musclelora.governance.registered import RegisteredVersion
from musclelora.governance.tracking import (
    connect,
    environment,
    first_line,
    mlflow_errors,
    sqlite_path,
    without_credentials,
)
from musclelora.governance.waiver import waiver_tags
from musclelora.training.defended_model import DefendedModel

STATUS, MANIFEST_SHA256 = "status", "manifest_sha256"
CHECK_SECONDS = 15  # a server that has just started migrates its database on the first request: 4 to 7 s
CARD = "MODEL_CARD.md"


def check_reachable(tracking_uri: str) -> None:
    """Raise `RegistryError` within seconds if the server does not answer, refuses us, or SQLite cannot be written."""
    database = sqlite_path(tracking_uri)
    if database is not None:
        _check_writable(database)
        return
    shown = without_credentials(tracking_uri)
    try:
        if tracking_uri.startswith(("postgresql", "mysql")):
            _check_connects(tracking_uri)
            return
        with environment(MLFLOW_HTTP_REQUEST_TIMEOUT=str(CHECK_SECONDS), MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"):
            connect(tracking_uri).search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        text = str(error)
        denied = getattr(error, "error_code", "") in {"UNAUTHENTICATED", "PERMISSION_DENIED"}
        if denied or "error code 401" in text or "error code 403" in text:
            advice = "It does not accept these credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        else:
            advice = f"Start it, correct the address, or use sqlite:////absolute/path/mlflow.db. ({first_line(error)})"
        raise RegistryError(f"The MLflow server at {shown} cannot be used. {advice}") from None


def register(
    model: DefendedModel,
    decision: GateDecision,
    report: RobustnessReport,
    *,
    name: str,
    tracking_uri: str,
    run_id: str,
    input_example: list[str],
    probe_texts: list[str],
    tags: dict[str, str],
    files: dict[str, str],
) -> tuple[RegisteredVersion, Verified]:
    """Save the model in the run, prove that it reloads, and record it as a version of `name`, without an alias.

    `files` (name -> text) become artifacts of the run, and are stored inside the model with the decision, `report` and
    a manifest of all hashes (`manifest`); `MODEL_CARD.md` among them becomes the model's card too.
    The version's tag `status` is `incomplete` until all else is there, then `ready`. Returns the version, and what was
    verified of its files as they lie in the store. Raises `ModelError` if the reloaded model differs on `probe_texts`
    by 1e-4 or more in any logit (no version is made then), `RegistryError` if MLflow fails.
    """
    if not probe_texts or not input_example:
        raise ConfigError("Registration needs probe texts and an input example, to show that the saved model works.")
    files = {
        **files,
        DECISION: decision.model_dump_json(indent=1),
        REPORT: report.model_dump_json(indent=1),
    }
    version_tags = _version_tags(model, decision, tags, files)
    with mlflow_errors(tracking_uri, f"register {name!r}"):
        client = connect(tracking_uri)
        logged, verified = save_and_check(
            model,
            tracking_uri=tracking_uri,
            run_id=run_id,
            input_example=input_example,
            probe_texts=probe_texts,
            card=files.get(CARD, f"# {name}\n"),
            files=files,
        )
        for file, content in files.items():
            client.log_text(run_id, content, file)
        version_tags |= {MANIFEST_SHA256: verified.manifest_sha256, STATUS: "incomplete"}
        created = _create_version(tracking_uri, name, logged, run_id, version_tags)
        version = str(created.version)  # int or str, by store
        client.set_model_version_tag(name, version, STATUS, "ready")
    registered = RegisteredVersion(
        name=name,
        version=version,
        aliases=[],
        model_uri=f"models:/{name}/{version}",
        run_id=run_id,
        tracking_uri=without_credentials(tracking_uri),
        decision=decision.decision,
    )
    return registered, verified


def _version_tags(
    model: DefendedModel, decision: GateDecision, tags: dict[str, str], files: dict[str, str]
) -> dict[str, str]:
    """The caller's tags, what is known of the training and the decision, and the SHA-256 of each file."""
    record = model.record
    own = {
        "decision": decision.decision,
        "policy_sha256": decision.policy_sha256,
        "report_sha256": decision.report_sha256,
        "model_sha256": model.sha256,
        "data_sha256": record.data_sha256,
        "trusted_sha256": record.trusted_sha256,
        "recipe": record.recipe.name,
        "preset": record.recipe.preset,
        "base": record.base,
        "base_sha256": record.base_sha256,
        "seed": str(record.seed),
        **waiver_tags(decision.waivers),
    }
    for file, content in files.items():
        if Path(file).name != file:
            raise ConfigError(f"The evidence file {file!r} must be a plain file name.")
        own[f"sha256.{file}"] = hashlib.sha256(content.encode()).hexdigest()
    clash = sorted({*own, STATUS, MANIFEST_SHA256} & set(tags))
    if clash:
        raise ConfigError(f"The tags {', '.join(clash)} are set by the registration itself: leave them out.")
    return {**tags, **own}


def _create_version(
    tracking_uri: str, name: str, logged: LoggedModel, run_id: str, tags: dict[str, str]
) -> ModelVersion:
    """The version with all its tags, in one call; the registered model and its ledger are made first where new."""
    LedgerStore(tracking_uri, name).create()
    # `source` is the place itself: MLflow would look a models:/ address up in its global tracking address.
    return connect(tracking_uri).create_model_version(
        name, logged.artifact_location, run_id=run_id, tags=tags, model_id=logged.model_id
    )


def _check_connects(database: str) -> None:
    """One attempt: MLflow makes ten, over a hundred seconds."""
    engine = create_engine(database, connect_args={"connect_timeout": CHECK_SECONDS})
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _check_writable(database: Path) -> None:
    """Write beside the database, and lock it if it exists: read-only files, full disks and foreign files show here."""
    folder = database.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(1 << 20))
            probe.flush()
            os.fsync(probe.fileno())
        if database.exists():
            with closing(sqlite3.connect(database, timeout=3, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
    except (OSError, sqlite3.Error) as error:
        raise RegistryError(
            f"MLflow's database {database} cannot be written ({first_line(error)}). Free space on its disk, make the "
            "folder writable, end the process that locks it, or name another file."
        ) from error
