"""The signature of a model folder: by one key, over every file, without a network."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from musclelora.errors import ConfigError, ModelError
from musclelora.governance.manifest import verify_folder
from musclelora.governance.signature import KEY, PASSWORD, SIGNATURE, sign_folder, signing_key, verify_signature
from tests.governance.test_manifest import make


def a_key(folder: Path, name: str, password: str | None = None) -> tuple[Path, Path]:
    """A new private key and its public one, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    hidden = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, hidden))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A signed model folder and the public key; any attempt to reach a network fails."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    private, public = a_key(tmp_path, "ann")
    make(tmp_path / "made")
    sign_folder(tmp_path / "made", private)
    return tmp_path / "made", public


def test_a_signed_folder_is_verified_wherever_it_lies(signed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, public = signed
    copy = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    (copy / "registered_model_meta").write_text("what MLflow adds to a download")

    verify_signature(copy, public)
    assert verify_folder(copy).decision.decision == "accepted"


@pytest.mark.parametrize("name", ["model/model.safetensors", "evidence/manifest.json", "evidence/card.md", SIGNATURE])
def test_a_byte_changed_anywhere_breaks_the_signature(signed: tuple[Path, Path], name: str) -> None:
    folder, public = signed
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)

    with pytest.raises(ModelError, match="signature"):
        verify_signature(folder, public)


def test_added_and_removed_files_break_the_signature(signed: tuple[Path, Path]) -> None:
    folder, public = signed
    (folder / "more.txt").write_text("")
    with pytest.raises(ModelError, match="signature"):
        verify_signature(folder, public)
    (folder / "more.txt").unlink()
    verify_signature(folder, public)
    (folder / "evidence" / "card.md").unlink()
    with pytest.raises(ModelError, match="signature"):
        verify_signature(folder, public)


def test_another_key_a_missing_key_and_a_missing_signature_are_told(signed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, public = signed
    with pytest.raises(ModelError, match="is not one of"):
        verify_signature(folder, a_key(tmp_path, "eve")[1])
    with pytest.raises(ConfigError, match="no public key"):
        verify_signature(folder, tmp_path / "none.pub")
    (folder / SIGNATURE).unlink()
    with pytest.raises(ModelError, match="carries no signature"):
        verify_signature(folder, public)


def test_the_key_is_the_one_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    assert signing_key() is None
    private, _ = a_key(tmp_path, "ann", "s3cret")
    monkeypatch.setenv(KEY, str(private))
    with pytest.raises(ConfigError, match="password of an encrypted key"):
        signing_key()
    monkeypatch.setenv(PASSWORD, "s3cret")
    assert signing_key() == private


@pytest.mark.parametrize("kind", ["missing", "no key", "another kind"])
def test_an_unusable_key_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    file = tmp_path / "key.pem"
    if kind == "no key":
        file.write_text("hello")
    if kind == "another kind":
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key = ed25519.Ed25519PrivateKey.generate()
        file.write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    monkeypatch.setenv(KEY, str(file))

    with pytest.raises(ConfigError, match=KEY):
        signing_key()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_the_documented_commands_make_a_key_pair(tmp_path: Path) -> None:
    make(tmp_path / "made")
    for command in (
        "openssl ecparam -name prime256v1 -genkey -noout -out signing.pem",
        "openssl ec -in signing.pem -pubout -out signing.pub",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)

    sign_folder(tmp_path / "made", tmp_path / "signing.pem")
    verify_signature(tmp_path / "made", tmp_path / "signing.pub")
