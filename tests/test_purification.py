from dataclasses import replace

import numpy as np
import pytest

from musclelora.data.records import TextDataset
from musclelora.errors import ConfigError
from musclelora.purification import ROUNDS, check_scans, readmit
from musclelora.training.defended_model import Readmitted
from musclelora.validation.config import GroupScanConfig, ValidationConfig
from musclelora.validation.group_scan import SuspectGroup
from musclelora.validation.token_scan import SuspectFeature
from tests.tiny import rows

LABELS = ("0", "1")
BOTH = ValidationConfig(group_scan=GroupScanConfig(enabled=True))
ALL = rows(100)
ACCEPTED = ALL.where(np.arange(100) >= 40)
HONEST = SuspectGroup("1", 1.0, 0.8, (), tuple(range(20)), tuple(range(20)))
PLANTED = SuspectGroup("0", 1.0, 0.8, (), tuple(range(20, 35)), tuple(range(20, 35)))  # and 5 rows for their words


CF = SuspectFeature("words", "cf", "0", 9.0, 4.0, 50.0, 1.0, 0.5, 20, tuple(range(20)))


def ones(texts):
    return np.ones(len(texts), dtype=int)


def nothing_more(_rows):
    return []


def readmit_of(groups, judge=ones):
    return readmit(ACCEPTED, ALL, [], groups, LABELS, judge, nothing_more)


def test_an_honest_group_comes_back_and_nothing_else():
    trained_on, back = readmit_of([HONEST, PLANTED])
    assert trained_on.row_ids == [f"train/{i}" for i in [*range(20), *range(40, 100)]]
    assert back == Readmitted(whole=20, repaired=0, groups=(1,))


@pytest.mark.parametrize("groups", [[PLANTED], []])
def test_without_an_honest_group_the_rows_stay_as_they_are(groups):
    trained_on, back = readmit_of(groups)
    assert trained_on is ACCEPTED
    assert back == Readmitted(whole=0, repaired=0, groups=())


def test_a_row_with_a_suspect_word_is_not_taken_back_whole_by_an_honest_group():
    told = replace(CF, label="1", rows=(3, 4), kind="length")  # nothing that could be cut out
    trained_on, _ = readmit(ACCEPTED, ALL, [told], [HONEST], LABELS, ones, nothing_more)
    assert not {"train/3", "train/4"} & set(trained_on.row_ids)
    assert {"train/2", "train/5"} <= set(trained_on.row_ids)


def worded(text="cf {}"):
    """All rows are of one label; the first 20 have a suspect word, and are set aside."""
    columns = {name: ALL.column(name) for name in ("row_id", "text", "label")}
    columns["text"] = [text.format(was) if i < 20 else was for i, was in enumerate(columns["text"])]
    whole = TextDataset.from_columns(columns | {"label": ["0"] * 100})
    return whole, whole.where(np.arange(100) >= 20)


def zeros_but(count):
    """Says "0" of all texts but the first so many."""

    def judge(texts):
        return np.array([int(i < count) for i in range(len(texts))])

    return judge


def test_true_rows_come_back_without_the_suspect_word():
    whole, accepted = worded()
    trained_on, back = readmit(accepted, whole, [CF], [], LABELS, zeros_but(3), nothing_more)
    assert back == Readmitted(whole=0, repaired=17, groups=())
    assert trained_on.row_ids == [f"train/{i}" for i in range(3, 100)]
    assert trained_on.texts == ALL.texts[3:]


def test_a_feature_that_cannot_be_cut_out_keeps_its_own_rows_out_and_no_others():
    whole, accepted = worded()
    found = [replace(CF, kind="length", text="8 tokens", rows=(0, 1)), replace(CF, rows=tuple(range(2, 20)))]
    trained_on, back = readmit(accepted, whole, found, [], LABELS, zeros_but(0), nothing_more)
    assert back.repaired == 18
    assert trained_on.row_ids == [f"train/{i}" for i in range(2, 100)]


