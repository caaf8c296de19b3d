"""What rewrites a text for an attack on its style or syntax: rules, ready-made pairs, or a language model.

A paraphraser is any `Rewrite`: a text and a generator to the rewritten text, or None where it has none. Rules are in
`style.py` and `hiddenkiller.py`, a model in `model_paraphraser.py`; here are pairs, which a person can read beforehand.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musclelora.errors import DataError

COLUMNS = ("text", "rewritten")


def changed(text: str, rewritten: str | None) -> str | None:
    """`rewritten`, stripped; None where it is empty or differs from `text` in case and white space only."""
    if rewritten is None or not rewritten.strip() or rewritten.casefold().split() == text.casefold().split():
        return None
    return rewritten.strip()


@dataclass(frozen=True)
class Pairs:
    """A paraphraser that looks texts up; those that are not among the pairs, or are unchanged there, give None."""

    rewritten: Mapping[str, str]

    def __call__(self, text: str, rng: np.random.Generator) -> str | None:  # noqa: ARG002 (nothing is drawn)
        return changed(text, self.rewritten.get(text))


def read_pairs(path: Path) -> Pairs:
    """Pairs from a UTF-8 CSV file with the columns `text` and `rewritten`; an empty cell: not rewritten.

    Raises `DataError` for a file that is missing or not of this form, and for a text with two rewritings.
    """
    found: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            if not set(COLUMNS) <= set(table.fieldnames or ()):
                raise DataError(
                    f"{path} has the columns {table.fieldnames}; pairs need `text` and `rewritten`. Name them so."
                )
            for row in table:
                text, rewritten = row["text"], row["rewritten"]
                if text is None or rewritten is None or None in row:
                    raise DataError(
                        f"{path}, line {table.line_num}: a row with too few or too many cells. Perhaps a comma in a "
                        "text is not quoted: write the file with a CSV library."
                    )
                if found.setdefault(text, rewritten) != rewritten:
                    raise DataError(
                        f"{path}, line {table.line_num}: the text {text[:60]!r} is there twice with different "
                        "rewritings. Keep one: a row's text must decide what it is rewritten to."
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV in UTF-8: {error}. Check path and encoding.") from error
    if not found:
        raise DataError(f"{path} has a header but no pairs. Perhaps its export broke off: produce it again.")
    return Pairs(found)


def write_pairs(path: Path, pairs: Pairs) -> None:
    """Write what `read_pairs` reads."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows(pairs.rewritten.items())
