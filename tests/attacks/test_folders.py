"""Poisoned sets as CSV folders: ours go out and come back, OpenBackdoor's come in."""

import csv

import pytest

from musclelora.attacks.base import poison, triggered_rows
from musclelora.attacks.folders import read_poisoned, write_poisoned
from musclelora.attacks.registry import ATTACKS
from musclelora.data.config import Columns
from musclelora.data.readers import read_table
from musclelora.errors import DataError
from tests.tiny import rows

PARTS = {"train": rows(60), "dev": rows(20, "dev", 100), "test": rows(40, "test", 200)}


@pytest.mark.parametrize("name", ["addsent", "badnets"])
def test_what_is_written_is_what_the_attack_makes(tmp_path, name):
    attack = ATTACKS[name]
    rates = write_poisoned(tmp_path, attack, PARTS, rate=0.1, target="1", seed=3)
    assert rates == {"dev": 1.0, "test": 1.0}
    train, test = read_poisoned(tmp_path / "train.csv"), read_poisoned(tmp_path / "test_poisoned.csv")
    expected = poison(PARTS["train"], attack, rate=0.1, target="1", seed=3)
    for column in ("text", "label", "is_poisoned"):
        assert train.column(column) == expected.column(column)
    triggered, _ = triggered_rows(PARTS["test"], attack, target="1", seed=3)
    assert (test.texts, set(test.labels), set(test.column("is_poisoned"))) == (triggered.texts, {"1"}, {True})
    assert read_table(str(tmp_path / "train.csv"), Columns()).texts == train.texts  # as a run reads it


def test_an_attack_that_too_few_rows_can_carry_writes_nothing(tmp_path):
    with pytest.raises(DataError, match="can carry it"):
        write_poisoned(tmp_path / "set", ATTACKS["badnets"], PARTS, rate=0.9, target="1", seed=3)
    assert not (tmp_path / "set").exists()


def test_the_columns_of_open_backdoor(tmp_path):
    path = tmp_path / "train-poison.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["", "0", "1", "2"], ["0", "a text, quoted", "1", "1"], ["1", "another", "0", "0"]])
    found = read_poisoned(path)
    assert found.texts == ["a text, quoted", "another"]
    assert found.labels == ["1", "0"]
    assert found.column("is_poisoned") == [True, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label,is_poisoned\na,1,perhaps\n", "'perhaps' is neither 0 nor 1"),
        ("text,label,is_poisoned\na,1,\n", "None is neither 0 nor 1"),
        ("text,label\na,1\n", "has no column '0'"),
        ("", "0 bytes"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, content, message):
    path = tmp_path / "train.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_poisoned(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_poisoned(tmp_path / "train.csv")
