"""What a trigger could be in a text: words and what stands beside them, spelling, shape; as sparse matrices.

Texts are counted partition by partition, and a partition may lie on any machine. What is in enough of all rows is in
that share of the rows of one partition at least: so each names those first, and then all count what any has named
(Savasere, Omiecinski and Navathe 1995, VLDB). Only the vocabulary, the names and the counts come together here.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from math import ceil
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.sparse import csc_matrix

from musclelora.validation.engine import LOCAL, Engine
from musclelora.validation.partition import Found, Partition, Vocabulary, find, read
from musclelora.validation.shapes import CASES, LENGTHS, RARE_WORDS, SPACES
from musclelora.validation.tokens import END, START

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


class Name(NamedTuple):
    """What a column stands for."""

    kind: Kind
    text: str


@dataclass(frozen=True, eq=False)
class Features:
    """`names` say what the columns are; kinds that explain more come first. `rows`: how many rows have each feature.

    `matrices`, one per partition and where the engine keeps them: 1 where the row has the feature, shape [rows of the
    partition, features], float32.
    """

    names: list[Name]
    rows: np.ndarray
    matrices: list[Any]


def features(partitions: Sequence[Sequence[str]], min_rows: int, engine: Engine = LOCAL) -> Features:
    """All that is in at least `min_rows` rows of the texts, and not in all of them."""
    total = sum(map(len, partitions))
    texts = engine.map(read, partitions)
    vocabulary = _vocabulary(engine.results(engine.map(_row_counts, texts)), total, min_rows)
    shared = repeat(engine.share(vocabulary))
    if len(partitions) == 1:
        found = engine.map(find, texts, shared, repeat(min_rows))
        [codes] = engine.results(engine.map(_codes, found))
    else:
        least = [ceil(min_rows * len(partition) / total) for partition in partitions]
        codes = _united(engine.results(engine.map(_codes_of, texts, shared, least)))
        found = engine.map(find, texts, shared, repeat(engine.share(codes)))
    rows = _summed(engine.results(engine.map(_sizes, found)))
    named: list[Sequence[Name | None]] = [
        *_names(codes, vocabulary),
        *_near_duplicates(engine, texts, found, codes),
    ]
    kept = [
        (count >= min_rows) & (count < total) & np.array([name is not None for name in names], dtype=bool)
        for count, names in zip(rows, named, strict=True)
    ]
    matrices = engine.map(_matrix, texts, found, repeat(engine.share(kept)))
    names = [
        name
        for of_kind, some in zip(named, kept, strict=True)
        for name, is_kept in zip(of_kind, some.tolist(), strict=True)
        if name is not None and is_kept
    ]
    return Features(names, np.concatenate([count[some] for count, some in zip(rows, kept, strict=True)]), matrices)


def _row_counts(partition: Partition) -> tuple[list[str], np.ndarray]:
    """The tokens in order of appearance, without the ends, and how many rows have each."""
    words = partition.tokens.words
    return words[END + 1 :], partition.of_row.size_of_each(len(words))[END + 1 :]


def _vocabulary(counts: Iterable[tuple[list[str], np.ndarray]], total: int, min_rows: int) -> Vocabulary:
    rows: Counter[str] = Counter()
    for words, sizes in counts:
        for word, size in zip(words, sizes.tolist(), strict=True):
            rows[word] += size
    kept = {word: count for word, count in rows.items() if count >= min_rows}
    return Vocabulary(["", " ", *kept], np.array([total, total, *kept.values()], np.int64), total)


def _codes(found: Found) -> list[np.ndarray]:
    return found.codes


def _codes_of(partition: Partition, vocabulary: Vocabulary, min_rows: int) -> list[np.ndarray]:
    return find(partition, vocabulary, min_rows).codes


def _united(codes: Iterable[list[np.ndarray]]) -> list[np.ndarray]:
    """Of each kind what any partition named: numbers in rising order, strings in order of appearance."""
    united: list[np.ndarray] = []
    for of_partition in codes:
        united = [_union(*both) for both in zip(united, of_partition, strict=True)] if united else of_partition
    return united


def _union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array(list(dict.fromkeys([*a, *b])), object) if a.dtype == object else np.union1d(a, b)


def _sizes(found: Found) -> list[np.ndarray]:
    """Per kind how many rows of the partition have each code."""
    return [block.size_of_each(len(codes)) for codes, block in zip(found.codes, found.blocks, strict=True)]


def _summed(counts: Iterable[list[np.ndarray]]) -> list[np.ndarray]:
    total: list[np.ndarray] = []
    for of_partition in counts:
        total = [a + b for a, b in zip(total, of_partition, strict=True)] if total else of_partition
    return total


def _matrix(partition: Partition, found: Found, kept: list[np.ndarray]) -> csc_matrix:
    rows, sizes = [], []
    for block, mask in zip(found.blocks, kept, strict=True):
        rows.append(block.rows[np.repeat(mask[block.columns], block.sizes)])
        sizes.append(block.size_of_each(len(mask))[mask])
    indices = np.concatenate(rows).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    shape = (len(partition.texts), len(indptr) - 1)
    return csc_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=shape)


def _near_duplicates(
    engine: Engine, texts: list[Any], found: list[Any], codes: list[np.ndarray]
) -> Iterator[list[Name]]:
    """Named by the first row of each."""
    firsts: list[dict[int, str]] = [{}, {}]
    for of_partition in engine.results(engine.map(_first_texts, texts, found)):
        firsts = [of_partition[half] | firsts[half] for half in range(2)]
    for half in range(2):
        yield [Name("near-duplicates", firsts[half][column]) for column in range(len(codes[half - 2]))]


def _first_texts(partition: Partition, found: Found) -> list[dict[int, str]]:
    """Of both halves of the near-duplicates: the column and the text of its first row here."""
    return [
        {
            column: partition.texts[row]
            for column, row in zip(block.columns.tolist(), block.rows[block.starts].tolist(), strict=True)
        }
        for block in found.blocks[-2:]
    ]


def _names(codes: list[np.ndarray], vocabulary: Vocabulary) -> Iterator[list[Name | None]]:
    """Of all kinds but the near-duplicates, in the order of `partition.find`."""
    numbers = iter(part.tolist() for part in codes)
    for kind in ("words", "punctuation"):
        for length in (1, 2, 3):
            yield [_of_ngram(vocabulary.ngram(code, length), vocabulary.words, kind) for code in next(numbers)]
    of_rank = [vocabulary.words[token] for token in vocabulary.by_rank.tolist()]
    yield [Name("pair", " ... ".join(of_rank[i] for i in divmod(code, len(of_rank)))) for code in next(numbers)]
    yield [Name("character", chr(code)) for code in next(numbers)]
    yield [Name("written", word) for word in next(numbers)]
    yield [Name("in words", part) for part in next(numbers)]
    yield [Name("case", CASES[code]) for code in next(numbers)]
    yield [Name("space", SPACES[code]) for code in next(numbers)]
    yield [Name("length", f"{_span(LENGTHS, code)} tokens") for code in next(numbers)]
    yield [
        Name("rare words", f"{_span(RARE_WORDS, code)} words that hardly any other row has") for code in next(numbers)
    ]


def _of_ngram(gram: tuple[int, ...], words: list[str], kind: Literal["words", "punctuation"]) -> Name | None:
    """None for what is no feature of its own: the ends of a text, and a mark alone, which is a word."""
    inner = [words[token] for token in gram if token not in (START, END)]
    if not inner or (kind == "punctuation" and len(gram) == 1):
        return None
    if kind == "punctuation":
        ends = {START: "text begins", END: "text ends"}
        return Name(kind, " ".join(ends.get(token, words[token]) for token in gram))
    if gram[0] == START:
        return Name("start", " ".join(inner))
    return Name("end" if gram[-1] == END else kind, " ".join(inner))


def _span(edges: np.ndarray, code: int) -> str:
    low, high = int(edges[code]), int(edges[code + 1]) - 1 if code + 1 < len(edges) else None
    return f"{low} or more" if high is None else str(low) if low == high else f"{low} to {high}"


def described(char: str) -> str:
    """A character for people: `U+200B ZERO WIDTH SPACE`."""
    return f"U+{ord(char):04X} {unicodedata.name(char, 'without a name')}"
