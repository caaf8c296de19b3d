"""What the champion's evidence covers, which rows and since when, and whether that calls for a new training."""

import hashlib
import json
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from musclelora.frozen import Frozen
from musclelora.governance.ledger import CHAMPION
from musclelora.governance.manifest import REPORT, VALIDATION, VerificationError
from musclelora.governance.tracking import connect, environment, mlflow_errors, version_with_alias

PIPELINE_RUN = "musclelora.pipeline_run"


class Coverage(Frozen):
    """The champion's version, the ZenML run that made it, when it was registered, SHA-256 of the rows it stands on.

    `pipeline_run` and the hashes are None where the version does not say.
    """

    version: str
    pipeline_run: str | None
    registered: datetime
    train_sha256: str | None
    test_sha256: str | None
    trusted_sha256: str | None


class Occasion(Frozen):
    """Whether a training is due, why, and which version was the champion when this was asked."""

    due: bool
    reason: str
    champion: str | None = None


def occasion_of(
    delivered: dict[str, str], covered: Coverage | None, max_age_days: float | None, now: datetime
) -> Occasion:
    """Compare the delivery with what the champion's evidence covers; what the champion does not say has changed.

    `delivered` maps train, test and trusted to the SHA-256 of their rows. Dev rows only choose an epoch: a change of
    theirs alone is no occasion.
    """
    if covered is None:
        return Occasion(due=True, reason="There is no champion yet.")
    champion = f"the champion, version {covered.version},"
    known = {"train": covered.train_sha256, "test": covered.test_sha256, "trusted": covered.trusted_sha256}
    changed = [name for name, sha256 in known.items() if delivered[name] != sha256]
    age = now - covered.registered
    if changed:
        due, reason = True, f"The {' and '.join(changed)} rows are not those that {champion} was made with."
    elif max_age_days is not None and age > timedelta(days=max_age_days):
        due, reason = True, f"{champion} was measured {_days(age)} ago, and {max_age_days:g} days are allowed."
    else:
        due, reason = False, f"The rows are those that {champion} was made with, {_days(age)} ago."
    return Occasion(due=due, reason=reason[0].upper() + reason[1:], champion=covered.version)


def covered_by_champion(name: str, tracking_uri: str) -> Coverage | None:
    """Read from the registry; None where `name` has no champion yet.

    Raises `RegistryError` where MLflow fails, `VerificationError` where the evidence is not what was registered.
    """
    with mlflow_errors(tracking_uri, f"read what the champion of {name!r} stands on"):
        champion = version_with_alias(name, CHAMPION, tracking_uri)
        if champion is None:
            return None
        client = connect(tracking_uri)
        validation, report = _evidence(client, champion, VALIDATION), _evidence(client, champion, REPORT)
    return Coverage(
        version=str(champion.version),
        pipeline_run=champion.tags.get(PIPELINE_RUN),
        registered=datetime.fromtimestamp(champion.creation_timestamp / 1000, timezone.utc),  # ms, the server's clock
        train_sha256=validation.get("train_sha256"),
        test_sha256=report.get("test_sha256"),
        trusted_sha256=validation.get("trusted_sha256"),
    )


def _evidence(client: MlflowClient, version: ModelVersion, file: str) -> dict[str, Any]:
    """An evidence file of the version's run as JSON; empty where the version has none."""
    expected = version.tags.get(f"sha256.{file}")
    if expected is None:
        return {}
    with tempfile.TemporaryDirectory() as folder, environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"):
        content = Path(client.download_artifacts(str(version.run_id), file, folder)).read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise VerificationError(
            f"{file} of {version.name!r} version {version.version} is not what was registered: it was altered in the "
            "artifact store. Find out by whom, and see what `musclelora verify` says of the version."
        )
    found = json.loads(content)
    return found if isinstance(found, dict) else {}


def _days(age: timedelta) -> str:
    days = age / timedelta(days=1)
    return f"{days:.1f} days" if days >= 1 else f"{days * 24:.1f} hours"
