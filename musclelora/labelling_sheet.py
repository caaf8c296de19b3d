"""Which rows to have checked first: a sheet for a person to label, that then is the trusted file.

One row per cluster of the texts' states, the one nearest to its centre: with few labels to give, rows that are typical
of many others are worth more than doubtful ones (TypiClust: Hacohen, Dekel and Weinshall 2022, ICML). Given labels play
no part in the choice and are not on the sheet: whoever reads them repeats them.
"""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans

from musclelora.data.config import Columns
from musclelora.data.normalise import text_key
from musclelora.data.records import TextDataset
from musclelora.errors import DataError
from musclelora.seeding import derived_seed, generator

MOST_ROWS_READ = 20_000  # a random part of larger data: 96 rows of a million are as typical as of these

Embed = Callable[[Sequence[str]], np.ndarray]


def most_typical(states: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Row numbers in rising order, shape [count]: of each of `count` clusters of `states` [rows, size] one row."""
    clusters = KMeans(count, n_init=1, random_state=derived_seed(seed, "labelling_sheet/clusters") % 2**32).fit(states)
    distances = ((states - clusters.cluster_centers_[clusters.labels_]) ** 2).sum(1)
    nearest = np.lexsort((distances, clusters.labels_))
    return np.sort(nearest[np.unique(clusters.labels_[nearest], return_index=True)[1]])


def choose_rows(rows: TextDataset, count: int, embed: Embed, seed: int) -> TextDataset:
    """`count` rows with different texts. Raises `DataError` where there are fewer; blank texts do not count."""
    first = {text_key(text): i for i, text in reversed(list(enumerate(rows.texts))) if text and text.strip()}
    different = np.array(sorted(first.values()), dtype=int)
    if len(different) < count:
        raise DataError(
            f"There are {len(different):,} rows with different texts, and {count:,} are asked for: lower --rows."
        )
    if len(different) > MOST_ROWS_READ:
        draw = generator(seed, "labelling_sheet/read")
        different = np.sort(draw.choice(different, max(MOST_ROWS_READ, count), replace=False))
    chosen = different[most_typical(embed([rows.texts[i] for i in different]), count, seed)]
    return rows.where(np.isin(np.arange(len(rows)), chosen))


def write_sheet(rows: TextDataset, path: Path, columns: Columns) -> None:
    """A CSV file of row id, text and an empty label per row. Raises `DataError` rather than overwrite a file."""
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([columns.row_id or "row_id", columns.text, columns.label])
            writer.writerows([row_id, text, ""] for row_id, text in zip(rows.row_ids, rows.texts, strict=True))
    except FileExistsError:
        raise DataError(
            f"{path} is there already, perhaps with somebody's labels in it: nothing was written. Name another file."
        ) from None
    except OSError as error:
        raise DataError(f"The sheet cannot be written to {path}: {error.strerror or error}.") from error
