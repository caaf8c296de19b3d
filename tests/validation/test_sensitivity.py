"""What wrong labels among the trusted rows do to the trusted model, where the answer is known."""

import numpy as np
import pytest

from materializers.pages import validation_page
from musclelora.validation.report import TrustedModelRecord, ValidationReport
from musclelora.validation.sensitivity import DRAWS, Judged, right_of, sensitivity

LABELS = np.arange(40) % 2
SURE = 1e6  # inverse penalty: a head that fits whatever labels it is given


def two_points():
    """Trusted rows at two places, one per label: the majority of a place decides."""
    states = np.stack([LABELS, 1 - LABELS], axis=1).astype(float)
    return [Judged(np.arange(40), states, states[:10], LABELS[:10])]


def every_row_for_itself():
    """Each trusted row in a direction of its own, and judged by itself: a wrong label is one wrong answer."""
    return [Judged(np.arange(40), np.eye(40), np.eye(40), LABELS)]


def curve(parts, labels=LABELS, chance=0.5, seed=1):
    return sensitivity(parts, labels, 2, SURE, chance, seed)


def test_where_the_majority_decides_a_fifth_of_wrong_labels_does_nothing():
    points = curve(two_points())
    assert [point.wrong for point in points] == [0, 1, 2, 4, 8]  # 1 % of 40 rows is one row at least
    assert {(point.accuracy, point.worst) for point in points} == {(1.0, 1.0)}


def test_where_each_row_counts_each_wrong_label_is_a_wrong_answer():
    points = curve(every_row_for_itself())
    for point in points:
        assert point.accuracy == pytest.approx(1 - point.wrong / 40)
        assert point.worst == pytest.approx(1 - point.wrong / 40)
    assert not any(point.is_weak for point in points)
    harder = curve(every_row_for_itself(), chance=0.6)  # 32 of 40: surely 67 %, and 73 % are asked for
    assert [point.is_weak for point in harder] == [False, False, False, False, True]


def test_the_worst_draw_is_not_the_mean():
    random = np.random.default_rng(0)
    states = random.normal(size=(40, 3)) + LABELS[:, None]
    judged = random.normal(size=(100, 3)) + (np.arange(100) % 2)[:, None]
    points = curve([Judged(np.arange(40), states, judged, np.arange(100) % 2)])
    assert points[0].accuracy == points[0].worst
    assert points[-1].worst < points[-1].accuracy < points[0].accuracy
    assert points == curve([Judged(np.arange(40), states, judged, np.arange(100) % 2)])


def test_parts_judge_only_by_their_own_rows():
    half = np.arange(40) < 20
    parts = [
        Judged(np.flatnonzero(half), np.eye(40)[half], np.eye(40)[half], LABELS[half]),
        Judged(np.flatnonzero(~half), np.eye(40)[~half], np.eye(40)[~half], LABELS[~half]),
    ]
    wrong = LABELS.copy()
    wrong[0] = 1
    assert (right_of(parts, LABELS, SURE), right_of(parts, wrong, SURE)) == (40, 39)


def test_the_curve_ends_before_a_head_would_know_one_label_only():
    labels = np.array([0, 1])
    points = curve([Judged(np.arange(2), np.eye(2), np.eye(2), labels)], labels)
    assert [point.wrong for point in points] == [0]
    assert DRAWS > 1


@pytest.mark.parametrize(("chance", "said"), [(0.5, "Even with 8 wrong labels"), (0.6, "With 8 wrong labels it would")])
def test_the_page_shows_the_curve_and_says_from_where_on_it_is_weak(chance, said):
    record = TrustedModelRecord(
        encoder="x",
        encoder_sha256="",
        contrastive_steps=0,
        trusted_rows=40,
        accuracy=1.0,
        lower95=0.93,
        n=40,
        chance=chance,
        measured_on="held-out rows",
        sensitivity=curve(every_row_for_itself(), chance=chance),
    )
    report = ValidationReport(
        train_sha256="",
        trusted_sha256="",
        rows=1,
        accepted_rows=1,
        label_counts={"0": 1},
        source_counts={},
        checks=[],
        quarantined={},
        trusted_model=record,
    )
    page = validation_page(report)
    assert said in page
    assert "80.0 %" in page
    alone = record.model_copy(update={"sensitivity": record.sensitivity[:1]})
    assert "If trusted rows were wrong" not in validation_page(report.model_copy(update={"trusted_model": alone}))
