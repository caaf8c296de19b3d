"""`musclelora promote`, `rollback`, `verify`: the answers that the command prints."""

import os
from pathlib import Path

import click

from musclelora.errors import RegistryError
from musclelora.governance import manifest, promotion, signature, verification
from musclelora.governance.registry import check_reachable
from musclelora.governance.tracking import (
    default_tracking_uri,
    first_line,
    registered_aliases,
    sqlite_path,
    without_credentials,
)


def promote(name: str, version: str, tracking_uri: str | None) -> str:
    """Promote, and say where the aliases are now."""
    return _moved(name, promotion.promote(name, version, _registry(tracking_uri)))


def rollback(name: str, tracking_uri: str | None) -> str:
    """Roll back, and say where the aliases are now."""
    return _moved(name, promotion.rollback(name, _registry(tracking_uri)))


def verify_folder(folder: Path, manifest_sha256: str | None, public_key: Path | None) -> str:
    """Check a model folder, and say what it was compared with."""
    verified = manifest.verify_folder(folder, manifest_sha256)
    if public_key is not None:
        signature.verify_signature(folder, public_key)
    against = "the one you named" if manifest_sha256 else "compare it with the tag manifest_sha256 of the version"
    said = f"{folder}: {_whole(verified)}{_signed(public_key)}."
    return f"{said} SHA-256 of its manifest: {verified.manifest_sha256} ({against})."


def verify_registered(name: str, version: str | None, tracking_uri: str | None, public_key: Path | None) -> str:
    """Check the ledger of a model, then one version or all that have an alias."""
    address = _registry(tracking_uri)
    lines = verification.verify_ledger(name, address)
    aliases = registered_aliases(name, address)
    said = [f"{name}: the ledger is whole ({lines} lines), and the aliases are where it says."]
    for number in [version] if version else sorted(set(aliases.values())):
        verified = verification.verify_version(name, number, address, public_key)
        names = ", ".join(sorted(alias for alias, of in aliases.items() if of == number)) or "no alias"
        said.append(f"version {number} ({names}): {_whole(verified)}{_signed(public_key)}.")
    return "\n".join(said)


def _whole(verified: manifest.Verified) -> str:
    return (
        f"all {verified.files} files are as registered, and its report gives the decision: {verified.decision.decision}"
    )


def _signed(public_key: Path | None) -> str:
    return "" if public_key is None else f"; signed with the key of {public_key}"


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


def _moved(name: str, aliases: dict[str, str]) -> str:
    said = f"{name}: " + ", ".join(f"{alias} is version {version}" for alias, version in sorted(aliases.items()))
    problem = _mirror(name, aliases)
    return f"{said}\n{problem}" if problem else said


def _mirror(name: str, aliases: dict[str, str]) -> str | None:
    """Let ZenML's model control plane follow, where this machine uses ZenML; what went wrong, else None.

    The aliases have moved by then, and that is what counts: a mirror that cannot follow is told and no error.
    """
    home = Path(os.environ.get("ZENML_CONFIG_PATH") or click.get_app_dir("zenml"))
    if not home.is_dir() and not os.environ.get("ZENML_STORE_URL"):
        return None
    try:
        from steps.model_stages import follow_aliases

        follow_aliases(name, aliases, {})
    except Exception as error:
        return f"ZenML's model control plane could not follow ({first_line(error)}). Promote again once it can be used."
    return None
