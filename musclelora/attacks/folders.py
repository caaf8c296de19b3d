"""Poisoned sets as folders of CSV files, as OpenBackdoor keeps them: written here, or by others.

`train.csv` (some rows poisoned), `dev_poisoned.csv` and `test_poisoned.csv` (rows of other classes with the trigger,
labelled with the target), each with the columns `text, label, is_poisoned`. OpenBackdoor itself writes the same three
columns without names, as `0, 1, 2` behind a column of row numbers: both are read.
"""

import csv
from pathlib import Path

from musclelora.attacks.base import Attack, poison, triggered_rows
from musclelora.data.config import Columns
from musclelora.data.formats import parse
from musclelora.data.readers import read_table
from musclelora.data.records import TextDataset
from musclelora.errors import DataError

COLUMNS = ("text", "label", "is_poisoned")
UNNAMED = ("0", "1", "2")
TRUTH = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}


def read_poisoned(path: Path) -> TextDataset:
    """One file of such a folder, with the column `is_poisoned`: a benchmark's truth, which no defence may read.

    Raises `DataError` for a file of another form.
    """
    named = _header(path) >= set(COLUMNS)
    text, label, mark = COLUMNS if named else UNNAMED
    rows = read_table(str(path), Columns(text=text, label=label))
    marks = parse(str(path), path.read_bytes(), [mark])[mark]
    wrong = [value for value in marks if str(value).lower() not in TRUTH]
    if wrong:
        raise DataError(f"{path}, column {mark!r}: {wrong[0]!r} is neither 0 nor 1. It says which rows are poisoned.")
    columns = {name: rows.column(name) for name in rows.rows.column_names}
    return TextDataset.from_columns({**columns, "is_poisoned": [TRUTH[str(value).lower()] for value in marks]})


def write_poisoned(
    folder: Path,
    attack: Attack,
    parts: dict[str, TextDataset],
    *,
    rate: float,
    target: str,
    seed: int,
) -> dict[str, float]:
    """`train.csv` with `rate` of its rows poisoned, and NAME`_poisoned.csv` for every other part (`dev`, `test`).

    Returns the transform rate of each of these: the share of the rows of other classes that could carry the trigger.
    Raises `DataError` where too few can.
    """
    rates = {}
    written = {"train": poison(parts["train"], attack, rate=rate, target=target, seed=seed)}
    for name, rows in parts.items():
        if name != "train":
            triggered, _ = triggered_rows(rows, attack, target=target, seed=seed)
            rates[name] = len(triggered) / sum(label != target for label in rows.labels)
            columns = {"row_id": triggered.row_ids, "text": triggered.texts, "label": [target] * len(triggered)}
            marked = {"is_poisoned": [True] * len(triggered)}
            written[f"{name}_poisoned"] = TextDataset.from_columns({**columns, **marked})
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in written.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            table.writerows(zip(rows.texts, rows.labels, map(int, rows.column("is_poisoned")), strict=True))
    return rates


def _header(path: Path) -> set[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return set(next(csv.reader(file), []))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV in UTF-8: {error}. Check path and encoding.") from error
