"""TextDataset: one Parquet file."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.table import InMemoryTable
from zenml.enums import ArtifactType

from materializers.base import PageMaterializer, content_hash
from materializers.pages import text_dataset_page
from musclelora.data.records import TextDataset
from musclelora.errors import DataError

ROWS = "rows.parquet"
BATCH = 10_000


class RowsMaterializer(PageMaterializer):
    """Rows in and out of `rows.parquet`, through a local temporary folder."""

    SKIP_REGISTRATION: ClassVar[bool] = True
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA

    def save_rows(self, dataset: TextDataset) -> None:
        rows = dataset.rows.with_format("arrow")
        schema = dataset.rows.features.arrow_schema
        with self.get_temporary_directory(delete_at_exit=True) as folder:
            local = Path(folder) / ROWS
            with pq.ParquetWriter(local, schema) as writer:
                for batch in rows.iter(batch_size=BATCH):  # by batch: a selection is never copied whole
                    writer.write_table(batch.cast(schema))
            self.upload(local, ROWS)

    def load_rows(self) -> TextDataset:
        """Raises `DataError` where the file is not Parquet."""
        with self.get_temporary_directory(delete_at_exit=True) as folder:
            local = Path(folder) / ROWS
            self.download(ROWS, local)
            try:
                table = pq.read_table(local)
            except pa.ArrowInvalid as error:
                raise DataError(
                    f"{self.path(ROWS)} is not readable as Parquet ({error}): run its step again."
                ) from error
        # Without a fingerprint `datasets` would hash the whole table through pickle.
        fingerprint = hashlib.sha256(self.uri.encode()).hexdigest()[:16]
        return TextDataset(datasets.Dataset(InMemoryTable(table), fingerprint=fingerprint))


class TextDatasetMaterializer(RowsMaterializer):
    """Its value is its SHA-256."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (TextDataset,)

    def save(self, data: TextDataset) -> None:
        self.save_rows(data)

    def load(self, data_type: type[Any]) -> TextDataset:  # noqa: ARG002 (ZenML names the arguments)
        """Read the rows; raises `DataError` where they are unreadable or were altered."""
        dataset = self.load_rows()
        self.refuse_if_altered(self.compute_content_hash(dataset))
        return dataset

    def compute_content_hash(self, data: TextDataset) -> str:
        return content_hash("TextDataset", data.sha256)

    def extract_metadata(self, data: TextDataset) -> dict[str, Any]:
        return {"rows": len(data), "sha256": data.sha256, "columns": list(data.rows.column_names)}

    def page(self, data: TextDataset) -> str:
        return text_dataset_page(data, "Text dataset")
