"""Texts as streams of numbers: Python touches each text once and each distinct word once."""

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

START, END = 0, 1  # tokens that mark both ends of a text
# Marks around a word are tokens of their own: "movie," holds the word "movie". Not an apostrophe before it ("'s").
_AROUND = re.compile(r"([(\[{\"\u201c]*)(.*?)([.,;:!?)\]}\"\u201d\u2026]*)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Tokens:
    """`ids` are all tokens of all rows in order, START and END around each row's; `rows` says whose they are.

    `words` are the distinct tokens, in lower case. `written` are the distinct words as the texts have them (runs
    without white space), with `written_ids` and `written_rows` in order.
    """

    words: list[str]
    ids: np.ndarray
    rows: np.ndarray
    written: list[str]
    written_ids: np.ndarray
    written_rows: np.ndarray


class _Numbers(dict[str, int]):
    """A number for each distinct word, in order of appearance."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


def tokenise(texts: Sequence[str]) -> Tokens:
    """The streams of all `texts`."""
    numbers, stream, counts = _Numbers(), array("i"), array("i")
    for text in texts:
        words = text.split()
        stream.extend(map(numbers.__getitem__, words))
        counts.append(len(words))
    written_ids = np.frombuffer(stream, dtype=np.int32) if stream else np.empty(0, np.int32)
    lengths = np.frombuffer(counts, dtype=np.int32) if counts else np.empty(0, np.int32)
    written_rows = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
    tokens = _Numbers({"": START, " ": END})  # no word is either of these
    pieces = [[tokens[piece] for piece in _pieces(word)] for word in numbers]
    ids, rows = _expanded(pieces, written_ids, written_rows)
    return Tokens(list(tokens), *_with_ends(ids, rows, len(texts)), list(numbers), written_ids, written_rows)


class Piece(NamedTuple):
    """A word, or marks around one, in lower case, and where in its text it begins and ends."""

    token: str
    start: int
    end: int


def placed(text: str) -> Iterator[Piece]:
    """The tokens of one text in their places, without its ends."""
    for run in re.finditer(r"\S+", text):
        at = run.start()
        for piece in _split(run[0]):
            yield Piece(piece.lower(), at, at + len(piece))
            at += len(piece)


def ragged(values: Sequence[Sequence[int]], at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All numbers of `values[i]` for each i of `at`, one behind the other, and how many each i gave."""
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    flat = np.fromiter((number for numbers in values for number in numbers), np.int64, int(sizes.sum()))
    taken = sizes[at]
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])[at] if len(sizes) else np.empty(0, np.int64)
    ends = np.cumsum(taken)
    inside = np.arange(int(taken.sum())) - np.repeat(ends - taken, taken)
    return flat[np.repeat(first, taken) + inside], taken


def _pieces(word: str) -> list[str]:
    return [piece.lower() for piece in _split(word)]


def _split(word: str) -> list[str]:
    match = _AROUND.fullmatch(word)
    if match is None or not match[2]:
        return [word]
    return [piece for piece in match.groups() if piece]


def _expanded(pieces: list[list[int]], ids: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tokens, taken = ragged(pieces, ids)
    return tokens.astype(np.int32), np.repeat(rows, taken)


def _with_ends(ids: np.ndarray, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The stream with START before and END behind the tokens of each of `count` rows, rows without tokens too."""
    ends = np.searchsorted(rows, np.arange(count), side="right")
    starts = np.searchsorted(rows, np.arange(count), side="left")
    place = np.arange(len(ids)) + 2 * rows.astype(np.int64) + 1
    stream = np.empty(len(ids) + 2 * count, np.int32)
    whose = np.repeat(np.arange(count, dtype=np.int32), ends - starts + 2)
    stream[place] = ids
    stream[starts + 2 * np.arange(count)] = START
    stream[ends + 2 * np.arange(count) + 1] = END
    return stream, whose
