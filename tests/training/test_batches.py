import numpy as np
from datasets import Dataset

from musclelora.seeding import generator
from musclelora.training.batches import LengthGrouped, References, length_grouped


def test_rows_of_like_length_meet_and_each_row_comes_once():
    lengths = np.repeat([5, 20, 80], 32)
    batches = length_grouped(lengths, 16, generator(1, "test"))
    assert sorted(np.concatenate(batches).tolist()) == list(range(96))
    assert all(len(set(lengths[batch])) == 1 for batch in batches)


def test_passes_differ_and_batches_are_mixed_anew():
    lengths, draw = np.arange(20, 84), generator(1, "test")
    first, second = ({frozenset(b.tolist()) for b in length_grouped(lengths, 16, draw)} for _ in range(2))
    assert first != second


def test_the_order_depends_on_seed_and_epoch_only():
    lengths = np.arange(70) % 13 + 3
    sampler, again = LengthGrouped(lengths, 16, seed=1), LengthGrouped(lengths, 16, seed=1)
    first = list(sampler)
    assert first == list(sampler) == list(again)
    assert sorted(first) == list(range(70))
    sampler.set_epoch(1)
    assert list(sampler) != first != list(LengthGrouped(lengths, 16, seed=2))


def test_the_smaller_batch_is_the_last_one():
    lengths = np.arange(20, 55)
    order = list(LengthGrouped(lengths, 16, seed=3))
    padded = sum(lengths[order[i : i + 16]].max() * len(order[i : i + 16]) for i in range(0, 35, 16))
    assert padded < 1.25 * lengths.sum()


def references(seed=1, size=4):
    rows = Dataset.from_dict({"input_ids": [[i] * (1 + i) for i in range(10)]})
    return References(rows, size, lambda picked: [row["input_ids"][0] for row in picked], seed)


def test_each_trusted_row_at_most_once_per_pass():
    drawn = references()
    for _ in range(3):
        rows = drawn.next() + drawn.next()
        assert len(set(rows)) == 8


def test_the_batch_nearest_in_length_is_taken():
    drawn = references(size=5)
    assert max(drawn.next(10)) >= 8
    assert max(drawn.next(10)) <= 6  # the other batch of this pass


def test_a_restored_state_goes_on_with_the_same_batches():
    drawn, restored = references(), references()
    for _ in range(5):
        drawn.next()
    restored.state = drawn.state
    assert [drawn.next() for _ in range(6)] == [restored.next() for _ in range(6)]


def test_fewer_trusted_rows_than_a_batch_are_all_taken():
    assert sorted(references(size=64).next()) == list(range(10))
