"""Purify as a defence: what is left out, given what the scans found and what the judge says."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from musclelora.defenses import purify
from musclelora.validation.group_scan import GroupScanResult, SuspectGroup
from musclelora.validation.token_scan import SuspectFeature
from tests.defenses.conftest import three_labels

ROWS = three_labels(300, "train")
ONES = tuple(i for i in range(300) if ROWS.labels[i] == "1")
WORDS, GROUPED = ONES[:20], ONES[15:50]  # five rows have a suspect word and are in the group as well
GROUP = SuspectGroup("1", 1.0, 0.8, 0.98, 0.5, (), GROUPED, GROUPED)
FEATURE = SuspectFeature("words", "cf", "1", 9.0, 4.0, 50.0, 1.0, 0.5, 20, WORDS)


def scanned(_rows, before=None):
    """What the token scan finds; nothing in rows that it is asked about again."""
    return [FEATURE] if before is None else []


def grouped(groups):
    """What the group scan finds; nothing in rows that it is asked about again."""
    return lambda _rows, before=None: GroupScanResult(groups if before is None else (), ())


@pytest.fixture
def left_out(monkeypatch, defender):
    """Runs the defence on what the scans are said to have found; the judge calls rows with a suspect word one class,
    all others by their label."""

    def run(groups, judge_says, features=scanned):
        monkeypatch.setattr(purify, "TokenScan", lambda *_, **__: features)
        monkeypatch.setattr(purify, "GroupScan", lambda *_: grouped(tuple(groups)))
        trained_on = []
        classes = dict(zip(ROWS.texts, ROWS.label_ids(("0", "1", "2")), strict=True))
        classes |= {ROWS.texts[row]: judge_says for row in WORDS}

        def train(rows, _epochs):
            trained_on.append(len(rows))
            return SimpleNamespace(logits=lambda texts: 9.0 * np.eye(3)[[classes[text] for text in texts]])

        kept = purify.Purify().training_rows(ROWS, replace(defender, train=train))
        return set(np.flatnonzero(~np.isin(ROWS.row_ids, kept.row_ids)).tolist()), trained_on

    return run


def test_true_rows_come_back_without_their_suspect_word_and_groups_stay_out(left_out):
    assert left_out([GROUP], 1) == (set(GROUPED) - set(WORDS), [300 - 50])


@pytest.mark.parametrize("other", [0, 2])
def test_rows_whose_labels_the_judge_contradicts_stay_out(left_out, other):
    assert left_out([GROUP], other) == ({*WORDS, *GROUPED}, [300 - 50])


def test_where_no_word_is_suspect_no_judge_is_trained(left_out):
    assert left_out([GROUP], 1, lambda _rows: []) == (set(GROUPED), [])


def test_it_acts_on_the_training_data():
    assert purify.Purify.acts_on() == ("training data",)
