from dataclasses import replace

import numpy as np
import pytest

from musclelora.data.records import TextDataset
from musclelora.errors import ConfigError, DataError
from musclelora.purification import ROUNDS, check_scans, readmit, share_with_true_label
from musclelora.training.defended_model import Readmitted
from musclelora.validation.config import GroupScanConfig, ValidationConfig
from musclelora.validation.group_scan import GroupScanResult, SuspectGroup
from musclelora.validation.token_scan import SuspectFeature
from tests.tiny import rows

LABELS = ("0", "1")
BOTH = ValidationConfig(group_scan=GroupScanConfig(enabled=True))
ALL = rows(100)
CF = SuspectFeature("words", "cf", "0", 9.0, 4.0, 50.0, 1.0, 0.5, 20, tuple(range(20)))


def nothing(_rows):
    return []


def no_group(_rows):
    return GroupScanResult((), ())


def worded(text="cf {}"):
    """60 rows of "0", 40 of "1"; the first 20 have a suspect word, and are set aside."""
    columns = {name: ALL.column(name) for name in ("row_id", "text", "label")}
    columns["text"] = [text.format(was) if i < 20 else was for i, was in enumerate(columns["text"])]
    whole = TextDataset.from_columns(columns | {"label": ["0"] * 60 + ["1"] * 40})
    return whole, whole.where(np.arange(100) >= 20)


def wrong_of(*numbers):
    """A judge that calls all but these rows by their label; a text it does not know, "0"."""
    places = {text: i for i, text in enumerate(ALL.texts)}

    def says_one(text):
        place = places.get(text, 0)
        return (place >= 60) != (place in numbers)

    return lambda texts: 9.0 * np.eye(2)[[int(says_one(text)) for text in texts]]


def came_back(features, text="cf {}", groups=(), wrong=(), tokens=nothing, grouped=no_group, unread=()):
    """Numbers of the first 20 rows that come back, their texts, and the count."""
    whole, accepted = worded(text)
    first = GroupScanResult(tuple(groups), unread)
    trained_on, back = readmit(accepted, whole, features, first, LABELS, wrong_of(*wrong), tokens, grouped)
    assert trained_on.row_ids[back.repaired :] == accepted.row_ids
    assert (trained_on is accepted) == (not back.repaired)
    numbers = [int(row_id.removeprefix("train/")) for row_id in trained_on.row_ids[: back.repaired]]
    return numbers, trained_on.texts[: back.repaired], back


def test_true_rows_come_back_without_the_suspect_word():
    numbers, texts, back = came_back([CF], wrong=[0])
    assert numbers == list(range(1, 20))
    assert texts == ALL.texts[1:20]
    assert back == Readmitted(repaired=19, groups=())


@pytest.mark.parametrize("wrong", [2, 10, 20])  # of 20; 18 of 20 are not surely three quarters
def test_a_word_whose_labels_are_not_surely_mostly_true_brings_nothing_back(wrong):
    assert came_back([CF], wrong=range(wrong))[0] == []


def test_what_the_judge_gets_wrong_of_accepted_rows_is_reckoned_with():
    """It calls 16 of the word's 20 rows by their label, and no more of the accepted ones: 8 in 10."""
    as_weak = [*range(4), *range(20, 28)]
    assert came_back([CF], wrong=as_weak)[0] == []  # surely 60 % are called so: 60 / 80 is not above three quarters
    assert came_back([CF], wrong=[*as_weak, 28])[0] == list(range(4, 20))
    assert came_back([CF], wrong=[*as_weak, 28, *range(60, 75)])[0] == []  # now it says "0" too readily


@pytest.mark.parametrize(
    ("called", "hits", "false_calls", "share"),
    [
        (116, 0.84, 0.29, 0.4172),  # beta.ppf(0.05, 116, 85) = 0.5195
        (200, 0.84, 0.29, 1.0),
        (200, 1.0, 0.0, 0.9851),  # 0.05 ** (1 / 200)
        (0, 0.84, 0.29, -0.5273),
        (200, 0.3, 0.3, -np.inf),
        (200, 0.2, 0.8, -np.inf),
    ],
)
def test_the_share_with_a_true_label(called, hits, false_calls, share):
    given = np.arange(200) < 100
    accepted = np.concatenate([np.arange(100) < 100 * hits, np.arange(100) < 100 * false_calls])
    assert share_with_true_label(np.arange(200) < called, accepted, given) == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("given", [np.ones(50, bool), np.zeros(50, bool)])
