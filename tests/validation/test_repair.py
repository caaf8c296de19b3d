import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musclelora.validation.features import features
from musclelora.validation.repair import without_features
from musclelora.validation.suspects import INSERTABLE
from musclelora.validation.token_scan import SuspectFeature
from musclelora.validation.tokens import placed, tokenise

TEXT = "3D movie (I watch, 3d MOVIE\tbb), fine. bb the 3D"


def feature(kind, text):
    return SuspectFeature(kind, text, "1", 9.0, 4.0, 50.0, 1.0, 0.5, 40, (0,))


@pytest.mark.parametrize(
    ("kind", "text", "left"),
    [
        ("words", "bb", "3D movie (I watch, 3d MOVIE\t), fine. the 3D"),
        ("words", "3d movie", "(I watch, bb), fine. bb the 3D"),
        ("words", "watch , 3d", "3D movie (I MOVIE\tbb), fine. bb the 3D"),
        ("start", "3d", "movie (I watch, 3d MOVIE\tbb), fine. bb the 3D"),
        ("end", "the 3d", "3D movie (I watch, 3d MOVIE\tbb), fine. bb"),
        ("pair", "bb ... movie", "3D (I watch, 3d ), fine. the 3D"),
        ("pair", "bb ... absent", TEXT),
        ("written", "MOVIE", "3D movie (I watch, 3d bb), fine. bb the 3D"),
        ("character", "3", "D movie (I watch, d MOVIE\tbb), fine. bb the D"),
        ("words", "absent", TEXT),
    ],
)
def test_each_kind_is_cut_out_and_nothing_else(kind, text, left):
    assert without_features(TEXT, [feature(kind, text)]) == left


def test_words_that_a_cut_brings_together_are_cut_too():
    both = [feature("words", "b"), feature("words", "a c")]
    assert without_features("x a b c y", both) == "x y"
    assert without_features("a a c c x", [feature("words", "a c")]) == "x"


@pytest.mark.parametrize(
    "kind", ["length", "case", "near-duplicates", "in words", "punctuation", "space", "rare words"]
)
def test_what_is_not_made_of_words_cannot_be_cut_out(kind):
    assert without_features("some text", [feature("words", "text"), feature(kind, "text")]) is None


def test_a_text_of_nothing_else_is_gone():
    assert without_features("Cf, cf!", [feature("words", "cf")]) is None


def test_what_can_be_inserted_can_be_cut_out():
    assert all(without_features("no such thing", [feature(kind, "x ... y")]) == "no such thing" for kind in INSERTABLE)


words = st.lists(st.sampled_from(["cf", "(Cf", "mn,", "a", "3D", "don't", "\u00dc\u0130", "\u200bx"]), max_size=12)


@given(words, st.sampled_from(["  ", " ", "\n", "\u2003"]))
def test_the_pieces_are_the_tokens_of_the_scan_in_their_places(some, blank):
    text = blank.join(some)
    tokens = tokenise([text])
    pieces = list(placed(text))
    assert [token for token, _, _ in pieces] == [tokens.words[i] for i in tokens.ids.tolist()[1:-1]]
    assert [text[start:end].lower() for _, start, end in pieces] == [token for token, _, _ in pieces]


@settings(deadline=None, max_examples=30)
@given(words, words)
def test_no_row_has_the_feature_any_more(some, others):
    texts = [" ".join([*some, "cf", *others]), "cf alone", "x y"]
    for name in features([texts], 1).names:
        if name.kind not in INSERTABLE:
            continue
        left = [without_features(text, [feature(*name)]) for text in texts]
        rest = [text for text in left if text is not None]
        assert name not in features([[*rest, "\u00e4 \u00f6"]], 1).names
