"""One partition of the texts: which of its rows have which word, phrase, pair, spelling and shape.

Every kind is counted by sorting arrays of numbers, and an n-gram only where its parts are in enough rows (Agrawal and
Srikant 1994, Apriori): no Python loop touches an n-gram that is not kept. What a code means is the same in all
partitions: it is made of the numbers of a common vocabulary, or is the same string.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, repeat
from typing import NamedTuple

import numpy as np

from musclelora.errors import DataError
from musclelora.validation import shapes
from musclelora.validation.tokens import END, START, Tokens, ragged, tokenise

LONGEST = 3  # tokens of an n-gram
PARTS = range(3, 6)  # letters of a part of a word
PAIRED = 20  # tokens of a row that pairs are made of, the commonest under COMMON
COMMON = 0.25  # tokens in more than this share of the rows are in no pair
BITS = 22  # of a pair's hash, at most: pairs are counted by hash before any is kept

Keep = int | list[np.ndarray]
"""What is kept: codes in so many rows of the partition, or the given ones of each kind."""


class Block(NamedTuple):
    """Columns: their rows one behind the other, how many each has, and their numbers (in rising order)."""

    rows: np.ndarray
    sizes: np.ndarray
    columns: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """Where in `rows` each column begins."""
        return np.cumsum(self.sizes) - self.sizes

    def size_of_each(self, count: int) -> np.ndarray:
        """Rows of each of `count` columns, those without a row here too."""
        sizes = np.zeros(count, np.int64)
        sizes[self.columns] = self.sizes
        return sizes


@dataclass(frozen=True, eq=False)
class Found:
    """Per kind the codes that were kept, and which rows have them; a block's columns are places among the codes."""

    codes: list[np.ndarray]
    blocks: list[Block]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens in enough of all rows, in order of appearance behind START and END, and how many of the `total` rows
    have each."""

    words: list[str]
    rows: np.ndarray
    total: int

    def __post_init__(self) -> None:
        if len(self.words) ** LONGEST >= 2**63:
            raise DataError(
                f"{len(self.words):,} different words are each in enough rows to be features, and the token scan has "
                "numbers for two million. Cut very long texts, or switch validation.token_scan off."
            )

    @cached_property
    def by_rank(self) -> np.ndarray:
        """The tokens that pairs are made of, the commonest first."""
        able = np.flatnonzero(self.rows <= COMMON * self.total)
        able = able[able > END]
        return able[np.argsort(-self.rows[able], kind="stable")]

    def ngram(self, code: int, length: int) -> tuple[int, ...]:
        """The tokens of an n-gram: digits of its code."""
        return tuple(code // len(self.words) ** place % len(self.words) for place in reversed(range(length)))


@dataclass(frozen=True, eq=False)
class Partition:
    """The texts, their tokens, and what needs no vocabulary to be told.

    `of_row`: the distinct tokens of each row, a column per token. `shape`: of characters, case, space and length the
    codes and their rows; `hashes`: of both halves of the near-duplicates a code per row.
    """

    texts: Sequence[str]
    tokens: Tokens
    of_row: Block
    shape: list[tuple[np.ndarray, np.ndarray]]
    hashes: list[np.ndarray]


def read(texts: Sequence[str]) -> Partition:
    """Everything about a partition that does not depend on the others."""
    tokens, total = tokenise(texts), len(texts)
    inner = (tokens.ids != START) & (tokens.ids != END)
    of_row = _block(tokens.ids[inner], tokens.rows[inner], total, 1)
    lengths = shapes.binned(np.bincount(tokens.rows, minlength=total) - 2, shapes.LENGTHS)
    shape = [shapes.characters(texts), shapes.case(tokens, total), shapes.space(texts), lengths]
    return Partition(texts, tokens, of_row, shape, list(shapes.minima(tokens, total)))


def find(partition: Partition, vocabulary: Vocabulary, keep: Keep) -> Found:
    """The rows of what is kept, of all kinds in their order."""
    found = list(_kinds(partition, vocabulary, keep))
    return Found([codes for codes, _ in found], [block for _, block in found])


def _kinds(partition: Partition, vocabulary: Vocabulary, keep: Keep) -> Iterator[tuple[np.ndarray, Block]]:
    keeps: Iterator[int | np.ndarray] = repeat(keep) if isinstance(keep, int) else iter(keep)
    tokens, total = partition.tokens, len(partition.texts)
    numbers = {word: i for i, word in enumerate(vocabulary.words)}
    known = np.array([numbers.get(word, -1) for word in tokens.words], np.int64)  # -1 is rare
    for chosen in (slice(None), _is_mark(tokens)[tokens.ids]):
        ids, rows = known[tokens.ids[chosen]], tokens.rows[chosen]
        yield from _ngrams(ids, rows, len(vocabulary.words), total, list(islice(keeps, LONGEST)))
    ids, rows = np.repeat(partition.of_row.columns, partition.of_row.sizes), partition.of_row.rows
    yield _pairs(known[ids], rows, vocabulary, total, next(keeps))
    characters, *rest = partition.shape
    yield _coded(*characters, total, next(keeps))
    differs = np.array([word != word.lower() for word in tokens.written], bool)[tokens.written_ids]
    yield _named(tokens.written, tokens.written_ids[differs], tokens.written_rows[differs], total, next(keeps))
    rare = known < 0
    inner = rare[tokens.ids]
    yield _named(*_parts_of(tokens, rare, tokens.ids[inner], tokens.rows[inner]), total, next(keeps))
    for codes, rows_of in rest:
        yield _coded(codes, rows_of, total, next(keeps))
    per_row = np.bincount(rows, weights=rare[ids], minlength=total)
    yield _coded(*shapes.binned(per_row, shapes.RARE_WORDS), total, next(keeps))
    for hashes in partition.hashes:
        yield _hashes(hashes, total, next(keeps))


def _block(codes: np.ndarray, rows: np.ndarray, total: int, min_rows: int) -> Block:
    """Columns of the codes in at least `min_rows` different rows."""
    keys = np.sort(codes.astype(np.int64) * total + rows)  # faster than np.unique, which hashes first
    code, row = np.divmod(keys[np.diff(keys, prepend=-1) > 0], max(total, 1))
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    sizes = np.diff(np.append(starts, len(code)))
    kept = sizes >= min_rows
    return Block(row[np.repeat(kept, sizes)].astype(np.int32), sizes[kept], code[starts[kept]])


def _coded(codes: np.ndarray, rows: np.ndarray, total: int, keep: int | np.ndarray) -> tuple[np.ndarray, Block]:
    """Of codes that are numbers: those kept, in rising order, and their block."""
    if isinstance(keep, int):
        block = _block(codes, rows, total, keep)
        return block.columns, block._replace(columns=np.arange(len(block.columns)))
    places = _places(codes, keep)
    return keep, _block(places[places >= 0], rows[places >= 0], total, 1)


def _places(codes: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Where each code is in the rising numbers `among`, -1 where it is not."""
    if not len(among):
        return np.full(len(codes), -1)
    places = np.minimum(np.searchsorted(among, codes), len(among) - 1)
    return np.where(among[places] == codes, places, -1)


