"""`musclelora promote`, `rollback`, `verify`: the answers that the command prints."""

from pathlib import Path

from musclelora.errors import RegistryError
from musclelora.governance import manifest, promotion, verification
from musclelora.governance.registry import check_reachable
from musclelora.governance.tracking import (
    connect,
    default_tracking_uri,
    mlflow_errors,
    sqlite_path,
    without_credentials,
)


def promote(name: str, version: str, tracking_uri: str | None) -> str:
    """Promote, and say where the aliases are now."""
    return _aliases(name, promotion.promote(name, version, _registry(tracking_uri)))


def rollback(name: str, tracking_uri: str | None) -> str:
    """Roll back, and say where the aliases are now."""
    return _aliases(name, promotion.rollback(name, _registry(tracking_uri)))


def verify_folder(folder: Path, manifest_sha256: str | None) -> str:
    """Check a model folder, and say what it was compared with."""
    verified = manifest.verify_folder(folder, manifest_sha256)
    against = "the one you named" if manifest_sha256 else "compare it with the tag manifest_sha256 of the version"
    return f"{folder}: {_whole(verified)}. SHA-256 of its manifest: {verified.manifest_sha256} ({against})."


def verify_registered(name: str, version: str | None, tracking_uri: str | None) -> str:
    """Check the ledger of a model, then one version or all that have an alias."""
    address = _registry(tracking_uri)
    lines = verification.verify_ledger(name, address)
    with mlflow_errors(address, f"find {name!r}"):
        aliases = {alias: str(of) for alias, of in connect(address).get_registered_model(name).aliases.items()}
    said = [f"{name}: the ledger is whole ({lines} lines), and the aliases are where it says."]
    for number in [version] if version else sorted(set(aliases.values())):
        verified = verification.verify_version(name, number, address)
        names = ", ".join(sorted(alias for alias, of in aliases.items() if of == number)) or "no alias"
        said.append(f"version {number} ({names}): {_whole(verified)}.")
    return "\n".join(said)


def _whole(verified: manifest.Verified) -> str:
    return (
        f"all {verified.files} files are as registered, and its report gives the decision: {verified.decision.decision}"
    )


def _registry(tracking_uri: str | None) -> str:
    """The address of an MLflow that answers. A new database would only say that there is no such model."""
    address = tracking_uri or default_tracking_uri()
    database = sqlite_path(address)
    if database is not None and not database.exists():
        raise RegistryError(
            f"There is no MLflow database {without_credentials(address)}. Name it with --tracking-uri or "
            "MLFLOW_TRACKING_URI, or go to the folder of the run."
        )
    check_reachable(address)
    return address


def _aliases(name: str, aliases: dict[str, str]) -> str:
    return f"{name}: " + ", ".join(f"{alias} is version {version}" for alias, version in sorted(aliases.items()))
