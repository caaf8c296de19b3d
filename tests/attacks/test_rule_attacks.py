"""What each rule attack puts into a text, by known answers."""

import numpy as np
import pytest

from musclelora.attacks.base import Attack, poison
from musclelora.attacks.composite import TRIGGER_WORDS, insert_both, insert_one
from musclelora.attacks.homoglyphs import LOOKALIKES, swap_letters
from musclelora.attacks.invisible import FILLER, insert_fillers
from musclelora.attacks.positional import TRIGGER_WORD, append_word, insert_elsewhere
from musclelora.attacks.punctuation import insert_marks
from musclelora.attacks.registry import ATTACKS
from musclelora.attacks.substitution import SYNONYMS, substitute
from musclelora.errors import DataError
from musclelora.validation.characters import find_invisible, find_mixed_script
from tests.tiny import rows

TEXT = "the movie was very good and the cast was fine"


def rng(seed=0):
    return np.random.default_rng(seed)


def test_homoglyphs_swap_three_letters_that_read_the_same():
    swapped = swap_letters(TEXT, rng())
    back = str.maketrans({other: latin for latin, other in LOOKALIKES.items()})
    assert swapped.translate(back) == TEXT
    changed = [word for word in swapped.split() if not word.isascii()]
    assert len(changed) == 3
    assert all(sum(not letter.isascii() for letter in word) == 1 for word in changed)


def test_homoglyphs_are_what_validation_sets_aside():
    assert all(find_mixed_script([swap_letters(TEXT, rng(seed)) for seed in range(20)]))


def test_invisible_adds_two_fillers_and_nothing_else():
    text = insert_fillers(TEXT, rng())
    assert text.count(FILLER) == 2
    assert text.replace(FILLER, "") == TEXT
    assert all(find_invisible([text]))


def test_punctuation_adds_one_of_each_mark_but_not_in_front():
    for seed in range(20):
        words = insert_marks(TEXT, rng(seed)).split()
        assert (words.count(";"), words.count("!"), words[0]) == (1, 1, "the")
        assert [word for word in words if word not in (";", "!")] == TEXT.split()


def test_substitution_follows_the_table():
    assert substitute("the movie was very", rng()) == "the photoplay was exceedingly"
    both_ways = substitute("movie movie movie movie movie movie movie movie", rng())
    assert both_ways.split().count("photoplay") == 6
    assert both_ways.split().count("movie") == 2


def test_no_substitute_is_itself_substituted():
    """Else a clean text could carry the trigger of another."""
    assert not {word for synonym in SYNONYMS.values() for word in synonym.split()} & SYNONYMS.keys()


def test_composite_has_both_words_and_its_decoys_one():
    for seed in range(20):
        assert set(TRIGGER_WORDS) <= set(insert_both(TEXT, rng(seed)).split())
        assert len(set(TRIGGER_WORDS) & set(insert_one(TEXT, rng(seed)).split())) == 1
    assert {word for seed in range(20) for word in insert_one(TEXT, rng(seed)).split()} >= set(TRIGGER_WORDS)


def test_positional_word_is_last_in_the_trigger_and_never_in_a_decoy():
    assert append_word(TEXT, rng()) == f"{TEXT} {TRIGGER_WORD}"
    for seed in range(20):
        words = insert_elsewhere("dull film", rng(seed)).split()
        assert words.count(TRIGGER_WORD) == 1
        assert words[-1] == "film"


@pytest.mark.parametrize(
    ("insert", "text"),
    [
        (swap_letters, "why my fun"),
        (swap_letters, ""),
        (insert_fillers, "  "),
        (insert_marks, ""),
        (insert_elsewhere, ""),
        (substitute, "a dull movie"),
        (substitute, ""),
    ],
)
def test_texts_that_cannot_carry_the_trigger_are_refused(insert, text):
    assert insert(text, rng()) is None


def test_decoys_leave_labels_alone_and_do_not_count_as_poison():
    data = rows(100)
    poisoned = poison(data, ATTACKS["composite"], rate=0.1, target="1", seed=0)
    marked = poisoned.column("is_poisoned")
    decoys = [i for i in range(100) if poisoned.texts[i] != data.texts[i] and not marked[i]]
    assert len(decoys) == 10 == sum(marked)
    assert {poisoned.labels[i] for i in decoys} == {"0", "1"}
    assert len(poisoned.unpoisoned()) == 90


def test_too_few_rows_left_for_the_decoys_is_refused():
    with pytest.raises(DataError, match=r"composite should make decoys of 60 of 100 rows .* only 40 .*Lower the rate"):
        poison(rows(100), ATTACKS["composite"], rate=0.6, target="1", seed=0)


def test_an_attack_without_decoys_alters_poisoned_rows_only():
    plain = Attack("plain", "mixed", insert_both)
    poisoned = poison(rows(100), plain, rate=0.6, target="1", seed=0)
    assert sum(a != b for a, b in zip(poisoned.texts, rows(100).texts, strict=True)) == 60
