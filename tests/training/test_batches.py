import itertools

import numpy as np
import pytest
import torch
from datasets import Dataset

from musclelora.seeding import generator
from musclelora.training.batches import PASS_OVERHEAD, LengthGrouped, References, cut_by_length, length_grouped, rows_of


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


def cost(sizes, longest):
    starts = np.cumsum([0, *sizes[:-1]])
    return sum(size * longest[start] + PASS_OVERHEAD for size, start in zip(sizes, starts, strict=True))


@pytest.mark.parametrize("lengths", [[9, 60, 8, 55, 7, 10], [5] * 6, [40, 10, 200, 90, 100, 11], [300, 20, 20]])
def test_a_batch_is_cut_as_cheaply_as_any_cut_of_its_sorted_rows(lengths):
    parts = cut_by_length(np.array(lengths), 220)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    longest, n = sorted(lengths, reverse=True), len(lengths)
    costs = []
    for cuts in itertools.chain.from_iterable(itertools.combinations(range(1, n), k) for k in range(n)):
        sizes = np.diff([0, *cuts, n]).tolist()
        starts = np.cumsum([0, *sizes[:-1]])
        if all(size == 1 or size * longest[start] <= 220 for size, start in zip(sizes, starts, strict=True)):
            costs.append(cost(sizes, longest))
    assert cost([len(part) for part in parts], longest) == min(costs)


def test_rows_of_one_length_are_not_cut_and_a_row_too_long_is_alone():
    assert [part.tolist() for part in cut_by_length(np.array([5] * 6), 1000)] == [[0, 1, 2, 3, 4, 5]]
    assert [part.tolist() for part in cut_by_length(np.array([20, 300, 20]), 100)] == [[1], [0, 2]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_part_is_padded_to_its_own_longest_row(side):
    ids = [[5, 6, 7], [8, 0, 0], [9, 4, 0]] if side == "right" else [[5, 6, 7], [0, 0, 8], [0, 9, 4]]
    labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # as wide as the rows
    batch = {"input_ids": torch.tensor(ids), "attention_mask": (torch.tensor(ids) > 0).long(), "labels": labels}
    part = rows_of(batch, np.array([2, 1]), side)
    assert part["input_ids"].tolist() == ([[9, 4], [8, 0]] if side == "right" else [[9, 4], [0, 8]])
    assert part["attention_mask"].sum(1).tolist() == [2, 1]
    assert torch.equal(part["labels"], labels[[2, 1]])
