"""Splitting: sizes, disjoint texts, the same rows whatever their order."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musclelora.data.config import Split
from musclelora.data.normalise import text_key
from musclelora.data.records import TextDataset
from musclelora.data.splits import split
from musclelora.errors import DataError

SIZES = Split(train=20, dev=6, test=10, trusted=6)


def table(texts, labels, row_ids=None):
    return TextDataset.from_columns(
        {"row_id": row_ids or [f"r/{i}" for i in range(len(texts))], "text": texts, "label": labels}
    )


def numbered(n):
    return table([f"text {i}" for i in range(n)], [str(i % 2) for i in range(n)])


def parts(splits):
    return {"train": splits.train, "dev": splits.dev, "test": splits.test, "trusted": splits.trusted.data}


def test_sizes_balance_and_owner():
    splits = split(numbered(60), SIZES, seed=1)
    assert {name: len(part) for name, part in parts(splits).items()} == SIZES.model_dump(exclude={"trusted_owner"})
    assert Counter(splits.trusted.data.labels) == {"0": 3, "1": 3}
    assert splits.trusted.owner == SIZES.trusted_owner


def test_a_larger_train_set_leaves_the_other_parts_alone():
    small = split(numbered(60), SIZES, seed=1)
    large = split(numbered(60), SIZES.model_copy(update={"train": 30}), seed=1)
    assert small.test.sha256 == large.test.sha256
    assert small.trusted.sha256 == large.trusted.sha256
    assert set(small.train.row_ids) < set(large.train.row_ids)


def test_the_seed_matters():
    assert split(numbered(60), SIZES, 1).test.sha256 != split(numbered(60), SIZES, 2).test.sha256


def test_rows_without_text_or_label_go_to_train_only():
    texts = [f"text {i}" for i in range(40)] + [None, " ", "bare"]
    labels = [str(i % 2) for i in range(40)] + ["1", "0", None]
    splits = split(table(texts, labels), Split(train=27, dev=4, test=8, trusted=4), seed=3)
    for name, part in parts(splits).items():
        complete = all(label and text and text.strip() for text, label in zip(part.texts, part.labels, strict=True))
        assert complete is (name != "train")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=25, max_size=30), st.integers(0, 5), st.randoms(use_true_random=False))
def test_disjoint_deterministic_and_independent_of_order(times, seed, random):
    numbers = [n for n, repeats in enumerate(times) for _ in range(repeats)]
    # Texts repeat, in other case and spacing, also with other labels.
    texts = [f"Text {n}" if i % 2 else f"text  {n}" for i, n in enumerate(numbers)] + [f"own {i}" for i in range(30)]
    labels = [str((n + (i % 7 == 0)) % 2) for i, n in enumerate(numbers)] + [str(i % 2) for i in range(30)]
    data = table(texts, labels)
    splits = parts(split(data, SIZES, seed))
    assert [len(part) for part in splits.values()] == [20, 6, 10, 6]
    seen: Counter[str] = Counter()
    for part in splits.values():
        seen.update({text_key(text) for text in part.texts})
    assert max(seen.values()) == 1
    order = list(range(len(texts)))
    random.shuffle(order)
    shuffled = table([texts[i] for i in order], [labels[i] for i in order], [f"r/{i}" for i in order])
    assert {k: v.sha256 for k, v in parts(split(shuffled, SIZES, seed)).items()} == {
        k: v.sha256 for k, v in splits.items()
    }


@pytest.mark.parametrize(
    ("data", "sizes", "message"),
    [
        (numbered(41), SIZES, "only 19 of the 20 train rows"),
        (numbered(12), SIZES, "only 6 of the 10 test rows"),
        (numbered(60), SIZES.model_copy(update={"trusted": 1}), "cannot cover the labels"),
        (table([f"t {i}" for i in range(60)], ["1"] * 60), SIZES, "at least two labels"),
        (table([f"t {i}" for i in range(60)], ["1"] * 59 + ["0"]), SIZES, "trusted rows with label '0'"),
        (table(["same"] * 30 + [f"t {i}" for i in range(30)], ["0", "1"] * 30), SIZES, "1 repeated texts did not fit"),
        (table([None] * 60, ["0", "1"] * 30), SIZES, "trusted rows with label '0'"),
    ],
)
def test_too_few_rows_are_refused(data, sizes, message):
    with pytest.raises(DataError, match=message):
        split(data, sizes, seed=1)
