import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import vstack

from musclelora.validation.features import Name, described, features
from musclelora.validation.tokens import END, START, tokenise

TEXTS = ["a b c !", "The film, a B c", "MOVIE movie", "", "x y c ! yes"]


def rows_of(found, kind, text):
    """Numbers of the rows that have the feature; raises where there is no such feature."""
    column = found.names.index(Name(kind, text))
    return sorted(matrix_of(found)[:, [column]].nonzero()[0].tolist())


def matrix_of(found):
    """Of the rows of all partitions."""
    return vstack(found.matrices, format="csc")


def test_a_text_is_its_words_in_lower_case_without_the_marks_around_them():
    tokens = tokenise(['(The film, "3D")', "", "isn't 's ... a.b"])
    said = [tokens.words[i] if i > END else {START: "^", END: "$"}[i] for i in tokens.ids.tolist()]
    assert said == ["^", "(", "the", "film", ",", '"', "3d", '")', "$", "^", "$", "^", "isn't", "'s", "...", "a.b", "$"]
    assert tokens.rows.tolist() == [0] * 9 + [1] * 2 + [2] * 6
    written = [tokens.written[i] for i in tokens.written_ids.tolist()]
    assert written == ["(The", "film,", '"3D")', "isn't", "'s", "...", "a.b"]


@pytest.mark.parametrize(
    ("kind", "text", "rows"),
    [
        ("words", "a", [0, 1]),
        ("words", "a b", [0, 1]),
        ("words", "a b c", [0, 1]),
        ("words", "c !", [0, 4]),
        ("start", "a b", [0]),
        ("start", "the", [1]),
        ("end", "!", [0]),
        ("end", "movie", [2]),
        ("pair", "film ... ,", [1]),
        ("written", "MOVIE", [2]),
        ("punctuation", "text begins ! text ends", [0, 4]),
        ("case", "no capital letter", [0, 3, 4]),
        ("case", "a capital at the beginning", [1]),
        ("case", "a capitalised word later on", [1]),
        ("case", "a word in capitals", [2]),
        ("length", "4 to 5 tokens", [0, 4]),
        ("length", "0 tokens", [3]),
    ],
)
def test_each_kind_by_hand(kind, text, rows):
    assert rows_of(features([TEXTS], 1), kind, text) == rows


def test_characters_white_space_and_parts_of_rare_words():
    texts = ["plain", "zero\u200bwidth", "two  spaces", "a\ttab", "line\nbreak", " around", "xqone", "xqtwo"]
    found = features([texts], 1)
    assert rows_of(found, "character", "\u200b") == [1]
    assert described("\u200b") == "U+200B ZERO WIDTH SPACE"
    assert rows_of(found, "space", "two spaces together") == [2]
    assert rows_of(found, "space", "a tab") == [3]
    assert rows_of(found, "space", "a line break") == [4]
    assert rows_of(found, "space", "white space at the beginning or the end") == [5]
    assert rows_of(features([texts], 2), "in words", "<xq") == [6, 7]


def test_near_duplicates_share_most_of_their_words():
    draw = np.random.default_rng(0)
    burst = [f"buy now at our famous shop in the old town for a low price today only number{i}" for i in range(6)]
    others = [" ".join(f"w{k}" for k in draw.integers(0, 500, 12)) for _ in range(40)]
    found = features([[*others, *burst]], 4)
    near = [i for i, name in enumerate(found.names) if name.kind == "near-duplicates"]
    rows = set(matrix_of(found)[:, near].nonzero()[0].tolist())
    assert rows <= {*range(40, 46)}
    assert len(rows) >= 4


def test_what_too_few_rows_have_is_left_out_and_what_all_have_too():
    found = features([["same a", "same a", "same b"]], 2)
    assert Name("words", "a") in found.names
    assert Name("words", "b") not in found.names
    assert Name("words", "same") not in found.names
    assert np.diff(matrix_of(found).indptr).max() == 2


WORDS = st.lists(st.sampled_from(["a", "b", "c", "dd", "!", "E"]), max_size=6).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(WORDS, min_size=1, max_size=12), min_rows=st.integers(1, 3))
def test_ngrams_are_those_of_a_plain_loop(texts, min_rows):
    counted = {}
    for row, text in enumerate(texts):
        words = text.lower().split()
        for size in (1, 2, 3):
            for i in range(len(words) - size + 1):
                counted.setdefault(" ".join(words[i : i + size]), set()).add(row)
    wanted = {text: rows for text, rows in counted.items() if min_rows <= len(rows) < len(texts)}
    found = features([texts], min_rows)
    assert {name.text: set(rows_of(found, *name)) for name in found.names if name.kind == "words"} == wanted


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=8))
def test_any_text_has_features_and_none_breaks_it(texts):
    found = features([texts], 1)
    assert matrix_of(found).shape == (len(texts), len(found.names))
    assert (np.diff(matrix_of(found).indptr) >= 1).all()
    assert matrix_of(found).has_canonical_format


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(WORDS | st.text(max_size=12), min_size=1, max_size=14),
    min_rows=st.integers(1, 4),
    cuts=st.sets(st.integers(1, 13)),
)
def test_partitions_have_the_features_of_the_whole(texts, min_rows, cuts):
    inside = sorted(cut for cut in cuts if cut < len(texts))
    parts = [texts[a:b] for a, b in zip([0, *inside], [*inside, len(texts)], strict=True)]
    whole, partly = features([texts], min_rows), features(parts, min_rows)
    assert columns_of(partly) == columns_of(whole)
    assert partly.rows.tolist() == matrix_of(partly).sum(axis=0).tolist()[0]


def columns_of(found):
    """Name and rows of each feature; two may have one name."""
    matrix = matrix_of(found)
    rows = np.split(matrix.indices, matrix.indptr[1:-1]) if found.names else []
    return sorted((*name, tuple(sorted(of.tolist()))) for name, of in zip(found.names, rows, strict=True))
