"""The model card: valid for the hub's own reader, honest about refusals and gaps, and safe to render."""

import re

import pytest
from huggingface_hub import ModelCard

from musclelora.evaluation.report import RobustnessReport
from musclelora.governance.decision import decide
from musclelora.governance.model_card import model_card
from musclelora.governance.policy import Policy
from musclelora.training.defended_model import Readmitted
from tests.governance.conftest import a_record
from tests.governance.reports import a_report, a_validation, an_attack


def card_of(report: RobustnessReport) -> str:
    return model_card(a_record(), report, decide(report, Policy()), a_validation(), "reviews")


def test_the_hub_reads_the_card_and_its_results() -> None:
    data = ModelCard(card_of(a_report())).data

    assert (data.library_name, data.pipeline_tag, data.base_model) == (
        "transformers",
        "text-classification",
        "/models/tiny-bert",
    )
    assert {result.metric_name: result.metric_value for result in data.eval_results} == {
        "Clean accuracy": 0.88,
        "Attack success rate, drill badnets": 0.08,
    }
    assert "gate-accepted" in data.tags


def test_the_card_tells_data_training_measurements_and_what_was_not_tested() -> None:
    card = card_of(a_report())

    for part in (
        "1000 rows delivered, 100 quarantined, 900 trained on",
        "d" * 64,
        "e" * 64,
        "seed 7",
        "style transfer",
        "| drill | badnets | positive | 8.0% | 10.0% | 6.0% | 98.0% | 1000 |",
        "| undefended | 90.0% | 88.0% |",
    ):
        assert part in card


def test_the_card_tells_which_rows_came_back() -> None:
    record = a_record().model_copy(update={"readmitted": Readmitted(repaired=12, groups=(1,))})

    card = model_card(record, a_report(), decide(a_report(), Policy()), a_validation(), "reviews")

    assert "100 quarantined (12 came back without suspect words), 900 trained on" in card


def test_a_refused_card_gives_every_reason_and_missing_numbers_are_said_to_be_missing() -> None:
    report = a_report(drills={"badnets": an_attack(asr=0.9, floor=None, control=None)})

    card = card_of(report)

    assert "## Gate: refused" in card
    assert "the attack succeeds in 90.0% of 1000 rows" in card
    assert card.count("not measured") == 2


@pytest.mark.parametrize(
    "attack", ["<script>alert(1)</script>", "x | y", "[click](http://evil)", "two\nlines\n## Gate"]
)
def test_a_hostile_name_stays_text(attack: str) -> None:
    report = a_report(drills={attack: an_attack()})

    card = card_of(report)

    body = card.split("\n---\n", 1)[1]
    assert "<script>" not in body
    assert not re.search(r"(?<!\\)\]\(", body)
    assert body.count("\n## ") == 5
    row = next(line for line in body.splitlines() if line.startswith("| drill"))
    assert row.replace("\\|", "").count("|") == 9
    assert ModelCard(card).data.eval_results  # the head is still YAML


def test_a_card_without_attacks_is_a_card() -> None:
    assert "## Gate: inconclusive" in card_of(a_report(drills={}))
