import numpy as np
import pytest

from musclelora.evaluation.suspect_groups import judged, readmitted
from musclelora.validation.group_scan import SuspectGroup
from tests.tiny import rows

LABELS = ("0", "1")
DATA = rows(100)


def group(numbers, disagreeing):
    return SuspectGroup("1", 2.0, 0.8, (), tuple(numbers), tuple(disagreeing))


def judge_calling(share):
    return lambda texts: np.arange(len(texts)) < round(share * len(texts))


@pytest.mark.parametrize(("share", "honest"), [(0.9, True), (0.62, False), (0.2, False)])
def test_a_group_is_honest_where_the_judge_surely_calls_most_of_it_the_given_label(share, honest):
    [one] = judged([group(range(60), range(50))], DATA, LABELS, judge_calling(share))
    assert one.supported.value == pytest.approx(share)
    assert one.supported.n == 50
    assert one.is_honest == honest  # 31 of 50: the lower bound is 0.49


def test_only_the_disagreeing_rows_are_judged():
    asked = []
    judged([group(range(10), (3, 5))], DATA, LABELS, lambda texts: asked.extend(texts) or np.zeros(len(texts)))
    assert asked == [DATA.texts[3], DATA.texts[5]]


def test_a_group_of_which_nothing_can_be_told_does_not_come_back():
    [one] = judged([group(range(10), ())], DATA, LABELS, judge_calling(1))
    assert one.supported is None
    assert not readmitted([one], np.zeros(100, dtype=bool)).any()


def test_rows_of_an_honest_group_come_back_unless_something_else_speaks_against_them():
    honest = judged([group(range(40), range(40))], DATA, LABELS, judge_calling(1))
    planted = judged([group(range(30, 60), range(30, 60))], DATA, LABELS, judge_calling(0))
    suspect = np.zeros(100, dtype=bool)
    suspect[:10] = True
    assert np.flatnonzero(readmitted([*honest, *planted], suspect)).tolist() == list(range(10, 30))
    assert suspect.sum() == 10
