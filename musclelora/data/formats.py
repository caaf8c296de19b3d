"""Bytes of one file to its columns: CSV, TSV, JSON lines, Parquet. Nothing is skipped, guessed or filled."""

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

import pyarrow
import pyarrow.parquet

from musclelora.errors import DataError, did_you_mean

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_LONGEST_CELL = 2**31 - 1

Cells = dict[str, list[Any]]


def suffix_of(name: str) -> str | None:
    """`.csv`, `.tsv`, `.jsonl` or `.parquet` for a file name, also with `.gz` after it; None for any other."""
    path = PurePosixPath(name.lower().removesuffix(".gz"))
    return path.suffix if path.suffix in SUFFIXES else None


def parse(where: str, data: bytes, wanted: Sequence[str]) -> Cells:
    """The `wanted` columns of one file named `where`; its name decides the format. Raises `DataError`."""
    if where.lower().endswith(".gz"):
        data = _unzip(where, data)
    if not data:
        raise DataError(f"{where} is empty (0 bytes). Perhaps its export or download broke off: produce it again.")
    match suffix_of(where):
        case ".csv":
            return _delimited(where, _decode(where, data), ",", wanted)
        case ".tsv":
            return _delimited(where, _decode(where, data), "\t", wanted)
        case ".jsonl":
            return _json_lines(where, _decode(where, data), wanted)
        case ".parquet":
            return _parquet(where, data, wanted)
    raise DataError(
        f"{where} has an extension that cannot be read. Save it as one of {', '.join(SUFFIXES)}, .gz or not."
    )


def require_columns(where: str, names: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise `DataError` unless each wanted column is there exactly once."""
    for name in wanted:
        if name not in names:
            near = did_you_mean(name, names)
            near = f" {near}" if near.startswith("Did") else ""
            raise DataError(
                f"{where} has no column {name!r}; it has {', '.join(map(repr, names))}.{near} Name the right one "
                f"under data.columns (of `musclelora scan`: --text, --label).{_separator_hint(names)}"
            )
    repeated = [name for name, n in Counter(names).items() if n > 1 and name in wanted]
    if repeated:
        raise DataError(f"{where} has more than one column {repeated[0]!r}. Rename or remove one: which is meant?")


def _separator_hint(names: Sequence[str]) -> str:
    if len(names) == 1 and (separator := next((c for c in ";\t|," if c in names[0]), None)):
        return f" The only column name contains {separator!r}: is that the separator? .csv means commas, .tsv tabs."
    return ""


def _unzip(where: str, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{where} cannot be decompressed: {error}. It is cut short, or not gzip in spite of its name: fetch it "
            "again or drop `.gz` from the name."
        ) from error


def _line_at(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _decode(where: str, data: bytes) -> str:
    """UTF-8 with or without a byte order mark; anything else is refused with the place."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{where} is not UTF-8: it begins with the mark of UTF-16. Save it as UTF-8.")
    if (zero := data.find(b"\0")) >= 0:
        raise DataError(
            f"{where} has a NUL byte at byte {zero}, line {_line_at(data, zero)}. A text file has none: it is "
            "damaged, binary, or UTF-16. Export it again as UTF-8."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where} is not UTF-8: byte 0x{data[error.start]:02x} at byte {error.start}, line "
            f"{_line_at(data, error.start)}. It was probably saved as Windows-1252 or Latin-1: convert it, for "
            "example with `iconv -f WINDOWS-1252 -t UTF-8`."
        ) from error


def _delimited(where: str, text: str, delimiter: str, wanted: Sequence[str]) -> Cells:
    """RFC 4180 quoting. An empty cell is null; a blank line is no row."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[list[str]] = []
    line = 1  # where the present row begins: a quoted cell may hold line breaks
    with _cells_of_any_length():
        try:
            for cells in reader:
                if cells and not header:
                    header = cells
                elif cells and len(cells) != len(header):
                    raise DataError(
                        f"{where}, line {line}: {len(cells)} cells where the header has {len(header)}. Probably a text "
                        "with an unquoted comma, tab or line break: quote it, or save the file as JSON lines."
                    )
                elif cells:
                    rows.append(cells)
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{where}, in the row that begins at line {line}: {error}. Probably a quote that is not closed, or a "
                "quote inside a quoted text that is not doubled: correct it, or save the file as JSON lines."
            ) from error
    if not header:
        raise DataError(f"{where} holds nothing but blank lines. Perhaps its export broke off: produce it again.")
    require_columns(where, header, wanted)
    at = {name: header.index(name) for name in wanted}
    return {name: [row[i] or None for row in rows] for name, i in at.items()}


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """The csv module refuses cells over 128 KiB, a limit for the whole process: lift it for the time of one file."""
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _json_lines(where: str, text: str, wanted: Sequence[str]) -> Cells:
    """One object a line; a key that a line lacks is null there."""
    records: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{where}, line {number}: not JSON ({error}). Each line must be one whole object, such as "
                '{"text": "...", "label": "..."}; a file that is one JSON array must be rewritten line by line.'
            ) from error
        if not isinstance(record, dict):
            raise DataError(
                f"{where}, line {number}: a JSON {type(record).__name__} where an object was expected. Each line must "
                'be one object, such as {"text": "...", "label": "..."}.'
            )
        records.append(record)
    if not records:
        raise DataError(f"{where} holds nothing but blank lines. Perhaps its export broke off: produce it again.")
    require_columns(where, list(dict.fromkeys(name for record in records for name in record)), wanted)
    return {name: [record.get(name) for record in records] for name in wanted}


def _parquet(where: str, data: bytes, wanted: Sequence[str]) -> Cells:
    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        require_columns(where, file.schema_arrow.names, wanted)
        table = file.read(columns=list(wanted))
        return {name: table.column(name).to_pylist() for name in wanted}
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{where} cannot be read as Parquet: {error}. It is cut short, damaged, or another format in spite of its "
            "name: write it again."
        ) from error
