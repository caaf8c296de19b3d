"""Purify as a defence: what is left out, given what the scans found and what the judge says."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from musclelora.defenses import purify
from musclelora.validation.group_scan import GroupScanResult, SuspectGroup
from tests.defenses.conftest import three_labels

ROWS = three_labels(300, "train")
ONES = tuple(i for i in range(300) if ROWS.labels[i] == "1")
WORDS, GROUPED = ONES[:10], ONES[5:40]  # five rows have a suspect word and are in the group as well
GROUP = SuspectGroup("1", 1.0, 0.8, (), GROUPED, GROUPED)


@pytest.fixture
def left_out(monkeypatch, defender):
    """Runs the defence on what the scans are said to have found; the judge calls all rows one class."""

    def run(group, judge_says):
        monkeypatch.setattr(purify, "TokenScan", lambda *_, **__: lambda _rows: [SimpleNamespace(rows=WORDS)])
        monkeypatch.setattr(purify, "GroupScan", lambda *_: lambda _rows: GroupScanResult((group,), ()))
        trained_on = []

        def train(rows, _epochs):
            trained_on.append(len(rows))
            return SimpleNamespace(classes=lambda texts: np.full(len(texts), judge_says))

        suspects = purify.Purify().suspects(ROWS, replace(defender, train=train))
        return set(np.flatnonzero(suspects).tolist()), trained_on

    return run


def test_an_honest_group_comes_back_but_for_rows_with_a_suspect_word(left_out):
    assert left_out(GROUP, 1) == (set(WORDS), [300 - 40])


@pytest.mark.parametrize("other", [0, 2])
def test_a_planted_group_stays_out(left_out, other):
    assert left_out(GROUP, other) == ({*WORDS, *GROUPED}, [300 - 40])


def test_where_no_row_disagrees_no_judge_is_trained(left_out):
    assert left_out(replace(GROUP, disagreeing=()), 1) == ({*WORDS, *GROUPED}, [])
