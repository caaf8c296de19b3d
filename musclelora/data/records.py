"""What crosses from step to step: rows of text with labels, and the trusted set."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import datasets
import numpy as np

from musclelora.errors import DataError

REQUIRED = ("row_id", "text", "label")
OPTIONAL = ("source", "is_poisoned")
NO_SOURCE = "(none)"  # of a row that names none, where others do
FEATURES = {name: datasets.Value("bool" if name == "is_poisoned" else "string") for name in (*REQUIRED, *OPTIONAL)}


def label_order(labels: Sequence[str]) -> tuple[str, ...]:
    """Distinct labels in the order of their class numbers: numerically where all are integers, else alphabetically."""
    distinct = set(labels)
    if all(re.fullmatch(r"-?[0-9]{1,18}", label) for label in distinct):
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    return tuple(sorted(distinct))


@dataclass(frozen=True, eq=False)
class TextDataset:
    """Rows with `row_id`, `text`, `label` (the label's name), optional `source`, and `is_poisoned` where known.

    Before validation `text` and `label` may be null: validation sets such rows aside, nothing drops them earlier.
    """

    rows: datasets.Dataset

    @classmethod
    def from_columns(cls, columns: dict[str, list[Any]]) -> "TextDataset":
        """Build from equal-length columns; raises `DataError` for missing or unknown columns and repeated row ids."""
        missing = [name for name in REQUIRED if name not in columns]
        unknown = [name for name in columns if name not in FEATURES]
        if missing or unknown:
            raise DataError(f"A TextDataset needs the columns {REQUIRED}: missing {missing}, unknown {unknown}.")
        repeated = [row_id for row_id, n in Counter(columns["row_id"]).items() if n > 1]
        if repeated:
            raise DataError(
                f"{len(repeated)} row ids occur more than once (first: {repeated[0]!r}). Row ids name rows in reports "
                "and quarantine, so each must be unique: name another column as row_id, or none to number the rows."
            )
        features = datasets.Features({name: FEATURES[name] for name in FEATURES if name in columns})
        return cls(datasets.Dataset.from_dict({name: columns[name] for name in features}, features=features))

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[Any]:
        """One column as a Python list."""
        return list(self.rows[name][:])  # without [:] datasets fetches row by row

    @property
    def texts(self) -> list[str]:
        return self.column("text")

    @property
    def labels(self) -> list[str]:
        return self.column("label")

    @property
    def row_ids(self) -> list[str]:
        return self.column("row_id")

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over every row and column, in order, as canonical JSON lines."""
        digest = hashlib.sha256(json.dumps(self.rows.column_names).encode())
        for batch in self.rows.iter(batch_size=4096):
            for row in zip(*batch.values(), strict=True):
                digest.update(
                    json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
                )
                digest.update(b"\n")
        return digest.hexdigest()

    def label_ids(self, label_names: Sequence[str]) -> np.ndarray:
        """Class numbers, shape [rows], int64; raises `DataError` for a label that is not among `label_names`."""
        numbers = {name: i for i, name in enumerate(label_names)}
        strangers = sorted({repr(label) for label in self.labels if label not in numbers})
        if strangers:
            raise DataError(f"Labels {', '.join(strangers)} are not in the label set {list(label_names)}.")
        return np.array([numbers[label] for label in self.labels], dtype=np.int64)

    def where(self, keep: Sequence[bool] | np.ndarray) -> "TextDataset":
        """The rows for which `keep` is true, in order."""
        return TextDataset(self.rows.select(np.flatnonzero(np.asarray(keep, dtype=bool))))

    def unpoisoned(self) -> "TextDataset":
        """The rows not marked as poisoned; raises `DataError` where the truth is not known."""
        if "is_poisoned" not in self.rows.column_names:
            raise DataError("These rows do not say which are poisoned: only a benchmark or a demonstration knows.")
        return self.where([not poisoned for poisoned in self.column("is_poisoned")])

    @property
    def sources(self) -> list[str]:
        """The `source` of each row, `NO_SOURCE` where it has none; empty without that column."""
        if "source" not in self.rows.column_names:
            return []
        return [NO_SOURCE if source is None else str(source) for source in self.column("source")]

    def source_counts(self) -> dict[str, int]:
        """Rows per source, empty without such a column."""
        return dict(sorted(Counter(self.sources).items()))


@dataclass(frozen=True, eq=False)
class TrustedSet:
    """A small clean set somebody vouches for: rows, who, until when, and when they last looked at the rows.

    Its labels define the label set.
    """

    data: TextDataset
    owner: str
    expires: date | None = None
    checked: date | None = None

    @property
    def sha256(self) -> str:
        return self.data.sha256

    @property
    def label_names(self) -> tuple[str, ...]:
        """Class names in the order of their numbers."""
        return label_order(self.data.labels)

    def __len__(self) -> int:
        return len(self.data)
