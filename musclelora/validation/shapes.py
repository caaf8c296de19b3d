"""What of a text's shape could be a trigger, as codes and the rows that have them: capitals, white space, length,
characters outside ASCII, and hashes that nearly equal texts share."""

from collections.abc import Iterator, Sequence
from zlib import crc32

import numpy as np

from musclelora.validation.tokens import Tokens

LENGTHS = np.array([0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 256, 512])
RARE_WORDS = np.array([0, 1, 2, 3, 5, 8, 13])
MINIMA = 2  # hashes that near-duplicates must share; of two such sets one suffices
CASES = (
    "no capital letter",
    "a capital at the beginning",
    "a capitalised word later on",
    "a word in capitals",
    "capitals inside a word",
)
MARKS = (("  ",), ("\t",), ("\n", "\r"))
SPACES = ("two spaces together", "a tab", "a line break", "white space at the beginning or the end")


def characters(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Characters outside ASCII, unseen ones and look-alikes among them."""
    found = [(i, sorted(set(text))) for i, text in enumerate(texts) if not text.isascii()]
    codes = np.array([ord(char) for _, chars in found for char in chars], np.int64)
    rows = np.repeat(np.array([i for i, _ in found], np.int64), [len(chars) for _, chars in found])
    return codes[codes > 127], rows[codes > 127]


def case(tokens: Tokens, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of CASES."""
    case = np.array([_case_of(word) for word in tokens.written], np.int64)[tokens.written_ids]
    first = np.diff(tokens.written_rows, prepend=-1) > 0
    case = np.where((case == 1) & ~first, 2, case)
    without = np.setdiff1d(np.arange(total), tokens.written_rows[case > 0])
    return np.concatenate([case[case > 0], 0 * without]), np.concatenate([tokens.written_rows[case > 0], without])


def _case_of(word: str) -> int:
    """0 without a capital, 1 with a capital at its beginning, 3 in capitals, 4 with capitals inside."""
    if word == word.lower():
        return 0
    if word.upper() == word and sum(map(str.isalpha, word)) > 1:
        return 3
    return 1 if word[1:] == word[1:].lower() else 4


def space(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of SPACES."""
    odd = [
        (number, i)
        for number, marks in enumerate(MARKS)
        for i, text in enumerate(texts)
        if any(mark in text for mark in marks)
    ]
    odd += [(len(MARKS), i) for i, text in enumerate(texts) if text != text.strip()]
    pairs = np.array(odd, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def binned(values: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.searchsorted(edges, values, side="right") - 1, np.arange(len(values))


def minima(tokens: Tokens, total: int) -> Iterator[np.ndarray]:
    """Rows that share most of their neighbouring words: the least of MINIMA hashes of them are equal (Broder 1997)."""
    crc = np.fromiter((crc32(word.encode("utf-8", "surrogatepass")) for word in tokens.words), np.uint64)
    at = np.flatnonzero(tokens.rows[1:] == tokens.rows[:-1])  # at least START and END in each row
    hashed = crc[tokens.ids[at]] * np.uint64(0x9E3779B97F4A7C15) + crc[tokens.ids[at + 1]]
    firsts = np.flatnonzero(np.diff(tokens.rows[at], prepend=-1))
    for half in range(2):
        key = np.zeros(total, np.uint64)
        for number in range(MINIMA):
            mixed = (hashed ^ np.uint64(0x51ED2701 * (1 + half * MINIMA + number))) * np.uint64(0xD6E8FEB86659FD93)
            key = key * np.uint64(0x2545F4914F6CDD1D) + np.minimum.reduceat(mixed ^ (mixed >> np.uint64(32)), firsts)
        yield key
