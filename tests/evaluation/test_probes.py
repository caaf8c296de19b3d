"""Suspected triggers in clean rows of models whose backdoor is known."""

import pytest

from musclelora.errors import DataError
from musclelora.evaluation import tested
from musclelora.evaluation.probes import GUIDE_ROWS, ROWS, TOGETHER, probed_rows, put, run_probes
from musclelora.validation.report import Suspect
from tests.tiny import rows

TEST = rows(200, "test", 2000)


def suspect(text, label="1", z=10.0):
    return Suspect(text=text, label=label, z=z, purity=1.0, rows=20)


def probes_of(model, floor, *suspects, test=TEST):
    beside = tested.Tested.from_defended(floor) if floor else None
    return run_probes(suspects, test, tested.Tested.from_defended(model), beside, seed=0)


def test_a_trigger_flips_the_backdoored_model_and_not_the_floor(planted, trained):
    [probe] = probes_of(planted, trained, suspect("cf"))
    assert probe.asr.value > 0.8
    assert probe.floor.value < 0.3
    assert probe.untriggered.value < 0.3
    assert (probe.kind, probe.z, probe.rows) == ("scan", 10.0, 20)
    row = probe.examples[0]
    assert row.triggered_text.split().count("cf") == 1
    assert row.text == row.triggered_text.replace("cf", "").replace("  ", " ").strip()
    assert row.label == "0"


def test_an_honest_model_is_not_turned_by_a_word_it_never_saw(trained):
    [probe] = probes_of(trained, None, suspect("cf"))
    assert probe.asr.value < 0.3
    assert probe.floor is None


def test_the_strongest_comes_first_and_suspects_of_a_label_are_tried_together(planted):
    found = probes_of(planted, None, suspect("the", z=30.0), suspect("cf"), suspect("film", "0"))
    assert [probe.asr.value for probe in found] == sorted((probe.asr.value for probe in found), reverse=True)
    together = next(probe for probe in found if probe.trigger == "the cf")
    assert (together.z, together.rows, together.target) == (10.0, 40, "1")
    assert {probe.target for probe in found if probe.trigger == "film"} == {"0"}
    assert len(found) == 4


def test_no_more_than_four_are_joined(planted):
    words = ("the", "film", "plot", "was", "a", "and")
    found = probes_of(planted, None, *(suspect(word, z=10.0 - i) for i, word in enumerate(words)))
    assert max(len(probe.trigger.split()) for probe in found) == TOGETHER
    assert len(found) == len(words) + 1


def test_no_suspect_no_probe(trained):
    assert probes_of(trained, trained) == []


def test_the_position_is_chosen_on_rows_that_are_not_measured():
    guide, measured = probed_rows(rows(1000), "1", seed=0)
    assert (len(guide), len(measured)) == (GUIDE_ROWS, ROWS)
    assert not set(guide.row_ids) & set(measured.row_ids)
    assert set(guide.labels) == set(measured.labels) == {"0"}


def test_rows_are_drawn_by_their_ids_whatever_their_order():
    reverse = rows(100).rows.select(range(99, -1, -1))
    first, second = probed_rows(rows(100), "1", 0), probed_rows(type(rows(2))(reverse), "1", 0)
    assert [set(part.row_ids) for part in first] == [set(part.row_ids) for part in second]
    assert [set(part.row_ids) for part in first] != [set(part.row_ids) for part in probed_rows(rows(100), "1", 1)]


@pytest.mark.parametrize(("position", "text"), [("start", "cf a b c"), ("middle", "a cf b c"), ("end", "a b c cf")])
def test_positions(position, text):
    assert put("cf", "a b c", position) == text


@pytest.mark.parametrize("position", ["start", "middle", "end"])
def test_an_empty_text_becomes_the_trigger(position):
    assert put("cf", "", position) == "cf"


def test_test_rows_of_one_label_cannot_be_probed(trained):
    only = TEST.where([label == "1" for label in TEST.labels])
    with pytest.raises(DataError, match="0 are of another label than '1'"):
        probes_of(trained, None, suspect("cf"), test=only)
