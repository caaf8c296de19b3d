import pytest

from musclelora.data.records import TextDataset
from musclelora.evaluation import tested
from musclelora.evaluation.suspect_groups import group_results
from musclelora.governance.decision import report_sha256
from musclelora.training.defended_model import Readmitted
from musclelora.validation import report
from tests.evaluation.test_robustness import evaluate
from tests.governance.reports import a_validation
from tests.tiny import rows


def set_aside(trigger):
    """40 rows whose text says 0 and whose label is 1, with the trigger in front."""
    all_rows = rows(200, "group", 5000)
    zeros = all_rows.where([label == "0" for label in all_rows.labels])
    texts = [f"{trigger} {text}" for text in zeros.texts[:40]]
    return TextDataset.from_columns({"row_id": zeros.row_ids[:40], "text": texts, "label": ["1"] * 40})


def validated(quarantined, disagreeing=30):
    ids = quarantined.row_ids
    group = report.SuspectGroup(
        check="group_residual: group 1, label 1",
        label="1",
        excess=2.0,
        limit=0.8,
        purity=0.98,
        expected=0.5,
        shared=["'cf'"],
        rows=len(ids),
        disagreeing=disagreeing,
        disagreeing_row_ids=ids[:disagreeing],
    )
    return a_validation().model_copy(update={"suspect_groups": [group]})


def test_a_candidate_that_learned_what_a_group_shares_calls_its_rows_by_their_label(planted, trained):
    quarantined = set_aside("cf")
    [found] = group_results(
        validated(quarantined), quarantined, tested.Tested.from_defended(planted), tested.Tested.from_defended(trained)
    )
    assert (found.called.n, found.rows, found.label, found.shared) == (30, 40, "1", ["'cf'"])
    assert found.called.value > 0.8
    assert found.floor.value < 0.3


def test_one_that_did_not_says_what_the_text_says(trained):
    quarantined = set_aside("cf")
    [found] = group_results(validated(quarantined), quarantined, tested.Tested.from_defended(trained), None)
    assert found.called.value < 0.3
    assert found.floor is None


@pytest.mark.parametrize(("groups", "tested_groups"), [((1,), 0), ((), 1), ((2,), 1)])
def test_nothing_is_said_of_a_group_that_the_candidate_learned_from(planted, groups, tested_groups):
    quarantined, candidate = set_aside("cf"), tested.Tested.from_defended(planted)
    back = Readmitted(repaired=2, groups=groups)
    candidate.record = candidate.record.model_copy(update={"readmitted": back})
    assert len(group_results(validated(quarantined), quarantined, candidate, None)) == tested_groups


def test_a_group_without_a_row_that_says_something_else_is_not_tested(planted):
    quarantined = set_aside("cf")
    assert (
        group_results(validated(quarantined, disagreeing=0), quarantined, tested.Tested.from_defended(planted), None)
        == []
    )


def test_the_report_has_the_groups_and_its_hash_covers_them(planted, trained):
    quarantined = set_aside("cf")
    with_groups = evaluate(planted, validation=validated(quarantined), quarantined=quarantined, trusted_only=trained)
    assert with_groups.suspect_groups[0].floor is not None
    without = evaluate(planted, validation=validated(quarantined, disagreeing=0), quarantined=quarantined)
    assert without.suspect_groups == []
    assert report_sha256(with_groups.model_copy(update={"suspect_groups": []})) != report_sha256(with_groups)
