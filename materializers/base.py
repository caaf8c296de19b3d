"""What all materializers share: bytes in and out of any artifact store, the page, the check against alteration."""

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError
from zenml.enums import ArtifactType, VisualizationType
from zenml.materializers.base_materializer import BaseMaterializer

from musclelora.errors import DataError
from musclelora.frozen import Frozen

PAGE = "page.html"
RECORD = "record.json"


def content_hash(kind: str, values: Any) -> str:
    """SHA-256 over the kind of artifact and its values as canonical JSON."""
    canonical = json.dumps([kind, values], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _as_json(record: Frozen) -> bytes:
    """The record as JSON. pydantic's own would write NaN as null, and the gate must see what is not a number."""
    return json.dumps(record.model_dump(mode="json"), indent=2, ensure_ascii=False).encode()


class PageMaterializer(BaseMaterializer):
    """Stores an artifact and one HTML page of it, and refuses to load what no longer has the recorded hash.

    ZenML's cache key takes the content hash in place of the artifact's id: equal values are served from cache.
    """

    SKIP_REGISTRATION: ClassVar[bool] = True

    def page(self, data: Any) -> str:
        """The HTML page of this artifact."""
        raise NotImplementedError

    def save_visualizations(self, data: Any) -> dict[str, VisualizationType]:
        self.write(PAGE, self.page(data).encode())
        return {self.path(PAGE): VisualizationType.HTML}

    def path(self, name: str) -> str:
        return f"{self.uri}/{name}"

    def write(self, name: str, content: bytes) -> None:
        with self.artifact_store.open(self.path(name), "wb") as file:
            file.write(content)

    def read(self, name: str) -> bytes:
        with self.artifact_store.open(self.path(name), "rb") as file:
            return bytes(file.read())

    def upload(self, source: Path, name: str) -> None:
        """Copy one local file to `name` in the artifact, in chunks."""
        with source.open("rb") as local, self.artifact_store.open(self.path(name), "wb") as stored:
            while chunk := local.read(1 << 20):
                stored.write(chunk)

    def download(self, name: str, target: Path) -> None:
        """Copy one file of the artifact to a local path, in chunks."""
        with self.artifact_store.open(self.path(name), "rb") as stored, target.open("wb") as local:
            while chunk := stored.read(1 << 20):
                local.write(chunk)

    def refuse_if_altered(self, found: str) -> None:
        """Raises `DataError` where ZenML recorded another hash for this artifact when it was saved."""
        if self.expected_content_hash not in (None, found):
            raise DataError(
                f"The artifact in {self.uri} is not what was saved there: its hash is {found[:12]}, recorded was "
                f"{str(self.expected_content_hash)[:12]}. Somebody or something changed the artifact store: run the "
                "step that makes it again, without its cache."
            )


class RecordMaterializer(PageMaterializer):
    """Stores one frozen record as JSON. Each subclass names its type and draws its page."""

    SKIP_REGISTRATION: ClassVar[bool] = True
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA

    def values(self, record: dict[str, Any]) -> dict[str, Any]:
        """The part of the record's JSON that counts as its value: all of it, unless it holds wall-clock times."""
        return record

    def save(self, data: Frozen) -> None:
        self.write(RECORD, _as_json(data))

    def load(self, data_type: type[Any]) -> Any:  # noqa: ARG002 (ZenML names the arguments)
        """Read the record; raises `DataError` where it was altered or is not a record of this type."""
        stored = self.read(RECORD)
        kind = self.ASSOCIATED_TYPES[0]
        try:
            record = kind.model_validate_json(stored)
        except ValidationError as error:
            raise DataError(
                f"{self.path(RECORD)} is not a {kind.__name__} of this version ({error.error_count()} errors, first: "
                f"{error.errors()[0]['msg']}). It was altered, or written by another version: run its step again."
            ) from error
        # Hashed as stored, not as re-dumped: a field that a later version adds must not read as an alteration.
        self.refuse_if_altered(self._hash(stored))
        return record

    def compute_content_hash(self, data: Frozen) -> str:
        return self._hash(_as_json(data))

    def _hash(self, stored: bytes) -> str:
        return content_hash(self.ASSOCIATED_TYPES[0].__name__, self.values(json.loads(stored)))
