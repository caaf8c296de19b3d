"""New rows, their validation, and what a person is told."""

import pytest

from musclelora.data.records import TextDataset
from musclelora.evaluation.report import ProbeResult
from musclelora.governance.coverage import Occasion
from musclelora.governance.decision import decide
from musclelora.governance.policy import Policy
from musclelora.governance.registered import RegisteredVersion
from musclelora.retraining import alert_text, new_rows, screen
from musclelora.validation.config import ValidationConfig
from musclelora.validation.report import Suspect
from tests.governance.reports import a_rate, a_report, a_validation
from tests.tiny import rows, trusted_rows

OCCASION = Occasion(due=True, reason="The train rows are others.", champion="2")
TRIGGER = Suspect(text="3D movie", label="positive", z=6.1, purity=1.0, rows=40)
PROBE = ProbeResult(
    trigger="3D movie",
    kind="scan",
    target="positive",
    position="start",
    z=6.1,
    rows=40,
    asr=a_rate(0.123),
    floor=None,
    untriggered=a_rate(0.1),
    examples=[],
)


def registered(*aliases):
    return RegisteredVersion(
        name="reviews", version="3", aliases=list(aliases), model_uri="", run_id="", tracking_uri="", decision=""
    )


def told(report, policy, suspects=(), new=None, aliases=(), occasion=OCCASION):
    validation = a_validation().model_copy(update={"suspects": list(suspects)})
    return alert_text(occasion, validation, new, report, decide(report, policy), registered(*aliases))


def a_new_rows_report(*suspects):
    return a_validation().model_copy(update={"suspects": list(suspects), "rows": 100})


def test_rows_with_a_known_text_and_label_are_not_new():
    known = rows(6)
    again = {"row_id": ["a", "b", "c"], "text": [*known.texts[:2], "a new one"], "label": [*known.labels[:1], "1", "0"]}
    again["label"][1] = "0" if known.labels[1] == "1" else "1"  # the same text, and now of the other class
    assert new_rows(TextDataset.from_columns(again), known).row_ids == ["b", "c"]


def test_without_known_rows_all_are_new():
    assert new_rows(rows(6), None).row_ids == rows(6).row_ids


def test_no_new_rows_have_no_report():
    assert screen(rows(6).where([False] * 6), rows(8, "test", 500), trusted_rows(), ValidationConfig(), None) is None


def test_new_rows_that_could_not_train_a_model_are_reported_and_stop_nothing():
    one_label = rows(20).where([label == "1" for label in rows(20).labels])
    report = screen(one_label, rows(8, "test", 500), trusted_rows(), ValidationConfig(), None)
    assert report.rows == 10
    assert "stop" in {check.outcome for check in report.checks}


def test_an_accepted_candidate_of_clean_rows_alerts_nobody():
    assert told(a_report(), Policy()) is None


def test_a_refusal_says_why_and_that_the_champion_stays():
    said = told(a_report(cacc=0.5), Policy())
    assert said.startswith("reviews version 3 is refused and has no alias; the champion is still version 2. ")
    assert "Clean accuracy is 50.0%" in said
    assert said.endswith("The train rows are others.")


def test_a_refusal_without_a_champion_says_so():
    occasion = Occasion(due=True, reason="There is no champion yet.")
    assert "; there is no champion." in told(a_report(cacc=0.5), Policy(), occasion=occasion)


@pytest.mark.parametrize(
    ("among_new", "words"), [((TRIGGER,), "in 40 rows, 40 of them new, which"), ((), "in 40 rows, which")]
)
def test_an_accepted_candidate_of_purified_rows_names_the_trigger(among_new, words):
    report = a_report().model_copy(update={"probes": [PROBE]})
    said = told(report, Policy(), [TRIGGER], a_new_rows_report(*among_new), ["challenger", "champion"])
    assert said.startswith("reviews version 3 was accepted (challenger, champion), and its rows were not all in order.")
    assert f"Suspected trigger '3D movie' for the label 'positive' {words} were set aside; put into clean rows" in said
    assert "turns 12.3% into that label" in said


def test_what_only_the_scan_of_the_new_rows_suspects_was_not_set_aside():
    said = told(a_report(), Policy(), [], a_new_rows_report(TRIGGER), ["challenger"])
    assert "'3D movie' for the label 'positive' in 40 rows, 40 of them new, which were NOT set aside." in said