@pytest.mark.parametrize("wrong", [10, 7, 20])  # of 20; 13 of 20 is not surely more than half
def test_a_word_whose_labels_are_not_surely_true_brings_nothing_back(wrong):
    whole, accepted = worded()
    trained_on, back = readmit(accepted, whole, [CF], [], LABELS, zeros_but(wrong), nothing_more)
    assert trained_on is accepted
    assert not back.repaired


def test_rows_of_a_planted_group_or_set_aside_for_another_reason_do_not_come_back_repaired():
    whole, accepted = worded()
    planted = SuspectGroup("0", 1.0, 0.8, (), (0, 1), (0, 1))
    disagrees = lambda texts: np.array([int(len(texts) == 2)] * len(texts))  # noqa: E731 (says "1" of the group)
    trained_on, back = readmit(accepted, whole, [CF], [planted], LABELS, disagrees, nothing_more)
    assert back.repaired == 18
    assert not {"train/0", "train/1"} & set(trained_on.row_ids)
    fewer = accepted.where(np.arange(80) != 50)  # one that neither scan suspects
    assert "train/70" not in readmit(fewer, whole, [CF], [], LABELS, zeros_but(0), nothing_more)[0].row_ids


def test_a_repaired_row_of_an_honest_group_marks_the_group_as_learned_from():
    whole, accepted = worded()
    group = SuspectGroup("0", 1.0, 0.8, (), tuple(range(20)), tuple(range(20)))
    back = readmit(accepted, whole, [CF], [group], LABELS, zeros_but(0), nothing_more)[1]
    assert back == Readmitted(whole=0, repaired=20, groups=(1,))


def finds(*words):
    """A scan that finds each of these words where it is left, and remembers what it was asked."""

    def scan(rows):
        asked.append(rows)
        hits = {word: tuple(i for i, text in enumerate(rows.texts) if word in text.split()) for word in words}
        return [replace(CF, text=word, rows=at) for word, at in hits.items() if at]

    asked = []
    scan.asked = asked
    return scan


def test_what_a_further_scan_finds_in_repaired_rows_is_cut_out_too():
    whole, accepted = worded("cf mn {}")
    scan = finds("mn")
    trained_on, back = readmit(accepted, whole, [CF], [], LABELS, zeros_but(0), scan)
    assert trained_on.texts == ALL.texts
    assert back.repaired == 20
    assert [len(rows) for rows in scan.asked] == [100, 100]


def test_where_scans_never_end_finding_nothing_comes_back():
    whole, accepted = worded(" ".join(["cf", *(f"w{i}" for i in range(ROUNDS + 1)), "{}"]))
    rounds = iter(range(ROUNDS + 1))
    trained_on, back = readmit(
        accepted, whole, [CF], [], LABELS, zeros_but(0), lambda rows: finds(f"w{next(rounds)}")(rows)
    )
    assert trained_on is accepted
    assert not back.repaired


def test_what_a_further_scan_finds_and_cannot_be_cut_out_stays_out():
    whole, accepted = worded()
    scans = iter([[replace(CF, kind="length", rows=(0, 1, 50))], []])
    trained_on, back = readmit(accepted, whole, [CF], [], LABELS, zeros_but(0), lambda _rows: next(scans))
    assert back.repaired == 18
    assert trained_on.row_ids == [f"train/{i}" for i in range(2, 100)]


@pytest.mark.parametrize("off", [{"token_scan": False}, {"group_scan": GroupScanConfig()}])
def test_purify_without_a_scan_is_refused(off):
    with pytest.raises(ConfigError, match="without them it is undefended"):
        check_scans("purify", BOTH.model_copy(update=off))


def test_purify_without_the_scans_beside_a_candidate_is_refused():
    with pytest.raises(ConfigError, match="it would be the undefended control"):
        check_scans("purify", BOTH, without_scan="purify")
    check_scans("purify", BOTH, without_scan="musclelora-guided")


@pytest.mark.parametrize(("recipe", "validation"), [("purify", BOTH), ("none", ValidationConfig())])
def test_purify_with_both_scans_and_other_recipes_without_are_accepted(recipe, validation):
    check_scans(recipe, validation)