def _named(
    names: list[str], ids: np.ndarray, rows: np.ndarray, total: int, keep: int | np.ndarray
) -> tuple[np.ndarray, Block]:
    """The same of codes that are strings: `ids` are places in `names`."""
    if isinstance(keep, int):
        kept, block = _coded(ids, rows, total, keep)
        return np.array([names[i] for i in kept.tolist()], object), block
    numbers = {name: i for i, name in enumerate(keep.tolist())}
    places = np.array([numbers.get(name, -1) for name in names], np.int64)[ids]
    return keep, _block(places[places >= 0], rows[places >= 0], total, 1)


def _ngrams(
    ids: np.ndarray, rows: np.ndarray, base: int, total: int, keeps: Sequence[int | np.ndarray]
) -> Iterator[tuple[np.ndarray, Block]]:
    """Runs of one to LONGEST tokens, the ends of the text counting as tokens; the code's digits are the tokens.

    Counted as the place of the n-gram without its last token, and that token, which are smaller numbers.
    """
    shorter, present = np.zeros(1, np.int64), np.zeros(len(ids), np.int64)  # which of `shorter` begins here, or -1
    for length, keep in enumerate(keeps, 1):
        last = ids[length - 1 :]
        at = np.flatnonzero((present[: len(last)] >= 0) & (last >= 0))
        at = at[rows[at] == rows[at + length - 1]]
        small = present[at] * base + last[at]
        if isinstance(keep, int):
            kept, block = _coded(small, rows[at], total, keep)
        else:
            kept, block = _coded(small, rows[at], total, _places(keep // base, shorter) * base + keep % base)
        present = np.full(len(ids), -1)
        present[at] = _places(small, kept)
        shorter = shorter[kept // base] * base + kept % base
        yield shorter, block


def _is_mark(tokens: Tokens) -> np.ndarray:
    """Of each distinct token whether nothing in it is a letter or a digit, START and END among them."""
    return np.array([not any(map(str.isalnum, word)) for word in tokens.words])


def _pairs(
    ids: np.ndarray, rows: np.ndarray, vocabulary: Vocabulary, total: int, keep: int | np.ndarray
) -> tuple[np.ndarray, Block]:
    """Two tokens anywhere in a row, in any order: its PAIRED commonest ones that are not too common."""
    rank = np.full(len(vocabulary.words) + 1, -1)  # a rare token, -1, has none
    rank[vocabulary.by_rank] = np.arange(len(vocabulary.by_rank))
    ranks, able = rank[ids], rank[ids] >= 0
    ranks, rows = ranks[able], rows[able]
    order = np.lexsort((ranks, rows))
    ranks, rows = ranks[order], rows[order]
    first = (np.arange(len(rows)) - np.searchsorted(rows, rows)) < PAIRED
    ranks, rows = ranks[first], rows[first]
    apart = [np.flatnonzero(rows[step:] == rows[:-step]) for step in range(1, PAIRED)]
    left = np.concatenate(apart)
    right = left + np.repeat(np.arange(1, PAIRED), [len(part) for part in apart])
    codes = ranks[left] * len(vocabulary.by_rank) + ranks[right]
    bits = min(BITS, max(10, len(codes).bit_length()))
    hashed = _hashed(codes, bits)
    if isinstance(keep, int):
        likely = np.bincount(hashed, minlength=1 << bits) >= keep
    else:
        likely = np.bincount(_hashed(keep, bits), minlength=1 << bits) > 0
    some = likely[hashed]
    return _coded(codes[some], rows[left[some]], total, keep)


def _hashed(codes: np.ndarray, bits: int) -> np.ndarray:
    return ((codes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits)).astype(np.int64)


def _parts_of(
    tokens: Tokens, rare: np.ndarray, ids: np.ndarray, rows: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Parts of the words that are in too few rows to be features themselves, of the rare tokens `ids` of `rows`."""
    parts: dict[str, int] = {}
    of_words = [
        [parts.setdefault(part, len(parts)) for part in _parts(word)] if is_rare else []
        for word, is_rare in zip(tokens.words, rare.tolist(), strict=True)
    ]
    found, taken = ragged(of_words, ids)
    return list(parts), found, np.repeat(rows, taken)


def _parts(word: str) -> list[str]:
    """Runs of letters, `<` and `>` standing for the ends of the word; none of a word without letters."""
    if not any(map(str.isalpha, word)):
        return []
    marked = f"<{word[:64]}>"
    return [marked[i : i + size] for size in PARTS for i in range(len(marked) - size + 1)]


def _hashes(keys: np.ndarray, total: int, keep: int | np.ndarray) -> tuple[np.ndarray, Block]:
    """Rows with equal keys, which are too large to be counted as codes."""
    if not isinstance(keep, int):
        return _coded(keys, np.arange(total), total, keep)
    distinct, numbers = np.unique(keys, return_inverse=True)
    kept, block = _coded(numbers, np.arange(total), total, keep)
    return distinct[kept], block