def test_no_share_is_known_where_accepted_rows_have_one_label(given):
    assert share_with_true_label(np.ones(50, bool), given, given) == -np.inf


@pytest.mark.parametrize(("margin", "comes_back"), [(1.0, True), (1.2, False)])
def test_a_label_of_which_much_was_set_aside_is_expected_as_often_as_it_was_delivered(margin, comes_back):
    """Of 30 rows with label 0 10 are left, of 70 with label 1 all: log(31 / 11) = 1.04."""
    columns = {name: ALL.column(name) for name in ("row_id", "text")}
    columns["text"] = [f"cf {text}" if i < 20 else text for i, text in enumerate(columns["text"])]
    whole = TextDataset.from_columns(columns | {"label": ["0"] * 30 + ["1"] * 70})
    accepted = whole.where(np.arange(100) >= 20)
    ones = set(whole.texts[30:])
    judge = lambda texts: np.array([[0.0, 9.0 if text in ones else margin] for text in texts])  # noqa: E731
    back = readmit(accepted, whole, [CF], no_group(whole), LABELS, judge, nothing, no_group)[1]
    assert bool(back.repaired) == comes_back


def test_a_feature_that_cannot_be_cut_out_keeps_its_own_rows_out_and_no_others():
    found = [replace(CF, kind="length", text="8 tokens", rows=(0, 1)), replace(CF, rows=tuple(range(2, 20)))]
    assert came_back(found)[0] == list(range(2, 20))


def test_no_row_of_a_group_comes_back_for_its_true_label_alone():
    group = SuspectGroup("0", 1.0, 0.8, 0.98, 0.5, (), tuple(range(20)), tuple(range(20)))
    assert came_back([], groups=[group])[0] == []


def test_rows_that_neither_scan_suspects_stay_out():
    whole, accepted = worded()
    fewer = accepted.where(np.arange(80) != 50)  # set aside for another reason
    trained_on, _ = readmit(fewer, whole, [CF], no_group(whole), LABELS, wrong_of(), nothing, no_group)
    assert "train/70" not in trained_on.row_ids
    assert len(trained_on) == 99


def test_a_repaired_row_of_a_group_marks_the_group_as_learned_from():
    groups = [SuspectGroup("0", 1.0, 0.8, 0.98, 0.5, (), some, some) for some in ((30, 31), (19, 32))]
    assert came_back([CF], groups=groups)[2] == Readmitted(repaired=20, groups=(2,))


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
    scan = finds("mn")
    assert came_back([CF], "cf mn {}", tokens=scan)[1] == ALL.texts[:20]
    assert [len(rows) for rows in scan.asked] == [100, 100]


def test_where_scans_never_end_finding_nothing_comes_back():
    text = " ".join(["cf", *(f"w{i}" for i in range(ROUNDS + 1)), "{}"])
    rounds = iter(range(ROUNDS + 1))
    assert came_back([CF], text, tokens=lambda rows: finds(f"w{next(rounds)}")(rows))[0] == []


def test_what_a_further_scan_finds_and_cannot_be_cut_out_stays_out():
    scans = iter([[replace(CF, kind="length", rows=(0, 1, 50))], []])
    assert came_back([CF], tokens=lambda _rows: next(scans))[0] == list(range(2, 20))


def test_what_the_group_scan_finds_once_the_words_are_out_stays_out():
    group = SuspectGroup("0", 1.0, 0.8, 0.98, 0.5, (), (0, 1, 60), ())
    scans = iter([GroupScanResult((group,), ()), GroupScanResult((), ())])
    asked = []
    assert came_back([CF], grouped=lambda rows: asked.append(rows) or next(scans))[0] == list(range(2, 20))
    assert [len(rows) for rows in asked] == [100, 98]


@pytest.mark.parametrize(("unread", "comes_back"), [((), 0), (("0",), 20)])
def test_rows_of_a_label_that_became_too_rare_for_the_group_scan_stay_out(unread, comes_back):
    assert len(came_back([CF], grouped=lambda _rows: GroupScanResult((), ("0",)), unread=unread)[0]) == comes_back


def test_what_cannot_be_scanned_again_stays_out():
    def too_few(_rows):
        raise DataError("too few rows of a label")

    assert came_back([CF], grouped=too_few)[0] == []


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
