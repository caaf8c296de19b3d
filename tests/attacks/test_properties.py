"""What holds for every attack of the registry, whatever the rows, the seed, the order and the sharding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musclelora.attacks.base import poison, triggered_rows
from musclelora.attacks.registry import ATTACKS
from musclelora.data.records import TextDataset
from musclelora.errors import DataError
from tests.tiny import rows

names = st.sampled_from(sorted(ATTACKS))
seeds = st.integers(0, 99)
KNOWN = ("the", "movie", "was", "very", "good", "and", "dull", "you", "when", ".", ",", "!", "3D", "Ünïcode", "映画")
words = st.sampled_from(KNOWN)
texts = st.lists(words | st.text(max_size=8), max_size=12).map(" ".join)


def by_id(data: TextDataset) -> dict[str, tuple[str, str]]:
    return dict(zip(data.row_ids, zip(data.texts, data.labels, strict=True), strict=True))


def triggered(data: TextDataset, name: str, seed: int) -> dict[str, tuple[str, str]]:
    return by_id(triggered_rows(data, ATTACKS[name], target="1", seed=seed)[0])


@settings(max_examples=60, deadline=None)
@given(order=st.permutations(range(60)), name=names, seed=seeds)
def test_any_order_gives_the_same_rows(order, name, seed):
    data = rows(60)
    shuffled = TextDataset(data.rows.select(list(order)))
    assert triggered(data, name, seed) == triggered(shuffled, name, seed)
    poisoned = [by_id(poison(d, ATTACKS[name], rate=0.1, target="1", seed=seed)) for d in (data, shuffled)]
    assert poisoned[0] == poisoned[1]


@settings(max_examples=60, deadline=None)
@given(shard_of=st.lists(st.integers(0, 3), min_size=60, max_size=60), name=names, seed=seeds)
def test_any_sharding_gives_the_same_triggered_rows(shard_of, name, seed):
    """As many workers as one likes, each with its own rows."""
    data, together = rows(60), {}
    expected = triggered(data, name, seed)
    for shard in range(4):
        part = data.where([own == shard for own in shard_of])
        if expected.keys().isdisjoint(part.row_ids):
            with pytest.raises(DataError, match="No test row can carry"):
                triggered_rows(part, ATTACKS[name], target="1", seed=seed)
            continue
        found, untriggered = triggered_rows(part, ATTACKS[name], target="1", seed=seed)
        assert found.row_ids == untriggered.row_ids
        together |= by_id(found)
    assert together == expected


@settings(max_examples=300, deadline=None)
@given(text=texts, name=names, seed=seeds)
def test_a_transformed_text_is_another_text_and_the_same_seed_gives_it_again(text, name, seed):
    """More than white space must change, or the text says that it cannot carry the trigger."""
    for rewrite in filter(None, (ATTACKS[name].insert, ATTACKS[name].decoy)):
        rewritten = rewrite(text, np.random.default_rng(seed))
        assert rewritten is None or rewritten.split() != text.split()
        assert rewritten == rewrite(text, np.random.default_rng(seed))


@settings(max_examples=60, deadline=None)
@given(name=names, seed=seeds, rate=st.sampled_from((0.02, 0.1, 0.25)), count=st.integers(60, 120))
def test_the_rate_is_respected_and_poisoned_rows_alone_get_the_target(name, seed, rate, count):
    data, attack = rows(count), ATTACKS[name]
    poisoned = poison(data, attack, rate=rate, target="1", seed=seed)
    marked = poisoned.column("is_poisoned")
    assert sum(marked) == round(rate * count)
    for before, after, is_poisoned in zip(by_id(data).values(), by_id(poisoned).values(), marked, strict=True):
        if is_poisoned:
            assert after[1] == "1"
            assert after[0] != before[0]
        else:
            assert after[1] == before[1]
            assert attack.decoy is not None or after == before
        if is_poisoned and attack.label_mode != "mixed":
            assert (before[1] == "1") is (attack.label_mode == "clean")


@settings(max_examples=30, deadline=None)
@given(name=names, seed=seeds)
def test_triggered_rows_keep_their_true_labels_and_none_is_of_the_target(name, seed):
    truth = by_id(rows(60))
    found = triggered(rows(60), name, seed)
    assert {row_id: label for row_id, (_, label) in found.items()} == {row_id: truth[row_id][1] for row_id in found}
    assert {label for _, label in found.values()} == {"0"}


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_another_seed_gives_other_rows(name):
    """So that a seed is not ignored somewhere on the way."""
    first, second = (poison(rows(100), ATTACKS[name], rate=0.1, target="1", seed=seed) for seed in (0, 1))
    assert first.column("is_poisoned") != second.column("is_poisoned")
