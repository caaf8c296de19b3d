"""A waiver: a person accepts, in writing and until a day, that one rule does not hold. The only way past the gate.

    model: reviews
    rule: max_asr_over_floor     # a rule with a limit that refused; missing evidence cannot be waived
    evidence: drill              # drill, candidate, probe, or left out for a rule about the whole candidate
    attack: badnets
    value: 0.12                  # the bound is accepted up to this (of a rule min_...: down to this)
    person: ann@example.com
    reason: badnets is filtered before the model (ticket 4711)
    expires: 2027-03-31          # the last day, UTC
    signature: ...               # `musclelora sign-waiver FILE --key ann.pem`

The policy names who may sign: `waiver_keys: {ann@example.com: MCow...}`, the line between the first and the last of
`openssl pkey -in ann.pem -pubout`, where `openssl genpkey -algorithm ed25519 -out ann.pem` made the key.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key
from pydantic import Field

from musclelora.errors import ConfigError
from musclelora.frozen import Frozen


class WaiverError(ConfigError):
    """A waiver that does not count: expired, for another model, or not signed by whom the policy names."""


class Waiver(Frozen):
    """One rule, one model, one person."""

    model: str
    rule: Literal[
        "max_asr",
        "max_asr_over_floor",
        "max_asr_over_champion",
        "max_probe_asr",
        "max_search_asr_over_floor",
        "min_robust_accuracy",
        "min_cacc",
        "max_cacc_drop",
        "max_cacc_drop_from_champion",
    ]
    evidence: Literal["candidate", "drill", "probe"] | None = None
    attack: str | None = None
    value: float = Field(ge=-1, le=1)
    person: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    expires: date
    signature: str | None = None

    @property
    def signed_bytes(self) -> bytes:
        """What is signed: every field but the signature, as canonical JSON."""
        fields = self.model_dump(mode="json", exclude={"signature"})
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @property
    def downwards(self) -> bool:
        """Whether less than the limit is what is waived."""
        return self.rule.startswith("min_")

    @property
    def subject(self) -> str:
        """Which rule, of what."""
        return self.rule if self.attack is None else f"{self.rule} ({self.evidence}, {self.attack})"

    def __str__(self) -> str:
        word = "down" if self.downwards else "up"
        return (
            f"{self.subject} {word} to {self.value:g}, waived by {self.person} until {self.expires}: "
            f"{' '.join(self.reason.split())}"
        )


def is_signed(waiver: Waiver, keys: Mapping[str, str]) -> bool:
    """Whether the person of the waiver signed it with the key that the policy names for them."""
    key = keys.get(waiver.person)
    if key is None or waiver.signature is None:
        return False
    try:
        public_key(key).verify(base64.b64decode(waiver.signature, validate=True), waiver.signed_bytes)
    except (InvalidSignature, ValueError):  # binascii.Error is one
        return False
    return True


def check_waivers(waivers: Iterable[Waiver], keys: Mapping[str, str], model: str, now: datetime) -> None:
    """Raise `WaiverError` unless every waiver is for this model, has not expired, and is signed by whom it names."""
    for waiver in waivers:
        which = f"The waiver of {waiver.subject} by {waiver.person} does not count"
        if waiver.model != model:
            raise WaiverError(f"{which}: it is for the model {waiver.model!r}, and this is {model!r}.")
        if now.astimezone(timezone.utc).date() > waiver.expires:
            raise WaiverError(f"{which}: it expired on {waiver.expires}. Leave it out, or let it be signed anew.")
        if not is_signed(waiver, keys):
            raise WaiverError(
                f"{which}: it is not signed with the key that gate.waiver_keys names for {waiver.person!r}. Was it "
                "changed after it was signed? `musclelora sign-waiver FILE --key KEY` signs."
            )


def sign(waiver: Waiver, key_file: Path) -> str:
    """The signature by an Ed25519 private key in a PEM file, base64."""
    try:
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{key_file} cannot be read as a private key without a password: {type(error).__name__}. `openssl genpkey "
            "-algorithm ed25519 -out FILE` makes one."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{key_file} is no Ed25519 key: `openssl genpkey -algorithm ed25519 -out FILE` makes one.")
    return base64.b64encode(key.sign(waiver.signed_bytes)).decode()


def public_key(text: str) -> Ed25519PublicKey:
    """An Ed25519 public key from the base64 of its DER form; raises `ValueError` for anything else."""
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 key")
    return key


def waiver_tags(waivers: Iterable[Waiver]) -> dict[str, str]:
    """What a model version says of its waivers."""
    return {f"waiver.{number}": str(waiver) for number, waiver in enumerate(waivers, 1)}
