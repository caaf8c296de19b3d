"""Ranks by a paired bootstrap."""

import pytest

from musclelora.comparison.ranking import ranks
from musclelora.errors import DataError


def outcomes(**share):
    """Method to one attack, 400 rows of which so many per hundred are hits, the same rows first."""
    return {name: {"addsent": [("1" * n + "0" * (100 - n)) * 4]} for name, n in share.items()}


def test_clear_differences_are_ranked_and_small_ones_are_not():
    found = ranks(outcomes(none=95, strong=10, near=11, middle=40), high_is_good=False)
    assert found == {"strong": 1, "near": 2, "middle": 3, "none": 4}  # paired: near fails wherever strong does
    assert ranks(outcomes(none=95, strong=10), high_is_good=True) == {"none": 1, "strong": 2}


def test_pairs_that_differ_by_chance_share_a_rank():
    rows = {"a": {"x": ["1" * 10 + "0" * 190]}, "b": {"x": ["0" * 189 + "1" * 11]}}
    assert ranks(rows, high_is_good=False) == {"a": 1, "b": 1}


def test_seeds_are_averaged_and_a_method_without_an_attack_is_left_out():
    rows = {
        "a": {"x": ["1" * 50, "0" * 50], "y": ["0" * 50]},
        "b": {"x": ["0" * 50], "y": ["0" * 50]},
        "c": {"x": ["0"]},
    }
    assert ranks(rows, high_is_good=False) == {"a": 2, "b": 1}


def test_other_rows_are_no_pairs():
    with pytest.raises(DataError, match="cannot be compared"):
        ranks({"a": {"x": ["10"]}, "b": {"x": ["100"]}}, high_is_good=True)
