"""The champion so far, fetched from the registry and verified, so that a new candidate can be measured beside it."""

import shutil
from pathlib import Path

from musclelora.governance.ledger import CHAMPION
from musclelora.governance.manifest import FOLDER, TRAINING
from musclelora.governance.tracking import mlflow_errors, version_with_alias
from musclelora.governance.verification import fetch_verified
from musclelora.training.defended_model import RECORD, DefendedModel


def fetch_champion(name: str, tracking_uri: str, folder: Path) -> tuple[str, DefendedModel] | None:
    """The version with the alias `champion` and its model, put into the empty `folder`; None where there is none yet.

    Raises `RegistryError` for a version that is not complete, `VerificationError` for one that was altered.
    """
    with mlflow_errors(tracking_uri, f"find the champion of {name!r}"):
        champion = version_with_alias(name, CHAMPION, tracking_uri)
    if champion is None:
        return None
    version = str(champion.version)
    stored, _ = fetch_verified(name, version, tracking_uri, str(folder / "fetched"))
    model = DefendedModel(folder / "champion")
    shutil.copytree(stored / "model", model.model_folder)
    shutil.copytree(stored / "components" / "tokenizer", model.model_folder, dirs_exist_ok=True)
    shutil.copy(stored / FOLDER / TRAINING, model.folder / RECORD)
    return version, model
