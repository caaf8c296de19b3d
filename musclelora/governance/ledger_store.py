"""Where a promotion ledger lies: as parameters of an MLflow run, with copies as its artifact and on this machine.

MLflow never changes a parameter once it is written. So line n is the parameter `line.<n>`: whoever writes it first has
it, on any machine, and everyone else is told. That makes the ledger append-only and is the compare-and-set of
promotions; aliases and tags have none. The registered model names its run in the tag `musclelora.ledger`.
"""

import getpass
import os
import re
import socket
import tempfile
import uuid
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from filelock import FileLock
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from musclelora.errors import RegistryError
from musclelora.governance.ledger import (
    GENESIS,
    LOCK_SECONDS,
    LedgerEntry,
    LedgerError,
    LocalLedger,
    check_copy,
    read_chain,
)
from musclelora.governance.tracking import (
    connect,
    ensure_experiment,
    environment,
    finish_run,
    sqlite_path,
    without_credentials,
)

EXPERIMENT = "musclelora-ledger"
RUN_TAG = "musclelora.ledger"
LINE_TAG = "ledger."
ARTIFACT = "ledger.jsonl"
_LINE_PARAM = "line."
_MAX_NAME = 200  # of an actor: a line must fit into MLflow's 6000 characters of a parameter


class LedgerStore:
    """The ledger of one registered model."""

    def __init__(self, tracking_uri: str, model: str) -> None:
        self.client = connect(tracking_uri)
        self.tracking_uri = tracking_uri
        self.model = model
        self.local = LocalLedger(_local_folder(tracking_uri) / f"{quote(model, safe='')}.jsonl")

    def create(self) -> None:
        """Make the registered model and its ledger where there are none. The first of two processes wins."""
        if self._run_id(missing_model_is_none=True) is not None:
            return
        experiment = ensure_experiment(self.tracking_uri, EXPERIMENT)
        run_id = str(self.client.create_run(experiment, run_name=self.model).info.run_id)
        finish_run(self.tracking_uri, run_id, "FINISHED")
        try:
            self.client.create_registered_model(self.model, tags={RUN_TAG: run_id})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            self._adopt(run_id)

    def read(self) -> list[LedgerEntry]:
        """The whole chain, checked against the copy on this machine and the tags of all versions.

        Raises `LedgerError` at the first line that is not what it was.
        """
        copy = self.local.lines()  # copies and tags before the ledger itself: it only grows meanwhile
        tagged = self._tagged()
        lines = self.lines()
        entries = read_chain(lines, self.model)
        check_copy(lines, copy, str(self.local.path))
        for number, version, sha256 in tagged:
            if number > len(entries):
                raise LedgerError(number, f"version {version} is tagged with it, and it is gone: it was removed.")
            if entries[number - 1].sha256 != sha256:
                raise LedgerError(number, f"version {version} is tagged with another hash: the line was replaced.")
        return entries

    def append(
        self,
        after: Sequence[LedgerEntry],
        *,
        action: Literal["challenge", "promote", "rollback"],
        version: str,
        decision: str,
        manifest_sha256: str,
        aliases: dict[str, str],
    ) -> LedgerEntry | None:
        """Write the line that follows `after`; None if another process wrote its own there first."""
        entry = LedgerEntry(
            number=len(after) + 1,
            previous=after[-1].sha256 if after else GENESIS,
            id=uuid.uuid4().hex,
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            actor=_actor(),
            action=action,
            model=self.model,
            version=version,
            decision=decision,
            manifest_sha256=manifest_sha256,
            aliases=aliases,
        )
        run_id = self._run_id()
        if run_id is None:
            raise RegistryError(f"The registered model {self.model!r} has no promotion ledger: register a model first.")
        key = f"{_LINE_PARAM}{entry.number:06d}"
        try:
            self.client.log_param(run_id, key, entry.line)
        except MlflowException:
            if self.client.get_run(run_id).data.params.get(key) is None:
                raise  # else it is there: another's, or ours, and only the answer was lost
        written = self.client.get_run(run_id).data.params.get(key)
        if written != entry.line:
            return None
        self.tag(entry)
        return entry

    def tag(self, entry: LedgerEntry) -> None:
        """Hold the hash of a line on the version that it is about: the chain cannot show that its end is gone."""
        self.client.set_model_version_tag(self.model, entry.version, f"{LINE_TAG}{entry.number}", entry.sha256)

    def publish(self) -> None:
        """Bring the copies up to date: the file on this machine, and the artifact of the run."""
        lines, run_id = self.lines(), self._run_id()
        self.local.follow(lines)
        if run_id is not None:
            self.client.log_text(run_id, "".join(f"{line}\n" for line in lines), ARTIFACT)

    def lines(self) -> list[str]:
        """The lines as MLflow has them, in the order of their numbers."""
        run_id = self._run_id(missing_model_is_none=True)
        if run_id is None:
            return []
        params = self.client.get_run(run_id).data.params
        return [params[key] for key in sorted(params) if key.startswith(_LINE_PARAM)]

    def artifact_lines(self) -> list[str]:
        """The lines of the artifact, which may lag behind."""
        run_id = self._run_id(missing_model_is_none=True)
        if run_id is None or ARTIFACT not in {item.path for item in self.client.list_artifacts(run_id)}:
            return []
        with tempfile.TemporaryDirectory() as folder, environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"):
            content = Path(self.client.download_artifacts(run_id, ARTIFACT, folder)).read_bytes()
        return [line.decode("utf-8", errors="replace") for line in content.split(b"\n")[:-1]]

    def versions(self) -> list[ModelVersion]:
        """All versions of the model with their tags."""
        found: list[ModelVersion] = []
        token = None
        while True:
            page = self.client.search_model_versions(f"name = '{self.model}'", max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _tagged(self) -> list[tuple[int, str, str]]:
        """(number, version, hash) of every line that a version is tagged with, in order."""
        return sorted(
            (int(key.removeprefix(LINE_TAG)), str(version.version), value)
            for version in self.versions()
            for key, value in version.tags.items()
            if re.fullmatch(rf"{re.escape(LINE_TAG)}\d+", key)
        )

    def _run_id(self, *, missing_model_is_none: bool = False) -> str | None:
        try:
            return self.client.get_registered_model(self.model).tags.get(RUN_TAG)
        except MlflowException as error:
            if missing_model_is_none and error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _adopt(self, run_id: str) -> None:
        """Give the ledger to a model that was registered without one; a model that has one keeps it.

        The lock holds on this machine only: two machines that do this at the same moment can both think they won.
        `append` of the loser then writes into a ledger that nobody reads, and no alias follows it.
        """
        self.local.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.local.path}.lock", timeout=LOCK_SECONDS):
            if self._run_id() is not None:
                self.client.delete_run(run_id)
                return
            self.client.set_registered_model_tag(self.model, RUN_TAG, run_id)


def _local_folder(tracking_uri: str) -> Path:
    """Beside an SQLite database; for a server in the home folder, or where MUSCLELORA_LEDGER says, by address."""
    database = sqlite_path(tracking_uri)
    if database is not None:
        return database.parent / "ledger"
    home = Path(os.environ.get("MUSCLELORA_LEDGER") or Path.home() / ".musclelora" / "ledger")
    return home / quote(without_credentials(tracking_uri).rstrip("/"), safe="")


def _actor() -> str:
    """Who says that they do this: the MLflow user if there is one, else that of the machine. A claim, not a proof."""
    try:
        user = os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container whose user has no name
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"[:_MAX_NAME]
