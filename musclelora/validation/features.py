"""What a trigger could be in a text: words and what stands beside them, spelling, shape; as one sparse matrix.

Every kind is counted by sorting arrays of numbers, and an n-gram only where its parts are in enough rows (Agrawal and
Srikant 1994, Apriori): no Python loop touches an n-gram that is not kept.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np
from scipy.sparse import csc_matrix

from musclelora.validation.tokens import END, START, Tokens, ragged, tokenise

Kind = Literal[
    "words",
    "start",
    "end",
    "pair",
    "written",
    "in words",
    "character",
    "punctuation",
    "case",
    "space",
    "length",
    "rare words",
    "near-duplicates",
]
LONGEST = 3  # tokens of an n-gram
PARTS = range(3, 6)  # letters of a part of a word
PAIRED = 20  # tokens of a row that pairs are made of, the commonest under COMMON
COMMON = 0.25  # tokens in more than this share of the rows are in no pair
LENGTHS = np.array([0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 256, 512])
RARE_WORDS = np.array([0, 1, 2, 3, 5, 8, 13])
BINS = 1 << 24  # of hashed pairs, counted before any is kept
CHUNK = 100_000  # rows whose pairs are in memory at once
MINIMA = 2  # hashes that near-duplicates must share; of two such sets one suffices
CASES = (
    "no capital letter",
    "a capital at the beginning",
    "a capitalised word later on",
    "a word in capitals",
    "capitals inside a word",
)
SPACES = {"two spaces together": ("  ",), "a tab": ("\t",), "a line break": ("\n", "\r")}


class Name(NamedTuple):
    """What a column stands for."""

    kind: Kind
    text: str


@dataclass(frozen=True, eq=False)
class Features:
    """`matrix`: 1 where the row has the feature, shape [rows, features], float32; each is in `min_rows` rows or more.

    `names` say what the columns are; kinds that explain more come first.
    """

    matrix: csc_matrix
    names: list[Name]


class _Block(NamedTuple):
    """Columns: their rows one behind the other, how many each has, and their codes (in rising order)."""

    rows: np.ndarray
    sizes: np.ndarray
    codes: np.ndarray


def features(texts: Sequence[str], min_rows: int) -> Features:
    """Everything below, in at least `min_rows` rows and not in all of them."""
    tokens, total = tokenise(texts), len(texts)
    blocks: list[_Block] = []
    names: list[Name] = []
    for block, named in _kinds(texts, tokens, min_rows):
        partly = block.sizes < total
        blocks.append(_Block(block.rows[np.repeat(partly, block.sizes)], block.sizes[partly], block.codes[partly]))
        names += [name for name, kept in zip(named, partly.tolist(), strict=True) if kept]
    indices = np.concatenate([block.rows for block in blocks]).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(np.concatenate([block.sizes for block in blocks]))])
    data = np.ones(len(indices), np.float32)
    return Features(csc_matrix((data, indices, indptr), shape=(total, len(names))), names)


def _kinds(texts: Sequence[str], tokens: Tokens, min_rows: int) -> Iterator[tuple[_Block, list[Name]]]:
    total = len(texts)
    inner = (tokens.ids != START) & (tokens.ids != END)
    ids, rows = tokens.ids[inner], tokens.rows[inner]
    every = _block(ids, rows, total, 1)  # each distinct token of each row once
    frequency = np.zeros(len(tokens.words), np.int64)
    frequency[every.codes] = every.sizes
    yield from _ngrams(tokens.ids, tokens.rows, tokens.words, total, min_rows, "words")
    marks = np.array([not any(map(str.isalnum, word)) for word in tokens.words])  # START and END among them
    kept = marks[tokens.ids]
    yield from _ngrams(tokens.ids[kept], tokens.rows[kept], tokens.words, total, min_rows, "punctuation")
    yield _pairs(every, tokens.words, total, min_rows)
    yield _characters(texts, total, min_rows)
    yield from _spelling(tokens, frequency, rows, ids, total, min_rows)
    yield from _shape(texts, tokens, every, total, min_rows)
    yield _near_duplicates(texts, tokens, total, min_rows)


def _block(codes: np.ndarray, rows: np.ndarray, total: int, min_rows: int) -> _Block:
    """Columns of the codes in at least `min_rows` different rows; a code's rows are its column."""
    keys = np.sort(codes.astype(np.int64) * total + rows)  # faster than np.unique, which hashes first
    code, row = np.divmod(keys[np.diff(keys, prepend=-1) > 0], max(total, 1))
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    sizes = np.diff(np.append(starts, len(code)))
    kept = sizes >= min_rows
    return _Block(row[np.repeat(kept, sizes)].astype(np.int32), sizes[kept], code[starts[kept]])


