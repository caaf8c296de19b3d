"""One spelling for values that mean the same: cells as strings, labels, and the key by which two texts are the same."""

import re
import unicodedata
from datetime import date, time
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator

_INTEGER_WITH_ZEROS = re.compile(r"(-?[0-9]+)\.0*")


def as_string(value: Any) -> str | None:
    """A cell as text: strings unchanged, 1.0 as `1`, true as `True`, null and not-a-number as None.

    Raises `ValueError` for values that are no text (lists, objects, bytes) or that UTF-8 cannot hold (lone surrogates).
    """
    if isinstance(value, str):
        if not value.isascii():
            value.encode("utf-8")
        return value
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool | int | float | Decimal | date | time):
        return str(value)
    raise ValueError(f"a value of type {type(value).__name__} where text was expected")


def label_name(value: Any) -> str | None:
    """A label as its name: `1`, ` 1 `, `1.0` and 1 give `1`; `true`, `TRUE` and true give `True`; nothing gives None.

    A label that is written differently in two files, or as a number in one and as text in the other, stays one label.
    """
    text = as_string(value)
    if text is None or not text.strip():
        return None
    text = text.strip()
    if match := _INTEGER_WITH_ZEROS.fullmatch(text):
        return match[1]
    return text.capitalize() if text.lower() in ("true", "false") else text


def text_key(text: str) -> str:
    """Two texts are the same text if their keys are equal: NFKC, case-folded, runs of white space as one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


Label = Annotated[str, BeforeValidator(label_name)]
"""A pydantic field for a label's name, so that `labels: [0, 1]` in YAML means what `0` and `1` in a CSV file mean."""
