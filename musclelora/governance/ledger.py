"""The promotion ledger: which version got which alias, when, by whom; append-only, each line chained to the one before.

A ledger is JSON lines in canonical form (sorted keys, no spaces, UTF-8). Line n carries the SHA-256 of line n - 1, so
that an altered, removed or moved line breaks the chain. The chain alone cannot show that lines at its end are gone:
compare its head with the other copies and with the tags of the versions (`promotion`, `verification`).
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from musclelora.errors import MuscleLoRAError, RegistryError
from musclelora.frozen import Frozen

CHALLENGER, CHAMPION, PREVIOUS_CHAMPION = "challenger", "champion", "previous_champion"
# In the order in which they are set: the champion moves last.
ALIASES = (CHALLENGER, PREVIOUS_CHAMPION, CHAMPION)
GENESIS = "0" * 64
LOCK_SECONDS = 30


class LedgerError(MuscleLoRAError):
    """A ledger was tampered with or damaged; `line` is the first that is wrong, counted from 1."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(
            f"The promotion ledger is broken at line {line}: {what} Nothing was moved. Keep all copies as they are "
            "(the local file, the parameters and the file of its MLflow run), and find out who could write to them."
        )
        self.line = line


class LedgerEntry(Frozen):
    """One move of aliases. `aliases` are all that the model has after it; `previous` is the hash of the line before."""

    number: int = Field(ge=1)
    previous: str = Field(pattern="^[0-9a-f]{64}$")
    id: str = Field(description="random: two writers never write the same line")
    time: str = Field(description="UTC, ISO 8601, to the second, by the clock of who wrote it")
    actor: str
    action: Literal["challenge", "promote", "rollback"]
    model: str
    version: str
    decision: str
    manifest_sha256: str
    aliases: dict[str, str]

    @property
    def line(self) -> str:
        """Canonical JSON: the same entry, the same bytes."""
        fields = self.model_dump(mode="json")
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.line.encode()).hexdigest()


def read_chain(lines: Sequence[str], model: str) -> list[LedgerEntry]:
    """The entries of a ledger of `model`; raises `LedgerError` at the first line that breaks the chain."""
    entries: list[LedgerEntry] = []
    for number, line in enumerate(lines, 1):
        try:
            entry = LedgerEntry.model_validate_json(line)
        except ValidationError as error:
            raise LedgerError(number, "it is no ledger entry: it was altered or cut.") from error
        if entry.line != line:
            raise LedgerError(number, "it is not in canonical form: it was altered.")
        if entry.number != number:
            raise LedgerError(number, f"here stands line {entry.number}: lines were removed, added or moved.")
        if entry.model != model:
            raise LedgerError(number, f"it is about the model {entry.model!r}, not {model!r}.")
        before = entries[-1].sha256 if entries else GENESIS
        if entry.previous != before:
            raise LedgerError(
                max(1, number - 1),
                f"line {number} was chained to another line than the one now before it. Line {number - 1} was altered "
                f"after it was written, or line {number} was replaced.",
            )
        entries.append(entry)
    return entries


def check_copy(lines: Sequence[str], copy: Sequence[str], name: str) -> None:
    """Raise `LedgerError` unless `copy` is the beginning of `lines`: a copy may lag behind, and differ in nothing."""
    for number, (line, copied) in enumerate(zip(lines, copy, strict=False), 1):
        if line != copied:
            raise LedgerError(number, f"the line in MLflow and in {name} differ: one of them was altered.")
    if len(copy) > len(lines):
        raise LedgerError(
            len(lines) + 1,
            f"{name} has {len(copy)} lines and MLflow only {len(lines)}: lines were removed at the end, in MLflow.",
        )


class LocalLedger:
    """The copy of a ledger in a file of this machine. Safe with several processes; a line is on disk once written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        """All whole lines. A last line without its end was cut by a crash while it was written, and does not count."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from error
        # Not splitlines(): names may hold other characters that it takes for the end of a line.
        return [line.decode("utf-8", errors="replace") for line in content.split(b"\n")[:-1]]

    def follow(self, lines: Sequence[str]) -> None:
        """Append what `lines` has more than the file; raises `LedgerError` if the file is not their beginning."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=LOCK_SECONDS):
                known = self.lines()
                if len(known) > len(lines) and known[: len(lines)] == list(lines):
                    return  # another process was here since `lines` were read, and wrote more
                check_copy(lines, known, str(self.path))
                self._append(known, lines[len(known) :])
        except (OSError, Timeout) as error:
            raise self._unusable(error) from error

    def _append(self, known: Sequence[str], new: Sequence[str]) -> None:
        if not new:
            return
        whole = sum(len(line.encode()) + 1 for line in known)
        with self.path.open("ab") as file:
            file.truncate(whole)  # a line that a crash cut
            file.write("".join(f"{line}\n" for line in new).encode())
            file.flush()
            os.fsync(file.fileno())

    def _unusable(self, error: OSError) -> RegistryError:
        return RegistryError(
            f"The local copy of the promotion ledger, {self.path}, cannot be read or written ({error}). The ledger in "
            "MLflow is complete. Free space or make the folder writable, then run `musclelora verify`."
        )