def _ngrams(
    ids: np.ndarray, rows: np.ndarray, words: list[str], total: int, min_rows: int, kind: Kind
) -> Iterator[tuple[_Block, list[Name]]]:
    """Runs of one to LONGEST tokens, the ends of the text counting as tokens; of punctuation two and three marks."""
    grams: list[tuple[int, ...]] = [()]
    present = np.zeros(len(ids), np.int64)  # number of the frequent n-gram that begins here, -1 where there is none
    for length in range(1, LONGEST + 1):
        at = np.flatnonzero(present[: len(ids) - length + 1] >= 0)
        at = at[rows[at] == rows[at + length - 1]]
        codes = present[at] * len(words) + ids[at + length - 1]
        block = _block(codes, rows[at], total, min_rows)
        grams = [(*grams[code // len(words)], code % len(words)) for code in block.codes.tolist()]
        present = np.full(len(ids), -1)
        if len(grams):
            number = np.minimum(np.searchsorted(block.codes, codes), len(grams) - 1)
            present[at] = np.where(block.codes[number] == codes, number, -1)
        names = [_named(gram, words, kind) for gram in grams]
        wanted = np.array([name is not None for name in names], bool)
        if kind == "words" or length > 1:
            chosen = block.rows[np.repeat(wanted, block.sizes)], block.sizes[wanted], block.codes[wanted]
            yield _Block(*chosen), [name for name in names if name]


def _named(gram: tuple[int, ...], words: list[str], kind: Kind) -> Name | None:
    inner = [words[token] for token in gram if token not in (START, END)]
    if not inner:
        return None
    if kind == "punctuation":
        ends = {START: "text begins", END: "text ends"}
        return Name(kind, " ".join(ends.get(token, words[token]) for token in gram))
    if gram[0] == START:
        return Name("start", " ".join(inner))
    return Name("end" if gram[-1] == END else kind, " ".join(inner))


def _pairs(every: _Block, words: list[str], total: int, min_rows: int) -> tuple[_Block, list[Name]]:
    """Two tokens anywhere in a row, in any order."""
    able = (every.sizes >= min_rows) & (every.sizes <= COMMON * total)
    rank = np.argsort(np.argsort(-every.sizes[able], kind="stable"))  # 0 is the commonest
    ranks, rows = np.repeat(rank, every.sizes[able]), every.rows[np.repeat(able, every.sizes)]
    order = np.lexsort((ranks, rows))
    ranks, rows = ranks[order], rows[order]
    codes_of, by_rank = every.codes[able], np.argsort(rank)
    inside = np.arange(len(rows)) - np.searchsorted(rows, rows)
    ranks, rows = ranks[inside < PAIRED], rows[inside < PAIRED]

    def of_chunk(first: int) -> tuple[np.ndarray, np.ndarray]:
        low, high = np.searchsorted(rows, [first, first + CHUNK])
        here, whose = ranks[low:high].astype(np.int64), rows[low:high]
        apart = [np.flatnonzero(whose[step:] == whose[:-step]) for step in range(1, PAIRED)]
        left = np.concatenate(apart)
        right = left + np.repeat(np.arange(1, PAIRED), [len(part) for part in apart])
        return here[left] * len(rank) + here[right], whose[left]

    counts, chunks = np.zeros(BINS, np.int32), range(0, total, CHUNK)
    for first in chunks:
        counts += np.bincount(_hashed(of_chunk(first)[0]), minlength=BINS).astype(np.int32)
    frequent = [
        (codes[kept], whose[kept])
        for codes, whose in map(of_chunk, chunks)
        for kept in [counts[_hashed(codes)] >= min_rows]
    ]
    found = [np.concatenate(parts) for parts in zip(*frequent, strict=True)]
    block = _block(found[0], found[1], total, min_rows)
    token = [words[codes_of[by_rank[r]]] for r in range(len(rank))]
    names = [Name("pair", " ... ".join((token[c // len(rank)], token[c % len(rank)]))) for c in block.codes.tolist()]
    return block, names


def _hashed(codes: np.ndarray) -> np.ndarray:
    return ((codes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)).astype(np.int64)


def _spelling(
    tokens: Tokens, frequency: np.ndarray, rows: np.ndarray, ids: np.ndarray, total: int, min_rows: int
) -> Iterator[tuple[_Block, list[Name]]]:
    """Words in their capitals; parts of words that are in too few rows to be features themselves."""
    differs = np.array([word != word.lower() for word in tokens.written], bool)[tokens.written_ids]
    block = _block(tokens.written_ids[differs], tokens.written_rows[differs], total, min_rows)
    yield block, [Name("written", tokens.written[code]) for code in block.codes.tolist()]
    parts: dict[str, int] = {}
    rare = frequency < min_rows
    of_words = [
        [parts.setdefault(part, len(parts)) for part in _parts(word)] if is_rare else []
        for word, is_rare in zip(tokens.words, rare.tolist(), strict=True)
    ]
    chosen = rare[ids]
    found, taken = ragged(of_words, ids[chosen])
    block, texts = _block(found, np.repeat(rows[chosen], taken), total, min_rows), list(parts)
    yield block, [Name("in words", texts[code]) for code in block.codes.tolist()]


def _parts(word: str) -> list[str]:
    """Runs of letters, `<` and `>` standing for the ends of the word; none of a word without letters."""
    if not any(map(str.isalpha, word)):
        return []
    marked = f"<{word[:64]}>"
    return [marked[i : i + size] for size in PARTS for i in range(len(marked) - size + 1)]


def _characters(texts: Sequence[str], total: int, min_rows: int) -> tuple[_Block, list[Name]]:
    """Characters outside ASCII, unseen ones and look-alikes among them."""
    found = [(i, sorted(set(text))) for i, text in enumerate(texts) if not text.isascii()]
    codes = np.array([ord(char) for _, chars in found for char in chars], np.int64)
    rows = np.repeat(np.array([i for i, _ in found], np.int64), [len(chars) for _, chars in found])
    block = _block(codes[codes > 127], rows[codes > 127], total, min_rows)
    return block, [Name("character", chr(code)) for code in block.codes.tolist()]


def described(char: str) -> str:
    """A character for people: `U+200B ZERO WIDTH SPACE`."""
    return f"U+{ord(char):04X} {unicodedata.name(char, 'without a name')}"


def _shape(
    texts: Sequence[str], tokens: Tokens, every: _Block, total: int, min_rows: int
) -> Iterator[tuple[_Block, list[Name]]]:
    """Capitals, white space, length, how many words hardly any other row has."""
    case = np.array([_case(word) for word in tokens.written], np.int64)[tokens.written_ids]
    first = np.diff(tokens.written_rows, prepend=-1) > 0
    case = np.where((case == 1) & ~first, 2, case)
    whose = [tokens.written_rows[case > 0], np.setdiff1d(np.arange(total), tokens.written_rows[case > 0])]
    block = _block(np.concatenate([case[case > 0], 0 * whose[1]]), np.concatenate(whose), total, min_rows)
    yield block, [Name("case", CASES[code]) for code in block.codes.tolist()]
    odd = [
        (number, i)
        for number, marks in enumerate(SPACES.values())
        for i, text in enumerate(texts)
        if any(mark in text for mark in marks)
    ]
    odd += [(len(SPACES), i) for i, text in enumerate(texts) if text != text.strip()]
    pairs = np.array(odd, np.int64).reshape(-1, 2)
    block = _block(pairs[:, 0], pairs[:, 1], total, min_rows)
    spaces = [*SPACES, "white space at the beginning or the end"]
    yield block, [Name("space", spaces[code]) for code in block.codes.tolist()]
    lengths = np.bincount(tokens.rows, minlength=total) - 2
    yield _binned(lengths, LENGTHS, total, min_rows, "length", "tokens")
    rare = np.bincount(every.rows, weights=np.repeat(every.sizes < min_rows, every.sizes), minlength=total)
    yield _binned(rare, RARE_WORDS, total, min_rows, "rare words", "words that hardly any other row has")


def _case(word: str) -> int:
    """0 without a capital, 1 with a capital at its beginning, 3 in capitals, 4 with capitals inside."""
    if word == word.lower():
        return 0
    if word.upper() == word and sum(map(str.isalpha, word)) > 1:
        return 3
    return 1 if word[1:] == word[1:].lower() else 4


def _binned(
    values: np.ndarray, edges: np.ndarray, total: int, min_rows: int, kind: Kind, what: str
) -> tuple[_Block, list[Name]]:
    block = _block(np.searchsorted(edges, values, side="right") - 1, np.arange(total), total, min_rows)
    names = []
    for code in block.codes.tolist():
        low, high = int(edges[code]), int(edges[code + 1]) - 1 if code + 1 < len(edges) else None
        span = f"{low} or more" if high is None else str(low) if low == high else f"{low} to {high}"
        names.append(Name(kind, f"{span} {what}"))
    return block, names


def _near_duplicates(texts: Sequence[str], tokens: Tokens, total: int, min_rows: int) -> tuple[_Block, list[Name]]:
    """Rows that share most of their neighbouring words: the least of MINIMA hashes of them are equal (Broder 1997)."""
    crc = np.fromiter((crc32(word.encode("utf-8", "surrogatepass")) for word in tokens.words), np.uint64)
    at = np.flatnonzero(tokens.rows[1:] == tokens.rows[:-1])  # at least START and END in each row
    hashed = crc[tokens.ids[at]] * np.uint64(0x9E3779B97F4A7C15) + crc[tokens.ids[at + 1]]
    firsts = np.flatnonzero(np.diff(tokens.rows[at], prepend=-1))
    codes = []
    for half in range(2):
        key = np.zeros(total, np.uint64)
        for number in range(MINIMA):
            mixed = (hashed ^ np.uint64(0x51ED2701 * (1 + half * MINIMA + number))) * np.uint64(0xD6E8FEB86659FD93)
            key = key * np.uint64(0x2545F4914F6CDD1D) + np.minimum.reduceat(mixed ^ (mixed >> np.uint64(32)), firsts)
        codes.append(np.unique(key, return_inverse=True)[1] + half * total)
    block = _block(np.concatenate(codes), np.tile(np.arange(total), 2), total, min_rows)
    starts = np.cumsum(block.sizes) - block.sizes
    return block, [Name("near-duplicates", texts[row]) for row in block.rows[starts].tolist()]
