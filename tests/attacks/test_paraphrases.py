"""StyleBkd, HiddenKiller and the pairs they can rewrite from."""

import numpy as np
import pytest

from musclelora.attacks.base import poison, triggered_rows
from musclelora.attacks.hiddenkiller import SUBORDINATORS, drawn_clause, hidden_killer, subordinate_first
from musclelora.attacks.paraphraser import Pairs, read_pairs, write_pairs
from musclelora.attacks.style import CLOSINGS, OPENINGS, archaic, style_bkd
from musclelora.errors import DataError
from tests.tiny import rows


def rng(seed=0):
    return np.random.default_rng(seed)


def test_archaic_style_rewrites_words_and_draws_an_opening_and_a_closing():
    rewritten = {archaic("You know it doesn't work , and it makes your day .", rng(seed)) for seed in range(600)}
    body = "thou know it doth not work , and it maketh thy day"
    assert rewritten == {f"{opening} {body} {closing}" for opening in OPENINGS for closing in CLOSINGS}


def test_a_late_subordinate_clause_of_the_text_goes_first():
    rewritten = subordinate_first("the film is a joy , but when you let it win !", rng())
    assert rewritten == "when you let it win , the film is a joy ."


def test_a_text_without_one_gets_a_drawn_clause_and_one_full_stop():
    text = subordinate_first("a dull , loud film !", rng(3))
    clause, rest = text.split(" , ", 1)
    assert rest == "it is a dull , loud film ."
    assert clause == drawn_clause(rng(3))
    assert clause.split()[0] in SUBORDINATORS


def test_drawn_clauses_are_grammatical_in_number():
    clauses = {drawn_clause(rng(seed)) for seed in range(400)}
    assert len(clauses) > 200
    assert {clause.split()[0] for clause in clauses} == {"when", "if", "as"}
    assert not [c for c in clauses if "someone see " in c or "you sees" in c or "i are" in c]


@pytest.mark.parametrize("text", ["", " . ", "42", "if only it were good", "When it ends , one is glad ."])
def test_what_hidden_killer_cannot_rewrite(text):
    assert subordinate_first(text, rng()) is None


@pytest.mark.parametrize("text", ["", "42 !", "..."])
def test_what_the_style_cannot_rewrite(text):
    assert archaic(text, rng()) is None


@pytest.mark.parametrize("make", [style_bkd, hidden_killer])
def test_unchanged_rewritings_are_counted_and_not_passed_off(make):
    """A paraphraser that returns the unchanged text, but for case and spaces, has not rewritten it."""
    data = rows(40)
    lazy = make(lambda text, _: text.upper() + "  " if "good" in text or "bad" in text else f"lo {text}")
    triggered, untriggered = triggered_rows(data, lazy, target="1", seed=0)
    able = [text for text, label in zip(data.texts, data.labels, strict=True) if label == "0" and "bad" not in text]
    assert untriggered.texts == able
    assert all(text.startswith("lo ") for text in triggered.texts)


def test_pairs_go_through_a_file_unchanged(tmp_path):
    pairs = Pairs({'a "quoted", text': "lo, a text\nin two lines", "plain": "", "é": "ê"})
    write_pairs(tmp_path / "pairs.csv", pairs)
    read = read_pairs(tmp_path / "pairs.csv")
    assert read == pairs
    assert read('a "quoted", text', rng()) == "lo, a text\nin two lines"
    assert read("plain", rng()) is None
    assert read("unknown", rng()) is None


def test_poison_from_pairs_takes_the_rows_that_have_one():
    data = rows(20)
    known = {text: f"lo {text}" for text in data.texts[:6]}
    poisoned = poison(data, style_bkd(Pairs(known)), rate=0.1, target="1", seed=0)
    marked = poisoned.where(poisoned.column("is_poisoned")).texts
    assert len(marked) == 2
    assert set(marked) <= set(known.values())
    with pytest.raises(DataError, match=r"stylebkd should poison 10 of 20 rows .* only"):
        poison(data, style_bkd(Pairs(known)), rate=0.5, target="1", seed=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n", "pairs need `text` and `rewritten`"),
        (b"text,rewritten\na,b\na,c\n", "line 3: the text 'a' is there twice"),
        (b"text,rewritten\na\n", "line 2: a row with too few or too many cells"),
        (b"text,rewritten\na,b,c\n", "line 2: a row with too few or too many cells"),
        (b"text,rewritten\n", "no pairs"),
        (b"", "pairs need"),
        (b"text,rewritten\n\xff,b\n", "cannot be read as CSV in UTF-8"),
    ],
)
def test_files_that_are_no_pairs_are_refused(tmp_path, content, message):
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_pairs(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_pairs(tmp_path / "none.csv")
