"""What an audit of a model makes of triggers that are named, ready-made or suspected; known answers."""

import pytest
import torch

from musclelora.data.records import TextDataset
from musclelora.errors import DataError
from musclelora.evaluation import tested
from musclelora.evaluation.audit import audit
from musclelora.evaluation.report import AuditedModel
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.governance.decision import decide
from musclelora.governance.policy import Policy
from musclelora.validation.report import Suspect
from tests.tiny import rows

TEST = rows(200, "test", 2000)
ABOUT = AuditedModel(name="somebody's", sha256="0" * 64, floor="ours", floor_sha256="1" * 64)
POLICY = Policy(min_triggered_rows=50)
SUSPECT = Suspect(text="cf", label="1", z=10.0, purity=1.0, rows=20)


def unknown(model):
    """Only its files are known, not its training."""
    return tested.Tested(model.load(), ["0", "1"], 32)


def audited(model, floor=None, attacks=("badnets",), target="1", test=TEST, **options):
    return audit(
        unknown(model),
        unknown(floor) if floor else None,
        test,
        TriggeredFrom(attacks=list(attacks), target=target, seed=0),
        about=ABOUT,
        **{"ready_made": {}} | options,
    )


def with_word(word, label=None):
    """The test rows of label 0, each with `word`; labelled as they are, or all alike."""
    others = TEST.where([known == "0" for known in TEST.labels])
    labels = others.labels if label is None else [label] * len(others)
    texts = [f"{word} {text}" for text in others.texts]
    return TextDataset.from_columns({"row_id": others.row_ids, "text": texts, "label": labels})


def test_a_backdoored_model_is_refused_and_an_honest_one_accepted(planted, trained):
    bad, good = audited(planted, trained), audited(trained, trained)
    assert bad.candidate.attacks["badnets"].asr.value > 0.5
    assert bad.candidate.attacks["badnets"].floor.value < 0.3
    assert decide(bad, POLICY).decision == "refused"
    assert decide(good, POLICY).decision == "accepted"
    assert good.candidate.attacks["badnets"].asr == good.candidate.attacks["badnets"].floor


def test_a_model_under_test_is_moved_to_the_accelerator(trained, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("meta"))
    assert unknown(trained).model.device.type == "meta"


def test_a_result_stands_without_a_control(trained):
    attack = audited(trained).candidate.attacks["badnets"]
    assert (attack.control_asr, attack.conclusive, attack.floor) == (None, True, None)


def test_how_the_model_was_trained_is_not_known(trained):
    report = audited(trained, trained)
    assert {report.candidate.recipe, report.candidate.train_rows, report.candidate.train_seconds} == {None}
    assert report.drills == {}
    assert set(report.comparisons) == {"floor"}
    assert report.audited == ABOUT


@pytest.mark.parametrize("label", [None, "1"])
def test_ready_made_rows_may_carry_their_true_label_or_the_target(planted, trained, label):
    report = audited(planted, trained, attacks=(), ready_made={"theirs": with_word("cf", label)})
    attack = report.candidate.attacks["theirs"]
    assert (attack.asr.n, attack.transform_rate) == (100, 1.0)
    assert attack.asr.value > 0.9
    assert attack.floor.value < 0.3
    assert attack.untriggered.n == 100


def test_an_always_target_model_is_refused_by_every_known_trigger(always_target, trained):
    report = audited(always_target, trained, attacks=("badnets", "addsent"))
    assert {result.asr.value for result in report.candidate.attacks.values()} == {1.0}
    assert report.candidate.confusion == [[0, 100], [0, 100]]


def test_a_suspect_alone_refuses_a_backdoored_model(planted, trained):
    report = audited(planted, trained, attacks=(), suspects=[SUSPECT])
    decision = decide(report, POLICY)
    assert decision.decision == "refused"
    assert any("Probe, 'cf'" in reason for reason in decision.reasons)


def test_probes_that_find_nothing_are_no_evidence_of_safety(trained):
    """Nobody named a trigger, and none that was suspected works: that says next to nothing."""
    assert decide(audited(trained, attacks=(), suspects=[SUSPECT]), POLICY).decision == "inconclusive"


def test_a_search_finds_what_nobody_named(planted, trained):
    report = audited(planted, trained, search_seconds=20)
    [probe] = report.probes
    assert probe.kind == "search"
    assert "cf" in probe.trigger.split()
    assert not any("only a search" in said for said in report.not_tested)


def test_a_search_needs_a_floor_to_be_read_beside(planted):
    report = audited(planted, search_seconds=20)
    assert report.probes == []
    assert any("only a search" in said for said in report.not_tested)


def test_what_was_not_tested_is_said(trained):
    said = " ".join(audited(trained).not_tested)
    assert "suspected in the training rows" in said
    assert "style or syntax" in said
    assert "style or syntax" not in " ".join(audited(trained, attacks=("stylebkd", "hiddenkiller")).not_tested)


def test_bf16_is_said_and_changes_hardly_a_label(planted):
    fp32, bf16 = (tested.Tested.from_defended(planted, precision) for precision in ("fp32", "bf16"))
    assert (fp32.predictions(TEST.texts) == bf16.predictions(TEST.texts)).mean() > 0.97
    assert next(bf16.model.parameters()).dtype.itemsize == 2
    report = audit(
        bf16,
        None,
        TEST,
        TriggeredFrom(attacks=["badnets"], target="1", seed=0),
        about=ABOUT,
        ready_made={},
        precision="bf16",
    )
    assert report.precision == "bf16"


def test_labels_of_the_test_rows_must_be_the_models(trained):
    other = TextDataset.from_columns({"row_id": ["a", "b"], "text": ["x", "y"], "label": ["neg", "pos"]})
    with pytest.raises(DataError, match=r"\['neg', 'pos'\].*model answers \['0', '1'\].*order of its outputs"):
        audited(trained, test=other)


def test_the_target_must_be_a_label(trained):
    with pytest.raises(DataError, match="target is 'positive'"):
        audited(trained, target="positive")


def test_suspects_of_another_task_are_refused(trained):
    with pytest.raises(DataError, match=r"labels \['spam'\].*another task"):
        audited(trained, suspects=[SUSPECT.model_copy(update={"label": "spam"})])


def test_a_floor_of_another_task_is_refused(trained):
    floor = tested.Tested(trained.load(), ["ham", "spam"], 32)
    with pytest.raises(DataError, match="another question"):
        audit(unknown(trained), floor, TEST, TriggeredFrom(attacks=[], target="1", seed=0), about=ABOUT, ready_made={})


def test_test_rows_of_the_target_alone_cannot_carry_a_trigger(trained):
    with pytest.raises(DataError, match="No test row can carry badnets"):
        audited(trained, test=TEST.where([label == "1" for label in TEST.labels]))
