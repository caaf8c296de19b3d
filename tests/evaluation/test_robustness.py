import shutil
from pathlib import Path

import pytest

from musclelora.errors import DataError
from musclelora.evaluation import tested
from musclelora.evaluation.robustness import ModelsUnderTest, evaluate_robustness
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.training.defended_model import DefendedModel
from musclelora.training.predict import logits_of
from tests.tiny import rows

TARGET = TriggeredFrom(attacks=["badnets"], target="1", seed=0)


def evaluate(
    candidate, undefended=None, floor=None, triggers=TARGET, test=None, validation=None, quarantined=None, **parts
):
    models = {"candidate": candidate, "undefended": undefended, "candidate_floor": floor, **parts}
    under_test = ModelsUnderTest.from_parts({part: model for part, model in models.items() if model is not None})
    found = {"validation": validation, "quarantined": quarantined}
    return evaluate_robustness(under_test, test or rows(100, "test", 2000), triggers, min_control_asr=0.8, **found)


def test_a_model_that_always_says_the_target(always_target, trained):
    report = evaluate(always_target, undefended=always_target, floor=trained)
    attack = report.candidate.attacks["badnets"]
    assert (attack.asr.value, attack.asr.n, attack.untriggered.value, attack.control_asr) == (1.0, 50, 1.0, 1.0)
    assert attack.floor.value < 0.5
    assert attack.conclusive
    assert attack.examples == []  # nothing flipped: it was called the target before
    assert report.candidate.cacc.value == 0.5
    assert report.candidate.confusion == [[0, 50], [0, 50]]


def test_a_model_that_reads_the_words_resists_and_its_weak_control_is_inconclusive(trained):
    attack = evaluate(trained, undefended=trained).candidate.attacks["badnets"]
    assert attack.asr.value == attack.control_asr < 0.8
    assert not attack.conclusive
    assert attack.floor is None


def test_a_trigger_word_of_great_weight_flips_rows_and_shows_them(trained, planted):
    attack = evaluate(planted, undefended=planted, floor=trained).candidate.attacks["badnets"]
    assert attack.asr.value > attack.untriggered.value
    shown = attack.examples[0]
    assert shown.label == "0"
    assert set(shown.triggered_text.split()) - set(shown.text.split()) <= {"cf", "mn", "bb", "tq"}


def test_drills_have_the_candidate_as_floor_and_their_own_control(trained, always_target):
    no_attack = TriggeredFrom(attacks=[], target="1", seed=0)
    parts = {"drill_addsent": always_target, "control_addsent": always_target}
    report = evaluate(trained, triggers=no_attack, **parts)
    drill = report.drills["addsent"]
    assert report.candidate.attacks == {}
    assert drill.asr.value == drill.control_asr == 1.0
    assert drill.floor.value < 0.5


def test_a_joint_drill_is_read_under_each_of_its_attacks(trained, always_target):
    no_attack = TriggeredFrom(attacks=[], target="1", seed=0)
    parts = {"drill_addsent__badnets": always_target, "control_addsent__badnets": always_target}
    drills = evaluate(trained, triggers=no_attack, **parts).drills
    assert {name: (drill.attack, drill.asr.value) for name, drill in drills.items()} == {
        "addsent": ("addsent", 1.0),
        "badnets": ("badnets", 1.0),
    }


def test_models_of_the_same_weights_are_asked_once(trained, always_target, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(tested, "logits_of", lambda *args: asked.append(len(args[2])) or logits_of(*args))

    def texts_asked_about(floor):
        asked.clear()
        evaluate(trained, floor=floor)
        return sum(asked)

    copy = DefendedModel(Path(shutil.copytree(trained.folder, tmp_path / "copy")))
    assert (texts_asked_about(copy), texts_asked_about(always_target)) == (150, 200)  # 100 clean, 50 triggered


def test_a_drill_without_its_control_is_an_error(trained):
    with pytest.raises(KeyError, match="addsent"):
        evaluate(trained, triggers=TriggeredFrom(attacks=[], target="1", seed=0), drill_addsent=trained)


def test_trusted_only_is_its_own_floor(trained):
    attack = evaluate(trained, trusted_only=trained).comparisons["trusted_only"].attacks["badnets"]
    assert attack.floor == attack.asr


def test_a_recipe_without_the_scans_and_clean_training_are_read_beside_their_floors(trained, always_target):
    parts = {"undefended": always_target, "undefended_floor": trained}
    parts |= {"without_scan": always_target, "without_scan_floor": trained}
    compared = evaluate(trained, **parts).comparisons
    assert set(compared) == {"undefended", "undefended_floor", "without_scan"}
    clean, alone = (compared[role].attacks["badnets"] for role in ("undefended_floor", "without_scan"))
    assert clean.floor == clean.asr == alone.floor
    assert alone.asr.value == 1.0 > alone.floor.value


def test_a_target_that_is_no_label_is_refused(trained):
    with pytest.raises(DataError, match="'positive' is not among the labels"):
        evaluate(trained, triggers=TriggeredFrom(attacks=["badnets"], target="positive", seed=0))


def test_test_rows_of_an_unknown_label_are_refused(trained):
    strange = rows(10, "test", 3000)
    columns = {name: strange.column(name) for name in strange.rows.column_names}
    columns["label"] = ["7", *columns["label"][1:]]
    with pytest.raises(DataError, match="'7'"):
        evaluate(trained, test=type(strange).from_columns(columns))
