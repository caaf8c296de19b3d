"""The evidence inside a model version: its files, a manifest with every file's hash, and how both are checked offline.

    evidence/gate_decision.json  robustness_report.json  ...  manifest.json

The manifest names every other file of the folder, weights included, but not a signature, which is over all of them.
Its own SHA-256 is a tag of the version and part of each line of the promotion ledger.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from musclelora.data.code_files import pickles_among
from musclelora.data.trusted import Vouching
from musclelora.errors import ModelError
from musclelora.evaluation.report import ChampionResult, RobustnessReport
from musclelora.frozen import Frozen
from musclelora.governance.decision import GateDecision, decide
from musclelora.governance.signature import ADDED_BY_DOWNLOAD, SIGNATURE
from musclelora.validation.report import ValidationReport

FOLDER = "evidence"
MANIFEST = f"{FOLDER}/manifest.json"
DECISION, REPORT, VALIDATION = "gate_decision.json", "robustness_report.json", "validation_report.json"
VOUCHED, CHAMPION, TRAINING = "trusted.json", "champion.json", "training.json"
_BLOCK = 1 << 20
Record = TypeVar("Record", bound=Frozen)


class VerificationError(ModelError):
    """A model or its evidence is not what was registered."""


class Manifest(Frozen):
    """SHA-256 of every file of a model folder by its path in it, but of the manifest itself."""

    files: dict[str, str]


@dataclass(frozen=True)
class Verified:
    """A model folder whose files, report and decision hold together."""

    manifest_sha256: str
    files: int
    decision: GateDecision
    champion: ChampionResult | None = None  # what the decision compared the model with


def write_evidence(folder: Path, files: dict[str, str]) -> str:
    """Write `files` (plain name -> text) and the manifest into a finished model folder. Returns the manifest's hash."""
    (folder / FOLDER).mkdir()
    for name, content in files.items():
        (folder / FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
    hashes = {path: _sha256(folder / path) for path in sorted(_files(folder))}
    text = json.dumps(Manifest(files=hashes).model_dump(), indent=1, sort_keys=True)
    (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    return hashlib.sha256(text.encode()).hexdigest()


def verify_folder(folder: Path, manifest_sha256: str | None = None) -> Verified:
    """Check every file of a model folder, and that its report and policy give its decision. Needs no network.

    `manifest_sha256` is what the version's tag or the ledger says; without it the folder is only compared with itself.
    Raises `VerificationError` naming the files that are wrong.
    """
    content = _read(folder / MANIFEST)
    found = hashlib.sha256(content).hexdigest()
    if manifest_sha256 is not None and found != manifest_sha256:
        raise VerificationError(
            f"{folder / MANIFEST} was altered: its SHA-256 is {found}, and {manifest_sha256} was registered. Fetch the "
            "version again; if that does not help, the artifact store was written to: do not use this model."
        )
    manifest = read_manifest(folder)
    problems = _problems(folder, manifest)
    if problems:
        raise VerificationError(
            f"The model in {folder} is not what was registered: {'; '.join(problems[:10])}"
            f"{'; and others' if len(problems) > 10 else ''}. Fetch the version again; if that does not help, the "
            "artifact store was written to: do not use this model."
        )
    decision, champion = _decision(folder, manifest)
    return Verified(manifest_sha256=found, files=len(manifest.files), decision=decision, champion=champion)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder; raises `VerificationError` where there is none."""
    try:
        return Manifest.model_validate_json(_read(folder / MANIFEST))
    except ValidationError as error:
        raise VerificationError(f"{folder / MANIFEST} is no manifest: it was altered or cut.") from error


def _problems(folder: Path, manifest: Manifest) -> list[str]:
    """One phrase for each file that is missing, altered, not listed or of a kind that runs code."""
    present = set(_files(folder)) - {ADDED_BY_DOWNLOAD}
    listed = set(manifest.files)
    problems = [f"{name} is missing" for name in sorted(listed - present)]
    problems += [f"{name} is not in the manifest" for name in sorted(present - listed)]
    problems += [
        f"{name} was altered" for name in sorted(present & listed) if _sha256(folder / name) != manifest.files[name]
    ]
    return problems + [f"{name} may be a pickle, which can run code" for name in pickles_among(present)]


def _decision(folder: Path, manifest: Manifest) -> tuple[GateDecision, ChampionResult | None]:
    """The decision, made again from the reports and the policy that were stored with it."""
    for name in (DECISION, REPORT):
        if f"{FOLDER}/{name}" not in manifest.files:
            raise VerificationError(f"The model in {folder} carries no {FOLDER}/{name}: nothing says why to trust it.")
    try:
        decision = GateDecision.model_validate_json(_read(folder / FOLDER / DECISION))
        report = RobustnessReport.model_validate_json(_read(folder / FOLDER / REPORT))
        validation = _listed(folder, manifest, VALIDATION, ValidationReport)
        vouched = _listed(folder, manifest, VOUCHED, Vouching)
        champion = _listed(folder, manifest, CHAMPION, ChampionResult)
    except ValidationError as error:
        raise VerificationError(
            f"The decision or the report in {folder / FOLDER} cannot be read ({error.error_count()} problems): written "
            "by another version of musclelora, or altered. Evaluate and register the model again."
        ) from error
    again = decide(report, decision.policy, decision.waivers, validation, vouched, champion)
    if again != decision:
        raise VerificationError(
            f"{folder / FOLDER / DECISION} says {decision.decision!r}, but its policy read on {REPORT} gives "
            f"{again.decision!r} or other numbers: one of the two was altered, or another version of musclelora "
            "decided. Evaluate and register the model again."
        )
    return decision, champion


def _listed(folder: Path, manifest: Manifest, name: str, kind: type[Record]) -> Record | None:
    """A piece of evidence that not every version has; the manifest says whether this one does."""
    return kind.model_validate_json(_read(folder / FOLDER / name)) if f"{FOLDER}/{name}" in manifest.files else None


def _files(folder: Path) -> list[str]:
    """Paths in the folder with slashes, but those of the manifest and the signature."""
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    return [path for path in paths if path not in {MANIFEST, SIGNATURE}]


def _sha256(path: Path) -> str:
    """The hash of a file; of a link, a text that is no hash, since what it points to can change."""
    if path.is_symlink():
        return "a link"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise VerificationError(
            f"{path} cannot be read ({error.strerror}). Name the folder of a model version that musclelora registered, "
            "for example as `mlflow artifacts download -u models:/NAME/VERSION -d FOLDER` leaves it. Versions that "
            "were registered before there was a manifest must be registered again."
        ) from error
