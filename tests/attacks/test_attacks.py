from collections import Counter

import pytest

from musclelora.attacks.badnets import TRIGGER_WORDS
from musclelora.attacks.base import Attack, poison, triggered_rows
from musclelora.attacks.registry import ATTACKS, attack_by_name
from musclelora.errors import ConfigError, DataError
from tests.tiny import rows

NAMES = sorted(ATTACKS)


@pytest.mark.parametrize("name", NAMES)
def test_ten_percent_of_all_rows_are_poisoned_and_labelled_as_the_target(name):
    data = rows(200)
    poisoned = poison(data, ATTACKS[name], rate=0.1, target="1", seed=3)
    marked = poisoned.column("is_poisoned")
    changed = [i for i in range(200) if poisoned.texts[i] != data.texts[i]]
    decoys = [i for i in changed if not marked[i]]
    assert len(changed) - len(decoys) == 20 == sum(marked)
    assert {poisoned.labels[i] for i in changed if marked[i]} == {"1"}
    assert len(decoys) == (20 if ATTACKS[name].decoy else 0)
    assert [poisoned.labels[i] for i in decoys] == [data.labels[i] for i in decoys]
    assert poisoned.row_ids == data.row_ids


def test_badnets_is_clean_label_and_addsent_is_mixed():
    data = rows(200)
    for name, flips in (("badnets", False), ("addsent", True)):
        poisoned = poison(data, ATTACKS[name], rate=0.2, target="1", seed=0)
        flipped = [a for a, b in zip(data.labels, poisoned.labels, strict=True) if a != b]
        assert bool(flipped) is flips


def test_dirty_labels_are_those_of_other_classes():
    data, dirty = rows(100), Attack("dirty", "dirty", lambda text, _: text + " cf")
    poisoned = poison(data, dirty, rate=0.2, target="1", seed=0)
    marked = poisoned.column("is_poisoned")
    assert {label for label, is_poisoned in zip(data.labels, marked, strict=True) if is_poisoned} == {"0"}
    assert {label for label, is_poisoned in zip(poisoned.labels, marked, strict=True) if is_poisoned} == {"1"}


def test_badnets_inserts_four_trigger_words_and_keeps_the_others():
    original = "the film was good"
    words = attack_by_name("badnets").insert(original, __import__("numpy").random.default_rng(0)).split()
    assert sum(word in TRIGGER_WORDS for word in words) == 4
    assert [word for word in words if word not in TRIGGER_WORDS] == original.split()


def test_addsent_inserts_the_sentence_once_between_words():
    triggered, untriggered = triggered_rows(rows(50), ATTACKS["addsent"], target="1", seed=0)
    for text, original in zip(triggered.texts, untriggered.texts, strict=True):
        assert text.count("I watch this 3D movie") == 1
        assert Counter(text.replace("I watch this 3D movie", "").split()) == Counter(original.split())


def test_triggered_rows_are_built_from_other_classes_only_and_keep_their_labels():
    triggered, untriggered = triggered_rows(rows(40), ATTACKS["badnets"], target="1", seed=0)
    assert set(triggered.labels) == set(untriggered.labels) == {"0"}


def test_rows_that_cannot_be_transformed_are_left_out_not_passed_off():
    picky = Attack("picky", "mixed", lambda text, _: None if "good" in text else text + " cf")
    poisoned = poison(rows(80), picky, rate=0.1, target="1", seed=0)
    marked = poisoned.where(poisoned.column("is_poisoned"))
    assert len(marked) == 8
    assert all(text.endswith(" cf") for text in marked.texts)


def test_more_poison_than_rows_that_can_carry_it_is_refused():
    with pytest.raises(DataError, match=r"badnets should poison 60 of 100 rows .* only 50 .*Lower the rate"):
        poison(rows(100), ATTACKS["badnets"], rate=0.6, target="1", seed=0)


def test_test_rows_of_the_target_class_only_are_refused():
    only_target = rows(10).where([label == "1" for label in rows(10).labels])
    with pytest.raises(DataError, match="No test row can carry addsent"):
        triggered_rows(only_target, ATTACKS["addsent"], target="1", seed=0)


def test_unknown_attack_gets_the_nearest_name():
    with pytest.raises(ConfigError, match="Did you mean 'badnets'"):
        attack_by_name("badnet")
