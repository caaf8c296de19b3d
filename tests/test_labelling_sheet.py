"""Which rows a person is to label first, and the sheet as a trusted file."""

import csv
from datetime import date

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from musclelora.data.config import Columns
from musclelora.data.readers import read_table
from musclelora.data.records import TrustedSet
from musclelora.data.trusted import check_trusted
from musclelora.errors import DataError
from musclelora.labelling_sheet import choose_rows, most_typical, write_sheet
from pipelines.cli import main
from tests.tiny import rows

COLUMNS = Columns(text="text", label="label")


def by_length(texts):
    return np.array([[float(len(text))] for text in texts])


def test_one_row_of_each_cluster_and_of_it_the_nearest_to_the_centre():
    states = np.array([[0.0], [1.0], [2.1], [50.0], [51.0], [52.1]])
    assert most_typical(states, 2, seed=0).tolist() == [1, 4]


@given(count=st.integers(2, 20), seed=st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_as_many_rows_as_asked_for_all_different_and_the_same_each_time(count, seed):
    chosen = choose_rows(rows(60), count, lambda texts: np.arange(2.0 * len(texts)).reshape(-1, 2), seed)
    again = choose_rows(rows(60), count, lambda texts: np.arange(2.0 * len(texts)).reshape(-1, 2), seed)
    assert len(set(chosen.texts)) == len(chosen) == count
    assert chosen.row_ids == again.row_ids


def table(tmp_path, lines):
    path = tmp_path / "data.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *lines])
    return path


def test_texts_that_repeat_or_are_blank_are_not_chosen_twice_or_at_all(tmp_path):
    lines = [["good film", "1"], ["Good  film", "0"], ["  ", "1"], ["a bad and long film", "0"]]
    chosen = choose_rows(read_table(str(table(tmp_path, lines)), COLUMNS), 2, by_length, seed=0)
    assert chosen.texts == ["good film", "a bad and long film"]
    with pytest.raises(DataError, match="2 rows with different texts, and 3"):
        choose_rows(read_table(str(table(tmp_path, lines)), COLUMNS), 3, by_length, seed=0)


def test_a_sheet_with_somebodys_labels_is_not_overwritten(tmp_path):
    write_sheet(rows(4), tmp_path / "sheet.csv", COLUMNS)
    before = (tmp_path / "sheet.csv").read_text()
    with pytest.raises(DataError, match="is there already"):
        write_sheet(rows(8), tmp_path / "sheet.csv", COLUMNS)
    assert (tmp_path / "sheet.csv").read_text() == before
    with pytest.raises(DataError, match="cannot be written"):
        write_sheet(rows(4), tmp_path / "missing" / "sheet.csv", COLUMNS)


def test_the_command_writes_no_label_and_a_filled_sheet_is_a_trusted_file(tmp_path, monkeypatch):
    monkeypatch.setattr("musclelora.training.contrastive.frozen_embeddings", lambda _b, texts, _l: by_length(texts))
    data, sheet = table(tmp_path, [[f"film {'very ' * i}good", "secret"] for i in range(30)]), tmp_path / "sheet.csv"
    done = CliRunner().invoke(main, ["sheet", str(data), "--rows", "6", "--output", str(sheet)])
    assert done.exit_code == 0, done.output
    assert "6 of 30 rows" in done.output
    assert "secret" not in sheet.read_text()
    with pytest.raises(DataError, match="6 rows lack text or label"):
        check_trusted(TrustedSet(read_table(str(sheet), COLUMNS), "jane"), {}, date(2026, 1, 1))
    filled = [
        [*line[:2], str(number % 2) if number else line[2]]
        for number, line in enumerate(csv.reader(sheet.open(encoding="utf-8")))
    ]
    with sheet.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(filled)
    check_trusted(TrustedSet(read_table(str(sheet), COLUMNS), "jane"), {}, date(2026, 1, 1))

    refused = CliRunner().invoke(main, ["sheet", str(data), "--rows", "6", "--output", str(sheet)])
    assert refused.exit_code == 1
    assert "is there already" in refused.output
