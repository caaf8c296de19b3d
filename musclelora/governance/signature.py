"""A signature over a whole model folder by `model-signing` (OpenSSF), with an elliptic-curve key and without a network.

    openssl ecparam -name prime256v1 -genkey -noout -out signing.pem   # MUSCLELORA_SIGNING_KEY=signing.pem
    openssl ec -in signing.pem -pubout -out signing.pub                # musclelora verify --public-key signing.pub

The manifest says what was registered; the signature says by whose key, to those who have the public one.
"""

import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from musclelora.errors import ConfigError, ModelError

SIGNATURE = "evidence/model.sig"
# MLflow writes it into every folder that it downloads by a models:/ address.
ADDED_BY_DOWNLOAD = "registered_model_meta"
KEY, PASSWORD = "MUSCLELORA_SIGNING_KEY", "MUSCLELORA_SIGNING_KEY_PASSWORD"


def signing_key() -> Path | None:
    """The private key that the environment names, or None; raises `ConfigError` for one that cannot be used."""
    name = os.environ.get(KEY)
    if not name:
        return None
    password = os.environ.get(PASSWORD)
    try:
        key = load_pem_private_key(Path(name).read_bytes(), password.encode() if password else None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{KEY} names {name}, which cannot be read as a private key ({type(error).__name__}). `openssl ecparam "
            "-name prime256v1 -genkey -noout -out FILE` makes one; the password of an encrypted key goes into "
            f"{PASSWORD}."
        ) from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ConfigError(f"{KEY} names {name}, which is no elliptic-curve key; model-signing needs one.")
    _model_signing()
    return Path(name)


def sign_folder(folder: Path, key: Path) -> None:
    """Write the signature over every file of a finished model folder into it."""
    signing, _, hashing = _model_signing()
    config = signing.Config().use_elliptic_key_signer(private_key=key, password=os.environ.get(PASSWORD))
    config.set_hashing_config(_everything_but(hashing, folder)).sign(folder, folder / SIGNATURE)


def verify_signature(folder: Path, public_key: Path) -> None:
    """Raise `ModelError` unless the folder is signed with the key that belongs to `public_key`, as it lies there."""
    if not public_key.is_file():
        raise ConfigError(f"There is no public key {public_key}: name the file that `openssl ec -pubout` wrote.")
    if not (folder / SIGNATURE).is_file():
        raise ModelError(
            f"{folder} carries no signature: it was registered without {KEY}, or the signature was removed."
        )
    _, verifying, hashing = _model_signing()
    config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    try:
        config.set_hashing_config(_everything_but(hashing, folder)).verify(folder, folder / SIGNATURE)
    except Exception as error:  # whatever it could not verify is not verified
        raise ModelError(
            f"The signature of {folder} is not one of {public_key} over these files "
            f"({' '.join(str(error).split())[:300]}). Fetch the version again; if that does not help, do not use it."
        ) from error


def _everything_but(hashing: Any, folder: Path) -> Any:
    """Hashes of all files, but the signature and what MLflow adds to a download."""
    ignored = [folder / SIGNATURE, folder / ADDED_BY_DOWNLOAD]
    return hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


def _model_signing() -> tuple[Any, Any, Any]:
    try:
        from model_signing import hashing, signing, verifying
    except ImportError as error:
        raise ConfigError(
            'Signing needs the package model-signing: pip install "musclelora-pipelines[signing]", or unset '
            + KEY
            + "."
        ) from error
    return signing, verifying, hashing
