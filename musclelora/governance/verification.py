"""Is a registered version what was decided on, and does the registry say what the ledger says?"""

import tempfile
from pathlib import Path

from musclelora.errors import RegistryError
from musclelora.governance.ledger import ALIASES, LedgerEntry, check_copy
from musclelora.governance.ledger_store import LINE_TAG, LedgerStore
from musclelora.governance.manifest import FOLDER, Manifest, VerificationError, Verified, read_manifest, verify_folder
from musclelora.governance.model_store import fetch
from musclelora.governance.signature import verify_signature
from musclelora.governance.tracking import connect, mlflow_errors
from musclelora.governance.waiver import waiver_tags


def verify_version(name: str, version: str, tracking_uri: str, public_key: Path | None = None) -> Verified:
    """Fetch a version and check its files, its evidence and its tags against each other, and with a key its signature.

    Raises `RegistryError` for a version that is not there or not complete, `VerificationError` for one that was
    altered, and says where.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder, verified = fetch_verified(name, version, tracking_uri, scratch)
        if public_key is not None:
            verify_signature(folder, public_key)
        return verified


def fetch_verified(name: str, version: str, tracking_uri: str, folder: str) -> tuple[Path, Verified]:
    """The same, and the files stay in `folder`; returns where in it the model lies."""
    with mlflow_errors(tracking_uri, f"fetch {name!r} version {version}"):
        found = connect(tracking_uri).get_model_version(name, version)
        tags = found.tags
        if tags.get("status") != "ready":
            raise RegistryError(
                f"{name!r} version {version} is not complete: its status is {tags.get('status')!r}. The registration "
                "was interrupted, and such a version does not count. Run it again."
            )
        if "manifest_sha256" not in tags:
            raise RegistryError(
                f"{name!r} version {version} has no manifest: it was registered before there was one, or its tag "
                "was removed. It cannot be verified: register the model again."
            )
        Path(folder).mkdir(exist_ok=True)
        fetched = fetch(str(found.source), tracking_uri, folder)
        verified = verify_folder(fetched, tags["manifest_sha256"])
        _check_tags(tags, verified, read_manifest(fetched), f"{name!r} version {version}")
    return fetched, verified


def verify_ledger(name: str, tracking_uri: str) -> int:
    """Walk the ledger of a model through all its copies, and compare the aliases with it. Returns its length.

    Raises `LedgerError` at the line where a copy was tampered with, `RegistryError` where an alias is not where the
    last line says.
    """
    with mlflow_errors(tracking_uri, f"read the ledger of {name!r}"):
        ledger = LedgerStore(tracking_uri, name)
        artifact = ledger.artifact_lines()
        chain = ledger.read()
        check_copy([entry.line for entry in chain], artifact, "the artifact of its run")
        wrong = _not_where_it_should_be(ledger, chain)
        if wrong:
            last = (
                f"line {len(chain)} ({chain[-1].action} of version {chain[-1].version} by {chain[-1].actor}, "
                f"{chain[-1].time})"
                if chain
                else "an empty ledger"
            )
            raise RegistryError(
                f"The registry does not say of {name!r} what the ledger ends with, {last}: {'; '.join(wrong)}. That "
                "move was interrupted, or someone moved an alias by hand. Promote the version you want by its number: "
                "that puts it right."
            )
    return len(chain)


def _not_where_it_should_be(ledger: LedgerStore, chain: list[LedgerEntry]) -> list[str]:
    """One phrase for each alias that is not where the last line says, and for a tag that this line lacks."""
    current = ledger.client.get_registered_model(ledger.model).aliases
    wanted = chain[-1].aliases if chain else {}
    wrong = [
        f"{alias} is {_version(current.get(alias))} and not {_version(wanted.get(alias))}"
        for alias in reversed(ALIASES)
        if _version(current.get(alias)) != _version(wanted.get(alias))
    ]
    if chain:
        head, tag = chain[-1], f"{LINE_TAG}{chain[-1].number}"
        if tag not in ledger.client.get_model_version(ledger.model, head.version).tags:
            wrong.append(f"version {head.version} lacks the tag {tag}")
    return wrong


def _check_tags(tags: dict[str, str], verified: Verified, manifest: Manifest, which: str) -> None:
    """Tags repeat what the evidence says, for a quick look; one that differs was changed by hand."""
    decision = verified.decision
    expected = {
        "decision": decision.decision,
        "policy_sha256": decision.policy_sha256,
        "report_sha256": decision.report_sha256,
        **waiver_tags(decision.waivers),
    }
    prefix = f"{FOLDER}/"
    for path, sha256 in manifest.files.items():
        if path.startswith(prefix):
            expected[f"sha256.{path.removeprefix(prefix)}"] = sha256
    wrong = [key for key, value in expected.items() if tags.get(key) != value]
    if wrong:
        raise VerificationError(
            f"The tags {', '.join(sorted(wrong))} of {which} do not say what its evidence says: they were changed by "
            "hand. Find out by whom; the evidence inside the model holds together."
        )


def _version(version: object) -> str:
    return "nothing" if version is None else f"version {version}"
